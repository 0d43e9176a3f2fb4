"""A grade as pages and tables can show it: everything there, of its type, of bounded length.

Grades are plain data (see grading.grader). Much of their text and all of their claims come from
submissions; `Grade.of` takes any value whatever, and what it can't use it leaves out and says so.
"""

import reprlib
import unicodedata
from dataclasses import dataclass, field

from grading.checks.findings import MARKS, Finding
from grading.checks.results import ROW, misfit
from grading.submissions.submission import safe_name

STATES = {**MARKS, "missing": "NONE"}
NO_FAULT = ("changed", "added")  # kinds of flags that blame nobody
MOST = {"items": 100, "findings": 40, "flags": 200, "claims": 20, "accuracies": 40}
TOLERANCE = 1e-6  # between an accuracy and the same one recomputed
CURVE = {"first_loss": float, "train_loss": [float], "held_out_loss": [float], "unigram": float}


@dataclass(frozen=True)
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

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    @property
    def mark(self) -> str:
        return STATES[self.state]


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


@dataclass
class Grade:
    """One student's grade."""

    student: str
    points: float
    max_points: float
    problem: str
    items: list[Item]
    flags: list[Flag]
    notes: list[Flag]  # that blame nobody
    seconds: float
    facts: dict[str, str]
    accuracies: list[Accuracy] = field(default_factory=list)
    curve: dict | None = None
    claims: dict[str, str] = field(default_factory=dict)  # those that no figure shows
    skipped: list[str] = field(default_factory=list)  # what could not be shown, and why

    @property
    def sandboxed(self) -> bool:
        return not self.facts["Sandbox"].startswith("NONE")

    @property
    def folder(self) -> str:
        return safe_name(self.student)

    @classmethod
    def of(cls, raw) -> "Grade":
        """The grade in any value."""
        problem = "" if isinstance(raw, dict) else "the grade can't be read; grade it again"
        raw = _object(raw)
        skipped: list[str] = []
        flags = [
            Flag(*(clean(each.get(key, "")) for key in ("kind", "where", "text")))
            for each in _objects(raw.get("flags"), "flags", skipped)
        ]
        grade = cls(
            student=clean(raw.get("student", ""), 120) or "unnamed",
            points=number(raw.get("points")),
            max_points=number(raw.get("max_points")),
            problem=clean(raw.get("problem", "")) or problem,
            items=[_item(item) for item in _objects(raw.get("items"), "items", skipped)],
            flags=[flag for flag in flags if flag.kind not in NO_FAULT],
            notes=[flag for flag in flags if flag.kind in NO_FAULT],
            seconds=number(raw.get("seconds")),
            facts=_facts(raw),
            skipped=skipped,
        )
        grade._take_claims(_object(raw.get("claims")), _object(raw.get("recomputed")))
        return grade

    def _take_claims(self, claims: dict, recomputed: dict) -> None:
        curve, rows = claims.get("toy curve"), []
        if curve is not None and not self._misfits("toy curve", curve, CURVE):
            self.curve = {key: curve[key] for key in CURVE}
        dev, fifteen = claims.get("dev accuracy"), claims.get("fifteen accuracies")
        if dev is not None and not self._misfits("dev accuracy", dev, ROW):
            rows.append(("dev", dev))
        if fifteen is not None and not self._misfits(
            "fifteen accuracies", fifteen, {"rows": [ROW]}
        ):
            rows += [("test", row) for row in fifteen["rows"]]
        accuracies = {}
        for split, row in rows[: MOST["accuracies"]]:
            name = f"{split}.{clean(row['language'], 12)}"
            if 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1:
                values = row["accuracy"], row["low"], row["high"]
                accuracies[name] = Accuracy(name, *values, n=row["n"])
            else:
                self.skipped.append(f"{name}: its accuracy is not in its interval, or no share")
        found = _object(recomputed.get("accuracy"))
        for name, row in list(found.items())[: MOST["accuracies"]]:
            value = number(_object(row).get("recomputed"), -1)
            if 0 <= value <= 1:
                name = clean(name, 18)
                accuracies.setdefault(name, Accuracy(name)).recomputed = value
        self.accuracies = list(accuracies.values())
        for more in (len(rows), len(found)):
            if more > MOST["accuracies"]:
                self.skipped.append(f"accuracies: only {MOST['accuracies']} of {more:,} are shown")
        shown = ("toy curve", "dev accuracy", "fifteen accuracies")
        others = [(name, claim) for name, claim in claims.items() if name not in shown]
        self.claims = {clean(name, 60): clean(claim) for name, claim in others[: MOST["claims"]]}
        if len(others) > MOST["claims"]:
            self.skipped.append(f"claims: {len(others) - MOST['claims']:,} more are not shown")

    def _misfits(self, name: str, claim, shape) -> bool:
        wrong = misfit(claim, shape, name)
        if wrong:
            where, _, got, expected = wrong
            self.skipped.append(f"{clean(where, 100)} is {clean(got, 100)}, not {expected}")
        return bool(wrong)


