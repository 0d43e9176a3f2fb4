"""Hand the project out, and grade what comes back.

python -m grading release student_edition

python -m grading grade submissions.zip --out grades

python -m grading pages grades

python -m grading gradescope autograder.zip
"""

from pathlib import Path

import tyro

from console import errors_in_one_line
from grading.edition.release import release as write_edition
from grading.grader import RUBRIC, grade_all
from grading.gradescope import write_autograder
from grading.report import load, write
from grading.report.ledger import anonymous as under_pseudonyms


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
    deadline: str = "",
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
        deadline: such as 2026-12-01T23:59, in local time; kept for later calls. When something was
            handed in, the newest file inside says, or, where files have no times, the archive's.
    """
    found = grade_all(
        submissions,
        out,
        rubric=rubric,
        data=data,
        execute=execute,
        sandboxed=not without_sandbox,
        again=again,
        jobs=jobs,
        deadline=deadline,
    )
    graded = {each["student"] for each in found}
    for each in [each for each in load(out) if each.student in graded]:
        flags = f", {len(each.flags)} flags" if each.flags else ""
        late = f", {each.late_days} days late" if each.late_days else ""
        problem = f": {each.problem}" if each.problem else ""
        print(f"{each.student}  {each.points:g} of {each.max_points:g}{late}{flags}{problem}")
    print(f"pages: {out / 'index.html'}, gradebook: {out / 'gradebook.csv'}")


def pages(grades: tyro.conf.Positional[Path], anonymous: Path | None = None) -> None:
    """Write pages and gradebook again, after points or comments were changed by hand.

    Args:
        grades: the folder of the grades.
        anonymous: a folder for the same under pseudonyms, instead.
    """
    if anonymous is None:
        write(load(grades), grades)
    else:
        write(under_pseudonyms(grades), anonymous)
    print(f"pages: {(anonymous or grades) / 'index.html'}")


def gradescope(out: tyro.conf.Positional[Path], options: str = "") -> None:
    """Write the autograder.zip that Gradescope takes.

    Args:
        out: the file.
        options: of the command grade that it runs, such as "--rubric my.toml".
    """
    write_autograder(out, options)
    print(f"autograder: {out}")


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
