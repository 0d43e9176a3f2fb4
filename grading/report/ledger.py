"""A class: everybody's grades in a folder, with what was added by hand, and tables of them.

    grades = load(Path("grades"))

A grade is graded once and stays: whoever else is graded into the same folder joins the class.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd

from grading.report.byhand import NAME, ByHand, write_template
from grading.report.grades import Grade
from grading.submissions.submission import safe_name

FORMULA = tuple("=+-@＝＋－＠")  # what makes a spreadsheet compute a cell
MOODLE = re.compile(r"(?:^|/)([^/]+?)_(\d+)_assignsubmission")
CANVAS = re.compile(r"(?:^|/)([^/_]+)_(?:late_)?(\d+)_\d+_", re.IGNORECASE)
PLAIN = {"submission", "assignsubmission", "file", "zip", "late", "project"}  # words of file names
KEYS = {"id", "state", "kind", "section", "title", "note", "language"}
SHARED = "seed.json"  # what counts for a class: seed, deadline, points a late day costs


def read_raw(folder: Path) -> list[dict]:
    """Every grade.json in a folder of grades, by the students' names; broken ones say so."""
    found = []
    for path in sorted(Path(folder).glob("*/grade.json")):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raw = None
        found.append(raw if isinstance(raw, dict) else {"student": path.parent.name})
    return sorted(found, key=lambda raw: (str(raw.get("student")).casefold(), str(raw)))


def load(folder: Path) -> list[Grade]:
    """The grades of a class, with the points, comments and late days of the files by hand."""
    return [Grade.of(raw, by_hand) for raw, by_hand in _with_by_hand(Path(folder))]


def _with_by_hand(folder: Path) -> Iterator[tuple[dict, ByHand]]:
    shared = read_shared(folder)
    common = {"deadline": shared.get("deadline", ""), "points_a_day": shared.get("points_a_day", 0)}
    for raw in read_raw(folder):
        if isinstance(raw.get("items"), list) and isinstance(raw.get("student"), str):
            path = folder / safe_name(raw["student"]) / NAME
            if raw["items"]:
                write_template(path, raw)
            yield raw, ByHand.load(path, raw, **common)
        else:
            yield raw, ByHand()


def read_shared(folder: Path) -> dict:
    path = Path(folder) / SHARED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def anonymous(folder: Path) -> list[Grade]:
    """The same grades under pseudonyms, in an order that follows from the class's seed.

    Names of students and of what they handed in, and times, are taken out of all texts; what is
    written in answers is not read for other names.
    """
    seed, grades = read_shared(folder).get("seed", ""), []
    pairs = [(raw, by_hand) for raw, by_hand in _with_by_hand(Path(folder)) if raw.get("items")]
    pairs.sort(key=lambda pair: hashlib.blake2b(f"{seed} {pair[0]['student']}".encode()).digest())
    for number, (raw, by_hand) in enumerate(pairs, start=1):
        pseudonym = f"student-{number:03d}"
        words = set(re.findall(r"[^\W_]{3,}", f"{raw['student']} {raw.get('source')}")) - PLAIN
        either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        names = re.compile(rf"(?<![^\W_])({either})(?![^\W_])" if words else r"(?!)", re.I)
        raw = _replaced(raw, names, pseudonym)
        raw |= dict.fromkeys(("source", "digest", "graded_at", "handed_in"), "")
        words = _replaced(vars(by_hand), names, pseudonym)
        late = by_hand.days_late(pairs[number - 1][0].get("handed_in", ""))
        by_hand = ByHand(**{**words, "late_days": late})
        grades.append(Grade.of({**raw, "student": pseudonym}, by_hand))
    return grades


def _replaced(value, names: re.Pattern, by: str):
    """The value with all names in its texts replaced, but for what the grader itself has named."""
    if isinstance(value, dict):
        return {k: v if k in KEYS else _replaced(v, names, by) for k, v in value.items()}
    if isinstance(value, list):
        return [_replaced(each, names, by) for each in value]
    return names.sub(by, value) if isinstance(value, str) else value


def gradebook(grades: Sequence[Grade]) -> pd.DataFrame:
    """A row for each student: points, each item's points, late days, flags, problem.

    Texts hold nothing that a spreadsheet would compute or take for the end of a cell.
    """
    names = list(dict.fromkeys(item.id for grade in grades for item in grade.items))
    rows = []
    for grade in grades:
        points = {item.id: item.points for item in grade.items}
        rows.append(
            {
                "student": _cell(grade.student),
                "points": grade.points,
                "max_points": grade.max_points,
                **{_cell(name): points.get(name) for name in names},
                "answers": grade.for_answers,
                "late_days": grade.late_days,
                "penalty": grade.penalty,
                "flags": len(grade.flags),
                "problem": _cell(grade.problem),
            }
        )
    return pd.DataFrame(rows)


def course_tables(grades: Sequence[Grade]) -> dict[str, pd.DataFrame]:
    """What Moodle's grading worksheet and Canvas's gradebook import, by the file's name.

    For the submissions whose names say which participant (Moodle) or user (Canvas) they are of.
    """
    moodle, canvas = [], []
    for grade in grades:
        if match := MOODLE.search(grade.source):
            row = {"Identifier": f"Participant {match[2]}", "Full name": _cell(match[1])}
            comment = _cell(grade.comment or grade.problem)
            moodle.append({**row, "Grade": grade.points, "Feedback comments": comment})
        elif match := CANVAS.search(grade.source):
            row = {
                "Student": _cell(match[1]),
                "ID": match[2],
                "SIS User ID": "",
                "SIS Login ID": "",
            }
            canvas.append({**row, "Section": "", "GPT-2 project": grade.points})
    tables = {"moodle.csv": pd.DataFrame(moodle), "canvas.csv": pd.DataFrame(canvas)}
    return {name: table for name, table in tables.items() if len(table)}


def leaderboard(grades: Sequence[Grade]) -> list[dict]:
    """Who has which accuracies, best first: those alone that were computed again and agree."""
    rows = []
    for grade in grades:
        passed = {item.id for item in grade.items if item.passed}
        test = {row.name.removeprefix("test."): row for row in grade.accuracies
                if row.name.startswith("test.") and row.agreement == "agrees"}  # fmt: skip
        loss = grade.held_out_loss if "toy curve" in passed else None
        if "en" not in test or "fifteen accuracies" not in passed:
            test = {}
        if test or loss is not None:
            others = [row.recomputed for lang, row in test.items() if lang != "en"]
            values = (test["en"].n, test["en"].recomputed, fmean(others)) if others else (None,) * 3
            keys = ("student", "folder", "loss", "pairs", "english", "others")
            rows.append(dict(zip(keys, (grade.student, grade.folder, loss, *values), strict=True)))
    return sorted(rows, key=lambda row: (-(row["pairs"] or 0), -(row["english"] or 0)))


def _cell(value: str) -> str:
    value = value.translate({ord("\n"): " ", ord(";"): ","})
    return f"'{value}" if value.startswith(FORMULA) else value
