"""A package in which one exercise is the student's, and everything else is ours.

So a fault costs its own points once. The student's whole file is there; the functions of other
exercises in it are replaced by ours when it is imported. Ours come from the student edition with
the judged exercise left open: nothing in the package restates what it asks for.
"""

import ast
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from grading.checks.places import COMPANIONS, PARTS
from grading.edition.regions import BEGIN, exercises
from grading.edition.release import ROOT, student_edition

OWN = ("*.py", "gpt2/**/*.py", "optim/**/*.py", "exercises/**/*.py")  # what students may add
NEEDED = ("config.py", "console.py", "utils.py", "optimizer_test.npy", "gpt2/", "optim/")
NEEDED += ("exercises/", "grading/", "data/sample/")
LARGEST = 2**20  # bytes of one
GRAFT = """

# The grader's: functions that other exercises ask for.
from {package} import {module} as _given

"""


@cache
def functions() -> dict[str, dict[str, set[str]]]:
    """Return the functions of each exercise, by file: qualified names such as GPT2Layer.add."""
    found: dict[str, dict[str, set[str]]] = {name: {} for name in exercises()}
    for path in [p for pattern in OWN[1:] for p in sorted(ROOT.glob(pattern))]:
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.split("\n"), start=1):
            if begins := BEGIN.fullmatch(line):
                file = path.relative_to(ROOT).as_posix()
                name = _function_at(ast.parse(text), number)
                found[begins[1]].setdefault(file, set()).add(name)
    return found


def _function_at(node: ast.AST, line: int) -> str:
    kinds = ast.FunctionDef | ast.ClassDef
    inside = (c for c in ast.iter_child_nodes(node) if isinstance(c, kinds))
    child = next((c for c in inside if c.lineno <= line <= c.end_lineno), None)
    if child is None:
        return ""
    within = _function_at(child, line) if isinstance(child, ast.ClassDef) else ""
    return f"{child.name}.{within}" if within else child.name


def own_files(root: Path) -> dict[str, bytes]:
    """Return the modules of a submission, before any code of it has run."""
    paths = {path for pattern in OWN for path in root.glob(pattern)}
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST
    }
    return {name: content for name, content in files.items() if not _shadows(name)}


def _shadows(name: str) -> bool:
    """Whether a file in the project's folder hides an installed module."""
    stem = PurePosixPath(name).stem
    if "/" in name or (ROOT / name).exists() or not stem.isidentifier():
        return False
    return stem in sys.stdlib_module_names or find_spec(stem) is not None


def alone(exercise: str, theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a package in which this exercise is the student's."""
    files = {*functions()[exercise], *(theirs.keys() & COMPANIONS.get(exercise, ()))}
    return _package(theirs, files, {exercise})


def together(right: Collection[str], theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a package with the student's model, but ours where a part of it is not `right`."""
    where = functions()
    files = {file for name in right for file in where[name]}
    files -= {file for name in PARTS if name not in right for file in where[name]}
    model = set(where["embed"])
    return _package(theirs, files | model, right)


@cache
def _edition(stubbed: tuple[str, ...]) -> dict[str, bytes]:
    """Return what checks need of the student edition in which these exercises are open."""
    files = student_edition(stubbed)
    return {name: content for name, content in files.items() if name.startswith(NEEDED)}


def _package(
    theirs: Mapping[str, bytes], files: Collection[str], judged: Collection[str]
) -> dict[str, bytes]:
    stubbed = sorted(name for name in judged if {*functions()[name]} & {*files})
    package = {**theirs, **_edition(tuple(stubbed))}
    for file in files:
        text = theirs.get(file, b"raise ImportError('this file was not handed in')\n")
        asked = {name: places.get(file, set()) for name, places in functions().items()}
        theirs_too = set().union(*(asked[name] for name in judged))
        if others := sorted(set().union(*asked.values()) - theirs_too):
            path = PurePosixPath(file)
            given = path.with_stem(f"_given_{path.stem}")
            package[given.as_posix()] = package[file]
            graft = GRAFT.format(package=".".join(path.parent.parts), module=given.stem)
            graft += "\n".join(f"{name} = _given.{name}" for name in others) + "\n"
            text += graft.encode()
        package[file] = text
    return package
