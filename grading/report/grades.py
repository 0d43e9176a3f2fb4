"""A grade as pages and tables show it: what the grader found, and what was added by hand.

Grades are plain data (see grading.grader). Much of their text and all of their claims come from
submissions: texts are made printable and short, claims are checked for their shape.
"""

import unicodedata
from dataclasses import dataclass, field

from grading.checks.findings import MARKS, Finding
from grading.checks.results import ROW
from grading.checks.shapes import misfit, short
from grading.report.byhand import ByHand
from grading.submissions.notebook import Flag

STATES = {**MARKS, "missing": "NONE", "not evidenced": "CLAIM"}
NO_FAULT = ("changed", "added", "ids")  # kinds of flags that blame nobody
MOST_FLAGS, MOST_ACCURACIES = 200, 40
LONGEST = 5000  # characters of an answer or a comment
TOLERANCE = 1e-6  # between an accuracy and the same one recomputed
NO_SANDBOX = "NONE: graded without a sandbox; it could read and change what the grader can"
COMMON = 3  # items with the same problem, from which on it is said once
CURVE = {"first_loss": float, "train_loss": [float], "held_out_loss": [float], "unigram": float}
SHOWN = {"toy curve": CURVE, "dev accuracy": ROW, "fifteen accuracies": {"rows": [ROW]}}


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


@dataclass
class Accuracy:
    """What the notebook claims of one, and what was computed from its predictions."""

    name: str
    claimed: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    recomputed: float | None = None

    @property
    def agreement(self) -> str:
        if self.claimed is None or self.recomputed is None:
            return "not claimed" if self.claimed is None else "not recomputed"
        return "agrees" if abs(self.claimed - self.recomputed) <= TOLERANCE else "differs"


@dataclass
class Grade:
    """One student's grade; the student's name is that of the folder, too."""

    student: str
    problem: str = ""
    items: list[Item] = field(default_factory=list)
    worth: float = 0.0  # of a submission of which no item was graded
    flags: list[Flag] = field(default_factory=list)
    notes: list[Flag] = field(default_factory=list)  # that blame nobody
    answers: list[dict] = field(default_factory=list)  # id and text; points and comment by hand
    comment: str = ""
    late_days: int = 0
    penalty: float = 0.0
    seconds: float = 0.0
    source: str = ""
    sandboxed: bool = True
    facts: dict[str, str] = field(default_factory=dict)  # of the grading itself
    accuracies: list[Accuracy] = field(default_factory=list)
    curve: dict | None = None
    held_out_loss: float | None = None  # of the toy model, recomputed
    claims: dict[str, str] = field(default_factory=dict)  # those that no figure shows
    skipped: list[str] = field(default_factory=list)  # what could not be shown, and why
    tokens: frozenset = frozenset()  # see grading.submissions.similar

    @property
    def for_answers(self) -> float:
        return sum(answer["points"] or 0.0 for answer in self.answers)

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
    def of(cls, raw: dict, by_hand: ByHand | None = None, shared: dict | None = None) -> "Grade":
        """The grade in what a grade.json holds, and `shared`, what counts for the whole class."""
        hand, shared = by_hand or ByHand(), shared or {}
        long = ("claims", "answers", "tokens")
        texts = _cleaned({key: value for key, value in raw.items() if key not in long})
        flags = [Flag(**flag) for flag in texts["flags"][:MOST_FLAGS]]
        grade = cls(
            student=raw["student"],
            problem=texts["problem"],
            items=[_item(item, hand) for item in texts["items"]],
            worth=texts["max_points"],
            flags=[flag for flag in flags if flag.kind not in NO_FAULT],
            notes=[flag for flag in flags if flag.kind in NO_FAULT],
            answers=[
                {"id": id, "text": clean(text, LONGEST), "points": hand.answers.get(id)}
                | {"comment": _comment(hand, id)}
                for id, text in raw["answers"].items()
            ],
            comment=clean(hand.comment, LONGEST),
            late_days=hand.days_late(raw["handed_in"], shared.get("deadline", "")),
            seconds=texts["seconds"],
            source=texts["source"],
            sandboxed=raw["sandboxed"],
            facts=_facts(texts),
            held_out_loss=texts["recomputed"].get("held_out_loss"),
            tokens=frozenset(raw.get("tokens", ())),
        )
        grade.penalty = grade.late_days * shared.get("points_a_day", 0)
        if hand.problem:
            grade.flags.insert(0, Flag("comments.toml", "", clean(hand.problem)))
        if more := texts["flags"][MOST_FLAGS:]:
            grade.skipped.append(f"flags: {len(more):,} more are not shown")
        grade._take_claims(raw["claims"], texts["recomputed"].get("accuracy", {}))
        return grade

    def _take_claims(self, claims: dict, recomputed: dict[str, dict]) -> None:
        rows, accuracies = [], {}
        for name in [name for name in SHOWN if name in claims]:
            if wrong := misfit(claims[name], SHOWN[name], name):
                where, _, got, expected = wrong
                self.skipped.append(f"{where} is {clean(got, 100)}, not {expected}")
            elif name == "toy curve":
                self.curve = {key: claims[name][key] for key in CURVE}
            elif name == "dev accuracy":
                rows.append(("dev", claims[name]))
            else:
                rows += [("test", row) for row in claims[name]["rows"]]
        for split, row in rows[:MOST_ACCURACIES]:
            name, values = f"{split}.{clean(row['language'], 12)}", [row[key] for key in ROW][1:]
            share, low, high, _ = values
            if 0 <= low <= share <= high <= 1:
                accuracies[name] = Accuracy(name, *values)
            else:
                self.skipped.append(f"{name}: its accuracy is not in its interval, or no share")
        for name, row in recomputed.items():
            accuracies.setdefault(name, Accuracy(name)).recomputed = row["recomputed"]
        self.accuracies = list(accuracies.values())
        self.claims = {name: clean(claim) for name, claim in claims.items() if name not in SHOWN}


