"""Grade a submission: its code by the checks, its results by what the notebook claims.

A grade is plain data, saved as grades/<student>/grade.json; grading.report shows it.
"""

import json
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from data.miniature import nli_folder
from experiments.files import digest, read_toml
from grading.checks import CHECKS
from grading.checks.findings import Findings
from grading.edition.regions import exercises
from grading.edition.release import NOTEBOOK, ROOT, student_edition
from grading.submissions import sandbox
from grading.submissions.expected import fresh_cases
from grading.submissions.notebook import Flag, Reading, find
from grading.submissions.observe import Copy
from grading.submissions.recompute import MISSING, SAMPLE, WRONG, Recomputed, recompute
from grading.submissions.similar import own_tokens
from grading.submissions.submission import Submission, SubmissionError, unpack

RUBRIC = Path(__file__).parent / "rubric.toml"
MACHINE = ("stopped: the machine had almost no memory left", "stopped: the disk was almost full")
SECTIONS = {name: each["where"].removeprefix("handout section ")
            for name, each in exercises().items()}  # fmt: skip
SECTIONS |= {"sanity check": "3.2", "toy curve": "3.4", "dev accuracy": "4.3"}
SECTIONS |= {"fifteen accuracies": "5.1", "fertility": "5.2", "selection": "5.2"}
SECTIONS |= {"comparison": "5.3, 5.4"}


@dataclass(frozen=True)
class Rubric:
    """The tables of rubric.toml."""

    exercises: dict[str, float]
    results: dict[str, float]
    recomputed: dict[str, float]
    late: dict[str, float]
    limits: sandbox.Limits

    @classmethod
    def load(cls, path: Path = RUBRIC) -> "Rubric":
        """Return the rubric in a file; ValueError names what in it is no rubric.

        Limits and rules that the file leaves out are ours; what it does not list is not graded.
        """
        ours, tables = read_toml(RUBRIC), read_toml(path)
        for table, numbers in tables.items():
            if table not in ours or not isinstance(numbers, dict):
                raise ValueError(f"{path}: no table [{table}]; there are {', '.join(ours)}")
            least = 1 if table == "limits" else 0
            for name, number in numbers.items():
                if name not in ours[table]:
                    known = ", ".join(ours[table])
                    raise ValueError(f"{path}: [{table}] has no {name!r}; there are {known}")
                whole = table in ("recomputed", "limits") and type(ours[table][name]) is int
                kinds = (int,) if whole else (int, float)
                most, size = 1e9, f"of at least {least}"
                if name in ("agree", "unevidenced"):
                    most, size = 1, "from 0 to 1"
                if type(number) not in kinds or not least <= number <= most:
                    kind = f"a {'whole' if whole else 'finite'} number {size}"
                    raise ValueError(f"{path}: [{table}] {name} must be {kind}, got {number!r}")
        if not (tables.get("exercises") or tables.get("results")):
            raise ValueError(f"{path}: nothing in [exercises] or [results] is worth a point")
        ours |= {"exercises": {}, "results": {}}
        merged = {table: ours[table] | tables.get(table, {}) for table in ours}
        memory = int(merged["limits"].pop("memory_gib") * 2**30)
        merged["limits"] = sandbox.Limits(memory=memory, **merged["limits"])
        return cls(**merged)


@dataclass(frozen=True)
class Settings:
    """What all submissions of a class are graded with."""

    rubric: Rubric
    data: tuple[Path, ...] = ()  # folders with XNLI-1.0, beside the embedded ones
    seed: int = 0  # of the cases that the checks compare with
    sandboxed: bool = True  # what runs of a submission

    def key(self, submission: Submission) -> str:
        """Return a digest of what a grade follows from: where it is the same, so is the grade."""
        return digest(repr((_code(), submission.digest, self)).encode())


@cache
def _code() -> str:
    """Return a digest of what decides all grades: the grader and the edition."""
    paths = sorted([*(ROOT / "grading").rglob("*.py"), *(ROOT / "grading").rglob("mistakes.toml")])
    content = [*(path.read_bytes() for path in paths), *student_edition().values()]
    return digest(b"".join(content))


def grade(submission: Submission, settings: Settings) -> dict:
    """Return one submission's grade, whatever it holds."""
    began, rubric = time.perf_counter(), settings.rubric
    key, problem = settings.key(submission), submission.problem
    found = {"items": [], "flags": [], "claims": {}, "recomputed": {}, "answers": {}}
    try:
        if not problem:
            with sandbox.scratch_folder() as scratch:
                root = unpack(submission, scratch / "submission")
                found = _graded(root, submission.notes, settings)
    except SubmissionError as error:
        problem = str(error)
    except Exception as error:  # nothing in a submission may stop the others' grading
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({Path(place.filename).name}, line {place.lineno})"
        problem = f"{type(error).__name__}: {error} {where}"
        key = ""  # the grader's fault, perhaps: try again next time
    if any(item["problem"].endswith(MACHINE) for item in found["items"]):
        key = ""  # nor is this theirs
    return {
        "student": submission.student,
        "source": _source(submission),
        "handed_in": submission.handed_in,
        "digest": submission.digest,
        "key": key,
        "graded_at": datetime.now().isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - began, 1),
        "seed": settings.seed,
        "sandboxed": settings.sandboxed,
        "problem": problem,
        "points": sum(item["points"] for item in found["items"]),
        "max_points": float(sum([*rubric.exercises.values(), *rubric.results.values()])),
        **found,
    }


def _source(submission: Submission) -> str:
    """Return where it lies, by the name that it has there."""
    if not submission.inside:
        return submission.source.name
    return "/".join([submission.source.name, *submission.inside.split("/")[:-1], submission.name])


def _graded(root: Path, notes: tuple[str, ...], settings: Settings) -> dict:
    """Return items, flags, claims and what was computed again, of an unpacked submission."""
    rubric, edition = settings.rubric, student_edition()
    tokens = own_tokens(root, edition)
    copy = Copy(root, settings.sandboxed)
    _, reading = find(copy.root, json.loads(edition[NOTEBOOK]), NOTEBOOK)
    results, data = reading.results, (*settings.data, SAMPLE, nli_folder())
    claims = {name: each.claim for name, each in results.items()}
    sound = {name: claims[name] for name in claims if results[name].findings.state == "passed"}
    again = recompute(copy, sound, data, rubric.recomputed, rubric.limits, settings.seed)
    found = copy.checked(list(rubric.exercises), fresh_cases(settings.seed), rubric.limits)
    faulty = any(each.state != "passed" for each in found.values())
    found |= {name: _result(name, reading, again, faulty) for name in rubric.results}
    edited = "not as handed out; the grader has used its own"
    flags = [
        *(Flag("unpacked", "", note) for note in notes),
        *reading.flags,
        *(Flag("edited", name, edited) for name in copy.edited),
        *(flag for _, flag in again.flags),
    ]
    return {
        "items": [_item(each, rubric) for each in found.values()],
        "flags": [asdict(flag) for flag in flags],
        "claims": claims,
        "recomputed": {key: value for key, value in vars(again).items() if key != "flags"},
        "answers": reading.answers,
        "tokens": tokens,
    }


def _result(name: str, reading: Reading, again: Recomputed, faulty: bool) -> Findings:
    """Return the findings of a result: those of its claim, and what its evidence says of that.

    `faulty` is whether an exercise did not pass: then the curve of the submission's own model is
    another than ours.
    """
    if name not in reading.results:
        return Findings(name, problem=reading.why_not(name), state_if_stopped="missing")
    findings = reading.results[name].findings
    flags = [flag for claim, flag in again.flags if claim == name]
    wrong = [flag for flag in flags if flag.kind in WRONG and not (faulty and flag.kind == "curve")]
    missing = [flag for flag in flags if flag.kind == MISSING]
    if wrong or missing:
        state = "failed" if wrong else "not evidenced"
        return Findings(name, findings.found, (wrong or missing)[-1].text, state)
    return findings


def _item(findings: Findings, rubric: Rubric) -> dict:
    name, state = findings.exercise, findings.state
    worth = (rubric.exercises | rubric.results)[name]
    share = {"passed": 1.0, "not evidenced": rubric.recomputed["unevidenced"]}.get(state, 0.0)
    return {
        "id": name,
        "title": name[0].upper() + name[1:],
        "section": SECTIONS[name],
        "kind": "exercise" if name in CHECKS else "result",
        "state": state,
        "points": worth * share,
        "max_points": float(worth),
        "problem": findings.problem,
        "found": [asdict(finding) for finding in findings.found],
    }
