"""The student edition: the project without its solutions, written to a folder and verified."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import nbformat
import tyro

from console import progress_bar
from grading.edition.regions import exercises, solution_lines, without_solutions

ROOT = Path(__file__).parents[2]
NOTEBOOK = "default_final_project.ipynb"
OVERLAY = Path(__file__).parent / "student"  # files of the edition alone, or instead of ours
SHIPPED = (  # not: tests, benchmarks, results, the rest of grading/
    *("config.py", "console.py", "counting.py", "utils.py", "run_notebook.py"),
    *("pyproject.toml", "LICENSE"),
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
# Lines of solutions that other code has too.
COMMON = {"T, S = query.size(-2), key.size(-2)", "loss.backward()", "optimizer.step()"}
COMMON |= {"optimizer.zero_grad()"}
UNUSED = "# ruff: noqa: F821, F841, RUF059, RUF100  while there is a TODO below"
AUTORELOAD = "# what you save counts in the next cell\n%load_ext autoreload\n%autoreload 2"
ANSWER = "*What do these results show, and what do they not show? Two or three sentences.*"


def student_edition(stubbed: Sequence[str] | None = None) -> dict[str, bytes]:
    """Return path -> content of the student edition; only `stubbed` exercises open, if given."""
    paths = files_in(ROOT, *SHIPPED) | files_in(OVERLAY, "**/*")
    files = {name: path.read_bytes() for name, path in sorted(paths.items())}
    for name in [name for name in files if name.endswith(".py")]:
        text = without_solutions(files[name].decode("utf-8"), name, stubbed)
        if "# TODO-" in text:
            text = f"{UNUSED}\n{_without_unused_imports(text, name)}"
        files[name] = text.encode()
    files[NOTEBOOK] = _for_students(files[NOTEBOOK]).encode()
    return files


def files_in(folder: Path, *patterns: str) -> dict[str, Path]:
    """Return the files of these patterns in a folder, by their names there."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    paths = [path for path in paths if path.is_file() and path.parent.name != "__pycache__"]
    return {path.relative_to(folder).as_posix(): path for path in paths}


@cache
def _without_unused_imports(text: str, name: str) -> str:
    """Return a file's text without the imports that only a solution needs."""
    for command in ("check --select F401,I001 --fix-only --quiet", "format"):
        ruff = [sys.executable, "-m", "ruff", *command.split(), "--stdin-filename", name, "-"]
        text = subprocess.run(
            ruff, input=text, capture_output=True, cwd=ROOT, check=True, encoding="utf-8"
        ).stdout
    return text


def _for_students(content: bytes) -> str:
    """Return a notebook without outputs and solutions.

    Cells tagged "solution" are left out; those tagged "answer" become ANSWER.
    """
    notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
    tags = {cell.id: cell.metadata.get("tags", []) for cell in notebook.cells}
    notebook.cells = [cell for cell in notebook.cells if "solution" not in tags[cell.id]]
    for cell in notebook.cells:
        if "answer" in tags[cell.id]:
            cell.source = ANSWER
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source += f"\n{AUTORELOAD}"
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return nbformat.writes(notebook) + "\n"


def release(out: tyro.conf.Positional[Path]) -> None:
    """Write the student edition to a new folder, after verifying it.

    Args:
        out: the folder.

    Raises:
        FileExistsError: it is not empty.
        AssertionError: the student edition cannot be handed out.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty; give a new folder")
    verify()
    write(student_edition(), out)
    print(f"student edition: {out}")


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files to a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# ---- Verification ------------------------------------------------------------------------------


def verify() -> None:
    """Raise AssertionError, with the reason, unless the student edition can be handed out.

    No line of a solution is left in it. With every exercise open, each check reports "to do" or
    what it waits for; with one exercise open, its own check reports "to do" and all others pass or
    wait for it; with none, all pass.
    """
    traces = leaks(student_edition())
    assert not traces, f"parts of a solution are left: {'; '.join(traces[:5])}"
    variants = [list(exercises()), [], *([name] for name in exercises())]
    with tempfile.TemporaryDirectory() as folder, processes().Pool(2, maxtasksperchild=1) as pool:
        jobs = [(Path(folder, str(i)), stubbed) for i, stubbed in enumerate(variants)]
        for copy, stubbed in jobs:
            write(student_edition(stubbed), copy)
        for wrong in progress_bar(pool.imap(unexpected, jobs), "verifying", len(jobs)):
            assert not wrong, wrong[0]


def leaks(files: dict[str, bytes]) -> list[str]:
    """Return where these files have a line of a solution, of 12 characters or more, or a marker."""
    secret = set()
    for name, path in files_in(ROOT, *SHIPPED).items():
        if name.endswith(".py"):
            secret |= solution_lines(path.read_text(encoding="utf-8"), name)
    secret = {line for line in secret if len(line) >= 12} - COMMON | {"# END SOLUTION"}
    found = []
    for name, content in files.items():
        text = content.decode("utf-8", errors="replace")
        if name.endswith(".ipynb"):
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        lines = {line.strip() for line in text.split("\n")}
        found += [f"{name}: {line}" for line in sorted(lines & secret)]
    return found


def processes():
    """Return a context whose server has imported what is slow, so that processes start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def unexpected(job: tuple[Path, Sequence[str]]) -> list[str]:
    """Return what checks of the package in a folder say that they must not say.

    A job is the folder and the exercises that are open there.
    """
    folder, stubbed = job
    enter(folder)
    waiting = [f"waits for {name}" for name in stubbed]
    found = []
    for each in checked():
        text = each.line()[2]
        right = "to do" if each.exercise in stubbed else "passed"
        if each.state != right and text not in waiting:
            found.append(f"with {stubbed} open, {each.exercise} says: {text}")
    return found


def enter(folder: Path) -> None:
    """Let this process import the project from a folder, and from there alone."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("config", "console", "counting", "utils", *PACKAGES):
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
