"""The checks pass for right code in any style, and each catches the mistakes of its exercise."""

import json
import os
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from config import GPT2Config
from grading.checks import CHECKS, check
from grading.checks.cases import CASES
from grading.checks.findings import Findings, Report, run
from grading.checks.optimizer import check_optimizer
from grading.edition.release import SHAPE
from grading.submissions.expected import all_cases
from optim.adamw import AdamW
from tests import ROOT
from tests.grading.mutations import MUTATIONS, STYLES, edited, with_bodies
from tests.killing import processes

OURS = (
    "config",
    "console",
    "utils",
    "gpt2",
    "optim",
    "exercises",
    "experiments",
    "grading",
    "data",
)


def test_the_cases_are_what_the_formulas_give():
    made = all_cases()
    with safe_open(CASES, framework="pt") as file:
        assert json.loads(file.metadata()["hints"]) == made.hints
        assert set(file.keys()) == made.tensors.keys()
        for name, tensor in made.tensors.items():
            torch.testing.assert_close(file.get_tensor(name), tensor, msg=name)


def test_our_own_code_passes_every_check():
    report = check(config=GPT2Config(**SHAPE))
    assert report, str(report)
    assert "\n" not in str(report) and str(report).startswith("[OK  ] attention, add, ")
    assert str(check("add")) == "[OK  ] add: 5 of 5 as expected"
    assert [each.exercise for each in report.checks] == list(CHECKS)


def copy_of_the_package(folder: Path) -> Path:
    for name in ("config.py", "console.py", "utils.py", "optimizer_test.npy"):
        shutil.copy(ROOT / name, folder)
    for name in ("gpt2", "optim", "exercises", "grading"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    (folder / "data" / "sample").symlink_to(ROOT / "data" / "sample")
    return folder


def checked(folder: Path, exercises: tuple[str, ...]) -> list[tuple]:
    """The lines of a report on the package in `folder`, in a process that has it to itself."""
    for name in list(sys.modules):
        if name.split(".")[0] in OURS:
            del sys.modules[name]
    sys.path[:] = [str(folder), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    os.chdir(folder)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from config import GPT2Config as TheirConfig
    from grading.checks import check as their_check

    report = their_check(*exercises, config=TheirConfig(**SHAPE))
    return [(each.state, *each.line()) for each in report.checks]


def all_checked(jobs: list[tuple[Path, tuple[str, ...]]]) -> list[list[tuple]]:
    with processes().Pool(2) as pool:
        return pool.starmap(checked, jobs, chunksize=1)


def test_every_mutation_is_caught_by_its_check(tmp_path):
    jobs = []
    for number, (exercise, file, _, edits) in enumerate(MUTATIONS):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        copy_of_the_package(folder)
        path = folder / file
        path.write_text(edited(path.read_text(encoding="utf-8"), edits), encoding="utf-8")
        jobs.append((folder, (exercise,)))
    assert len(jobs) >= 40
    missed = []
    for (exercise, _, wrong, _), ((state, *line),) in zip(
        MUTATIONS, all_checked(jobs), strict=True
    ):
        if state != "failed":
            missed.append((exercise, wrong, *line))
    assert not missed


def test_every_exercise_has_mutations():
    assert Counter(exercise for exercise, *_ in MUTATIONS).keys() == CHECKS.keys()


@pytest.mark.parametrize("style", STYLES)
def test_right_code_in_another_style_passes_every_check(style, tmp_path):
    copy_of_the_package(tmp_path)
    for file, bodies in STYLES[style].items():
        path = tmp_path / file
        path.write_text(with_bodies(path.read_text(encoding="utf-8"), bodies), encoding="utf-8")
    (lines,) = all_checked([(tmp_path, ())])
    assert len(lines) == len(CHECKS)
    assert [line for line in lines if line[0] != "passed"] == []


def test_a_failure_shows_what_it_got_what_it_expected_and_a_hint():
    class NoCorrection(AdamW):
        def __init__(self, params, correct_bias=True, **settings):
            super().__init__(params, correct_bias=False, **settings)

    findings = run("AdamW.step", lambda found: check_optimizer(found, NoCorrection))
    assert findings.state == "failed"
    failure = findings.first_failure
    assert failure.what == "with bias correction"
    assert failure.got.startswith("largest difference") and failure.expected == "at most 1e-09"
    assert failure.hint == "correct the bias if, and only if, correct_bias"
    text = str(Report([findings]))
    assert text.startswith("[FAIL] AdamW.step") and "hint: correct the bias" in text


def test_unwritten_code_is_to_do_and_what_needs_it_waits():
    def unwritten(name):
        def function(findings):
            raise NotImplementedError(name)

        return function

    own = run("add", unwritten("add"))
    other = run("layer forward", unwritten("add"))
    assert (own.state, own.problem) == ("to do", "not written yet")
    assert (other.state, other.problem) == ("waits", "waits for add")
    assert "[WAIT] layer forward: waits for add" in str(Report([own, other])) and not Report(
        [own, other]
    )


def test_an_error_is_a_finding_that_names_the_line():
    def broken(findings):
        return torch.ones(2) @ torch.ones(3)

    findings = run("add", broken)
    assert findings.state == "failed"
    assert "RuntimeError" in findings.problem and "test_checks.py, line" in findings.problem


def test_the_table_escapes_what_code_says():
    findings = Findings("add")
    findings.true("<b>", False, "<script>", "x", "a & b")
    table = Report([findings])._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table and "a &amp; b" in table


def test_no_findings_is_no_pass_and_an_unknown_exercise_is_named():
    assert Findings("add").state == "failed"
    with pytest.raises(ValueError, match="no exercise 'ad'; there are attention, add,"):
        check("ad")
