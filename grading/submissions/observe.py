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
from grading.checks import CHECKS, check_function
from grading.checks.cases import CASES, other_cases
from grading.checks.findings import Findings
from grading.edition.release import ROOT, SHAPE
from grading.submissions.expected import Cases
from grading.submissions.recording import LARGEST, judge
from grading.submissions.sandbox import Limits, Outcome, remove, run
from grading.submissions.worker import OBSERVED, STARTED

OURS = ("__init__", "recording", "worker")  # files of this folder that a submission's copy needs
TIMES, SHORTEST = 3, 30  # programs' wall time for all checks of a submission; seconds for one
# The solutions, too, where they were installed beside the libraries.
INSTALLED = tuple(Path(get_path("purelib"), name) for name in ("gpt2", "optim", "grading"))
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Copy:
    """A scratch copy of a submission whose checks, tests and sample data are the instructor's.

    `edited` names the files that the student had changed there. The copy is what the sandbox lets
    the student's code write to.
    """

    def __init__(
        self,
        root: Path,
        handed_out: Mapping[str, bytes],
        fixed: tuple[str, ...],
        sandboxed: bool = True,
    ):
        self.root, self.sandboxed = (root := root.resolve()), sandboxed
        self.out = root / ".observed"
        self.edited = []
        ours = {name: content for name, content in handed_out.items() if name.startswith(fixed)}
        for name, content in ours.items():
            path = root / name
            if not path.is_file() or path.read_bytes() != content:
                self.edited.append(name)
        for name in {name.split("/")[0] for name in ours if "/" in name} - {"data"}:
            remove(root / name)
        remove(root / "data" / "sample")
        for name, content in ours.items():
            self._put(name, content)
        for name in OURS:
            path = Path(__file__).with_name(f"{name}.py")
            self._put(f"grading/submissions/{name}.py", path.read_bytes())

    def checked(self, names: Sequence[str], cases: Cases, limits: Limits) -> dict[str, Findings]:
        """Return the findings of these exercises' checks on the submission's code.

        Its process has the inputs of the cases alone. Where it ends before its time, the check
        that was running has failed, and the others run in a new one.
        """
        bare = cases.without_answers()
        path = self.root / CASES.relative_to(ROOT)
        self._put(CASES.relative_to(ROOT).as_posix(), b"")
        bare.save(path)
        numbers = {str(list(CHECKS).index(name)): name for name in names}
        ended: dict[str, Findings | str] = {}  # what was found, or why there is nothing
        waiting, left = list(numbers), TIMES * limits.wall_seconds
        while waiting:
            self._clear()
            shape, seconds = json.dumps(SHAPE), max(min(limits.wall_seconds, left), SHORTEST)
            limited = replace(limits, wall_seconds=seconds)
            outcome = self._run("record", self.out, shape, *waiting, limits=limited)
            left -= outcome.seconds
            started = [n for n in waiting if (self.out / STARTED.format(n)).exists()]
            records = {n: self.out / OBSERVED.format(n) for n in started}
            with other_cases(cases.tensors, cases.hints):
                for n in [
                    n for n in started if records[n].is_file() and self._is_inside(records[n])
                ]:
                    ended[n] = self._judge(numbers[n], records[n])
            rest = [n for n in waiting if n not in ended]
            if rest and not started:  # it does not come as far as the first check
                ended |= dict.fromkeys(rest, _stopped(numbers[rest[0]], outcome, "before a check"))
            elif rest:
                stopped = next((n for n in rest if n in started), rest[0])
                ended[stopped] = _stopped(numbers[stopped], outcome, "in this check")
            waiting = [n for n in waiting if n not in ended]
            if waiting and left <= 0:
                why = f"all checks together took more than {TIMES} times the limit of one program"
                ended |= dict.fromkeys(waiting, why)
                waiting = []
        return {
            name: found if isinstance(found := ended[n], Findings) else _failed(name, found)
            for n, name in numbers.items()
        }

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
            if not self._is_inside(found) or found.stat().st_size > LARGEST:
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
        return (path if self._is_inside(path) else None), _why(outcome)

    def _run(self, *arguments, limits: Limits, hidden: Sequence[Path] = ()) -> Outcome:
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

    def _is_inside(self, path: Path) -> bool:
        """Whether this is a file of the copy, and no link out of it."""
        return path.is_file() and path.resolve() == self.root.resolve() / path.relative_to(
            self.root
        )

    @staticmethod
    def _judge(name: str, path: Path) -> Findings:
        return judge(name, check_function(name, GPT2Config(**SHAPE)), path)


def _failed(name: str, why: str) -> Findings:
    return Findings(name, problem=why, state_if_stopped="failed")


def _stopped(name: str, outcome: Outcome, where: str) -> str:
    return f"the program ended {where}: {_why(outcome)}"


def _why(outcome: Outcome) -> str:
    """Return why a program gave no result, in one sentence."""
    if outcome.stopped:
        return outcome.stopped
    lines = outcome.stderr.strip().splitlines()
    last = lines[-1][:300] if lines else "no message"
    return f"exit code {outcome.returncode}; {last}"
