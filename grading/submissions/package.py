"""A package in which one exercise is the student's, and everything else is ours.

So a fault costs its own points once. The student's whole file is there; the functions of other
exercises in it are replaced by ours when it is imported. Ours come from the student edition with
the judged exercise left open: nothing in the package restates what it asks for.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from grading.checks.places import COMPANIONS, FILES, PARTS
from grading.edition.regions import BEGIN, exercises
from grading.edition.release import ROOT, student_edition

SOLVED = ("gpt2/**/*.py", "optim/**/*.py", "exercises/**/*.py")
OWN = ("*.py", "[!.]*/**/*.py")  # what students may add, but for these folders:
OTHERS = {"grading", "tests", "data", "experiments", "runs"}
NEEDED = ("config.py", "console.py", "counting.py", "utils.py", "optimizer_test.npy")
NEEDED += ("gpt2/", "optim/", "exercises/", "grading/", "data/sample/")
LARGEST = 2**20  # bytes of one
MISSING = b"raise ImportError('this file was not handed in')\n"
GRAFT = (
    "\n\n# The grader's: functions that other exercises ask for.\nfrom . import {} as _given\n\n"
)


@cache
def functions() -> dict[str, dict[str, set[str]]]:
    """Return the functions of each exercise, by file: qualified names such as GPT2Layer.add."""
    found: dict[str, dict[str, set[str]]] = {name: {} for name in exercises()}
    for path in [path for pattern in SOLVED for path in sorted(ROOT.glob(pattern))]:
        text = path.read_text(encoding="utf-8")
        for name, node in _functions(ast.parse(text).body):
            for line in text.split("\n")[node.lineno - 1 : node.end_lineno]:
                if begins := BEGIN.fullmatch(line):
                    places = found[begins[1]]
                    places.setdefault(path.relative_to(ROOT).as_posix(), set()).add(name)
    return found


def _functions(body: list[ast.stmt], within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield functions and methods with their qualified names."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield f"{within}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{within}{node.name}.")


def own_files(root: Path) -> dict[str, bytes]:
    """Return the modules of a submission, before any code of it has run."""
    found: dict[str, bytes] = {}
    for path in [path for pattern in OWN for path in root.glob(pattern)]:
        top, *_ = parts = path.relative_to(root).parts
        plain = path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST
        odd = any(part.endswith(".py") for part in parts[:-1])
        if plain and not odd and top not in OTHERS and not _shadows(root / top):
            found["/".join(parts)] = path.read_bytes()
    return found


def _shadows(path: Path) -> bool:
    """Whether something in the project's folder, and none of ours, hides an installed module."""
    if (ROOT / path.name).exists() or not path.stem.isidentifier():
        return False
    if path.stem in sys.stdlib_module_names or path.stem in sys.modules:  # perhaps without a spec
        return True
    return find_spec(path.stem) is not None


def alone(exercise: str, theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a package in which this exercise is the student's."""
    companions = theirs.keys() & COMPANIONS.get(exercise, ())
    return _package(theirs, {FILES[exercise], *companions}, {exercise})


def together(right: Collection[str], theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a package with the student's model, but ours where a part of it is not `right`."""
    wrong = {FILES[part] for part in PARTS if part not in right}
    files = {FILES[name] for name in right} - wrong | {FILES["sanity check"]}
    return _package(theirs, files, right)


@cache
def _edition(stubbed: tuple[str, ...]) -> dict[str, bytes]:
    """Return what checks need of the student edition in which these exercises are open."""
    files = student_edition(stubbed)
    return {name: content for name, content in files.items() if name.startswith(NEEDED)}


def _package(
    theirs: Mapping[str, bytes], files: Collection[str], judged: Collection[str]
) -> dict[str, bytes]:
    """Return ours with these files of theirs, and our functions of other exercises in them."""
    ours = _edition(tuple(sorted(name for name in judged if FILES[name] in files)))
    package = {**theirs, **ours}
    for file in files:
        package[file] = theirs.get(file, MISSING)
        others: set[str] = set()
        for name in functions().keys() - judged:
            others |= functions()[name].get(file, set())
        if others:
            path = PurePosixPath(file)
            given = path.with_stem(f"_given_{path.stem}")
            package[given.as_posix()] = ours[file]
            graft = [f"{name} = _given.{name}\n" for name in sorted(others)]
            package[file] += (GRAFT.format(given.stem) + "".join(graft)).encode()
    return package
