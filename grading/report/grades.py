"""A grade as pages and tables show it: what the grader found, and what was added by hand.

Grades are plain data (see grading.grader). Much of their text and all of their claims come from
submissions: everything is made short and printable here, once.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace

from grading.checks.findings import Finding
from grading.report.byhand import ByHand
from grading.submissions.notebook import Flag

FACTS = ("problem", "max_points", "source", "handed_in", "seconds", "sandboxed", "recomputed")
NO_FAULT = ("ids",)  # kinds of flags that blame nobody
MOST_FLAGS = 100
LONGEST = 5000  # characters of an answer or a claim
OURS = {"id", "state", "kind", "section", "title"}  # fields with words of the grader's own
COMMON = 3  # items with the same problem, from which on it is said once


@dataclass
class Item:
    """What one exercise or result was worth, and what was found of it."""

    id: str
    title: str
    section: str
    kind: str
    state: str  # a key of grading.report.SIGNS
    points: float
    max_points: float
    problem: str
    found: list[Finding]

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    @property
    def reason(self) -> tuple[str, str]:
        """Why it is not passed, and a hint."""
        worst = next((each for each in self.found if not each.passed), None)
        if self.problem or worst is None:
            return self.problem, ""
        return said(worst), worst.hint


def said(finding: Finding) -> str:
    return f"{finding.what}: got {finding.got}, expected {finding.expected}"


@dataclass
class Grade:
    """One student's grade; the student's name is that of the folder, too."""

    student: str
    problem: str = ""
    max_points: float = 0.0
    source: str = ""
    handed_in: str = ""
    seconds: float = 0.0
    sandboxed: bool = True
    recomputed: dict = field(default_factory=dict)  # as grading.submissions.recompute leaves it
    items: list[Item] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    notes: list[Flag] = field(default_factory=list)  # that blame nobody
    answers: dict[str, str] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)  # see grading.submissions.similar
    by_hand: ByHand = field(default_factory=ByHand)
    late_days: int = 0
    penalty: float = 0.0

    @property
    def for_answers(self) -> float:
        return sum(self.by_hand.answers.values())

    @property
    def points(self) -> float:
        before = sum(item.points for item in self.items) + self.for_answers
        return max(before - self.penalty, min(before, 0.0))

    @property
    def common(self) -> dict[str, int]:
        """Problems that many items have: how many."""
        counts = Counter(item.problem for item in self.items if item.problem)
        return {text: count for text, count in counts.items() if count >= COMMON}

    @classmethod
    def of(cls, raw: dict, by_hand: ByHand, shared: dict) -> "Grade":
        """Return the grade in a grade.json's data; `shared` is what counts for the whole class."""
        texts = change_texts({**raw, "claims": {}, "answers": {}}, clean)
        grade = cls(raw["student"], **{name: texts[name] for name in FACTS}, by_hand=by_hand)
        for name, claim in raw["claims"].items():  # any JSON values
            grade.claims[name] = clean(re.sub(r"(\.\d{4})\d+", r"\1", repr(claim)), LONGEST)
        for name, answer in raw["answers"].items():
            grade.answers[name] = clean(answer, LONGEST)
        for item in texts["items"]:
            points = by_hand.points.get(item["id"], item["points"])
            found = [Finding(**finding) for finding in item["found"]]
            grade.items.append(Item(**{**item, "points": points, "found": found}))
        if by_hand.problem:
            grade.flags.append(Flag("comments.toml", "", by_hand.problem))
        flags = [Flag(**flag) for flag in texts["flags"][:MOST_FLAGS]]
        grade.flags += [flag for flag in flags if flag.kind not in NO_FAULT]
        grade.notes += [flag for flag in flags if flag.kind in NO_FAULT]
        if more := texts["flags"][MOST_FLAGS:]:
            grade.flags.append(Flag("more", "", f"{len(more):,} more flags are not shown"))
        grade.tokens = raw.get("tokens", [])
        grade.late_days = by_hand.days_late(grade.handed_in, shared.get("deadline", ""))
        grade.penalty = grade.late_days * shared.get("points_a_day", 0)
        return grade


def change_texts(value, change: Callable[[str], str]):
    """Return plain data with its texts changed, but for what the grader itself has named."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [change_texts(each, change) for each in value]
    if isinstance(value, dict):
        return {k: v if k in OURS else change_texts(v, change) for k, v in value.items()}
    if is_dataclass(value):
        return replace(value, **change_texts(vars(value), change))
    return value


def clean(text: str, longest: int = 400) -> str:
    """Return so many characters of a text, all of which can be printed and go left to right."""
    more = f" … ({len(text):,} characters)" if len(text) > longest else ""
    return "".join(map(_printed, text[:longest])).strip() + more


def _printed(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    if unicodedata.category(character) == "Cf":  # invisible, such as what turns text around
        return ""
    return " " if character.isspace() else "\ufffd"
