"""A submission's own code, run in the sandbox: what it gives in each check, and what it predicts.

Each time it runs in a new copy, where expected results, labels and saved predictions are not.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from config import GPT2Config
from grading.checks import check_function
from grading.checks.cases import CASES, other_cases
from grading.checks.findings import Finding, Findings
from grading.checks.places import NOT_WRITTEN, PARTS, WHOLE
from grading.edition.regions import exercises
from grading.edition.release import FIXED, ROOT, SHAPE, student_edition, write
from grading.submissions import recording
from grading.submissions.expected import Cases
from grading.submissions.package import alone, own_files, together
from grading.submissions.recording import RECORDS, check_predictions, judge
from grading.submissions.sandbox import Limits, Outcome, remove, run, scratch_folder

RECORDER = {  # files of this folder that code under test is observed with
    f"grading/submissions/{name}": Path(__file__).with_name(name).read_bytes()
    for name in ("__init__.py", "recording.py")
}
SHARE, SHORTEST = 1 / 4, 30  # of a program's wall time that one check alone may take; seconds


class Copy:
    """An unpacked submission whose checks, tests and sample data are the instructor's.

    `edited` names the files that the student had changed there, and folders that are missing.
    """

    def __init__(self, root: Path, sandboxed: bool = True):
        self.root, self.sandboxed = root.resolve(), sandboxed
        edition = student_edition().items()
        ours = {name: content for name, content in edition if name.startswith(FIXED)}
        there = {name: self.root / name for name in ours if (self.root / name).is_file()}
        same = [name for name, path in there.items() if path.read_bytes() == ours[name]]
        self.edited = []
        for place in FIXED:
            inside = [name for name in ours if name.startswith(place)]
            missing = not any(name in there for name in inside)
            self.edited += [place] if missing else [name for name in inside if name not in same]
            remove(self.root / place)
        if (self.root / "data").is_file():  # in the way
            remove(self.root / "data")
        write({**ours, **RECORDER}, self.root)
        self.theirs = own_files(self.root)

    def checked(self, names: Sequence[str], cases: Cases, limits: Limits) -> dict[str, Findings]:
        """Return the findings of these exercises' checks.

        What does not pass in the submission's own package is judged once more, in one in which
        only that exercise is the student's. The sanity check comes last, with ours for parts that
        are wrong.
        """
        seconds = max(SHARE * limits.wall_seconds, SHORTEST)
        shorter = replace(limits, wall_seconds=seconds)

        def judged(names: Sequence[str], limits: Limits, package: Mapping | None = None) -> dict:
            checks = {name: check_function(name, GPT2Config(**SHAPE)) for name in names}
            words = ["exercises", json.dumps(SHAPE), *names]
            with self._folder(package) as folder:
                cases.without_answers().save(folder / CASES.relative_to(ROOT))
                with other_cases(cases.tensors, cases.hints):
                    return self._observed(folder, checks, words, limits)

        found = judged(names, limits)
        # Other code may have a part in what is not passed, but for what is still open.
        left = [name for name in names if found[name].state != "passed"]
        again = [name for name in left if found[name].problem != NOT_WRITTEN]
        for name in sorted(again, key=lambda name: name not in exercises()):
            if name in exercises():
                found |= judged([name], shorter, alone(name, self.theirs))
                continue
            wrong = [part for part in PARTS if part in found and found[part].state != "passed"]
            right = [part for part in WHOLE if part not in found or found[part].state == "passed"]
            if len(wrong) == len(PARTS):
                found[name] = Findings(name, [], f"waits for {wrong[0]}", "waits")
                continue
            found |= judged([name], shorter, together(right, self.theirs))
            if wrong:
                what = f"with the grader's own {', '.join(wrong)}"
                found[name].found.insert(0, Finding(what, "", "", True))
        return found

    def answers(
        self, weights: str, prompts: Sequence[Tensor], limits: Limits
    ) -> tuple[list[int], str]:
        """Return the most probable token after each prompt, by the submission's model with saved
        weights; or an empty list, and why."""
        tokens: list[int] = []

        def check(findings: Findings) -> None:
            tokens.extend(check_predictions(findings, weights, prompts))

        with self._folder() as folder:
            for labels in (*folder.glob("runs/*/predictions"), folder / "data" / "sample"):
                remove(labels)
            file = RECORDS / "prompts"
            save_file({f"{i:06d}": ids for i, ids in enumerate(prompts)}, folder / file)
            words = ["predictions", weights, str(file)]
            found = self._observed(folder, {"predictions": check}, words, limits)
        return tokens, found["predictions"].line()[2]

    @contextmanager
    def _folder(self, package: Mapping[str, bytes] | None = None) -> Iterator[Path]:
        """Yield a folder for one program: a copy of the submission, or of a package made of it."""
        with scratch_folder() as scratch:
            folder = scratch / "submission"
            if package is None:
                shutil.copytree(self.root, folder, symlinks=True)
            else:
                write({**package, **RECORDER}, folder)
            remove(folder / RECORDS)
            (folder / RECORDS).mkdir()
            yield folder

    def _observed(
        self,
        folder: Path,
        checks: Mapping[str, Callable[[Findings], None]],
        words: Sequence[str],
        limits: Limits,
    ) -> dict[str, Findings]:
        """Run the recorder with these words; return what the checks find in its records."""
        outcome = self._run(folder, ["-m", recording.__name__, *words], limits)
        found = {}
        for name, check in checks.items():
            record = folder / RECORDS / f"{name}.safetensors"
            if is_inside(folder, record):
                found[name] = judge(name, check, record)
            else:
                why = f"the program ended in this check: {_why(outcome)}"
                found[name] = Findings(name, problem=why, state_if_stopped="failed")
        return found

    def _run(self, folder: Path, words: Sequence[str], limits: Limits) -> Outcome:
        return run([sys.executable, *words], folder, limits, sandboxed=self.sandboxed)


def is_inside(root: Path, path: Path) -> bool:
    """Whether this is a file in the folder, and no link, nor below a link."""
    return path.is_file() and path.resolve() == root.resolve() / path.relative_to(root)


def _why(outcome: Outcome) -> str:
    """Return why a program gave no result, in one sentence."""
    if outcome.stopped:
        return outcome.stopped
    lines = outcome.output.strip().splitlines()
    last = lines[-1][:300] if lines else "no message"
    return f"exit code {outcome.returncode}; {last}"
