"""What instructors get of grades: Gradescope's results, a gradebook, and pages with figures.

    write(grades, Path("grades"))

    grades/index.html                the class: points, items, flags, and a link to each student
    grades/gradebook.csv             a row for each student
    grades/<student>/index.html      one student: items and what was found, flags, claims
    grades/<student>/results.json    the same for Gradescope, flags for instructors alone

The pages are for instructors: they show flags. They need no network and no scripts.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grading.report import figures
from grading.report.grades import STATES, Grade, Item
from utils import atomic_write

HERE = Path(__file__).parent
MAKERS = [HERE / name for name in ("__init__.py", "grades.py", "figures.py", "page.html")]
PAGES = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
SIGNS = {"passed": "✓", "failed": "✗", "to do": "□", "waits": "…", "missing": "–"}
MOST_FLAGS = 500  # on the page of a class
FORMULA = tuple("=+-@＝＋－＠")  # what makes a spreadsheet compute a cell


def gradescope(grade) -> dict:
    """A grade as Gradescope reads it from results.json (its "Autograder Specifications")."""
    grade = Grade.of(grade)
    tests = []
    for place, item in enumerate(grade.items, 1):
        tests.append(
            {
                "name": item.title,
                "number": str(place),
                "score": item.points,
                "max_score": item.max_points,
                "status": "passed" if item.passed else "failed",
                "output": _lines(item),
                "output_format": "text",
                "tags": [tag for tag in (item.kind, item.section) if tag],
                "visibility": "visible",
            }
        )
    if flags := grade.flags + grade.notes:
        lines = [f"{flag.kind}: {flag.where}: {flag.text}" for flag in flags]
        tests.append(
            {
                "name": "Flags (instructors alone see this)",
                "number": str(len(tests) + 1),
                "status": "failed" if grade.flags else "passed",
                "output": "\n".join([*lines, *grade.skipped]),
                "output_format": "text",
                "tags": ["flags"],
                "visibility": "hidden",
            }
        )
    output = f"{grade.points:g} of {grade.max_points:g} points."
    return {
        "score": grade.points,
        "execution_time": round(grade.seconds),
        "output": f"{output}\nNot graded: {grade.problem}" if grade.problem else output,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _lines(item: Item) -> str:
    """What was found of an item, as text."""
    lines = [item.problem] if item.problem else []
    for finding in item.found:
        mark = STATES["passed" if finding.passed else "failed"]
        lines.append(f"[{mark}] {finding.what}: got {finding.got}, expected {finding.expected}")
        if finding.hint:
            lines.append(f"     Hint: {finding.hint}")
    if item.omitted:
        lines.append(f"({item.omitted:,} more)")
    return "\n".join(lines)


def gradebook(grades: Sequence) -> pd.DataFrame:
    """A row for each student: student, points, max_points, each item's points, flags, problem.

    Texts hold nothing that a spreadsheet would compute or take for the end of a cell.
    """
    grades = [Grade.of(grade) for grade in grades]
    names = list(dict.fromkeys(item.id for grade in grades for item in grade.items))
    rows = []
    for grade in sorted(grades, key=_by_name):
        points = {item.id: item.points for item in grade.items}
        rows.append(
            {
                "student": _cell(grade.student),
                "points": grade.points,
                "max_points": grade.max_points,
                **{_cell(name): points.get(name) for name in names},
                "flags": len(grade.flags),
                "problem": _cell(grade.problem),
            }
        )
    return pd.DataFrame(rows)


def student_page(grade) -> str:
    """The page of one student, in HTML that needs nothing else."""
    grade = Grade.of(grade)
    pictures = {}
    if grade.items:
        pictures["points"] = figures.points_figure(grade.items)
    if grade.curve:
        pictures["curve"] = figures.curve_figure(grade.curve)
    if grade.accuracies:
        pictures["accuracies"] = figures.accuracies_figure(grade.accuracies)
    return _page("student", grade.student, pictures, grade=grade)


def class_page(grades: Sequence) -> str:
    """The page of a class, in HTML that needs nothing but the students' pages beside it."""
    grades = sorted((Grade.of(grade) for grade in grades), key=_by_name)
    titles = {item.id: item.title for grade in grades for item in grade.items}
    states = {grade.student: {item.id: item for item in grade.items} for grade in grades}
    graded = [grade for grade in grades if not grade.problem]
    points = [grade.points for grade in graded]
    pictures = {}
    if points:
        worth = max(grade.max_points for grade in graded)
        pictures["histogram"] = figures.histogram_figure(points, worth)
    if titles:
        passed = [
            (title, mean(name in items and items[name].passed for items in states.values()))
            for name, title in titles.items()
        ]
        pictures["passed"] = figures.passed_figure(passed)
    flags = [(grade, flag) for grade in grades for flag in grade.flags]
    summary = {"students": len(grades), "not graded": len(grades) - len(graded)}
    if apart := sum(not grade.sandboxed for grade in grades):
        summary["WITHOUT A SANDBOX"] = apart
    if points:
        summary |= {"mean": f"{mean(points):.1f}", "median": f"{median(points):.1f}"}
        summary |= {"least": f"{min(points):g}", "most": f"{max(points):g}"}
    return _page(
        "class",
        "Grades",
        pictures,
        grades=grades,
        titles=titles,
        states=states,
        flags=flags[:MOST_FLAGS],
        omitted=len(flags[MOST_FLAGS:]),
        summary=summary,
    )


def write(grades: Sequence, folder: Path) -> None:
    """Write pages, results and gradebook of these grades (see the top of this file).

    Every file is either the old one or the new one, whole. A student's page stays where the grade
    is the one that it was made from.
    """
    folder, grades = Path(folder), list(grades)
    code = b"".join(path.read_bytes() for path in MAKERS)
    for raw in grades:
        own = folder / Grade.of(raw).folder
        _write(own / "results.json", json.dumps(gradescope(raw), indent=1, allow_nan=False) + "\n")
        digest = hashlib.blake2b(code + json.dumps(raw, default=str).encode(), digest_size=16)
        made_from = f"<!-- {digest.hexdigest()} -->\n"
        if not _ends_with(own / "index.html", made_from):
            _write(own / "index.html", student_page(raw) + made_from)
    # With a mark of its encoding, without which Excel takes names for another one.
    _write(folder / "gradebook.csv", "\ufeff" + gradebook(grades).to_csv(index=False))
    _write(folder / "index.html", class_page(grades))


def _write(path: Path, content: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")


def _ends_with(path: Path, ending: str) -> bool:
    return path.is_file() and path.read_bytes().endswith(ending.encode())


def _cell(value: str) -> str:
    value = value.translate({ord("\n"): " ", ord(";"): ","})
    return f"'{value}" if value.startswith(FORMULA) else value


def _by_name(grade: Grade) -> tuple[str, str]:
    return grade.student.casefold(), grade.student


def _page(kind: str, title: str, pictures: dict, **values) -> str:
    pictures = {name: figures.data_uri(figure) for name, figure in pictures.items()}
    return PAGES.get_template("page.html").render(
        kind=kind, title=title, pictures=pictures, signs=SIGNS, quote=quote, **values
    )
