"""What instructors get of grades, whatever stands in them."""

import csv
import io
import json
import subprocess
import zipfile

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from grading.__main__ import main
from grading.report import class_page, gradebook, gradescope, load, student_page
from grading.report.byhand import ByHand
from grading.report.grades import Grade, clean


def item(name, state="passed", **more):
    passed = state == "passed"
    hint = "" if passed else "what should the weights of a row sum to?"
    found = {"what": "values", "got": "3.1e-01", "expected": "at most 1e-05", "hint": hint}
    return {
        **{"id": name, "title": name.capitalize(), "section": "3.2", "kind": "exercise"},
        **{"state": state, "points": 8.0 * passed, "max_points": 8.0, "problem": ""},
        **{"found": [{**found, "passed": passed}], **more},
    }


def raw(student="alice", **more):
    order = {"kind": "order", "where": "task2-test-evaluate", "text": "not executed in order"}
    return {
        **{"student": student, "source": f"{student}.zip", "problem": "", "max_points": 16},
        **{"handed_in": "2026-12-02T12:00:00 (newest file inside)", "seconds": 41.2},
        "sandboxed": False,
        "items": [item("attention"), item("add", "failed")],
        "flags": [order, {"kind": "ids", "where": "settings", "text": "no fault"}],
        "claims": {"dev accuracy": {"accuracy": 1 / 3}, "selection": {"chosen": ["es", "fr"]}},
        "recomputed": {
            "accuracy": {
                "dev.en": {"claimed": 0.4, "recomputed": 0.4, "n": 2490},
                "test.en": {"claimed": 0.5, "recomputed": 0.1, "n": 5010},
            },
            "predictions": {"compared": 40, "agree": 39, "split": "test.en"},
            "held_out_loss": 2.4,
        },
        "answers": {"pretraining-read": "The loss falls.", "task3-read": ""},
        **more,
    }


def grade(*arguments, **more):
    return Grade.of(raw(*arguments, **more), ByHand(), {})


EMPTY = {"items": [], "flags": [], "claims": {}, "recomputed": {}, "answers": {}}
BROKEN = grade("zed", **EMPTY, problem="zed.zip is not a zip")


def graded(folder, *raws, **shared):
    """A folder of grades, as the grader leaves it before there are pages."""
    for each in raws:
        path = folder / each["student"] / "grade.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(each))
    (folder / "seed.json").write_text(json.dumps({"seed": 1, **shared}))
    return folder


def read(page):
    """A page's elements, and its text in single spaces."""
    soup = BeautifulSoup(page, "html.parser")
    return soup, " ".join(soup.body.get_text(" ").split())


# ---- Gradescope and the gradebook --------------------------------------------------------------


def test_gradescope_gets_its_fields_and_students_no_flags():
    results = json.loads(json.dumps(gradescope(grade()), allow_nan=False))
    attention, add, flags = results.pop("tests")
    assert (results["score"], results["execution_time"]) == (8, 41)
    assert results["visibility"] == "visible" and results["stdout_visibility"] == "hidden"
    assert results["test_output_format"] == results["output_format"] == "text"
    assert (attention["status"], attention["score"], attention["max_score"]) == ("passed", 8, 8)
    assert (add["status"], add["score"], add["tags"]) == ("failed", 0, ["exercise", "3.2"])
    assert "✗ values: got 3.1e-01, expected at most 1e-05\n  Hint: what should" in add["output"]
    assert flags["visibility"] == "hidden" and "not executed in order" in flags["output"]
    assert "score" not in flags and "max_score" not in flags
    assert "not executed" not in json.dumps([results, attention, add])
    broken = gradescope(BROKEN)
    assert broken["score"] == 0 and broken["tests"] == [] and "not a zip" in broken["output"]


def test_the_autograder_holds_what_grades_and_no_runs(tmp_path):
    main(["gradescope", str(tmp_path / "autograder.zip"), "--options=--jobs 2"])
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        names = archive.namelist()
        scripts = [archive.read(each).decode() for each in names[:2]]
        modes = [archive.getinfo(each).external_attr >> 16 for each in names[:2]]
    assert names[:2] == ["setup.sh", "run_autograder"] and modes == [0o755, 0o755]
    assert "--user nobody --jobs 2\n" in scripts[1] and len(names) == len(set(names))
    assert {"grading/__main__.py", "grading/rubric.toml", "gpt2/model.py"} <= set(names)
    assert not [n for n in names if "__pycache__" in n or n.startswith(("runs/", "tests/"))]
    for text in scripts:
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_gradebook_has_a_row_a_student():
    table = gradebook([grade("Alice", items=[item("attention")]), grade("bob"), BROKEN])
    assert list(table.columns) == [
        *("student", "points", "max_points", "attention", "add"),
        *("answers", "late_days", "penalty", "flags", "problem"),
    ]
    assert list(table["student"]) == ["Alice", "bob", "zed"]
    assert table.loc[1].tolist() == ["bob", 8, 16, 8, 0, 0, 0, 0, 1, ""]
    assert table["add"].isna().tolist() == [True, False, True]
    assert gradebook([]).empty


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n@", " +", "\u200b=", "＝"])
def test_a_spreadsheet_computes_nothing_of_a_submission(start):
    table = gradebook([grade(problem=f"{start}cmd|' /C calc'!A0;\n=1")])
    ((*_, cell),) = csv.reader(io.StringIO(table.to_csv(index=False, header=False)))
    assert cell[0] == "'" and cell[1] in "=+-@＝" and not set(cell) & set("\n\r\t;")


