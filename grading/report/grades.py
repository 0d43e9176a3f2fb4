"""A grade as pages and tables show it: what the grader found, and what was added by hand.

Grades are plain data (see grading.grader). Much of their text and all of their claims come from
submissions: texts are made printable and short, claims are checked for their shape. What is no
grade at all becomes one that says so.
"""

import reprlib
import unicodedata
from dataclasses import dataclass, field

from grading.checks.findings import MARKS, Finding
from grading.checks.results import ROW
from grading.checks.shapes import misfit
from grading.report.byhand import ByHand
from grading.submissions.submission import safe_name

STATES = {**MARKS, "missing": "NONE", "not evidenced": "CLAIM"}
NO_FAULT = ("changed", "added", "ids")  # kinds of flags that blame nobody
MOST = {"items": 100, "findings": 40, "flags": 200, "claims": 20, "accuracies": 40}
TOLERANCE = 1e-6  # between an accuracy and the same one recomputed
COMMON = 3  # items with the same problem, from which on it is said once
CURVE = {"first_loss": float, "train_loss": [float], "held_out_loss": [float], "unigram": float}


@dataclass
class Item:
    """What one exercise or result was worth, and what was found of it."""

    id: str
    title: str
    section: str
    kind: str
    state: str  # a key of STATES
    points: float
    max_points: float
    problem: str
    found: list[Finding]
    omitted: int  # how many findings more there were
    comment: str = ""
    by_hand: bool = False

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    @property
    def mark(self) -> str:
        return STATES[self.state]

    @property
    def reason(self) -> tuple[str, str]:
        """Why it is not passed, and a hint."""
        worst = next((each for each in self.found if not each.passed), None)
        if self.problem or worst is None:
            return self.problem, ""
        return f"{worst.what}: got {worst.got}, expected {worst.expected}", worst.hint


@dataclass(frozen=True)
class Flag:
    """Something to look at."""

    kind: str
    where: str
    text: str


@dataclass
class Accuracy:
    """What the notebook claims of one, and what was computed from its predictions."""

    name: str
    claimed: float | None = None
    low: float | None = None
    high: float | None = None
    recomputed: float | None = None
    n: int | None = None

    @property
    def agreement(self) -> str:
        if self.claimed is None or self.recomputed is None:
            return "not claimed" if self.claimed is None else "not recomputed"
        return "agrees" if abs(self.claimed - self.recomputed) <= TOLERANCE else "differs"


@dataclass(frozen=True)
class Answer:
    """A written answer, and what was given for it by hand."""

    id: str
    text: str
    points: float | None
    comment: str


@dataclass
class Grade:
    """One student's grade."""

    student: str
    problem: str = ""
    items: list[Item] = field(default_factory=list)
    worth: float = 0.0  # of a submission of which no item was graded
    flags: list[Flag] = field(default_factory=list)
    notes: list[Flag] = field(default_factory=list)  # that blame nobody
    answers: list[Answer] = field(default_factory=list)
    comment: str = ""
    late_days: int = 0
    penalty: float = 0.0
    seconds: float = 0.0
    source: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    accuracies: list[Accuracy] = field(default_factory=list)
    curve: dict | None = None
    held_out_loss: float | None = None  # of the toy model, recomputed
    claims: dict[str, str] = field(default_factory=dict)  # those that no figure shows
    skipped: list[str] = field(default_factory=list)  # what could not be shown, and why
    tokens: frozenset = frozenset()  # see grading.submissions.similar

    @property
    def sandboxed(self) -> bool:
        return not self.facts.get("Sandbox", "").startswith("NONE")

    @property
    def folder(self) -> str:
        return safe_name(self.student)

    @property
    def for_answers(self) -> float:
        return sum(answer.points or 0.0 for answer in self.answers)

    @property
    def points(self) -> float:
        before = sum(item.points for item in self.items) + self.for_answers
        return max(before - self.penalty, min(before, 0.0))

    @property
    def max_points(self) -> float:
        return sum(item.max_points for item in self.items) or self.worth

    @property
    def common(self) -> dict[str, int]:
        """Problems that many items have: how many."""
        texts = [item.problem for item in self.items if item.problem]
        return {text: n for text in texts if (n := texts.count(text)) >= COMMON}

    @classmethod
    def of(cls, raw, by_hand: ByHand | None = None) -> "Grade":
        """The grade in a value from JSON, whatever it is."""
        try:
            return cls._of(raw, by_hand or ByHand())
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            name = raw.get("student") if isinstance(raw, dict) else None
            name = name if isinstance(name, str) else ""
            return cls(clean(name, 120) or "unnamed", "the grade can't be read; grade it again")

    @classmethod
    def _of(cls, raw: dict, by_hand: ByHand) -> "Grade":
        flags = [Flag(*(clean(each[key]) for key in ("kind", "where", "text")))
                 for each in raw["flags"][: MOST["flags"]]]  # fmt: skip
        grade = cls(
            student=clean(raw["student"], 120) or "unnamed",
            problem=clean(raw["problem"]),
            items=[_item(item, by_hand) for item in raw["items"][: MOST["items"]]],
            worth=number(raw["max_points"]),
            flags=[flag for flag in flags if flag.kind not in NO_FAULT],
            notes=[flag for flag in flags if flag.kind in NO_FAULT],
            seconds=number(raw["seconds"]),
            source=clean(raw["source"], 200),
            facts=_facts(raw),
            comment=clean(by_hand.comment, 5000),
            late_days=by_hand.days_late(raw.get("handed_in", "")),
            tokens=frozenset(raw.get("tokens", ())),
        )
        if by_hand.problem:
            grade.flags.insert(0, Flag("comments.toml", "", clean(by_hand.problem)))
        grade.penalty = grade.late_days * by_hand.points_a_day
        for id, text in raw.get("answers", {}).items():
            given = by_hand.answers.get(id), clean(by_hand.comments.get(id, ""), 2000)
            grade.answers.append(Answer(clean(id, 60), clean(text, 5000), *given))
        for kind, kept in (("flags", MOST["flags"]), ("items", MOST["items"])):
            if len(raw[kind]) > kept:
                grade.skipped.append(f"{kind}: {len(raw[kind]) - kept:,} more are not shown")
        grade._take_claims(raw["claims"], raw["recomputed"])
        return grade

    def _take_claims(self, claims: dict, recomputed: dict) -> None:
        rows = []
        for name, shape in (
            *(("toy curve", CURVE), ("dev accuracy", ROW)),
            ("fifteen accuracies", {"rows": [ROW]}),
        ):
            if name in claims and (wrong := misfit(claims[name], shape, name)):
                where, _, got, expected = wrong
                self.skipped.append(f"{clean(where, 100)} is {clean(got, 100)}, not {expected}")
            elif name == "toy curve" and name in claims:
                self.curve = {key: claims[name][key] for key in CURVE}
            elif name in claims:
                split = "dev" if name == "dev accuracy" else "test"
                rows += [(split, row) for row in claims[name].get("rows", [claims[name]])]
        accuracies = {}
        for split, row in rows[: MOST["accuracies"]]:
            name = f"{split}.{clean(row['language'], 12)}"
            if 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1:
                values = row["accuracy"], row["low"], row["high"]
                accuracies[name] = Accuracy(name, *values, n=row["n"])
            else:
                self.skipped.append(f"{name}: its accuracy is not in its interval, or no share")
        for name, row in list(recomputed.get("accuracy", {}).items())[: MOST["accuracies"]]:
            name = clean(name, 18)
            accuracies.setdefault(name, Accuracy(name)).recomputed = number(row["recomputed"])
        self.accuracies = list(accuracies.values())
        loss = recomputed.get("held_out_loss")
        self.held_out_loss = None if loss is None else number(loss)
        shown = ("toy curve", "dev accuracy", "fifteen accuracies")
        others = [(name, claim) for name, claim in claims.items() if name not in shown]
        self.claims = {clean(name, 60): clean(claim) for name, claim in others[: MOST["claims"]]}


