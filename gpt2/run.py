"""A run is a folder: settings, metrics, checkpoints, result. What is in it is whole, whenever the
process is killed."""

import hashlib
import json
import pickle
import re
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from gpt2.checkpoint import write_torch
from utils import atomic_write

KEPT = 2  # the last, and the one before in case the last can't be read


@dataclass(frozen=True)
class Progress:
    """What one optimizer step leaves behind, for callbacks and for the curve."""

    step: int  # from 1, over all epochs
    total_steps: int
    epoch: int  # from 1
    loss: float  # mean over the label tokens of the step, in nats
    num_labels: int
    num_tokens: int  # of the step, pads not counted; 0 where batches have no attention_mask
    learning_rate: float
    seconds: float  # since training began, without the time between a kill and its resumption
    memory: int  # bytes: the GPU's peak so far, or on a CPU what the process holds
    ends_epoch: bool


class Run:
    """The run that `identity` describes, in the folder `<root>/<name>-<digest>`.

    The digest is of the identity (settings, fingerprints of data and weights; what JSON can
    hold), so a changed run gets another folder and the same one finds its own again.
    """

    def __init__(self, root, name: str, identity: dict):
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
            for half_written in self.path.rglob(".?*.*.*"):  # by a process that was killed
                half_written.unlink()
            self._write("settings.json", self.identity)
            yield

    @property
    def result(self) -> dict | None:
        """What `finish` was given; None before."""
        path = self.path / "result.json"
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error}); delete it and run again") from error

    def finish(self, result: dict) -> None:
        """Leave the result; from now on the run is finished."""
        self._write("result.json", result)

    def history(self) -> list[Progress]:
        """Every step so far."""
        lines = [line for line in self.metrics.read() if "loss" in line]
        return [Progress(**line) for line in lines]

    def _write(self, name: str, value) -> None:
        with atomic_write(self.path / name) as path:
            path.write_text(_to_json(value), encoding="utf-8")


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
            before = [line for line in self.read() if line["step"] < progress.step]
            with atomic_write(self.path) as path:
                path.write_text("".join(json.dumps(line) + "\n" for line in before))
            self.heard = True
        self.write(asdict(progress))

    def write(self, line: dict) -> None:
        """Add a line; it has a `step`."""
        text = json.dumps(line) + "\n"
        try:
            with open(self.path, "a") as file:
                file.write("\n" + text if self.torn else text)
            self.torn = False
        except OSError as error:
            if not self.torn:
                warnings.warn(f"{self.path}: lines are lost ({error})", stacklevel=2)
            self.torn = True

    def read(self) -> list[dict]:
        """All whole lines."""
        lines = []
        for text in self.path.read_text().splitlines() if self.path.is_file() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # torn when the disk was full or the machine stopped
            if isinstance(line, dict) and "step" in line:
                lines.append(line)
        return lines


class Checkpoints:
    """The last states of one training, as files `checkpoint-<step>.pt` in a folder.

    One is due after every epoch, and when `every_seconds` have passed since the last, or, if
    given, every `every_steps` steps. A save that fails (a full disk) costs no more than that
    save, unless it is the training's last: that one raises OSError.
    """

    def __init__(self, folder, *, every_seconds: float = 600, every_steps: int | None = None):
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.every_steps = every_steps
        self.saved = time.monotonic()
        self.last_step = False

    def due(self, progress) -> bool:
        """Whether the state after this step is to be saved."""
        self.last_step = progress.step == progress.total_steps
        if progress.ends_epoch:
            return True
        if self.every_steps is not None:
            return progress.step % self.every_steps == 0
        return time.monotonic() - self.saved >= self.every_seconds

    def save(self, step: int, state: dict) -> None:
        """Write the state after `step` steps, then delete all but the last two."""
        self.saved = time.monotonic()
        try:
            with atomic_write(self.folder / f"checkpoint-{step:08d}.pt") as path:
                write_torch(state, path)
        except OSError as error:
            if self.last_step:
                raise
            warnings.warn(f"no checkpoint at step {step}, training goes on: {error}", stacklevel=2)
        for old in self._files()[KEPT:]:
            old.unlink()

    def load(self) -> dict | None:
        """The newest state that can be read; None if there is none. What can't is deleted."""
        for path in self._files():
            try:
                # torch does not look at the archive's check sums.
                with zipfile.ZipFile(path) as archive:
                    if (bad := archive.testzip()) is not None:
                        raise zipfile.BadZipFile(f"wrong check sum of {bad}")
                return torch.load(path, map_location="cpu", weights_only=True)
            except (zipfile.BadZipFile, EOFError, RuntimeError, pickle.UnpicklingError) as error:
                warnings.warn(f"{path}: can't be read ({error}), going further back", stacklevel=2)
                path.unlink()
        return None

    def _files(self) -> list[Path]:
        """Newest first."""
        files = self.folder.glob("checkpoint-*.pt")
        return sorted((f for f in files if re.fullmatch(r"checkpoint-\d+", f.stem)), reverse=True)