# ---- Pages -------------------------------------------------------------------------------------


def test_a_students_page_shows_everything_and_needs_nothing():
    page, text = read(student_page(grade()))
    assert not page.find_all(["script", "link", "img"])
    assert [each["href"] for each in page.find_all("a")] == ["../index.html"]
    for shown in (
        *("alice 8 of 16 points", "Flags to look at: 1", "not executed in order", "no fault"),
        *("✓ passed", "✗ failed", "Hint: what should", "39 of 40", "loss of 2.400"),
        *("dev.en 0.4000 0.4000 2,490 ✓ agrees", "test.en 0.5000 0.1000 5,010 ✗ differs"),
        *("NONE: graded without a sandbox", "{'accuracy': 0.3333}", "{'chosen': ['es', 'fr']}"),
        *("pretraining-read not graded The loss falls.", "task3-read not graded nothing"),
    ):
        assert shown in text, shown


def test_the_reason_comes_first_and_a_common_one_once():
    same = "ModuleNotFoundError: No module named 'requests' (utils.py, line 3)"
    names = ("attention", "embed", "generation")
    items = [item(name, "failed", problem=same, found=[]) for name in names]
    _, text = read(student_page(grade(items=[*items, item("add", "failed")])))
    assert text.count(same) == 1 and text.count("As above.") == 3
    assert text.index("3 items have the same problem") < text.index("Points")
    assert "values: got 3.1e-01, expected at most 1e-05 Hint: what should" in text


def test_a_class_page_lists_students_by_name_and_links_them(tmp_path):
    tokens = {"bob": range(0, 100), "Alice": range(20, 120), "王-小明": range(60, 160)}
    graded(tmp_path, *(raw(name, tokens=list(groups)) for name, groups in tokens.items()))
    page, text = read(class_page([*load(tmp_path), BROKEN]))
    links = [each["href"].removesuffix("/index.html") for each in page.find_all("a")]
    assert links[:5] == ["gradebook.csv", "Alice", "bob", "%E7%8E%8B-%E5%B0%8F%E6%98%8E", "zed"]
    for shown in ("Not graded: zed.zip", "WITHOUT A SANDBOX 4", "Attention: 75%", "8 to 9.6 3"):
        assert shown in text, shown
    assert text.count("⚑ order") == 3 and "no fault" not in text
    assert "67%: Alice and bob" in text and "and 王" not in text and "王-小明 and" not in text
    for few in ([], [BROKEN], [grade(items=[])]):
        assert "Students" in class_page(few)


EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>{{ 7*7 }}&amp;"


def test_texts_of_a_submission_stay_texts():
    evil = grade(
        EVIL,
        items=[item(EVIL, "failed", title=EVIL, section=EVIL, problem=EVIL, kind=EVIL)],
        flags=[{"kind": EVIL, "where": EVIL, "text": EVIL}],
        claims={EVIL: EVIL},
        recomputed={"accuracy": {EVIL: {"claimed": 0.5, "recomputed": 0.5, "n": 9}}},
        answers={EVIL: EVIL},
        **{"source": EVIL, "problem": EVIL},
    )
    for page, text in map(read, (student_page(evil), class_page([evil]))):
        assert not page.find_all(["script", "img"]) and "49" not in text and EVIL in text
        assert not any(key.startswith("on") for tag in page.find_all() for key in tag.attrs)


def test_no_text_turns_others_around():
    assert clean("a\u202eb\x00c\ud800d\x1b[31me\u2028f") == "ab\ufffdc\ufffdd\ufffd[31me f"
    assert "\u202e" not in student_page(grade(problem="\u202e", claims={"x": "\u202e"}))


def test_nothing_huge_gets_onto_a_page():
    finding = {**item("a")["found"][0], "got": "x" * 10**7}
    huge = grade(
        items=[item("a", found=[finding], problem="p" * 10**7)],
        flags=[{"kind": "order", "where": str(i), "text": "z" * 10**4} for i in range(10**4)],
        claims={"selection": list(range(10**5)), "toy curve": {"run": "1" * 10**6}},
        problem="p" * 10**7,
    )
    for text in (student_page(huge), class_page([huge]), json.dumps(gradescope(huge))):
        assert len(text) < 200_000 and "9,900 more flags are not shown" in text


@given(text=st.text())
def test_any_text_has_a_page(text):
    claims = {"selection": [text, {text: float("nan")}, 10**400]}
    found = grade(claims=claims, problem=text, answers={"task3-read": text})
    json.dumps(gradescope(found), allow_nan=False)
    gradebook([found]).to_csv().encode()
    student_page(found).encode()
