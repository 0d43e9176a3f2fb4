"""Save a training and resume it to the same bits: weights, optimizer, random states."""

import errno
import re
import time
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2.weights import write_torch
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


class Checkpoints:
    """The last states of one training, as files `checkpoint-<step>.pt` in a folder.

    One is due after every epoch, and when `every_seconds` have passed since the last, or, if
    given, every `every_steps` steps. A save that fails (a full disk) costs no more than that
    save, unless it is the training's last: that one raises OSError.
    """

    def __init__(self, folder, *, every_seconds: float = 600, every_steps: int | None = None):
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}")
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.every_steps = every_steps
        self.saved = time.monotonic()

    def due(self, progress: Progress) -> bool:
        """Whether the state after this step is to be saved."""
        if progress.ends_epoch:
            return True
        if self.every_steps is not None:
            return progress.step % self.every_steps == 0
        return time.monotonic() - self.saved >= self.every_seconds

    def save(self, progress: Progress, state: dict) -> None:
        """Write the state after this step, then delete all but the last two."""
        self.saved = time.monotonic()
        try:
            with atomic_write(self.folder / f"checkpoint-{progress.step:08d}.pt") as path:
                write_torch(state, path)
        except OSError as error:
            if progress.step == progress.total_steps:
                raise
            warnings.warn(
                f"no checkpoint at step {progress.step}, training goes on: {error}", stacklevel=2
            )
        for old in self._files()[KEPT:]:
            old.unlink()

    def load(self) -> dict | None:
        """The newest state that is whole; None if there is none.

        A damaged file is renamed to .damaged. What may be no damage (no memory, no right to read)
        is raised.
        """
        for path in self._files():
            try:
                # torch does not look at the archive's check sums.
                with zipfile.ZipFile(path) as archive:
                    if (bad := archive.testzip()) is not None:
                        raise zipfile.BadZipFile(f"wrong check sum of {bad}")
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # damage makes zipfile and torch raise almost anything
                reading = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
                if reading or isinstance(error, MemoryError) or "memory" in str(error):
                    raise
                warnings.warn(f"{path}: can't be read ({error}), going further back", stacklevel=2)
                path.replace(path.with_suffix(".damaged"))
        return None

    def _files(self) -> list[Path]:
        """Newest first."""
        files = self.folder.glob("checkpoint-*.pt")
        return sorted((f for f in files if re.fullmatch(r"checkpoint-\d+", f.stem)), reverse=True)
