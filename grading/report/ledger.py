"""A class: everybody's grades in a folder, with what was added by hand, and tables of them.

    grades = load(Path("grades"))

A grade is graded once and stays: whoever else is graded into the same folder joins the class.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from statistics import fmean

import pandas as pd

from grading.report.byhand import NAME, ByHand
from grading.report.grades import Grade

FORMULA = tuple("=+-@＝＋－＠")  # what makes a spreadsheet compute a cell
MOODLE = re.compile(r"(?:^|/)([^/]+?)_(\d+)_assignsubmission")
CANVAS = re.compile(r"(?:^|/)([^/_]+)_(?:late_)?(\d+)_\d+_", re.IGNORECASE)
PLAIN = {"submission", "assignsubmission", "file", "zip", "late", "project"}  # words of file names
OURS = {"id", "state", "kind", "section", "title", "name"}  # fields with words of the grader's own
SHARED = "seed.json"  # what counts for a class: seed, deadline, points a late day costs


def load(folder: Path) -> list[Grade]:
    """The grades of a class, with the points, comments and late days of the files by hand."""
    grades, shared = [], read_shared(folder)
    for path in sorted(Path(folder).glob("*/grade.json"), key=lambda p: p.parent.name.casefold()):
        student = path.parent.name
        try:
            raw = {**json.loads(path.read_text(encoding="utf-8")), "student": student}
            grades.append(Grade.of(raw, ByHand.load(path.with_name(NAME), raw), shared))
        except (OSError, AttributeError, KeyError, TypeError, ValueError):
            grades.append(Grade(student, "the grade can't be read; grade it again"))
    return grades


def read_shared(folder: Path) -> dict:
    path = Path(folder) / SHARED
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and all are graded anew") from None


def anonymous(folder: Path) -> list[Grade]:
    """The same grades under pseudonyms, in an order that follows from the class's seed.

    Names of students and of what they handed in, and times, are taken out of all texts; what is
    written in answers is not read for other names.
    """
    seed = read_shared(folder).get("seed", "")
    grades = [each for each in load(folder) if each.items]
    grades.sort(key=lambda each: hashlib.blake2b(f"{seed} {each.student}".encode()).digest())
    nameless = []
    for number, grade in enumerate(grades, start=1):
        words = set(re.findall(r"[^\W_]{3,}", f"{grade.student} {grade.source}")) - PLAIN
        either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        names = re.compile(rf"(?<![^\W_])({either})(?![^\W_])" if words else r"(?!)", re.I)
        pseudonym = f"student-{number:03d}"
        grade = _replaced(grade, names, pseudonym)
        for fact in ("Submission", "Content", "Handed in", "Graded"):
            grade.facts.pop(fact, None)
        nameless.append(replace(grade, student=pseudonym, source=""))
    return nameless


def _replaced(value, names: re.Pattern, by: str):
    """The value with all names in its texts replaced, but for what the grader itself has named."""
    if isinstance(value, str):
        return names.sub(by, value)
    if isinstance(value, list):
        return [_replaced(each, names, by) for each in value]
    if isinstance(value, dict):
        return {k: v if k in OURS else _replaced(v, names, by) for k, v in value.items()}
    if is_dataclass(value):
        return replace(value, **_replaced(vars(value), names, by))
    return value


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
                "student": grade.student,  # a file's name, which begins with a letter or digit
                "points": grade.points,
                "max_points": grade.max_points,
                **{name: points.get(name) for name in names},
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
    tables: dict[str, list[dict]] = {"moodle.csv": [], "canvas.csv": []}
    for grade in grades:
        if match := MOODLE.search(grade.source):
            row = {"Identifier": f"Participant {match[2]}", "Full name": _cell(match[1])}
            comment = _cell(grade.comment or grade.problem)
            row |= {"Grade": grade.points, "Feedback comments": comment}
            tables["moodle.csv"].append(row)
        elif match := CANVAS.search(grade.source):
            row = {"Student": _cell(match[1]), "ID": match[2]}
            row |= dict.fromkeys(("SIS User ID", "SIS Login ID", "Section"), "")
            tables["canvas.csv"].append({**row, "GPT-2 project": grade.points})
    return {name: pd.DataFrame(rows) for name, rows in tables.items() if rows}


def leaderboard(grades: Sequence[Grade]) -> list[dict]:
    """Who has which accuracies, best first: those alone that were computed again and agree."""
    rows = []
    for grade in grades:
        passed = {item.id for item in grade.items if item.passed}
        test = {row.name.removeprefix("test."): row for row in grade.accuracies
                if row.name.startswith("test.") and row.agreement == "agrees"}  # fmt: skip
        row = {"student": grade.student, "pairs": None, "english": None, "others": None}
        row["loss"] = grade.held_out_loss if "toy curve" in passed else None
        if "fifteen accuracies" in passed and "en" in test and len(test) > 1:
            row |= {"pairs": test["en"].n, "english": test["en"].recomputed}
            row["others"] = fmean(each.recomputed for lang, each in test.items() if lang != "en")
        if row["pairs"] or row["loss"] is not None:
            rows.append(row)
    return sorted(rows, key=lambda row: (-(row["pairs"] or 0), -(row["english"] or 0)))


def _cell(value: str) -> str:
    value = value.translate({ord("\n"): " ", ord(";"): ","})
    return f"'{value}" if value.startswith(FORMULA) else value
