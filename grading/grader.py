"""Grades a submission: its code by the checks, its results by what the notebook claims.

A grade is a dictionary of plain data, kept as grades/<student>/grade.json; grading.report shows it.
"""

import hashlib
import re
import time
import tomllib
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

import nbformat

from data.miniature import nli_folder
from grading.checks import CHECKS
from grading.checks.findings import Findings
from grading.checks.results import RESULTS
from grading.edition.regions import exercises
from grading.edition.release import NOTEBOOK, ROOT, student_edition
from grading.submissions import notebook as notebooks
from grading.submissions import sandbox
from grading.submissions.expected import fresh_cases
from grading.submissions.notebook import Flag
from grading.submissions.observe import Copy
from grading.submissions.recompute import MISSING, SAMPLE, WRONG, recompute
from grading.submissions.similar import own_tokens
from grading.submissions.submission import Submission, SubmissionError, unpack

RUBRIC = Path(__file__).parent / "rubric.toml"
TABLES = {
    "exercises": tuple(CHECKS),
    "results": tuple(RESULTS),
    "recomputed": ("pairs", "agree", "accuracy", "unevidenced"),
    "late": ("points_a_day",),
    "limits": ("wall_seconds", "cpu_seconds", "memory_gib", "processes"),
}
WHOLE = ("pairs", "cpu_seconds", "processes")
EMBEDDED = re.compile("toy model, embedded NLI set|miniature model, miniature world")
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
        """The rubric in a file; ValueError names what in it is no rubric.

        Limits and rules that the file leaves out are ours; what it does not list is not graded.
        """
        try:
            tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: not TOML ({error})") from error
        ours = tomllib.loads(RUBRIC.read_text(encoding="utf-8"))
        if unknown := tables.keys() - TABLES.keys():
            raise ValueError(f"{path}: no table [{unknown.pop()}]; there are {', '.join(TABLES)}")
        for table, name, number in ((t, *pair) for t in tables for pair in tables[t].items()):
            if name not in TABLES[table]:
                known = ", ".join(TABLES[table])
                raise ValueError(f"{path}: [{table}] has no {name!r}; there are {known}")
            kinds, least = (int,) if name in WHOLE else (int, float), int(table == "limits")
            if type(number) not in kinds or not number >= least:
                kind = f"a {'whole ' * (name in WHOLE)}number of at least {least}"
                raise ValueError(f"{path}: [{table}] {name} must be {kind}, got {number!r}")
        rules, late, limits = (
            ours[table] | tables.get(table, {}) for table in ("recomputed", "late", "limits")
        )
        memory = int(limits.pop("memory_gib") * 2**30)
        return cls(
            tables.get("exercises", {}),
            tables.get("results", {}),
            rules,
            late["points_a_day"],
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
        return hashlib.blake2b(
            repr((_code(), submission.digest, self)).encode(), digest_size=16
        ).hexdigest()


@cache
def _code() -> str:
    """A digest of what decides all grades: the grader, but for its pages, and the edition."""
    paths = sorted(ROOT.glob("grading/**/[a-z_]*.py"))
    parts = [path.read_bytes() for path in paths if "report" not in path.parts]
    return hashlib.blake2b(b"".join([*parts, *student_edition().values()])).hexdigest()


def grade(submission: Submission, settings: Settings) -> dict:
    """One submission's grade, whatever it holds."""
    began, rubric = time.perf_counter(), settings.rubric
    found = {
        "student": submission.student,
        "source": f"{submission.source.name}/{submission.inside}".rstrip("/"),
        "handed_in": submission.handed_in,
        "digest": submission.digest,
        "key": settings.key(submission),
        "graded_at": datetime.now().isoformat(timespec="seconds"),
        "seed": settings.seed,
        "max_points": float(sum([*rubric.exercises.values(), *rubric.results.values()])),
        "items": [],
        "flags": [],
        "claims": {},
        "recomputed": {},
        "answers": {},
        "sandboxed": settings.sandboxed,
        "problem": submission.problem,
    }
    try:
        if not submission.problem:
            with sandbox.scratch_folder() as scratch:
                left_out = [Flag("unpacked", "", note) for note in submission.notes]
                root = unpack(submission, scratch / "submission")
                found |= _graded(root, settings, left_out)
    except SubmissionError as error:
        found["problem"] = str(error)
    except Exception as error:  # nothing in a submission may stop the others' grading
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({Path(place.filename).name}, line {place.lineno})"
        found["problem"] = f"{type(error).__name__}: {error} {where}"
        found["key"] = ""  # the grader's fault, perhaps: try again next time
    if any(text in item["problem"] for item in found["items"] for text in MACHINE):
        found["key"] = ""
    found["seconds"] = round(time.perf_counter() - began, 1)
    found["points"] = sum(item["points"] for item in found["items"])
    return found


def _graded(root: Path, settings: Settings, flags: list[Flag]) -> dict:
    """Items, flags, claims and what was computed again, of an unpacked submission."""
    rubric, edition = settings.rubric, student_edition()
    had_runs = any(root.glob("runs/*/result.json"))  # before any code of the submission runs
    tokens = own_tokens(root, edition)
    copy = Copy(root, settings.sandboxed)
    handed_out = nbformat.reads(edition[NOTEBOOK].decode(), as_version=4)
    path, reading = notebooks.find(copy.root, handed_out, NOTEBOOK)
    edited = "not as handed out; the grader has used its own"
    flags = [*flags, *reading.flags, *(Flag("edited", name, edited) for name in copy.edited)]
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
        if had_runs and all(EMBEDDED.search(c.get("note", "")) for c in sound.values()):
            wrong |= different
        flags += [Flag("executed", path.name, text) for text in different.values()]
    items = [_item("exercise", worth, tested[name], rubric)
             for name, worth in rubric.exercises.items()]  # fmt: skip
    for name, worth in rubric.results.items():
        if name not in claims:
            result = Findings(name, problem=reading.why_not(name), state_if_stopped="missing")
        else:
            result = reading.results[name].findings
            for texts, state in ((missing, "not evidenced"), (wrong, "failed")):
                if name in texts:
                    result = Findings(name, result.found, texts[name], state)
        items.append(_item("result", worth, result, rubric))
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


def _item(kind: str, worth: float, findings: Findings, rubric: Rubric) -> dict:
    name, state = findings.exercise, findings.state
    share = {"passed": 1.0, "not evidenced": rubric.recomputed["unevidenced"]}.get(state, 0.0)
    where = exercises()[name]["where"] if name in exercises() else SECTIONS.get(name, "")
    return {
        "id": name,
        "title": name[0].upper() + name[1:],
        "section": where.removeprefix("handout section "),
        "kind": kind,
        "state": state,
        "points": worth * share,
        "max_points": float(worth),
        "problem": findings.problem,
        "found": [asdict(finding) for finding in findings.found],
    }
