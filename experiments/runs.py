"""A run is a folder: settings, metrics, checkpoints, result. What is in it is whole, whenever the
process is killed."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from gpt2.checkpoints import Progress
from utils import atomic_write

TEMPORARY = r"\..+\.\w+\.[a-z0-9_]{8}"  # how atomic_write names a file until it is whole


class Run:
    """The run that `identity` describes, in the folder `<root>/<name>-<digest>`.

    The digest is of the identity (settings, fingerprints of data and weights; what JSON can
    hold), so a changed run gets another folder and the same one finds its own again.
    """

    model_folder = "model"  # where the finished run's model is

    def __init__(self, root, name: str, identity: dict):
        if not name or Path(name).name != name:
            raise ValueError(f"name must be a plain folder name, got {name!r}")
        digest = hashlib.blake2b(_to_json(identity).encode(), digest_size=4).hexdigest()
        self.path = Path(root) / f"{name}-{digest}"
        self.identity = identity
        self.metrics = Metrics(self.path / "metrics.jsonl")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process is in this folder inside the block; RuntimeError if one is already."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.path / ".lock").acquire(timeout=0)
        except Timeout as error:
            raise RuntimeError(
                f"{self.path}: another process works in this folder; wait until it ends or stop it"
            ) from error
        with lock:
            for file in self.path.rglob(".*"):  # what a killed process was writing
                if re.fullmatch(TEMPORARY, file.name) and file.is_file():
                    file.unlink()
            self._write("settings.json", self.identity)
            yield

    def once(self, work: Callable[[bool], dict]) -> None:
        """Call `work` unless the run is finished already, and keep what it returns as the result.

        Under a launcher every process calls it, as `work(is_main)`; the folder is the main one's.
        """
        accelerator = Accelerator()
        mine = accelerator.is_main_process and self.result is None
        with self.alone() if mine else nullcontext():
            # Asked again inside: another process may have finished it meanwhile.
            (finished,) = broadcast_object_list([self.result is not None])
            if not finished:
                result = work(accelerator.is_main_process)
                if accelerator.is_main_process:
                    self._write("result.json", result)
        accelerator.wait_for_everyone()

    @property
    def result(self) -> dict | None:
        """What `once` has kept; None before the run is finished.

        Raises FileNotFoundError where a finished run has lost its model.
        """
        result = read_json(self.path / "result.json")
        if result is not None and not (self.path / self.model_folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{self.path}: the run is finished, but its {self.model_folder} is gone; "
                "delete the folder and run again"
            )
        return result

    def history(self) -> list[Progress]:
        """Every step so far."""
        names = {each.name for each in fields(Progress)}
        lines = [line for line in self.metrics.read() if names <= line.keys()]
        return [Progress(**{name: line[name] for name in names}) for line in lines]

    def _write(self, name: str, value) -> None:
        with atomic_write(self.path / name) as path:
            path.write_text(_to_json(value), encoding="utf-8")


def read_json(path: Path) -> dict | None:
    """The object in a JSON file; None if there is no file, ValueError if it is damaged."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it and run again") from error
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{path}: not what a run writes; delete it and run again")
    return value


def _to_json(value) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


class Metrics:
    """A callback that leaves a line of JSON for every step, and takes lines of other measurements.

    After a resumption the lines that the killed process wrote ahead of its last checkpoint are
    dropped, so that every step is there once. A full disk costs lines, not the training.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.heard = False
        self.torn = False

    def __call__(self, progress) -> None:
        if not self.heard:
            self.heard = True
            before = [line for line in self.read() if line["step"] < progress.step]
            self._try(self._rewrite, before)
            self.seconds = max((line.get("seconds", 0.0) for line in before), default=0.0)
        took, self.seconds = progress.seconds - self.seconds, progress.seconds
        remaining = progress.total_steps - progress.step
        derived = {
            "tokens_per_second": progress.num_tokens / took if took > 0 else None,
            "eta_seconds": progress.seconds / progress.step * remaining,
        }
        self.write({**asdict(progress), **derived})

    def write(self, line: dict) -> None:
        """Add a line; it has a `step`."""
        self._try(self._append, ("\n" if self.torn else "") + json.dumps(line) + "\n")

    def _rewrite(self, lines: list[dict]) -> None:
        with atomic_write(self.path) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def _append(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(text)

    def _try(self, write: Callable, what) -> None:
        try:
            write(what)
            self.torn = False
        except OSError as error:
            if not self.torn:
                warnings.warn(f"{self.path}: lines are lost ({error})", stacklevel=4)
            self.torn = True

    def read(self) -> list[dict]:
        """All whole lines."""
        lines = []
        for text in self.path.read_bytes().split(b"\n") if self.path.is_file() else []:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue  # torn when the disk was full or the machine stopped
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines
