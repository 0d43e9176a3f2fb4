"""Grades submissions: their code by the checks, their results by what the notebook claims.

A grade is a dictionary of plain data, kept as grades/<student>/grade.json; grading.report shows it.
"""

import hashlib
import json
import re
import secrets
import time
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import nbformat

from console import progress_bar
from data.miniature import nli_folder
from grading import report
from grading.checks import CHECKS
from grading.checks.findings import Findings
from grading.checks.results import RESULTS
from grading.edition.regions import exercises
from grading.edition.release import FIXED, NOTEBOOK, ROOT, student_edition
from grading.report import ledger
from grading.submissions import notebook as notebooks
from grading.submissions import sandbox
from grading.submissions.expected import fresh_cases
from grading.submissions.notebook import Flag
from grading.submissions.observe import Copy
from grading.submissions.recompute import MISSING, SAMPLE, WRONG, recompute
from grading.submissions.similar import own_tokens
from grading.submissions.submission import Submission, find, unpack
from grading.submissions.times import handed_in
from utils import atomic_write

RUBRIC = Path(__file__).parent / "rubric.toml"
EMBEDDED = re.compile("toy model, embedded NLI set|miniature model, miniature world")
WHOLE = ("pairs", "cpu_seconds", "processes")
MACHINE = ("the machine had almost no memory left", "the disk was almost full")  # not theirs
SECTIONS = {"sanity check": "3.2", "toy curve": "3.4", "dev accuracy": "4.3"}
SECTIONS |= {"fifteen accuracies": "5.1", "fertility": "5.2", "selection": "5.2"}
SECTIONS |= {"comparison": "5.3, 5.4"}


@dataclass(frozen=True)
class Rubric:
    """What rubric.toml says."""

    exercises: dict[str, float]
    results: dict[str, float]
    recomputed: dict[str, float]
    points_a_day: float  # that being late costs
    limits: sandbox.Limits

    @classmethod
    def load(cls, path: Path = RUBRIC) -> "Rubric":
        """The rubric in a file; ValueError names what in it is no rubric."""
        try:
            tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: not TOML ({error})") from error
        expected = {"exercises": CHECKS, "results": RESULTS}
        expected |= {"recomputed": ("pairs", "agree", "accuracy", "unevidenced")}
        expected |= {"late": ("points_a_day",)}
        expected |= {"limits": ("wall_seconds", "cpu_seconds", "memory_gib", "processes")}
        for table, names in expected.items():
            for name, number in tables.get(table, {}).items():
                if name not in names:
                    raise ValueError(
                        f"{path}: [{table}] has no {name!r}; there are {', '.join(names)}"
                    )
                whole, positive = name in WHOLE, table == "limits"
                right = isinstance(number, int if whole else int | float) and number >= positive
                if isinstance(number, bool) or not right:
                    kind = "a whole number" if whole else "a number"
                    least = f"{kind} of at least {int(positive)}"
                    raise ValueError(f"{path}: [{table}] {name} must be {least}, got {number!r}")
        if unknown := tables.keys() - expected.keys():
            raise ValueError(f"{path}: no table [{unknown.pop()}]; there are {', '.join(expected)}")
        ours = {} if Path(path) == RUBRIC else tomllib.loads(RUBRIC.read_text(encoding="utf-8"))
        limits = {**ours.get("limits", {}), **tables.get("limits", {})}
        memory = int(limits.pop("memory_gib") * 2**30)
        return cls(
            tables.get("exercises", {}),
            tables.get("results", {}),
            {**ours.get("recomputed", {}), **tables.get("recomputed", {})},
            tables.get("late", {}).get("points_a_day", 0),
            sandbox.Limits(memory=memory, **limits),
        )


@dataclass(frozen=True)
class Settings:
    """What all submissions of a class are graded with."""

    rubric: Rubric
    # Folders with XNLI-1.0, whose pairs predictions may be of.
    data: tuple[Path, ...] = field(default_factory=lambda: (SAMPLE, nli_folder()))
    seed: int = 0  # of the cases that the checks compare with
    execute: bool = False  # the notebooks, too
    sandboxed: bool = True  # what runs of a submission

    def key(self, submission: Submission) -> str:
        """What a grade follows from, as a digest: where it is the same, nothing is graded anew."""
        digest = hashlib.blake2b(digest_size=16)
        for path in sorted(ROOT.glob("grading/**/[a-z_]*.py")):
            if "report" not in path.parts:  # from the pages no grade follows
                digest.update(path.read_bytes())
        for content in student_edition().values():
            digest.update(content)
        parts = (submission.digest, self.rubric, [str(p) for p in self.data], self.seed)
        digest.update(repr((*parts, self.execute, self.sandboxed)).encode())
        return digest.hexdigest()


