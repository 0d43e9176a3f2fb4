"""Save a training and resume it to the same bits: weights, optimizer, random states, place."""

import errno
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device

from utils import atomic_write, check_archive, computed_by, over_processes, set_seed

SAVED = 2  # checkpoints: the last, and the one before in case the last cannot be read


@dataclass(frozen=True)
class Progress:
    """What one optimizer step leaves, for callbacks and for the learning curve."""

    step: int  # from 1, over all epochs
    total_steps: int
    epoch: int  # from 1
    loss: float  # mean over the labels of the step, in nats
    num_labels: int
    num_tokens: int  # of the step, without pads; 0 where batches have no attention_mask
    learning_rate: float
    seconds: float  # since training started, without the time between a kill and its resumption
    ends_epoch: bool


class Checkpoints:
    """The last states of one training, as files `checkpoint-<step>.pt` in a folder.

    One is due after every epoch, and when `every_seconds` have passed since the last. A save that
    fails (a full disk) costs no more than that save, unless it is the training's last: that one
    raises OSError.
    """

    def __init__(self, folder, *, every_seconds: float = 600):
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.saved_at = time.monotonic()

    def due(self, progress: Progress) -> bool:
        """Return whether the state after this step is to be saved."""
        return progress.ends_epoch or time.monotonic() - self.saved_at >= self.every_seconds

    def save(self, progress: Progress, state: dict) -> bool:
        """Write the state after this step, then delete all but the last two; False if it failed."""
        self.saved_at = time.monotonic()
        try:
            with atomic_write(self.folder / f"checkpoint-{progress.step:08d}.pt") as path:
                torch.save(state, path)
        except OSError as error:
            if progress.step == progress.total_steps:
                raise
            warnings.warn(
                f"no checkpoint at step {progress.step}, training continues: {error}", stacklevel=2
            )
            return False
        for old in self._files()[SAVED:]:
            old.unlink()
        return True

    def load(self) -> dict | None:
        """Return the newest complete state, or None if there is none.

        A damaged file is renamed to .damaged. What may be no damage (no memory, no right to read)
        is raised.
        """
        for path in self._files():
            try:
                check_archive(path)
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # damage makes zipfile and torch raise almost anything
                reading = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
                if reading or isinstance(error, MemoryError) or "memory" in str(error):
                    raise
                warnings.warn(f"{path}: damaged ({error}); using the one before", stacklevel=2)
                path.replace(path.with_suffix(".damaged"))
        return None

    def _files(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        return sorted(self.folder.glob(f"checkpoint-{'[0-9]' * 8}.pt"), reverse=True)


class TrainingState:
    """All that decides how a training continues, in the three calls that `train` makes."""

    def __init__(self, checkpoints: Checkpoints | None, accelerator, model, optimizer, scheduler):
        self.checkpoints, self.accelerator = checkpoints, accelerator
        self.model = accelerator.unwrap_model(model)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.stop: list[bool] = []  # Ctrl-C was pressed
        self.epoch_random: dict = {}  # the random state in which the current epoch started
        self.loaded: dict | None = None  # until the first step after it
        self.step_batches = 0  # of all processes

    def restore(self) -> list[Progress]:
        """Load the last checkpoint, if any, into model, optimizer, scheduler; return its steps."""
        self.loaded = self.checkpoints.load() if self.checkpoints is not None else None
        if self.loaded is None:
            return []
        before, now = self.loaded.get("computed_by"), computed_by(self.accelerator.device)
        if before not in (None, now):
            made = (
                f"{len(self.loaded['history'])} steps were computed by {before}, the next by {now}"
            )
            warnings.warn(f"{made}: last bits may differ from a run of one kind", stacklevel=3)
        self.model.load_state_dict(self.loaded["model"])
        self.optimizer.load_state_dict(self.loaded["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(self.loaded["scheduler"])
        return [Progress(**step) for step in self.loaded["history"]]

    def batches(self, loader, size: int, epoch: int, done: int) -> Iterator[list]:
        """Yield the batches of an epoch (from 1), `size` a step, after the first `done` steps.

        The random states are those that the epoch, and then the step, had when it was saved.
        `loader.shares`, if there, is how many processes share the rows of each batch.
        """
        self.step_batches = size * self.accelerator.num_processes // getattr(loader, "shares", 1)
        if self.loaded is not None:
            if (before := self.loaded.get("step_batches")) not in (None, self.step_batches):
                steps = f"the checkpoint's steps have {before} batches, now {self.step_batches}"
                raise ValueError(f"{steps}; keep the product of accumulate and processes")
            # The order of an interrupted epoch is drawn again from its start.
            self._set_random_state(self.loaded["epoch_random" if done else "random"])
        self.epoch_random = get_random_state()
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(epoch - 1)
        batches = islice(loader, done * size, None)
        while group := list(islice(batches, size)):
            if self.loaded is not None and done:
                self._set_random_state(self.loaded["random"])
            self.loaded = None
            yield send_to_device(group, self.accelerator.device)  # lists are not prepared

    def save(self, history: list[Progress], *, now: bool = False) -> bool:
        """Save the state after the last step if a checkpoint is due, or `now`; True if saved."""
        if self.checkpoints is None:
            return False
        # The main process decides for all: their clocks differ.
        due = (now or self.checkpoints.due(history[-1])) and self.accelerator.is_main_process
        if not over_processes(self.accelerator, int(due)):
            return False
        state = {
            "epoch_random": gather_object([self.epoch_random]),
            "random": gather_object([get_random_state()]),
            "model": self.model.state_dict(),  # in every process: each may have a part
            "optimizer": self.optimizer.state_dict(),
        }
        if self.accelerator.is_main_process:
            state["scheduler"] = self.scheduler.state_dict() if self.scheduler is not None else None
            state["history"] = [asdict(progress) for progress in history]
            state["step_batches"] = self.step_batches
            state["computed_by"] = computed_by(self.accelerator.device)
            return self.checkpoints.save(history[-1], state)
        return True

    def end_if_interrupted(self, history: list[Progress]) -> None:
        """Raise KeyboardInterrupt where Ctrl-C was pressed in the main process, and save first."""
        stop = bool(self.stop) and self.accelerator.is_main_process
        if over_processes(self.accelerator, int(stop)):
            saved = self.save(history, now=True)
            kept = f"step {len(history)} is saved" if saved else "nothing new is saved"
            raise KeyboardInterrupt(f"{kept}; the same call continues")

    def _set_random_state(self, states: list[dict]) -> None:
        index = self.accelerator.process_index
        set_random_state(states[index % len(states)])
        if index >= len(states):  # of more processes than were saved: dropout of its own
            set_seed(int(torch.randint(2**31, ())) + index)


# ---- Random states -----------------------------------------------------------------------------


def get_random_state() -> dict:
    """Return the state of Python's, NumPy's and torch's generators, as plain types."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_random_state(state: dict) -> None:
    """Restore what `get_random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
    if state["mps"] is not None:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore all generators after the block, whatever it draws."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