def clean(value, longest: int = 400) -> str:
    """Any value in so many characters, all of which can be printed and go from left to right."""
    if not isinstance(value, str):
        try:
            value = _SHORT.repr(value)
        except (ValueError, RecursionError):  # a number of thousands of digits, for one
            value = type(value).__name__
    more = f" … ({len(value):,} characters)" if len(value) > longest else ""
    return "".join(map(_printed, value[:longest])).strip() + more


def number(value, default: float = 0.0) -> float:
    """The value if it is a finite number of a size that a page can show."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    return float(value) if fits else default


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


def _item(raw: dict) -> Item:
    found = raw.get("found") if isinstance(raw.get("found"), list) else []
    kept = [each for each in found if isinstance(each, dict)][: MOST["findings"]]
    state = raw.get("state")
    return Item(
        id=clean(raw.get("id", ""), 60),
        title=clean(raw.get("title") or raw.get("id", ""), 60),
        section=clean(raw.get("section", ""), 20),
        kind=clean(raw.get("kind", ""), 20),
        state=state if isinstance(state, str) and state in STATES else "failed",
        points=number(raw.get("points")),
        max_points=number(raw.get("max_points")),
        problem=clean(raw.get("problem", "")),
        found=[
            Finding(
                *(clean(each.get(key, "")) for key in ("what", "got", "expected")),
                each.get("passed") is True,
                clean(each.get("hint", "")),
            )
            for each in kept
        ],
        omitted=len(found) - len(kept),
    )


def _facts(raw: dict) -> dict[str, str]:
    """What is said of the grading itself."""
    isolation, split = _object(raw.get("isolation")), _object(raw.get("recomputed"))
    again = _object(split.get("predictions"))
    facts = {
        "Submission": clean(raw.get("source", ""), 120),
        "Content": clean(raw.get("digest", ""))[:16],
        "Graded": clean(raw.get("graded_at", ""), 30).replace("T", " "),
        "Seconds": f"{number(raw.get('seconds')):.0f}",
        "Sandbox": clean(isolation.get("sandbox") or f"NONE: {isolation.get('problem', '')}", 150),
    }
    if again:
        agree, compared = number(again.get("agree")), number(again.get("compared"))
        facts["Answers of its weights"] = (
            f"{agree:.0f} of {compared:.0f} as its predictions for "
            f"{clean(again.get('split', ''), 20)} say"
        )
    return {name: value for name, value in facts.items() if value}


def _object(value) -> dict:
    """The value if it is an object of JSON, else an empty one."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {key: each for key, each in pairs if isinstance(key, str)}


def _objects(value, name: str, skipped: list[str]) -> list[dict]:
    """The objects in a list, so many of them."""
    found = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    if len(found) > MOST[name]:
        skipped.append(f"{name}: {len(found) - MOST[name]:,} more are not shown")
    return found[: MOST[name]]
