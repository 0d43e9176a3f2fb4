"""Solutions are taken out of a file, nothing else is, and what is left says what is to do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.checks import CHECKS
from grading.edition.regions import Region, exercises, parts, without_solutions
from grading.edition.release import OVERLAY, ROOT, SHIPPED, files_in

NUMBERS = {  # of the handout's course, sections 3.2 to 4.3, in its order; the last two are ours
    **{"attention": 1, "add": 2, "layer forward": 3, "embed": 4, "hidden_state_to_token": 5},
    **{"AdamW.step": 6, "next_token_loss": 7, "pretraining step": 7, "generation": 8},
    **{"labels": 9, "fine-tuning step": 9, "parameter count": 10, "training costs": 11},
}
TEXT = """\
def add(a, b):
    # BEGIN SOLUTION add
    total = a + b  # secret
    return total
    # END SOLUTION


def other():
    return 1
"""


def test_a_region_becomes_a_todo_and_an_error_with_its_name():
    text = without_solutions(TEXT)
    assert "secret" not in text and "SOLUTION" not in text
    assert "    # TODO-2 add (handout section 3.2):\n    # - Apply the linear projection" in text
    assert 'NotImplementedError("add")  # TODO-2, handout section 3.2' in text
    space: dict = {}
    exec(text, space)
    assert space["other"]() == 1
    with pytest.raises(NotImplementedError, match=r"^add$"):
        space["add"](1, 2)
    assert without_solutions(TEXT, stubbed=["embed"]) == re.sub(r".*SOLUTION.*\n", "", TEXT)


LINES = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)


@given(before=st.lists(LINES), inside=st.lists(LINES, min_size=1), after=st.lists(LINES))
def test_only_lines_between_markers_are_removed(before, inside, after):
    text = "\n".join([*before, "# BEGIN SOLUTION add", *inside, "# END SOLUTION", *after])
    assert parts(text) == [*before, Region("add", tuple(inside)), *after]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# END SOLUTION", "text, line 1: # END SOLUTION does not belong here"),
        ("# BEGIN SOLUTION add\n# BEGIN SOLUTION add", "line 2: # BEGIN SOLUTION add does not"),
        ("x\n# BEGIN SOLUTION add", "# BEGIN SOLUTION add is never ended"),
        ("# BEGIN SOLUTION ad\n# END SOLUTION", "line 1: no exercise 'ad' in exercises.toml"),
    ],
)
def test_a_misplaced_marker_is_an_error_with_its_line(text, message):
    with pytest.raises(ValueError, match=message):
        parts(text)


def test_every_exercise_has_a_check_and_a_todo_for_each_region():
    todos = [
        (name, i) for name, each in exercises().items() for i in range(1, 1 + len(each["todo"]))
    ]
    found = []
    for name, path in files_in(ROOT, *SHIPPED).items():
        if name.endswith(".py"):
            regions = [p for p in parts(path.read_text("utf-8"), name) if isinstance(p, Region)]
            found += [(region.exercise, region.place) for region in regions]
    assert sorted(found) == sorted(todos)


def test_the_order_is_the_handouts_everywhere():
    assert [(name, each["number"]) for name, each in exercises().items()] == [*NUMBERS.items()]
    assert [name for name in CHECKS if name != "sanity check"] == [*NUMBERS]
    table = (OVERLAY / "README.md").read_text(encoding="utf-8").split("\n")
    rows = [line.split(" | ")[:2] for line in table if line.startswith("| TODO-")]
    assert [first.strip("| ") for first, _ in rows] == [f"TODO-{i}" for i in range(1, 12)]
    for name, number in NUMBERS.items():
        assert name in rows[number - 1][1]
