"""What instructors get of grades: pages, a gradebook, and results for Gradescope.

    write(load(Path("grades")), Path("grades"))

The files are listed in grading/README.md. The pages are for instructors: they show flags. They
need no network and no scripts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.files import write_text
from grading.report.grades import Grade, Item, said
from grading.report.ledger import course_tables, gradebook, leaderboard, load
from grading.submissions.similar import alike

__all__ = ["class_page", "gradebook", "gradescope", "load", "student_page", "write"]

SIGNS = {"passed": "✓", "failed": "✗", "to do": "□", "waits": "…", "missing": "–"}
SIGNS |= {"not evidenced": "?"}
PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.globals |= {"signs": SIGNS, "quote": quote, "said": said}
PAGES.filters["number"] = "{:g}".format
PAGE = PAGES.get_template("page.html")


def gradescope(grade: Grade) -> dict:
    """Return a grade as Gradescope reads it from results.json ("Autograder Specifications")."""
    tests = [
        {
            "name": item.title,
            "score": item.points,
            "max_score": item.max_points,
            "status": "passed" if item.passed else "failed",
            "output": _lines(item, grade.by_hand.comments.get(item.id, "")),
            "tags": [item.kind, item.section],
        }
        for item in grade.items
    ]
    if flags := grade.flags + grade.notes:
        tests.append(
            {
                "name": "Flags (instructors alone see this)",
                "status": "failed" if grade.flags else "passed",
                "output": "\n".join(f"{flag.kind}: {flag.where}: {flag.text}" for flag in flags),
                "tags": ["flags"],
                "visibility": "hidden",
            }
        )
    lines = [f"{grade.points:g} of {grade.max_points:g} points."]
    lines += [f"Not graded: {grade.problem}"] if grade.problem else []
    lines += [f"{grade.penalty:g} off for {grade.late_days} days late."] if grade.penalty else []
    lines += [grade.by_hand.comment] if grade.by_hand.comment else []
    return {
        "score": grade.points,
        "execution_time": round(grade.seconds),
        "output": "\n".join(lines),
        "output_format": "text",
        "test_output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _lines(item: Item, comment: str) -> str:
    """Return what was found of an item, as text."""
    lines = [text for text in (comment, item.problem) if text]
    for finding in item.found:
        lines.append(f"{'✓' if finding.passed else '✗'} {said(finding)}")
        lines += [f"  Hint: {finding.hint}"] if finding.hint else []
    return "\n".join(lines)


def student_page(grade: Grade) -> str:
    """Return the page of one student, in HTML that needs nothing else."""
    return PAGE.render(kind="student", title=grade.student, grade=grade)


def class_page(grades: Sequence[Grade]) -> str:
    """Return the page of a class, in HTML that needs nothing but the students' pages beside it."""
    titles = {item.id: item.title for grade in grades for item in grade.items}
    states = {grade.student: {item.id: item.state for item in grade.items} for grade in grades}
    points = [grade.points for grade in grades if grade.items]
    summary = {"students": len(grades), "not graded": len(grades) - len(points)}
    if apart := sum(not grade.sandboxed for grade in grades):
        summary["WITHOUT A SANDBOX"] = apart
    histogram = []  # tenths of the points: from, to, and how many students have as many
    if points:
        summary |= {"mean": f"{fmean(points):.1f}", "median": f"{median(points):.1f}"}
        ends = min(0, *points), max(1, *points, *(grade.max_points for grade in grades))
        counts, edges = np.histogram(points, bins=10, range=ends)
        histogram = zip(edges[:-1], edges[1:], counts, strict=True)
    return PAGE.render(
        kind="class",
        title="Grades",
        grades=grades,
        summary=summary,
        histogram=histogram,
        titles=titles,
        states=states,
        passed={id: fmean(each.get(id) == "passed" for each in states.values()) for id in titles},
        leaders=leaderboard(grades),
        flags=[(grade.student, flag) for grade in grades for flag in grade.flags],
        pairs=alike({grade.student: grade.tokens for grade in grades}),
    )


def write(grades: Sequence[Grade], folder: Path) -> None:
    """Write pages, results and gradebook of these grades (see the top of this file).

    Every file is either the old one or the new one, whole.
    """
    folder = Path(folder)
    for grade in grades:
        results = json.dumps(gradescope(grade), indent=1, allow_nan=False)
        write_text(folder / grade.student / "results.json", f"{results}\n")
        write_text(folder / grade.student / "index.html", student_page(grade))
    for name, table in {"gradebook.csv": gradebook(grades), **course_tables(grades)}.items():
        # With a mark of its encoding, without which Excel takes names for another one.
        write_text(folder / name, "\ufeff" + table.to_csv(index=False))
    write_text(folder / "index.html", class_page(grades))
