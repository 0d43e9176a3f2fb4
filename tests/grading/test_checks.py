"""The checks pass for right code in any style, and each catches the mistakes of its exercise."""

import importlib.util
import json
import math
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from grading.checks import CHECKS, check
from grading.checks.cases import CASES, Case
from grading.checks.findings import Findings, Report, run
from grading.checks.places import FILES, PARTS, WHOLE, explain
from grading.checks.stale import changed_files
from grading.edition.release import checked, enter, processes, student_edition, write
from grading.submissions.expected import MISTAKES, all_cases, fresh_cases
from grading.submissions.package import alone, functions, own_files, together
from tests import ROOT
from tests.grading.mutations import MUTATIONS, edited
from tests.grading.solutions import SOLUTIONS, solved

ATTENTION, LAYER, TRAIN = "gpt2/attention.py", "gpt2/layer.py", "gpt2/train.py"


@pytest.fixture(scope="module")
def edition():
    """The student edition with our solutions in it."""
    return student_edition([])


@pytest.fixture(scope="module")
def lines_of():
    """A function from packages, each with the exercises to check, to their reports' lines."""
    with processes().Pool(2) as pool:
        yield lambda folder, *jobs: pool.starmap(
            lines_in, [(folder / f"{i}", *job) for i, job in enumerate(jobs)], chunksize=1
        )


def lines_in(folder: Path, files: dict[str, bytes], *exercises: str) -> list[tuple]:
    write(files, folder)
    enter(folder)
    return [(each.state, *each.line()) for each in checked(*exercises)]


def test_the_cases_are_what_the_formulas_give_and_others_for_another_seed():
    made = all_cases()
    with safe_open(CASES, framework="pt") as file:
        assert json.loads(file.metadata()["hints"]) == made.hints
        assert set(file.keys()) == made.tensors.keys()
        for name, tensor in made.tensors.items():
            torch.testing.assert_close(file.get_tensor(name), tensor, msg=name)
    tables = tomllib.loads(MISTAKES.read_text(encoding="utf-8")).values()
    shown = {hint for hints in made.hints.values() for hint in hints}
    assert shown == {hint for table in tables for hint in table}
    other = fresh_cases(1).tensors
    kept = [name for name, t in made.tensors.items() if torch.equal(t, other[name])]
    kept = {name.split(":")[0] for name in kept if name.endswith("|expected")}
    # The model holds nothing, the masks the same, and the sizes of GPT-2 are four of five.
    masks = {"causal mask|expected", "mask of one query|expected"}
    assert kept == {"model|expected", *masks, "parameter count", "training costs"}


def test_our_own_code_passes_every_check():
    report = Report(checked())
    assert report, str(report)
    assert "\n" not in str(report) and str(report).startswith("[OK  ] attention, add, ")
    assert str(check("add")) == "[OK  ] add: 6 of 6 as expected"
    assert [each.exercise for each in report.checks] == list(CHECKS)
    gradients = [each for report in report.checks for each in report.found if "learn" in each.what]
    assert len(gradients) == 5 and {each.got for each in gradients} == {"a gradient"}


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_mutation_costs_its_own_points_and_says_why(share, tmp_path, edition, lines_of):
    """It fails its own check, with the hint that fits; what else is in its file passes.

    One of four, or all of them; but each has to be an edit of the file as it is.
    """
    jobs = []  # package, exercise, the state that its check must find, and the hint
    mutations = [(*key, *each) for key, group in MUTATIONS.items() for each in group]
    assert len(mutations) >= 155
    for number, (exercise, file, _, hint, *edits) in enumerate(mutations):
        theirs = edition | {file: edited(edition[file].decode(), *edits).encode()}
        if number % share:
            continue
        own = alone(exercise, theirs) if exercise in functions() else together(WHOLE, theirs)
        jobs.append((own, exercise, "failed", hint))
        others = [name for name in functions() if file in functions()[name] and name != exercise]
        jobs += [(alone(name, theirs), name, "passed", "") for name in others]
        if exercise in PARTS:
            rest = together([name for name in WHOLE if name != exercise], theirs)
            jobs.append((rest, "sanity check", "passed", ""))
    jobs = [job for i, job in enumerate(jobs) if job not in jobs[:i]]
    lines = lines_of(tmp_path, *(job[:2] for job in jobs))
    odd = [
        (*job[1:], *line)
        for job, (line,) in zip(jobs, lines, strict=True)
        if line[0] != job[2] or not re.search(job[3], f"{line}")
    ]
    assert not odd, "\n".join(map(str, odd))


