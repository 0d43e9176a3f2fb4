"""Hand the project out, and grade what comes back.

python -m grading release student_edition

python -m grading grade submissions.zip --out grades

python -m grading pages grades

python -m grading gradescope autograder.zip
"""

import json
import os
import secrets
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import tyro

from console import errors_in_one_line, progress_bar
from experiments.files import read_json, write_json, write_text
from grading import grader
from grading.edition.release import release
from grading.grader import RUBRIC, Rubric, Settings
from grading.gradescope import gradescope
from grading.report import ledger, load, write
from grading.submissions import sandbox
from grading.submissions.submission import find


def grade(
    submissions: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("grades"),
    rubric: Path = RUBRIC,
    data: tuple[Path, ...] = (),
    without_sandbox: bool = False,
    again: bool = False,
    jobs: int = 1,
    deadline: str = "",
    user: str = "",
) -> None:
    """Grade submissions: folders, zips, or a class's worth of them.

    Args:
        submissions: what was handed in.
        out: where grades, pages and the gradebook go; what is there already is not graded again.
        rubric: points and limits.
        data: folders with the real XNLI-1.0, where submissions used it.
        without_sandbox: run submissions with limits only; they could read and change what you can.
        again: grade also what has been graded.
        jobs: how many at once.
        deadline: such as 2026-12-01T23:59, in local time (a day alone is its first minute); kept
            for later calls. When something was handed in, the newest file inside says, or, where
            files have no times, the archive's.
        user: for root, with --without-sandbox: run submissions as this user, such as nobody; they
            can read and change what that user can.
    """
    if user and not (without_sandbox and os.geteuid() == 0):
        raise ValueError(f"--user {user}: needs --without-sandbox, and the rights of root")
    if user and (problem := sandbox.missing(user)):
        raise ValueError(f"--user {user}: {problem}")
    if not without_sandbox and (problem := sandbox.missing()):
        raise RuntimeError(
            f"nothing was graded: submissions are unknown code, and {problem}; where nothing else "
            "lies on the machine, --without-sandbox grades with limits only"
        )
    for folder in data:
        if not (folder / "XNLI-1.0").is_dir():
            raise FileNotFoundError(f"{folder}: holds no XNLI-1.0; give the folder that does")
    if deadline and datetime.fromisoformat(deadline).tzinfo is not None:
        raise ValueError(f"--deadline {deadline}: give local time, without a time zone")
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    found, loaded = find(submissions), Rubric.load(rubric)
    shared = {"seed": secrets.randbelow(10**9)} | ledger.read_shared(out) | loaded.late
    if deadline:
        shared["deadline"] = deadline
    write_json(out / ledger.SHARED, shared)
    folders = tuple(folder.resolve() for folder in data)
    loaded = replace(loaded, limits=replace(loaded.limits, user=user))
    settings = Settings(loaded, folders, shared["seed"], not without_sandbox)
    todo = [each for each in found if again or _known_key(out, each) != settings.key(each)]
    pool = ProcessPoolExecutor(jobs, get_context("spawn"))
    grades = (pool.map if jobs > 1 else map)(grader.grade, todo, [settings] * len(todo))
    try:
        for graded in progress_bar(grades, "grading", len(todo)):
            path = out / graded["student"] / "grade.json"
            write_text(path, json.dumps(graded, indent=1) + "\n")
    finally:
        pool.shutdown(cancel_futures=True)
    class_ = load(out)
    write(class_, out)
    for each in class_:
        if each.student in {submission.student for submission in found}:
            flags = f", {len(each.flags)} flags" if each.flags else ""
            late = f", {each.late_days} days late" if each.late_days else ""
            problem = f": {each.problem}" if each.problem else ""
            print(f"{each.student}  {each.points:g} of {each.max_points:g}{late}{flags}{problem}")
    _print_mistakes(class_, out)
    print(f"pages: {out / 'index.html'}, gradebook: {out / 'gradebook.csv'}")


def _print_mistakes(class_: list, folder: Path) -> None:
    """Print what is wrong in files by hand."""
    for grade in class_:
        if grade.by_hand.problem:
            print(f"{folder / grade.student / ledger.NAME}: {grade.by_hand.problem}")


def _known_key(out: Path, submission) -> str | None:
    try:
        return (read_json(out / submission.student / "grade.json") or {}).get("key")
    except ValueError:  # damaged
        return None


def pages(grades: tyro.conf.Positional[Path], anonymous: Path | None = None) -> None:
    """Write pages and gradebook again, after points or comments were changed by hand.

    Args:
        grades: the folder of the grades.
        anonymous: a folder for the same under pseudonyms, instead.
    """
    if not grades.is_dir():
        raise FileNotFoundError(f"{grades}: no such folder; give the one that `grade` wrote")
    if not (grades / ledger.SHARED).is_file():
        raise FileNotFoundError(f"{grades}: holds no grades; give the folder that `grade` wrote")
    if anonymous is None:
        class_ = load(grades)
        write(class_, grades)
        _print_mistakes(class_, grades)
    else:
        write(ledger.anonymous(grades), anonymous)
    print(f"pages: {(anonymous or grades) / 'index.html'}")


def main(args: list[str] | None = None) -> None:
    with errors_in_one_line():
        tyro.extras.subcommand_cli_from_dict(
            {"release": release, "grade": grade, "pages": pages, "gradescope": gradescope},
            prog="python -m grading",
            description=__doc__,
            args=args,
        )


if __name__ == "__main__":
    main()