def grade_all(
    paths: Sequence[Path],
    out: Path,
    *,
    rubric: Path = RUBRIC,
    data: Sequence[Path] = (),
    execute: bool = False,
    sandboxed: bool = True,
    again: bool = False,
    jobs: int = 1,
    deadline: str = "",
    progress: bool = True,
) -> list[dict]:
    """The grades of all submissions found in `paths`; pages in `out` are of all that are there.

    What was graded before in the same way is read from there, unless `again`. What is the same for
    all of a class is kept in `out`: the cases' random numbers, the deadline (such as
    2026-12-01T23:59) and what a day after it costs. RuntimeError where there is no
    sandbox, if it shall be `sandboxed`.
    """
    if sandboxed and (problem := sandbox.available().problem):
        raise RuntimeError(
            f"nothing was graded: submissions are unknown code, and {problem}; where nothing else "
            "lies on the machine, --without-sandbox grades with limits only"
        )
    out = Path(out)
    for folder in data:
        if not (Path(folder) / "XNLI-1.0").is_dir():
            raise FileNotFoundError(f"{folder}: holds no XNLI-1.0; give the folder that does")
    if deadline:
        datetime.fromisoformat(deadline)  # ValueError before anything is graded
    submissions, loaded = find([Path(path) for path in paths]), Rubric.load(rubric)
    shared = _shared(out / ledger.SHARED, deadline, loaded.points_a_day)
    settings = Settings(
        loaded,
        (*(Path(folder).resolve() for folder in data), SAMPLE, nli_folder()),
        shared["seed"],
        execute,
        sandboxed,
    )
    grades = {s.student: None if again else _kept(out, s, settings) for s in submissions}
    todo = [submission for submission in submissions if grades[submission.student] is None]
    done = len(submissions) - len(todo)
    bar = progress_bar(total=len(submissions), initial=done, disable=not progress)
    pool = ProcessPoolExecutor(jobs, get_context("spawn")) if jobs > 1 and len(todo) > 1 else None
    mapped = (pool.map if pool else map)(grade, todo, [settings] * len(todo))
    for submission, found in zip(todo, mapped, strict=True):
        grades[submission.student] = found
        with atomic_write(_place(out, submission)) as path:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        bar.set_postfix_str(f"{submission.student} {found['points']:g}")
        bar.update()
    bar.close()
    if pool:
        pool.shutdown()
    report.write(report.load(out), out)
    return list(grades.values())


def _shared(path: Path, deadline: str, points_a_day: float) -> dict:
    """What is the same for all of a class, as it was before but for what is given."""
    known = ledger.read_shared(path.parent)
    shared = {"seed": secrets.randbelow(10**9), **known, "points_a_day": points_a_day}
    shared |= {"deadline": deadline} if deadline else {}
    if shared != known:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(shared) + "\n", encoding="utf-8")
    return shared


def _place(out: Path, submission: Submission) -> Path:
    return out / submission.student / "grade.json"


