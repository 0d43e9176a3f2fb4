"""Points and comments by hand: one TOML file for each student, which the grader never changes."""

import math
import tomllib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from experiments.files import write_text

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
        """Return what a file says of a grade; one sentence in `problem` if it has a mistake.

        A grade with items gets the file where it is missing.
        """
        items, answers = [item["id"] for item in raw["items"]], list(raw["answers"])
        if items and not path.exists():
            lines = "\n".join(f"# {id} = 0" for id in answers)
            out = path.parent.parent.name
            text = TEMPLATE.format(out=out, items=", ".join(items), answers=lines)
            write_text(path, text)
        shape = {
            "comment": "a text",
            "late_days": "a whole number",
            "points": dict.fromkeys(items, "a number"),
            "answers": dict.fromkeys(answers, "a number"),
            "comments": dict.fromkeys(items + answers, "a text"),
        }
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
            if not items:  # it could not be read, so that there is nothing to give points for
                tables = {key: tables[key] for key in ("comment", "late_days") if key in tables}
            _check(tables, shape)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            return cls(problem=f"nothing in it counts: {error}")
        return cls(**tables)

    def days_late(self, handed_in: str, deadline: str) -> int:
        """Return the days, or parts of one, from the deadline to a time: 2026-12-01T23:59 (...)."""
        if self.late_days is not None or not (deadline and handed_in):
            return self.late_days or 0
        late = datetime.fromisoformat(handed_in.split()[0]) - datetime.fromisoformat(deadline)
        return max(0, math.ceil(late.total_seconds() / 86_400))


def _check(value, shape: str | dict, name: str = "") -> None:
    """Raise ValueError for what does not fit: a shape is a key of KINDS, or a table of shapes."""
    kind = shape if isinstance(shape, str) else "a table"
    if not KINDS[kind](value):
        raise ValueError(f"{name} must be {kind}, got {value!r}")
    for key, each in value.items() if kind == "a table" else ():
        if key not in shape:
            raise ValueError(f"{name or 'the file'} has no {key!r}; there are {', '.join(shape)}")
        _check(each, shape[key], f"{name}.{key}" if name else key)
