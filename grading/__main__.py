"""Hand the project out, and grade what comes back.

python -m grading release student_edition

python -m grading grade submissions.zip --out grades
"""

from pathlib import Path

import tyro

from console import errors_in_one_line
from grading.edition.release import release as write_edition
from grading.grader import RUBRIC, grade_all


def release(out: tyro.conf.Positional[Path]) -> None:
    """Write the student edition to a new folder, and verify it.

    Args:
        out: the folder.
    """
    write_edition(out)
    print(f"student edition: {out}")


def grade(
    submissions: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("grades"),
    rubric: Path = RUBRIC,
    data: tuple[Path, ...] = (),
    execute: bool = False,
    without_sandbox: bool = False,
    again: bool = False,
    jobs: int = 1,
) -> None:
    """Grade submissions: folders, zips, or a class's worth of them.

    Args:
        submissions: what was handed in.
        out: where grades, pages and the gradebook go; what is there already is not graded again.
        rubric: points and limits.
        data: folders with the real XNLI-1.0, where submissions used it.
        execute: execute every notebook again, too, and compare its results.
        without_sandbox: run submissions with limits only; they could read and change what you can.
        again: grade also what has been graded.
        jobs: how many at once.
    """
    how = {"execute": execute, "sandboxed": not without_sandbox, "again": again, "jobs": jobs}
    grades = grade_all(submissions, out, rubric=rubric, data=data, **how)
    for found in grades:
        flags = f", {len(found['flags'])} flags" if found["flags"] else ""
        problem = f": {found['problem']}" if found["problem"] else ""
        print(f"{found['student']}  {found['points']:g} of {found['max_points']:g}{flags}{problem}")
    print(f"pages: {out / 'index.html'}, gradebook: {out / 'gradebook.csv'}")


def main(args: list[str] | None = None) -> None:
    with errors_in_one_line():
        tyro.extras.subcommand_cli_from_dict(
            {"release": release, "grade": grade},
            prog="python -m grading",
            description=__doc__,
            args=args,
        )


if __name__ == "__main__":
    main()
