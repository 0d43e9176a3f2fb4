"""A submission's own code, run in the sandbox: what it gives in each check, and what it answers."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from sysconfig import get_path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from config import GPT2Config
from grading.checks import check_function
from grading.checks.cases import CASES, other_cases
from grading.checks.findings import Finding, Findings
from grading.checks.places import PARTS, WHOLE
from grading.edition.regions import exercises
from grading.edition.release import FIXED, ROOT, SHAPE, student_edition
from grading.submissions.expected import Cases
from grading.submissions.package import alone, own_files, together
from grading.submissions.recording import LARGEST, judge
from grading.submissions.sandbox import Limits, Outcome, remove, run

OURS = ("__init__", "recording", "worker")  # files of this folder that a submission's copy needs
AGAIN = ("failed", "waits")  # states in which other code may have a part
TIMES, SHORTEST = 3, 30  # programs' wall time for all checks of a submission; seconds for one
# The solutions, too, where they were installed beside the libraries.
INSTALLED = tuple(Path(get_path("purelib"), name) for name in ("gpt2", "optim", "grading"))
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Folder:
    """A folder in which a student's code runs, in the sandbox, which lets it write there alone."""

    def __init__(self, root: Path, sandboxed: bool = True):
        self.root, self.sandboxed = root.resolve(), sandboxed
        self.out = self.root / ".observed"

    def observed(
        self, names: Sequence[str], cases: Cases, limits: Limits
    ) -> tuple[dict[str, Findings], Outcome]:
        """Return the findings of these exercises' checks, as far as its process comes."""
        self._put(CASES.relative_to(ROOT).as_posix(), b"")
        cases.without_answers().save(self.root / CASES.relative_to(ROOT))  # the inputs alone
        self._clear()
        outcome = self._run("record", self.out, json.dumps(SHAPE), *names, limits=limits)
        found = {}
        with other_cases(cases.tensors, cases.hints):
            for name in names:
                record = self.out / f"{name}.safetensors"
                if is_inside(self.root, record):
                    found[name] = judge(name, check_function(name, GPT2Config(**SHAPE)), record)
        return found, outcome

    def _run(self, *arguments, limits: Limits, hidden: Sequence[Path] = ()) -> Outcome:
        for name in OURS:
            path = Path(__file__).with_name(f"{name}.py")
            self._put(f"grading/submissions/{name}.py", path.read_bytes())
        command = [sys.executable, "-m", "grading.submissions.worker", *map(str, arguments)]
        return self._sandboxed(command, limits, hidden)

    def _sandboxed(
        self, command: list[str], limits: Limits, hidden: Sequence[Path] = ()
    ) -> Outcome:
        places = {"hidden": (ROOT, *INSTALLED, *hidden), "sandboxed": self.sandboxed}
        return run(command, self.root, limits, environment=THREADS, **places)

    def _put(self, name: str, content: bytes) -> None:
        """A file in place of whatever the submission has there."""
        path = self.root / name
        for parent in reversed(path.relative_to(self.root).parents[:-1]):
            if (self.root / parent).is_symlink() or (self.root / parent).is_file():
                (self.root / parent).unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(path)
        path.write_bytes(content)

    def _clear(self) -> None:
        remove(self.out)
        self.out.mkdir()


def is_inside(root: Path, path: Path) -> bool:
    """Whether this is a file in the folder, and no link, nor below a link."""
    return path.is_file() and path.resolve() == root.resolve() / path.relative_to(root)


