"""Points and comments by hand: one TOML file for each student, which the grader never changes."""

import math
import tomllib
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
KINDS = {
    "a number": lambda value: type(value) in (int, float) and abs(value) < 1e6,
    "a whole number": lambda value: type(value) is int and value >= 0,
    "a text": lambda value: isinstance(value, str),
    "a table": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True)
class ByHand:
    """What was added to a student's grade by hand."""

    comment: str = ""
    points: dict[str, float] = field(default_factory=dict)
    answers: dict[str, float] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    late_days: int | None = None
    problem: str = ""  # of the file, nothing of which counts then

    @classmethod
    def load(cls, path: Path, raw: dict) -> "ByHand":
        """What a file says of a grade; one sentence in `problem` if it has a mistake.

        A grade with items gets the file where it is missing.
        """
        if not path.exists() and raw["items"]:
            items = ", ".join(item["id"] for item in raw["items"])
            answers = "\n".join(f"# {id} = 0" for id in raw["answers"]) or "# there are none"
            text = TEMPLATE.format(out=path.parent.parent.name, items=items, answers=answers)
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            return cls(problem=f"nothing in it counts: not TOML ({error})")
        mistake = _mistake(tables, [item["id"] for item in raw["items"]], list(raw["answers"]))
        return cls(problem=f"nothing in it counts: {mistake}") if mistake else cls(**tables)

    def days_late(self, handed_in: str, deadline: str) -> int:
        """Days, or parts of one, from the deadline to a time such as 2026-12-01T23:59 (…)."""
        if self.late_days is not None or not (deadline and handed_in):
            return self.late_days or 0
        late = datetime.fromisoformat(handed_in.split()[0]) - datetime.fromisoformat(deadline)
        return max(0, math.ceil(late.total_seconds() / 86_400))


def _mistake(tables: dict, items: list[str], answers: list[str]) -> str:
    """Return what is wrong in a file, or ""."""
    names = {"points": items, "answers": answers, "comments": items + answers}
    kinds = {"comment": "a text", "late_days": "a whole number", **dict.fromkeys(names, "a table")}
    for key, value in tables.items():
        if key not in kinds:
            return f"no {key!r} is known; there are {', '.join(kinds)}"
        if not KINDS[kinds[key]](value):
            return f"{key} must be {kinds[key]}, got {value!r}"
        inner = "a text" if key == "comments" else "a number"
        for name, each in value.items() if key in names else ():
            if name not in names[key]:
                return f"[{key}] has no {name!r}; there are {', '.join(names[key])}"
            if not KINDS[inner](each):
                return f"[{key}] {name} must be {inner}, got {each!r}"
    return ""
