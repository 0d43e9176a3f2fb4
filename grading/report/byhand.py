"""Points and comments by hand: one TOML file for each student, which the grader never changes."""

import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from utils import atomic_write

NAME = "comments.toml"
TEMPLATE = """\
# Points and comments by hand. The grader writes this file once and never again; after a change:
# python -m grading pages {out}
comment = ""
# late_days = 0  # instead of those counted from the deadline

[points]  # instead of the grader's, such as: attention = 8, "layer forward" = 5
# {items}

[answers]  # points for the written answers, on top
{answers}

[comments]  # beside an item or an answer, such as: attention = "the mask is right, the scale is not"
"""  # noqa: E501


@dataclass(frozen=True)
class ByHand:
    """What was added to a student's grade by hand, and what counts for a class: its deadline."""

    comment: str = ""
    points: dict[str, float] = field(default_factory=dict)
    answers: dict[str, float] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    late_days: int | None = None
    problem: str = ""  # of the file, nothing of which counts then
    deadline: str = ""
    points_a_day: float = 0.0

    @classmethod
    def load(cls, path: Path, raw: dict, **shared) -> "ByHand":
        """What a file says of a grade; one sentence in `problem` if it has a mistake."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return cls(**shared)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            return cls(problem=f"nothing in it counts: not TOML ({error})", **shared)
        if problem := next(_mistakes(tables, raw), ""):
            return cls(problem=f"nothing in it counts: {problem}", **shared)
        return cls(**tables, **shared)

    def days_late(self, handed_in: str) -> int:
        """Days, or parts of one, from the deadline to a time such as 2026-12-01T23:59 (…)."""
        if self.late_days is not None or not (self.deadline and handed_in):
            return self.late_days or 0
        late = datetime.fromisoformat(handed_in.split()[0]) - datetime.fromisoformat(self.deadline)
        return max(0, math.ceil(late.total_seconds() / 86_400))


def _mistakes(tables: dict, raw: dict) -> Iterator[str]:
    items, answers = [item["id"] for item in raw["items"]], list(raw.get("answers", {}))
    known = {"points": items, "answers": answers, "comments": [*items, *answers]}
    if unknown := tables.keys() - {*known, "comment", "late_days"}:
        yield f"no {min(unknown)!r} is known; there are comment, late_days, {', '.join(known)}"
    days, comment = tables.get("late_days", 0), tables.get("comment", "")
    if type(days) is not int or days < 0:
        yield f"late_days must be a whole number, got {days!r}"
    if not isinstance(comment, str):
        yield f"comment must be a text, got {comment!r}"
    for table, names in known.items():
        values = tables.get(table, {})
        if not isinstance(values, dict):
            yield f"{table} must be a table, got {values!r}"
            continue
        for name, value in values.items():
            kind = "a text" if table == "comments" else "a number"
            number = type(value) in (int, float) and abs(value) < 1e6
            if name not in names:
                yield f"[{table}] has no {name!r}; there are {', '.join(names)}"
            elif not (isinstance(value, str) if kind == "a text" else number):
                yield f"[{table}] {name} must be {kind}, got {value!r}"


def write_template(path: Path, raw: dict) -> None:
    """Write the file for a grade, unless it is there."""
    if path.exists():
        return
    items = ", ".join(item["id"] for item in raw["items"]) or "none"
    answers = "\n".join(f"# {id} = 0" for id in raw.get("answers", ())) or "# there are none"
    with atomic_write(path) as temporary:
        text = TEMPLATE.format(out=path.parent.parent.name, items=items, answers=answers)
        temporary.write_text(text, encoding="utf-8")
