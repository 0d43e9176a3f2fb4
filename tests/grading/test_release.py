"""The student edition has all that a student needs and nothing that an instructor keeps."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbclient
import nbformat
import pytest

from grading.checks.findings import Findings
from grading.edition.regions import exercises
from grading.edition.release import (
    ANSWER,
    NOTEBOOK,
    PACKAGES,
    SHIPPED,
    enter,
    leaks,
    processes,
    release,
    student_edition,
    unexpected,
    write,
)
from tests import ROOT, few_pairs


@pytest.fixture(scope="module")
def edition():
    return student_edition()


@pytest.fixture(scope="module")
def cells(edition):
    return nbformat.reads(edition[NOTEBOOK].decode(), as_version=4).cells


def test_it_verifies_itself_and_is_written_whole(tmp_path, edition):
    """A stub fails its own check alone; with the solutions put back all pass; no line is left."""
    release(tmp_path)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in found} == edition


def test_it_holds_neither_tests_nor_programs_of_the_instructor(edition):
    assert [name for name in edition if name.startswith("tests/")] == ["tests/test_exercises.py"]
    for kept in ("expected", "release", "grader", "sandbox", "regions", "recompute"):
        assert not [name for name in edition if Path(name).stem == kept]
    folders = {name.split("/")[0] for name in edition}
    assert not folders & {"benchmarks", ".git", "runs", "out"}
    assert [name for name in edition if "pycache" in name or name.endswith("exercises.toml")] == []
    results = [name for name in edition if name.startswith("results/")]
    assert results == ["results/real_data.json"]  # what the notebook quotes
    there = {"README.md", "AGENTS.md", "Makefile", "pretrain.txt", "grading/checks/__init__.py"}
    assert there <= set(edition)
    assert [pattern for pattern in SHIPPED if not any(ROOT.glob(pattern))] == []


def test_its_notebook_has_no_output_and_asks_where_ours_answers(cells):
    ours = nbformat.read(ROOT / NOTEBOOK, as_version=4).cells
    tags = {cell.id: cell.metadata.get("tags", []) for cell in ours}
    assert [cell.id for cell in cells] == [id for id in tags if "solution" not in tags[id]]
    asked = [cell.id for cell in cells if cell.source == ANSWER]
    assert asked == [id for id in tags if "answer" in tags[id]]
    assert not [cell.id for cell in cells if cell.get("outputs") or cell.metadata]


def test_a_solution_that_is_left_anywhere_is_found(edition):
    secret = "return F.linear(hidden_state, self.word_embedding.weight)"
    left = {
        "gpt2/layer.py": edition["gpt2/layer.py"] + f"    {secret}\n".encode(),
        "notes.txt": f"x\n\t{secret}\n".encode(),
        NOTEBOOK: json.dumps({"cells": [{"source": ["x\n", f"    {secret}"]}]}).encode(),
        "AGENTS.md": b"    # END SOLUTION\n",
    }
    assert leaks(edition) == []
    assert [text.split(": ")[0] for text in leaks(left)] == list(left)


def test_it_is_clean_by_ruff(tmp_path, edition):
    """And no cell of its notebook needs a name of a cell that was left out (F821)."""
    write(edition, tmp_path)
    names = f"check --isolated --select F821 {NOTEBOOK}"
    for command in ("check --no-cache", "format --check --no-cache", names):
        ruff = [sys.executable, "-m", "ruff", *command.split()]
        outcome = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
        assert outcome.returncode == 0, outcome.stdout


def test_imports_that_only_a_solution_needs_are_not_there(edition):
    """No name that the stub does not use, and no short cut to what an exercise asks for."""
    for name, line in (
        ("gpt2/attention.py", "import math\n"),
        ("gpt2/attention.py", "import torch.nn.functional as F\n"),
        ("gpt2/model.py", "import torch.nn.functional as F\n"),
        ("gpt2/loss.py", "from gpt2.fast import in_chunks\n"),
        ("gpt2/train.py", "from gpt2.fast import faster, "),
        ("gpt2/generate.py", "from utils import check_numbers, "),
        ("exercises/finetuning.py", "import "),
    ):
        assert line in (ROOT / name).read_text(encoding="utf-8"), (name, line)
        assert line not in edition[name].decode(), (name, line)
    for name in edition:
        if re.fullmatch(r"(gpt2|optim|exercises|experiments)/.*\.py", name):
            text = edition[name].decode()
            short = r"(from|import) torch\.optim\S*(\.adam| import Adam)|modeling_gpt2|\.generate\("
            assert not re.search(short, text), name
            assert "next_logits" not in text and "def beam_search" not in text, name


def printed(folder: Path, *programs: str) -> list[str]:
    """Return what these programs print, one after the other, with nothing of ours to import."""
    enter(folder)
    shown = []
    for program in programs:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            exec(program, {})
        shown.append(out.getvalue())
    return shown


@pytest.fixture
def prints(tmp_path, edition):
    """A function from programs to what they print in the edition's folder."""
    write(edition, tmp_path)
    with processes().Pool(1) as pool:
        yield lambda *programs: pool.apply(printed, (tmp_path, *programs))


