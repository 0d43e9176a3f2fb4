"""The student edition: the project without its solutions, written to a folder and verified."""

import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

import nbformat

from console import progress_bar
from grading.edition.regions import END, exercises, solution_lines, without_solutions
from utils import atomic_write

ROOT = Path(__file__).parents[2]
NOTEBOOK = "default_final_project.ipynb"
OVERLAY = (
    Path(__file__).parent / "student"
)  # files of the student edition alone, or instead of ours
SHIPPED = (  # not: tests, benchmarks, results, the rest of grading/
    *("config.py", "console.py", "utils.py", "run_notebook.py", "pyproject.toml"),
    *("requirements.txt", "gpt2/vocabulary/*"),
    *("constraints.txt", "LICENSE", ".gitignore", "pretrain.txt", "optimizer_test.npy", NOTEBOOK),
    *("gpt2/**/*.py", "optim/*.py", "experiments/**/*.py", "experiments/*.css", "data/*.py"),
    *("data/sample/XNLI-1.0/*.tsv", "data/sample/XNLI-MT-1.0/multinli/*.tsv"),
    *("data/miniature/*.py", "data/miniature/languages/*.toml", "data/miniature/model/*"),
    "results/real_data.json",
    *("grading/__init__.py", "grading/checks/*.py", "grading/checks/*.safetensors"),
)
PACKAGES = ("gpt2", "optim", "experiments", "data", "grading")
FIXED = (
    "grading/",
    "tests/",
    "data/sample/",
    "data/miniature/",
    "optimizer_test.npy",
)  # what students do not change
SHAPE = {  # of the model in the sanity check, as small as tells mistakes apart
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 500,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
PRELOADED = ["transformers", "accelerate", "pandas", "matplotlib.pyplot", "tyro"]
PRELOADED += ["scipy.stats", "sklearn.linear_model", "sklearn.pipeline", "sklearn.metrics"]
UNUSED = "# ruff: noqa: F401, F821, F841, RUF059, RUF100  while there is a TODO below"
ANSWER = "*What do these results show, and what do they not show? Two or three sentences.*"


def student_edition(stubbed: Sequence[str] | None = None) -> dict[str, bytes]:
    """Return path -> content of the student edition; only `stubbed` exercises open, if given."""
    files = {}
    for pattern in SHIPPED:
        paths = sorted(ROOT.glob(pattern))
        assert paths, f"there is no {pattern} to ship"
        for path in paths:
            files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    for path in sorted(OVERLAY.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            files[path.relative_to(OVERLAY).as_posix()] = path.read_bytes()
    for name, content in files.items():
        if name.endswith(".py"):
            text = without_solutions(content.decode("utf-8"), name, stubbed)
            files[name] = (f"{UNUSED}\n{text}" if "# TODO " in text else text).encode()
        elif name.endswith(".ipynb"):
            files[name] = (nbformat.writes(_for_students(content, name, stubbed)) + "\n").encode()
    return dict(sorted(files.items()))


def _for_students(content: bytes, name: str, stubbed: Sequence[str] | None):
    """Return a notebook without outputs and solutions.

    Cells tagged "solution" are left out; those tagged "answer" become ANSWER.
    """
    notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
    notebook.cells = [
        cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        if "answer" in cell.metadata.get("tags", []):
            cell.source = ANSWER
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = without_solutions(cell.source, f"{name}, {cell.id}", stubbed).rstrip()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return notebook


def release(out: Path, *, progress: bool = True) -> None:
    """Write the student edition to the folder `out`, which must be new or empty, and verify it.

    Raises FileExistsError for a folder that is not empty, AssertionError where verification fails;
    the folder is then deleted.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty; give a new folder")
    files = student_edition()
    write(files, out)
    try:
        verify(files, progress=progress)
        assert {p: f.read_bytes() for p, f in _found(out)} == files, "files changed meanwhile"
    except BaseException:
        shutil.rmtree(out)
        raise


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files to a folder."""
    for name, content in files.items():
        with atomic_write(Path(folder) / name) as path:
            path.write_bytes(content)


def _found(folder: Path) -> Iterable[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


# ---- Verification ------------------------------------------------------------------------------


def verify(files: dict[str, bytes], *, progress: bool = True) -> None:
    """Raise AssertionError, with the reason, unless these files can be handed out.

    No line of a solution is left in them. With every exercise open, each check reports "to do" or
    what it waits for; with one exercise open, its own check reports "to do" and all others pass or
    wait for it; with none, all pass.
    """
    assert files == student_edition(), "the student edition comes out differently a second time"
    assert not (traces := leaks(files)), f"parts of a solution are left: {'; '.join(traces[:5])}"
    open_exercises = [None, [], *([name] for name in exercises())]
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for number, stubbed in enumerate(open_exercises):
            copy = Path(folder) / str(number)
            write(files if stubbed is None else student_edition(stubbed), copy)
            jobs.append(copy)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        with context.Pool(2, maxtasksperchild=1) as pool:
            results = pool.imap(states, jobs)
            results = list(progress_bar(results, "verifying", len(jobs), disable=not progress))
    for stubbed, found in zip(open_exercises, results, strict=True):
        _assert_as_expected(stubbed, found)


def _assert_as_expected(stubbed: list[str] | None, found: dict[str, tuple[str, str]]) -> None:
    what = "all exercises open" if stubbed is None else f"{stubbed or 'no exercise'} open"
    for name, (state, text) in found.items():
        if stubbed is None:
            right = state == "waits" or (state == "to do" and name in exercises())
        elif name in stubbed:
            right = state == "to do"
        else:
            right = state == "passed" or text in [f"waits for {each}" for each in stubbed]
        assert right, f"with {what}, {name} says: {text}"


def states(folder: Path) -> dict[str, tuple[str, str]]:
    """Return state and text of every check of the package in a folder; a process has one."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("config", "console", "utils", *PACKAGES):
            del sys.modules[name]
    sys.path[:] = [str(folder), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    os.chdir(folder)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)
    for package in PACKAGES:
        for path in sorted((folder / package).rglob("*.py")):
            if path.stem != "__main__":
                import_module(path.relative_to(folder).with_suffix("").as_posix().replace("/", "."))
    from config import GPT2Config
    from grading.checks import check

    report = check(config=GPT2Config(**SHAPE))
    return {each.exercise: (each.state, each.line()[2]) for each in report.checks}


def leaks(files: dict[str, bytes]) -> list[str]:
    """Return where these files have a line of a solution, a marker, an output or a cache."""
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for pattern in SHIPPED
        for path in ROOT.glob(pattern)
        if path.suffix in (".py", ".ipynb")
    }
    secret: set[str] = set()
    for name, text in sources.items():
        for piece in _code(text, name):
            secret |= solution_lines(piece, name)
    found = []
    for name, content in files.items():
        if re.search(r"(^|/)(\.git|__pycache__|\.ipynb_checkpoints|runs|out)(/|$)", name):
            found.append(f"{name} is not for students")
        text = content.decode("utf-8", errors="replace")
        for piece in _code(text, name):
            for number, line in enumerate(piece.split("\n"), start=1):
                marker = END.fullmatch(line) or "# BEGIN SOLUTION" in line
                if line.strip() in secret or marker:
                    found.append(f"{name}, line {number}: {line.strip()}")
        if name.endswith(".ipynb"):
            cells = json.loads(text)["cells"]
            found += [f"{name}, {c['id']}: outputs" for c in cells if c.get("outputs")]
            found += [f"{name}, {c['id']}: metadata" for c in cells if c["metadata"]]
    return found


def _code(text: str, name: str) -> list[str]:
    """Return the pieces of a file that may hold a solution."""
    if name.endswith(".ipynb"):
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    return [text]
