"""The student edition: the project without its solutions, written to a folder and verified."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import nbformat

from console import progress_bar
from grading.edition.regions import END, exercises, solution_lines, without_solutions

ROOT = Path(__file__).parents[2]
NOTEBOOK = "default_final_project.ipynb"
OVERLAY = Path(__file__).parent / "student"  # files of the edition alone, or instead of ours
SHIPPED = (  # not: tests, benchmarks, results, the rest of grading/
    *("config.py", "console.py", "utils.py", "run_notebook.py", "pyproject.toml", "LICENSE"),
    *("requirements.txt", "constraints.txt", ".gitignore", "pretrain.txt", "optimizer_test.npy"),
    *(NOTEBOOK, "gpt2/**/*.py", "gpt2/vocabulary/*", "optim/*.py", "exercises/*.py"),
    *("experiments/**/*.py", "experiments/*.css", "results/real_data.json", "data/*.py"),
    *("data/sample/XNLI-1.0/*.tsv", "data/sample/XNLI-MT-1.0/multinli/*.tsv"),
    *("data/miniature/*.py", "data/miniature/languages/*.toml", "data/miniature/model/*"),
    *("grading/__init__.py", "grading/checks/*.py", "grading/checks/*.safetensors"),
)
PACKAGES = ("gpt2", "optim", "exercises", "experiments", "data", "grading")
# What students do not change.
FIXED = ("grading/", "tests/", "data/sample/", "data/miniature/", "optimizer_test.npy")
SHAPE = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 500}
SHAPE |= {"max_position_embeddings": 40, "pad_token_id": 0}  # as small as tells mistakes apart
# What is slow to import.
PRELOADED = ["transformers.models.gpt2.modeling_gpt2", "transformers.trainer_utils", "accelerate"]
PRELOADED += ["torch._dynamo", "pandas", "pyarrow", "matplotlib.pyplot", "scipy.stats", "tyro"]
PRELOADED += ["sklearn.linear_model", "sklearn.pipeline", "sklearn.metrics", "nbconvert"]
UNUSED = "# ruff: noqa: F821, F841, RUF059, RUF100  while there is a TODO below"
AUTORELOAD = "# what you save counts in the next cell\n%load_ext autoreload\n%autoreload 2"
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
            if "# TODO-" in text:
                text = f"{UNUSED}\n{_without_unused_imports(text, name)}"
            files[name] = text.encode()
        elif name.endswith(".ipynb"):
            files[name] = (nbformat.writes(_for_students(content)) + "\n").encode()
    return dict(sorted(files.items()))


@cache
def _without_unused_imports(text: str, name: str) -> str:
    """Return a file's text without the imports that only a solution needs."""
    for command in ("check --select F401,I001 --fix-only --quiet", "format"):
        ruff = [sys.executable, "-m", "ruff", *command.split(), "--stdin-filename", name, "-"]
        text = subprocess.run(
            ruff, input=text, capture_output=True, cwd=ROOT, check=True, encoding="utf-8"
        ).stdout
    return text


def _for_students(content: bytes):
    """Return a notebook without outputs and solutions.

    Cells tagged "solution" are left out; those tagged "answer" become ANSWER.
    """
    notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
    kept = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    notebook.cells = kept
    for cell in notebook.cells:
        if "answer" in cell.metadata.get("tags", []):
            cell.source = ANSWER
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source += f"\n{AUTORELOAD}"
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return notebook


def release(out: Path, *, progress: bool = True) -> None:
    """Verify the student edition and write it to the folder `out`, which must be new or empty.

    Raises FileExistsError for a folder that is not empty, AssertionError where verification fails.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty; give a new folder")
    files = student_edition()
    verify(files, progress=progress)
    write(files, out)


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files to a folder."""
    for name, content in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


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
        copies = [Path(folder) / str(number) for number in range(len(open_exercises))]
        for stubbed, copy in zip(open_exercises, copies, strict=True):
            write(files if stubbed is None else student_edition(stubbed), copy)
        with processes().Pool(2, maxtasksperchild=1) as pool:
            results = pool.imap(states, copies)
            results = list(progress_bar(results, "verifying", len(copies), disable=not progress))
    for stubbed, found in zip(open_exercises, results, strict=True):
        assert_as_expected(stubbed, found)


def processes():
    """Return a context whose server has imported what is slow, so that processes start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def assert_as_expected(stubbed: list[str] | None, found: dict[str, tuple[str, str]]) -> None:
    """Raise AssertionError for a state that a check must not have where these exercises are open.

    None stands for all of them; `found` has state and text of every check.
    """
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
    """Return state and text of every check of the package in a folder, all of it imported."""
    enter(folder)
    for package in PACKAGES:
        for path in sorted((folder / package).rglob("*.py")):
            if path.stem != "__main__":
                import_module(path.relative_to(folder).with_suffix("").as_posix().replace("/", "."))
    return {each.exercise: (each.state, each.line()[2]) for each in checked()}


def enter(folder: Path) -> None:
    """Let this process import the project from a folder, and from there alone."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("config", "console", "utils", *PACKAGES):
            del sys.modules[name]
    others = [path for path in sys.path if path and not Path(path, "optimizer_test.npy").is_file()]
    sys.path[:] = [str(folder), *others]
    os.chdir(folder)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)


def checked(*exercises: str) -> list:
    """Return the findings of these checks, or of all, of the package that is imported here."""
    from config import GPT2Config
    from grading.checks import check

    return check(*exercises, config=GPT2Config(**SHAPE)).checks


def leaks(files: dict[str, bytes]) -> list[str]:
    """Return where these files have a line of a solution, a marker, an output or a cache."""
    sources = (path for pattern in SHIPPED for path in ROOT.glob(pattern) if path.suffix == ".py")
    secret = set().union(*(solution_lines(p.read_text(encoding="utf-8"), p.name) for p in sources))
    found = []
    for name, content in files.items():
        if re.search(r"(^|/)(\.git|__pycache__|\.ipynb_checkpoints|runs|out)(/|$)", name):
            found.append(f"{name} is not for students")
        text = content.decode("utf-8", errors="replace")
        cells = json.loads(text)["cells"] if name.endswith(".ipynb") else []
        code = "\n".join("".join(cell["source"]) for cell in cells) if cells else text
        for number, line in enumerate(code.split("\n"), start=1):
            marker = END.fullmatch(line) or "# BEGIN SOLUTION" in line
            if line.strip() in secret or marker:
                found.append(f"{name}, line {number}: {line.strip()}")
        found += [f"{name}, {cell['id']}: outputs" for cell in cells if cell.get("outputs")]
        found += [f"{name}, {cell['id']}: metadata" for cell in cells if cell["metadata"]]
    return found
