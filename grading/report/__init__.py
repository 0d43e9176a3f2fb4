"""What instructors get of grades: pages, a gradebook, and results for Gradescope.

    write(load(Path("grades")), Path("grades"))

    grades/index.html                 the class: points, items, flags, leaderboard, what is alike
    grades/gradebook.csv              a row for each student
    grades/moodle.csv, canvas.csv     points as Moodle and Canvas import them
    grades/<student>/index.html       one student: points and why, answers, flags, claims
    grades/<student>/comments.toml    points and comments by hand
    grades/<student>/results.json     the same for Gradescope, flags for instructors alone

The pages are for instructors: they show flags. They need no network and no scripts.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grading.report import figures
from grading.report.grades import STATES, Grade, Item
from grading.report.ledger import course_tables, gradebook, leaderboard, load
from grading.submissions.similar import alike
from utils import atomic_write

__all__ = ["class_page", "gradebook", "gradescope", "load", "student_page", "write"]

HERE = Path(__file__).parent
PAGES = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
SIGNS = {"passed": "✓", "failed": "✗", "to do": "□", "waits": "…", "missing": "–"}
SIGNS |= {"not evidenced": "?"}
MOST_FLAGS = 500  # on the page of a class


def gradescope(grade: Grade) -> dict:
    """A grade as Gradescope reads it from results.json (its "Autograder Specifications")."""
    tests = [
        {
            "name": item.title,
            "score": item.points,
            "max_score": item.max_points,
            "status": "passed" if item.passed else "failed",
            "output": _lines(item),
            "tags": [item.kind, item.section],
        }
        for item in grade.items
    ]
    if flags := grade.flags + grade.notes:
        lines = [f"{flag.kind}: {flag.where}: {flag.text}" for flag in flags]
        tests.append(
            {
                "name": "Flags (instructors alone see this)",
                "status": "failed" if grade.flags else "passed",
                "output": "\n".join([*lines, *grade.skipped]),
                "tags": ["flags"],
                "visibility": "hidden",
            }
        )
    lines = [f"{grade.points:g} of {grade.max_points:g} points."]
    lines += [f"Not graded: {grade.problem}"] if grade.problem else []
    lines += [f"{grade.penalty:g} off for {grade.late_days} days late."] if grade.penalty else []
    return {
        "score": grade.points,
        "execution_time": round(grade.seconds),
        "output": "\n".join([*lines, *filter(None, [grade.comment])]),
        "output_format": "text",
        "test_output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _lines(item: Item) -> str:
    """What was found of an item, as text."""
    lines = [text for text in (item.comment, item.problem) if text]
    for finding in item.found:
        mark = STATES["passed" if finding.passed else "failed"]
        lines.append(f"[{mark}] {finding.what}: got {finding.got}, expected {finding.expected}")
        lines += [f"     Hint: {finding.hint}"] if finding.hint else []
    return "\n".join(lines)


def student_page(grade: Grade) -> str:
    """The page of one student, in HTML that needs nothing else."""
    pictures = {}
    if grade.curve:
        pictures["curve"] = figures.curve_figure(grade.curve)
    if grade.accuracies:
        pictures["accuracies"] = figures.accuracies_figure(grade.accuracies)
    return _page("student", grade.student, pictures, grade=grade)


def class_page(grades: Sequence[Grade]) -> str:
    """The page of a class, in HTML that needs nothing but the students' pages beside it."""
    titles = {item.id: item.title for grade in grades for item in grade.items}
    states = {grade.student: {item.id: item for item in grade.items} for grade in grades}
    points = [grade.points for grade in grades if grade.items]
    flags = [(grade, flag) for grade in grades for flag in grade.flags]
    summary = {"students": len(grades), "not graded": len(grades) - len(points)}
    if apart := sum(not grade.sandboxed for grade in grades):
        summary["WITHOUT A SANDBOX"] = apart
    pictures, passed = {}, {}
    if points:
        worth = max(grade.max_points for grade in grades if grade.items)
        pictures["histogram"] = figures.histogram_figure(points, worth)
        summary |= {"mean": f"{fmean(points):.1f}", "median": f"{median(points):.1f}"}
        summary |= {"least": f"{min(points):g}", "most": f"{max(points):g}"}
        for name in titles:
            passed[name] = sum(name in s and s[name].passed for s in states.values()) / len(grades)
    return _page(
        "class",
        "Grades",
        pictures,
        grades=grades,
        titles=titles,
        states=states,
        passed=passed,
        flags=flags[:MOST_FLAGS],
        omitted=len(flags[MOST_FLAGS:]),
        summary=summary,
        leaders=leaderboard(grades),
        pairs=alike({grade.student: grade.tokens for grade in grades}),
    )


def write(grades: Sequence[Grade], folder: Path) -> None:
    """Write pages, results and gradebook of these grades (see the top of this file).

    Every file is either the old one or the new one, whole. A student's page stays where the grade
    is the one that it was made from.
    """
    folder = Path(folder)
    code = b"".join(p.read_bytes() for p in sorted(HERE.iterdir()) if p.suffix in (".py", ".html"))
    for grade in grades:
        own, page = folder / grade.student, folder / grade.student / "index.html"
        results = json.dumps(gradescope(grade), indent=1, allow_nan=False)
        _write(own / "results.json", f"{results}\n")
        digest = hashlib.blake2b(code + repr(grade).encode(), digest_size=16)
        made_from = f"<!-- {digest.hexdigest()} -->\n"
        if not (page.is_file() and page.read_bytes().endswith(made_from.encode())):
            _write(page, student_page(grade) + made_from)
    for name, table in {"gradebook.csv": gradebook(grades), **course_tables(grades)}.items():
        # With a mark of its encoding, without which Excel takes names for another one.
        _write(folder / name, "\ufeff" + table.to_csv(index=False))
    _write(folder / "index.html", class_page(grades))


def _write(path: Path, content: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")


def _page(kind: str, title: str, pictures: dict, **values) -> str:
    pictures = {name: figures.data_uri(figure) for name, figure in pictures.items()}
    return PAGES.get_template("page.html").render(
        kind=kind, title=title, pictures=pictures, signs=SIGNS, quote=quote, **values
    )