def clean(value, longest: int = 400) -> str:
    """Any value in so many characters, all of which can be printed and go from left to right."""
    value = value if isinstance(value, str) else short(value)
    more = f" … ({len(value):,} characters)" if len(value) > longest else ""
    return "".join(map(_printed, value[:longest])).strip() + more


def _printed(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    if unicodedata.category(character) == "Cf":  # invisible, such as what turns text around
        return ""
    return " " if character.isspace() else "\ufffd"


def _cleaned(value):
    """Plain data with all of its texts cleaned."""
    if isinstance(value, dict):
        return {key: _cleaned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    return clean(value) if isinstance(value, str) else value


def _item(raw: dict, hand: ByHand) -> Item:
    id = raw["id"]
    given = {"points": hand.points[id], "by_hand": True} if id in hand.points else {}
    given |= {"found": [Finding(**each) for each in raw["found"]]}
    return Item(**{**raw, **given, "comment": _comment(hand, id)})


def _comment(hand: ByHand, id: str) -> str:
    return clean(hand.comments.get(id, ""), LONGEST)


def _facts(raw: dict) -> dict[str, str]:
    again = raw["recomputed"].get("predictions")
    facts = {
        "Submission": raw["source"],
        "Content": raw["digest"][:16],
        "Handed in": raw["handed_in"].replace("T", " "),
        "Graded": raw["graded_at"].replace("T", " "),
        "Seconds": f"{raw['seconds']:.0f}",
        "Sandbox": "bubblewrap" if raw["sandboxed"] else NO_SANDBOX,
    }
    if again:
        facts["Answers of its weights"] = (
            f"{again['agree']} of {again['compared']} as its predictions for {again['split']} say"
        )
    return {name: value for name, value in facts.items() if value}