def _kept(out: Path, submission: Submission, settings: Settings) -> dict | None:
    try:
        found = json.loads(_place(out, submission).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("key") == settings.key(submission) else None


def grade(submission: Submission, settings: Settings) -> dict:
    """One submission's grade, whatever it holds."""
    began = time.perf_counter()
    found = _empty(submission, settings)
    try:
        if submission.problem:
            found["problem"] = submission.problem
        else:
            with sandbox.scratch_folder() as scratch:
                folder = scratch / "submission"
                folder.mkdir()
                found |= _graded(unpack(submission, folder), settings)
                left_out = [asdict(Flag("unpacked", "", note)) for note in submission.notes]
                found["flags"] = left_out + found["flags"]
    except Exception as error:  # nothing in a submission may stop the others' grading
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = "" if type(error).__name__ == "SubmissionError" else f"{type(error).__name__}: "
        found["problem"] = f"{kind}{error}"
        if kind:
            found["problem"] += f" ({Path(place.filename).name}, line {place.lineno})"
            found["key"] = ""  # the grader's fault, perhaps: try again next time
    if any(text in item["problem"] for item in found["items"] for text in MACHINE):
        found["key"] = ""
    found["seconds"] = round(time.perf_counter() - began, 1)
    found["points"] = sum(item["points"] for item in found["items"])
    return found


def _empty(submission: Submission, settings: Settings) -> dict:
    worth = {**settings.rubric.exercises, **settings.rubric.results}
    return {
        "student": submission.student,
        "source": f"{submission.source.name}/{submission.inside}".rstrip("/"),
        "handed_in": handed_in(submission.source, submission.inside),
        "digest": submission.digest,
        "key": settings.key(submission),
        "graded_at": datetime.now().isoformat(timespec="seconds"),
        "seed": settings.seed,
        "points": 0.0,
        "max_points": float(sum(worth.values())),
        "items": [],
        "flags": [],
        "claims": {},
        "recomputed": {},
        "answers": {},
        "isolation": (sandbox.available() if settings.sandboxed else sandbox.NONE)._asdict(),
        "problem": "",
    }


def _graded(root: Path, settings: Settings) -> dict:
    """Items, flags, claims and what was computed again, of an unpacked submission."""
    rubric, edition = settings.rubric, student_edition()
    had_runs = any(root.glob("runs/*/result.json"))  # before any code of the submission runs
    tokens = own_tokens(root, edition)
    copy = Copy(root, edition, FIXED, settings.sandboxed)
    handed_out = nbformat.reads(edition[NOTEBOOK].decode(), as_version=4)
    path, reading = notebooks.find(copy.root, handed_out, NOTEBOOK)
    flags = [
        *reading.flags,
        *(Flag("edited", name, "not as handed out; the grader has used its own")
          for name in copy.edited),
    ]  # fmt: skip
    claims = {name: each.claim for name, each in reading.results.items()}
    passed = [n for n, each in reading.results.items() if each.findings.state == "passed"]
    sound = {name: claims[name] for name in passed}
    again = recompute(copy, sound, settings.data, rubric.recomputed, rubric.limits, settings.seed)
    tested = copy.checked(list(rubric.exercises), fresh_cases(settings.seed), rubric.limits)
    faulty = any(each.state != "passed" for each in tested.values())
    # A curve of the submission's own model is another than ours where that has a fault of its own.
    kinds = [kind for kind in WRONG if not (kind == "curve" and faulty)]
    missing = {name: flag.text for name, flag in again.flags if flag.kind == MISSING}
    wrong = {name: flag.text for name, flag in again.flags if flag.kind in kinds}
    flags += [flag for _, flag in again.flags]
    if settings.execute and path is not None:
        different = _executed(copy, path, claims, handed_out, rubric)
        sample = all(EMBEDDED.search(c.get("note", "")) for c in sound.values())
        if had_runs and sample:
            wrong |= different
        flags += [Flag("executed", path.name, text) for text in different.values()]
    items = [_item(name, rubric, tested[name], "exercise") for name in rubric.exercises]
    for name in rubric.results:
        if name not in claims:
            result = Findings(name, problem=reading.why_not(name), state_if_stopped="missing")
        else:
            result = reading.results[name].findings
            for texts, state in ((missing, "not evidenced"), (wrong, "failed")):
                if name in texts:
                    result = Findings(name, result.found, texts[name], state)
        items.append(_item(name, rubric, result, "result"))
    return {
        "items": items,
        "flags": [asdict(flag) for flag in flags],
        "claims": claims,
        "recomputed": {key: value for key, value in vars(again).items() if key != "flags"},
        "answers": reading.answers,
        "tokens": tokens,
    }


def _executed(
    copy: Copy, path: Path, claims: Mapping[str, dict], handed_out, rubric: Rubric
) -> dict[str, str]:
    """What comes out differently when the notebook is executed again, by the result's name.

    Where the runs of a sample profile were handed in they are only read again, and all must be
    equal. Elsewhere another processor's rounding, or data and weights that are not here, may
    explain a difference.
    """
    path, why = copy.execute(path.relative_to(copy.root).as_posix(), rubric.limits)
    try:
        again = notebooks.look(notebooks.read(path), handed_out).results if path else {}
    except (OSError, ValueError) as error:
        again, why = {}, str(error)
    different = {}
    for name, claim in claims.items():
        if name not in again:
            different[name] = f"{name} does not come out when the notebook is executed again: {why}"
        elif again[name].claim != claim:
            different[name] = f"{name} comes out differently when the notebook is executed again"
    return different


def _item(name: str, rubric: Rubric, findings: Findings, kind: str) -> dict:
    worth = float((rubric.exercises if kind == "exercise" else rubric.results)[name])
    share = {"passed": 1.0, "not evidenced": rubric.recomputed["unevidenced"]}
    section = (
        exercises()[name]["where"].removeprefix("handout section ")
        if name in exercises()
        else SECTIONS.get(name, "")
    )
    return {
        "id": name,
        "title": name[0].upper() + name[1:],
        "section": section,
        "kind": kind,
        "state": findings.state,
        "points": worth * share.get(findings.state, 0.0),
        "max_points": worth,
        "problem": findings.problem,
        "found": [asdict(finding) for finding in findings.found],
    }