class Copy(Folder):
    """A scratch copy of a submission whose checks, tests and sample data are the instructor's.

    `edited` names the files that the student had changed there.
    """

    def __init__(self, root: Path, sandboxed: bool = True):
        super().__init__(root, sandboxed)
        edition = student_edition()
        ours = {name: edition[name] for name in edition if name.startswith(FIXED)}
        now = {name: self.root / name for name in ours}
        now = {name: path.read_bytes() for name, path in now.items() if path.is_file()}
        self.edited = [name for name, content in ours.items() if now.get(name) != content]
        for name in FIXED:
            remove(self.root / name)
        for name, content in ours.items():
            self._put(name, content)
        self.theirs = own_files(self.root)

    def checked(self, names: Sequence[str], cases: Cases, limits: Limits) -> dict[str, Findings]:
        """Return the findings of these exercises' checks.

        What does not pass in the submission's own package is judged once more, in one in which
        only that exercise is the student's. The sanity check comes last, with ours for parts that
        are wrong.
        """
        left = TIMES * limits.wall_seconds
        found, outcome = self.observed(names, cases, limits)
        left -= outcome.seconds

        def again(name: str, package: Mapping[str, bytes]) -> Findings:
            nonlocal left
            if left <= 0:
                why = f"all checks together took more than {TIMES} times the limit of one program"
                return _failed(name, why)
            folder = Folder(self.root.with_name("alone"), self.sandboxed)
            remove(folder.root)
            for path, content in package.items():
                folder._put(path, content)
            seconds = max(min(limits.wall_seconds, left), SHORTEST)
            limited = replace(limits, wall_seconds=seconds)
            judged, outcome = folder.observed([name], cases, limited)
            remove(folder.root)
            left -= outcome.seconds
            ended = f"the program ended in this check: {_why(outcome)}"
            return judged[name] if name in judged else _failed(name, ended)

        rest = [name for name in names if name not in found or found[name].state in AGAIN]
        for name in rest:
            if name in exercises():
                found[name] = again(name, alone(name, self.theirs))
        for name in set(rest) - exercises().keys():
            wrong = [part for part in PARTS if part in found and found[part].state != "passed"]
            right = [part for part in WHOLE if part not in found or found[part].state == "passed"]
            if len(wrong) == len(PARTS):
                found[name] = Findings(name, [], f"waits for {wrong[0]}", "waits")
                continue
            found[name] = again(name, together(right, self.theirs))
            if wrong:
                what = f"with the grader's own {', '.join(wrong)}"
                found[name].found.insert(0, Finding(what, "", "", True))
        return {name: found[name] for name in names}

    def answers(
        self, weights: str, prompts: Sequence[Tensor], limits: Limits
    ) -> tuple[list[int], str]:
        """Return the most probable token after each prompt, by the submission's model with saved
        weights; or an empty list, and why."""
        self._clear()
        file = self.out / "prompts.safetensors"
        save_file({f"{i:06d}": ids for i, ids in enumerate(prompts)}, file)
        answers = (*self.root.glob("runs/*/predictions"), self.root / "data" / "sample")
        outcome = self._run("predict", self.out, weights, file, limits=limits, hidden=answers)
        found = self.out / "predictions.safetensors"
        try:
            if not is_inside(self.root, found) or found.stat().st_size > LARGEST:
                raise ValueError
            tokens = load_file(found)["answers"]
            if tokens.shape != (len(prompts),) or tokens.dtype != torch.int64:
                raise ValueError
        except (OSError, SafetensorError, ValueError, KeyError):
            return [], _why(outcome)
        return tokens.tolist(), ""

    def execute(self, notebook: str, limits: Limits) -> tuple[Path | None, str]:
        """Return the notebook, executed again in the copy within six times the limits; or None,
        and why."""
        folder = self.root / ".executed"
        remove(folder)
        self._put("run_notebook.py", (ROOT / "run_notebook.py").read_bytes())
        command = [sys.executable, "run_notebook.py", notebook, "--out", str(folder)]
        longer = {"wall_seconds": 6 * limits.wall_seconds, "cpu_seconds": 6 * limits.cpu_seconds}
        outcome = self._sandboxed(command, replace(limits, **longer))
        path = folder / Path(notebook).name
        return (path if is_inside(self.root, path) else None), _why(outcome)


def _failed(name: str, why: str) -> Findings:
    return Findings(name, problem=why, state_if_stopped="failed")


def _why(outcome: Outcome) -> str:
    """Return why a program gave no result, in one sentence."""
    if outcome.stopped:
        return outcome.stopped
    lines = outcome.stderr.strip().splitlines()
    last = lines[-1][:300] if lines else "no message"
    return f"exit code {outcome.returncode}; {last}"