def test_all_of_it_can_be_imported_and_needs_nothing_of_ours(prints, tmp_path):
    help = "import runpy, sys; sys.argv = ['gpt2', '--help']\n"
    where, commands, imported = prints(
        "import gpt2, grading.checks as checks; print(gpt2.__file__, checks.__file__)",
        help + "runpy.run_module('gpt2', run_name='__main__')",
        f"import importlib, pkgutil\nfor package in {PACKAGES}:\n"
        "    for module in pkgutil.walk_packages([package], package + '.'):\n"
        "        if '__main__' not in module.name:\n"
        "            print(importlib.import_module(module.name).__file__)\n",
    )
    assert where.count(str(tmp_path)) == 2 and "pretrain" in commands
    assert imported.count(str(tmp_path)) == len(imported.splitlines()) > 40


def test_a_stub_that_its_check_does_not_miss_is_an_error(monkeypatch):
    """And a check that waits for what is written, or fails although all is."""
    found = [Findings("add", [], "", "passed"), Findings("embed", [], "waits for add", "waits")]
    monkeypatch.setattr("grading.edition.release.enter", lambda folder: None)
    monkeypatch.setattr("grading.edition.release.checked", lambda: found)
    missed = "with ['add'] open, add says: 0 of 0 as expected"
    assert unexpected((None, ["add"])) == [missed]
    assert unexpected((None, [])) == ["with [] open, embed says: waits for add"]
    found[:] = [Findings("add", [], "not written yet", "to do")]
    assert unexpected((None, ["add"])) == []


# ---- As a student drives it --------------------------------------------------------------------


def first_open(error: nbclient.exceptions.CellExecutionError) -> str:
    """The exercise that a cell's error names."""
    if error.ename == "NotImplementedError":
        return error.evalue
    return re.search(r"\[TODO\] ([^:]+): not written yet", error.evalue)[1]


@pytest.mark.slow
def test_the_notebook_is_driven_from_one_open_exercise_to_the_next(tmp_path, edition):
    """In one kernel: each stop names the first open exercise, whose solution then is put in."""
    write(edition, tmp_path)
    lines = (ROOT / "pretrain.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "text.txt").write_text("\n".join(lines[:60]), encoding="utf-8")
    few = {"PRETRAIN_TEXT": "text.txt", "XNLI_DIR": str(few_pairs(tmp_path / "xnli"))}
    notebook = nbformat.reads(edition[NOTEBOOK].decode(), as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": tmp_path}}
    )
    environment = {**os.environ, "PYTHONPATH": "", "TRAIN_ROWS": "12", **few}
    left, stops = list(exercises()), {}
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(notebook.cells):
            while cell.cell_type == "code":
                try:
                    client.execute_cell(cell, index)
                    break
                except nbclient.exceptions.CellExecutionError as error:
                    assert first_open(error) == left[0], f"{cell.id}: {error}"
                stops.setdefault(cell.id, []).append(left.pop(0))
                time.sleep(1.1)  # a second is what autoreload tells apart
                for path, content in student_edition(left).items():
                    if path.endswith(".py") and (tmp_path / path).read_bytes() != content:
                        (tmp_path / path).write_bytes(content)
    assert not left
    ids = [cell.id for cell in notebook.cells]
    tasks = {name: ids.index(id) < ids.index("task2") for id in stops for name in stops[id]}
    assert [name for name, in_task_1 in tasks.items() if in_task_1] == list(exercises())[:8]


def test_a_check_says_which_file_is_newer_than_what_is_imported(prints):
    first, _, second = prints(
        "from grading.checks import check; print(check('add'))",
        "from pathlib import Path; path = Path('gpt2/layer.py'); text = path.read_text()\n"
        "path.write_text(text.replace('raise NotImplementedError(\"add\")', 'return input'))",
        "from grading.checks import check; print(check('add'))",
    )
    assert first.startswith("[TODO] add: not written yet")
    assert second.startswith("gpt2/layer.py has changed since it was imported: restart the kernel")
    assert second.endswith(first)


def test_make_test_tells_open_exercises_from_wrong_ones(tmp_path):
    write(student_edition(["embed"]), tmp_path)
    wrong = (tmp_path / "gpt2/layer.py").read_text().replace("return input + ", "return ")
    (tmp_path / "gpt2/layer.py").write_text(wrong)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "add or embed"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert "[TODO] embed: not written yet" in shown and "1 failed, 1 skipped" in shown
    assert "[FAIL] add: the sum: got largest difference" in shown
    assert "hint: the input is missing" in shown
    assert "Traceback" not in shown and "test_exercises.py:" in shown


def test_an_edition_that_does_not_hold_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.edition.release.leaks", lambda files: ["gpt2/model.py: secret"])
    with pytest.raises(AssertionError, match=r"parts of a solution are left: gpt2/model\.py"):
        release(tmp_path / "edition")
    assert not (tmp_path / "edition").exists()


def test_a_packed_submission_has_runs_without_checkpoints(tmp_path, edition):
    weights = {"runs/english-1/best_model/model.safetensors": b"weights"}
    left_out = {"runs/english-1/checkpoint-00000009.pt": b"weights", ".venv/x.py": b"x"}
    write(edition | weights | left_out, tmp_path)
    command = [sys.executable, "-m", "grading.submit", "--name", "Ada"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / "Ada.zip") as archive:
        assert set(archive.namelist()) == {*edition, *weights}
    unnamed = subprocess.run([*command[:-1], " ."], cwd=tmp_path, capture_output=True, text=True)
    assert unnamed.returncode == 2 and "give yours" in unnamed.stderr
    assert [path.name for path in tmp_path.glob("*.zip")] == ["Ada.zip"]
