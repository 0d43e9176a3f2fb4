"""A class: everybody's grades in a folder, with what was added by hand, and tables of them.

    grades = load(Path("grades"))

A grade is graded once and stays: whoever else is graded into the same folder joins the class.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean

import pandas as pd

from grading.checks.results import LANGUAGES
from grading.report.byhand import NAME, ByHand
from grading.report.grades import Grade, change_texts

FORMULA = tuple("=+-@＝＋－＠")  # what makes a spreadsheet compute a cell
MOODLE = re.compile(r"(?:^|/)([^/]+?)_(\d+)_assignsubmission")
CANVAS = re.compile(r"(?:^|/)([^/_]+)_(?:late_)?(\d+)_\d+_", re.IGNORECASE)
MOODLE_COLUMNS = ["Identifier", "Full name", "Grade", "Feedback comments"]
CANVAS_COLUMNS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "GPT-2 project"]
PLAIN = {"submission", "assignsubmission", "file", "zip", "late", "project"}  # words of file names
UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}"  # words of Japanese, Chinese, Korean
SHARED = "seed.json"  # what counts for a class: seed, deadline, points a late day costs


def load(folder: Path) -> list[Grade]:
    """Return the grades of a class, with what was added by hand, in the order of their names."""
    grades, shared = [], read_shared(folder)
    for path in sorted(Path(folder).glob("*/grade.json"), key=lambda p: p.parent.name.casefold()):
        student = path.parent.name
        try:
            raw = {**json.loads(path.read_text(encoding="utf-8")), "student": student}
            grades.append(Grade.of(raw, ByHand.load(path.with_name(NAME), raw), shared))
        except (OSError, LookupError, AttributeError, TypeError, ValueError, RecursionError):
            grades.append(Grade(student, "the grade can't be read; grade it again"))
    return grades


def read_shared(folder: Path) -> dict:
    """Return what counts for a class, {} before it is graded; ValueError for a damaged file."""
    path = Path(folder) / SHARED
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and all are graded anew") from None


def anonymous(folder: Path) -> list[Grade]:
    """Return the same grades under pseudonyms, in an order that follows from the class's seed.

    Names of students and of what they handed in, and times, are taken out of all texts; what is
    written in answers is not read for other names.
    """
    grades = [each for each in load(folder) if each.items]
    Random(read_shared(folder).get("seed")).shuffle(grades)
    return [_nameless(each, f"student-{place:03d}") for place, each in enumerate(grades, start=1)]


def _nameless(grade: Grade, pseudonym: str) -> Grade:
    names = f"{grade.student} {grade.source}"
    spaced = set(re.findall(r"[^\W_]{3,}", names)) - PLAIN
    words = [rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" for word in spaced]
    words.append("[-_ ]".join(map(re.escape, re.findall(r"[^\W_]+", grade.student))))
    words += re.findall(UNSPACED, f"{names} {grade.student.replace('-', '')}")
    either = re.compile("|".join(sorted(words, key=len, reverse=True)) or "(?!)", re.IGNORECASE)
    grade = change_texts(grade, lambda text: either.sub(pseudonym, text))
    return replace(grade, student=pseudonym, source="", handed_in="")


def gradebook(grades: Sequence[Grade]) -> pd.DataFrame:
    """Return a row for each student: points, each item's points, late days, flags, problem."""
    names = dict.fromkeys(item.id for grade in grades for item in grade.items)
    return pd.DataFrame(
        {
            "student": grade.student,  # a file's name, which begins with a letter or digit
            "points": grade.points,
            "max_points": grade.max_points,
            **names,
            **{item.id: item.points for item in grade.items},
            "answers": grade.for_answers,
            "late_days": grade.late_days,
            "penalty": grade.penalty,
            "flags": len(grade.flags),
            "problem": _cell(grade.problem),
        }
        for grade in grades
    )


def course_tables(grades: Sequence[Grade]) -> dict[str, pd.DataFrame]:
    """Return what Moodle's grading worksheet and Canvas's gradebook import, by the file's name.

    For the submissions whose names say which participant (Moodle) or user (Canvas) they are of.
    """
    moodle, canvas = [], []
    for grade in grades:
        if match := MOODLE.search(grade.source):
            comment = _cell(grade.by_hand.comment or grade.problem)
            moodle.append((f"Participant {match[2]}", _cell(match[1]), grade.points, comment))
        elif match := CANVAS.search(grade.source):
            canvas.append((_cell(match[1]), match[2], "", "", "", grade.points))
    tables = {
        "moodle.csv": pd.DataFrame(moodle, columns=MOODLE_COLUMNS),
        "canvas.csv": pd.DataFrame(canvas, columns=CANVAS_COLUMNS),
    }
    return {name: table for name, table in tables.items() if len(table)}


def _cell(text: str) -> str:
    """Return a text that no spreadsheet computes, or takes for the end of a cell."""
    text = text.strip().translate({ord("\n"): " ", ord(";"): ","})
    return f"'{text}" if text.startswith(FORMULA) else text


def leaderboard(grades: Sequence[Grade]) -> list[dict]:
    """Return who has which accuracies, best first: results alone that were computed again."""
    rows = []
    for grade in grades:
        passed = {item.id for item in grade.items if item.passed}
        test = [grade.recomputed.get("accuracy", {}).get(f"test.{lang}") for lang in LANGUAGES]
        row = dict.fromkeys(("pairs", "english", "others", "loss"))
        if "toy curve" in passed:
            row["loss"] = grade.recomputed.get("held_out_loss")
        if "fifteen accuracies" in passed and all(test):
            english, *others = test
            row |= {"pairs": english["n"], "english": english["recomputed"]}
            row["others"] = fmean(each["recomputed"] for each in others)
        if any(value is not None for value in row.values()):
            rows.append({"student": grade.student, **row})
    return sorted(rows, key=lambda row: (-(row["pairs"] or 0), -(row["english"] or 0)))
