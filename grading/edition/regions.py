"""Solutions in source files: regions between marker lines, removed and restored.

    # BEGIN SOLUTION attention
    # END SOLUTION

A TODO and NotImplementedError replace the lines.

The words are nbgrader's and otter's; the name of an exercise follows them (see exercises.toml).
"""

import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

EXERCISES = Path(__file__).parent / "exercises.toml"
COMMON = {  # lines of solutions that other code has too
    "T, S = query.size(-2), key.size(-2)",
    "optimizer.step()",
    "optimizer.zero_grad()",
}
BEGIN, END = re.compile(r"\s*# BEGIN SOLUTION\b ?(.*)"), re.compile(r"\s*# END SOLUTION\s*")


@dataclass(frozen=True)
class Region:
    """Lines of a solution."""

    exercise: str
    lines: tuple[str, ...]


@cache
def exercises() -> dict[str, dict]:
    """Return, by name, the handout's section and a TODO for each region."""
    return tomllib.loads(EXERCISES.read_text(encoding="utf-8"))


def parts(text: str, name: str = "text") -> list[str | Region]:
    """Return a file's lines and regions; ValueError names the line of a misplaced marker."""
    found: list[str | Region] = []
    exercise, lines = None, []
    for number, line in enumerate(text.split("\n"), start=1):
        begins, ends = BEGIN.fullmatch(line), END.fullmatch(line)
        if (begins and exercise is not None) or (ends and exercise is None):
            raise ValueError(f"{name}, line {number}: {line.strip()} does not belong here")
        if begins:
            exercise, lines = begins[1].strip(), []
            if exercise not in exercises():
                raise ValueError(
                    f"{name}, line {number}: no exercise {exercise!r} in {EXERCISES.name}; there "
                    f"are {', '.join(exercises())}"
                )
        elif ends:
            found.append(Region(exercise, tuple(lines)))
            exercise = None
        else:
            (found if exercise is None else lines).append(line)
    if exercise is not None:
        raise ValueError(f"{name}: # BEGIN SOLUTION {exercise} is never ended")
    return found


def without_solutions(text: str, name: str = "text", stubbed: Collection[str] | None = None) -> str:
    """Return the text for students; only the exercises in `stubbed` are open, if given."""
    seen: Counter[str] = Counter()

    def instead(region: Region) -> list[str]:
        if stubbed is not None and region.exercise not in stubbed:
            return list(region.lines)
        seen[region.exercise] += 1
        return _todo(region, seen[region.exercise] - 1)

    return _joined(text, name, instead)


def with_solutions(text: str, name: str = "text") -> str:
    """Return the text with its solutions and without the markers."""
    return _joined(text, name, lambda region: list(region.lines))


def solution_lines(text: str, name: str = "text") -> set[str]:
    """Return the stripped lines of its solutions, without short and COMMON ones."""
    lines = {
        line.strip()
        for part in parts(text, name)
        if isinstance(part, Region)
        for line in part.lines
    }
    return {line for line in lines if len(line) >= 12} - COMMON


def _joined(text: str, name: str, of_region: Callable[[Region], list[str]]) -> str:
    lines: list[str] = []
    for part in parts(text, name):
        lines += of_region(part) if isinstance(part, Region) else [part]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _todo(region: Region, number: int) -> list[str]:
    first = next(line for line in region.lines if line.strip())
    indent = first[: len(first) - len(first.lstrip())]
    exercise = exercises()[region.exercise]
    text = f"TODO {region.exercise} (handout section {exercise['section']}): "
    text += " ".join(exercise["todo"][number].split())
    mark = f"{indent}# "
    comment = textwrap.wrap(
        text, 100, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
    )
    return [*comment, f'{indent}raise NotImplementedError("{region.exercise}")']