def test_every_exercise_has_mutations_and_stands_in_its_file():
    assert {exercise for exercise, _ in MUTATIONS} == CHECKS.keys()
    assert {name: {FILES[name]} for name in functions()} == {
        n: {*f} for n, f in functions().items()
    }


@pytest.mark.parametrize("style", SOLUTIONS)
def test_right_code_in_any_style_passes(style, tmp_path, edition, lines_of):
    """In all checks, or in those of what the style has of its own."""
    changed = {
        file: solved((ROOT / file).read_text(encoding="utf-8"), style, file).encode()
        for file in FILES.values()
    }
    own = dict.fromkeys(heading.rstrip(" 23") for heading in SOLUTIONS[style])
    names = CHECKS if style == "course" else (*own, "sanity check")
    (lines,) = lines_of(tmp_path, (edition | changed, *names))
    assert len(lines) == len(names)
    assert [line for line in lines if line[0] != "passed"] == []


def test_a_file_that_cannot_be_imported_fails_its_own_exercises_alone(tmp_path, edition, lines_of):
    broken = {
        TRAIN: b"import no_such_module\n" + edition[TRAIN],
        LAYER: edition[LAYER].replace(b"def add(", b"def def add("),
    }
    (lines,) = lines_of(tmp_path, (edition | broken,))
    for name, (state, _, _, text, _) in zip(CHECKS, lines, strict=True):
        if name in ("attention", "AdamW.step", "labels", "parameter count", "training costs"):
            assert state == "passed", text
        elif FILES[name] == LAYER:
            assert state == "failed", text
            assert text.startswith("gpt2/layer.py cannot be imported: SyntaxError: "), text
        elif name == "pretraining step":
            why = "ModuleNotFoundError: No module named 'no_such_module' (line 1)"
            assert text == f"gpt2/train.py cannot be imported: {why}"
        else:
            assert state == "waits", text
            assert text.startswith("waits for gpt2/layer.py, which cannot be imported: "), text


def test_what_fails_because_of_another_exercise_says_so(tmp_path, edition, lines_of):
    wrong = edition[ATTENTION].replace(b".triu(S - T + 1)", b".triu(S - T + 2)")
    wrong = wrong.replace(b"is_causal = True", b"is_causal = False")
    names = ("attention", "add", "layer forward", "generation")
    (lines,) = lines_of(tmp_path, (edition | {ATTENTION: wrong}, *names))
    follows = ("waits", "WAIT")
    assert [line[:2] for line in lines] == [("failed", "FAIL"), ("passed", "OK"), follows, follows]
    assert lines[2][3] == "follows from attention, whose own check says why"


def test_a_package_for_one_exercise_holds_none_of_its_solution(edition):
    theirs = {LAYER: b"class GPT2Layer:\n    pass\n", "gpt2/helpers.py": b"x = 1\n"}
    package = alone("layer forward", theirs)
    assert package[LAYER].startswith(theirs[LAYER]) and package["gpt2/helpers.py"] == b"x = 1\n"
    assert package[LAYER].endswith(b"\nGPT2Layer.add = _given.GPT2Layer.add\n")
    given = package["gpt2/_given_layer.py"].decode()
    assert "dropout(dense_layer(output))" in given and "self.interm_af(" not in given
    assert package[ATTENTION] == edition[ATTENTION]
    model = together(["embed", "hidden_state_to_token", "add"], edition | theirs)
    assert model[LAYER] == edition[LAYER]  # a part of it is wrong


