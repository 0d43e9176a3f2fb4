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
COMMON = {  # lines of solutions that other code has too
    "T, S = query.size(-2), key.size(-2)",
    "loss.backward()",
    "optimizer.step()",
    "optimizer.zero_grad()",
}
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
    seen: Counter[str] = Counter()
    exercise, lines = None, []
    for number, line in enumerate(text.split("\n"), start=1):
        begins, ends = BEGIN.fullmatch(line), END.fullmatch(line)
        if (begins and exercise is not None) or (ends and exercise is None):
            raise ValueError(f"{name}, line {number}: {line.strip()} does not belong here")
        if begins:
            exercise, lines = begins[1], []
            seen[exercise] += 1
            if exercise not in exercises():
                raise ValueError(
                    f"{name}, line {number}: no exercise {exercise!r} in {EXERCISES.name}; there "
                    f"are {', '.join(exercises())}"
                )
        elif ends:
            found.append(Region(exercise, tuple(lines), seen[exercise]))
            exercise = None
        else:
            (found if exercise is None else lines).append(line)
    if exercise is not None:
        raise ValueError(f"{name}: # BEGIN SOLUTION {exercise} is never ended")
    return found


def without_solutions(text: str, name: str = "text", stubbed: Collection[str] | None = None) -> str:
    """Return the text for students; only the exercises in `stubbed` are open, if given."""
    lines: list[str] = []
    for part in parts(text, name):
        if isinstance(part, str):
            lines.append(part)
        else:
            is_open = stubbed is None or part.exercise in stubbed
            lines += _todo(part) if is_open else part.lines
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def solution_lines(text: str, name: str = "text") -> set[str]:
    """Return the stripped lines of its solutions, without short and COMMON ones."""
    lines = {
        line.strip()
        for part in parts(text, name)
        if isinstance(part, Region)
        for line in part.lines
    }
    return {line for line in lines if len(line) >= 12} - COMMON


def _todo(region: Region) -> list[str]:
    """Return the TODO of a region as a comment, with its points in lines of their own."""
    first = next(line for line in region.lines if line.strip())
    indent = first[: len(first) - len(first.lstrip())]
    exercise = exercises()[region.exercise]
    todo, where = f"TODO-{exercise['number']}", exercise["where"]
    text = f"{todo} {region.exercise} ({where}): {exercise['todo'][region.place - 1].strip()}"
    comment = []
    for point in re.split(r"\s(?=- )", text):
        mark, more = f"{indent}# ", "  " * point.startswith("- ")
        comment += textwrap.wrap(
            " ".join(point.split()), 100, initial_indent=mark, subsequent_indent=mark + more,
            break_on_hyphens=False,
        )  # fmt: skip
    return [*comment, f'{indent}raise NotImplementedError("{region.exercise}")  # {todo}, {where}']
