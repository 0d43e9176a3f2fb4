"""Solutions in source files: regions between marker lines, removed and restored.

    # BEGIN SOLUTION attention
    # END SOLUTION

A TODO and NotImplementedError replace the lines.
"""

import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

EXERCISES = Path(__file__).parent / "exercises.toml"
BEGIN = re.compile(r"\s*# BEGIN SOLUTION\b ?(.*?)\s*")
END = re.compile(r"\s*# END SOLUTION\s*")


@dataclass(frozen=True)
class Region:
    """Lines of a solution."""

    exercise: str
    lines: tuple[str, ...]
    place: int = 1  # of those of the exercise


@cache
def exercises() -> dict[str, dict]:
    """Return, by name, number and section in the handout, and a TODO for each region."""
    return tomllib.loads(EXERCISES.read_text(encoding="utf-8"))


def parts(text: str, name: str = "text") -> list[str | Region]:
    """Return a file's lines and regions; ValueError names the line of a misplaced marker."""
    found: list[str | Region] = []
    places: Counter[str] = Counter()
    exercise, lines = None, []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{name}, line {number}"
        begins, ends = BEGIN.fullmatch(line), END.fullmatch(line)
        if begins and exercise is None:
            exercise, lines = begins[1], []
            if exercise not in exercises():
                known = f"{EXERCISES.name}; there are {', '.join(exercises())}"
                raise ValueError(f"{where}: no exercise {exercise!r} in {known}")
        elif ends and exercise is not None:
            places[exercise] += 1
            found.append(Region(exercise, tuple(lines), places[exercise]))
            exercise = None
        elif begins or ends:
            raise ValueError(f"{where}: {line.strip()} does not belong here")
        elif exercise is None:
            found.append(line)
        else:
            lines.append(line)
    if exercise is not None:
        raise ValueError(f"{name}: # BEGIN SOLUTION {exercise} is never ended")
    return found


def without_solutions(text: str, name: str = "text", stubbed: Collection[str] | None = None) -> str:
    """Return the text for students; only the exercises in `stubbed` are open, if given."""
    lines: list[str] = []
    for part in parts(text, name):
        if isinstance(part, str):
            lines.append(part)
        elif stubbed is None or part.exercise in stubbed:
            lines += _todo(part)
        else:
            lines += part.lines
    return "\n".join(lines)


def solution_lines(text: str, name: str = "text") -> set[str]:
    """Return the lines of its solutions, without their indentation."""
    regions = [part for part in parts(text, name) if isinstance(part, Region)]
    return {line.strip() for region in regions for line in region.lines}


def _todo(region: Region) -> list[str]:
    """Return what stands in place of a solution: its TODO as a comment, and an error."""
    indent = re.match(r"\s*", next(filter(str.strip, region.lines)))[0]
    exercise = exercises()[region.exercise]
    number, where = f"TODO-{exercise['number']}", exercise["where"]
    todo = exercise["todo"][region.place - 1]
    between = "\n" if todo.startswith("- ") else " "
    comment = f"{number} {region.exercise} ({where}):{between}{todo}"
    error = f'{indent}raise NotImplementedError("{region.exercise}")  # {number}, {where}'
    return [*textwrap.indent(comment, f"{indent}# ").split("\n"), error]