def clean(value, longest: int = 400) -> str:
    """Any value in so many characters, all of which can be printed and go from left to right."""
    if not isinstance(value, str):
        try:
            value = _SHORT.repr(value)
        except (ValueError, RecursionError):  # a number of thousands of digits, for one
            value = type(value).__name__
    more = f" … ({len(value):,} characters)" if len(value) > longest else ""
    return "".join(map(_printed, value[:longest])).strip() + more


def number(value) -> float:
    """The value if it is a finite number of a size that a page can show, else 0."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    return float(value) if fits else 0.0


class _Short(reprlib.Repr):
    def repr_float(self, value: float, level: int) -> str:
        return f"{value:.4g}"


_SHORT = _Short()
_SHORT.maxdict = _SHORT.maxlist = 16
_SHORT.maxstring = _SHORT.maxother = 60


def _printed(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    if unicodedata.category(character) == "Cf":  # invisible, such as what turns text around
        return ""
    return " " if character.isspace() else "\ufffd"


def _item(raw: dict, by_hand: ByHand) -> Item:
    found = [
        Finding(
            *(clean(each[key]) for key in ("what", "got", "expected")),
            each["passed"] is True,
            clean(each["hint"]),
        )
        for each in raw["found"][: MOST["findings"]]
    ]
    id = clean(raw["id"], 60)
    return Item(
        id=id,
        title=clean(raw["title"], 60),
        section=clean(raw["section"], 20),
        kind=clean(raw["kind"], 20),
        state=raw["state"] if raw["state"] in STATES else "failed",
        points=number(by_hand.points.get(id, raw["points"])),
        max_points=number(raw["max_points"]),
        problem=clean(raw["problem"]),
        found=found,
        omitted=len(raw["found"]) - len(found),
        comment=clean(by_hand.comments.get(id, ""), 2000),
        by_hand=id in by_hand.points,
    )


def _facts(raw: dict) -> dict[str, str]:
    """What is said of the grading itself."""
    isolation, again = raw["isolation"], raw["recomputed"].get("predictions")
    facts = {
        "Submission": clean(raw["source"], 120),
        "Content": clean(raw["digest"])[:16],
        "Handed in": clean(raw.get("handed_in", ""), 120).replace("T", " "),
        "Graded": clean(raw["graded_at"], 30).replace("T", " "),
        "Seconds": f"{number(raw['seconds']):.0f}",
        "Sandbox": clean(isolation.get("sandbox") or f"NONE: {isolation.get('problem', '')}", 150),
    }
    if again:
        facts["Answers of its weights"] = (
            f"{number(again['agree']):.0f} of {number(again['compared']):.0f} as its predictions "
            f"for {clean(again['split'], 20)} say"
        )
    return {name: value for name, value in facts.items() if value}