def test_modules_of_their_own_are_kept_unless_they_hide_installed_ones(tmp_path):
    names = ("mine.py", "torch.py", "types.py", "__main__.py", "gpt2/types.py", "utils.py")
    names += ("mine/deep/x.py", "torch/x.py", "tests/x.py", ".venv/x.py")
    for name in (*names, "gpt2/loss.py/x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("x = 1")
    (tmp_path / "linked.py").symlink_to("/etc/passwd")
    kept = {"mine.py", "mine/deep/x.py", "gpt2/types.py", "utils.py"}
    assert set(own_files(tmp_path)) == kept


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (NotImplementedError("add"), "waits", "waits for add"),
        (NotImplementedError("layer forward"), "to do", "not written yet"),
        (NotImplementedError("no kernel"), "failed", "NotImplementedError: no kernel"),
        (RuntimeError("x"), "failed", "RuntimeError: x"),
    ],
)
def test_an_error_is_told_apart_from_what_is_not_written(error, state, text):
    assert explain(error, "layer forward") == (state, text)


def test_a_bare_error_is_to_do_in_the_exercises_own_file_alone(monkeypatch):
    def not_written(findings):
        raise NotImplementedError

    where = "tests/grading/test_checks.py"
    findings = run("layer forward", not_written)
    assert (findings.state, findings.problem) == ("waits", f"waits for {where}")
    monkeypatch.setitem(FILES, "layer forward", where)
    findings = run("layer forward", not_written)
    assert findings.state == "to do"
    assert re.fullmatch(rf"not written yet \({where}, line \d+\)", findings.problem)


def test_code_that_stands_elsewhere_in_its_file_has_not_changed(tmp_path, monkeypatch):
    path = tmp_path / "moved.py"
    text = "class A:\n    def f(self):\n        return [1 for _ in ()]\n"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("gpt2.moved", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "gpt2.moved", module)
    name = f"{tmp_path.name}/moved.py"
    path.write_text(f"# a comment\n\n{text}")
    assert name not in changed_files()
    path.write_text(text.replace("1", "2"))
    assert name in changed_files()


@pytest.mark.parametrize(
    ("exercise", "hint"), [("attention", "keep the mask finite"), ("AdamW.step", "line by line")]
)
def test_nan_is_explained_by_the_mask_in_attention_alone(exercise, hint):
    nan, zero = torch.tensor(torch.nan), torch.zeros(())
    findings = run(exercise, lambda f: f.close("x", nan, zero, hint="line by line"))
    assert hint in findings.line()[3]


def test_an_error_names_the_line_of_the_code_under_test_and_none_of_torch():
    findings = run("layer forward", lambda findings: torch.nn.Linear(2, 2)(torch.ones(3)))
    assert findings.state == "failed"
    assert re.fullmatch(
        r"RuntimeError: mat1 and mat2 shapes .* \(tests/grading/test_checks.py, line \d+\): "
        "self.add applies the dense layer itself",
        findings.problem,
    )


def test_the_first_failure_ends_a_check_and_shows_result_and_hint():
    def two_failures(findings):
        right, wrong = torch.zeros(2), torch.ones(2)
        mistakes = (("far", right + 5), ("near & <b>", wrong))
        findings.case(Case("add: <i>", {}, right, (), mistakes), wrong, "?")
        raise AssertionError

    report = Report([run("add", two_failures)])
    assert str(report) == (
        "[FAIL] add: <i>: got largest difference 1.0e+00, expected at most 1e-05\n"
        "       hint: near & <b>"
    )
    table = report._repr_html_()
    assert "&lt;i&gt;: got largest difference" in table and "near &amp; &lt;b&gt;" in table
    assert "<i>:" not in table


def test_where_a_case_is_infinite_any_number_is_right_and_nan_is_not():
    def state(*got: float) -> str:
        given = Case("add", {}, torch.tensor([1.0, math.inf]), (), ())
        return run("add", lambda findings: findings.case(given, torch.tensor(got))).state

    assert [state(1.0, 2.0), state(1.0, -math.inf)] == ["passed", "passed"]
    wrong = [(1.0, math.nan), (math.inf, 2.0), (math.nan, 2.0), (1.1, 2.0), (1.0,), (1.0, 2.0, 3.0)]
    assert {state(*got) for got in wrong} == {"failed"}


def test_no_findings_is_no_pass_and_an_unknown_exercise_is_named():
    assert Findings("add").state == "failed"
    with pytest.raises(ValueError, match="no exercise 'ad'; there are attention, add,"):
        check("ad")
