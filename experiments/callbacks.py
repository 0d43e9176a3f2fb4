"""Callbacks of `gpt2.train.train`: a text progress bar, and metrics as lines of JSON."""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from gpt2.checkpoints import Progress
from utils import atomic_write


class ProgressBar:
    """Draw one text bar: last loss, mean loss since the bar started, learning rate, speed.

    The text that `note()` returns is shown at the end of the bar.
    """

    def __init__(
        self,
        description: str = "training",
        every: int = 20,
        note: Callable[[], str] = str,
    ):
        self.description, self.every, self.note = description, every, note
        self.bar = None

    def __call__(self, progress: Progress) -> None:
        if self.bar is None or progress.step == 1:
            self.bar = tqdm(
                total=progress.total_steps,
                initial=progress.step - 1,
                desc=self.description,
                unit="step",
                ncols=140,
            )
            self.num_steps, self.total_loss = 0, 0.0
            self.shown_at, self.num_tokens = progress.seconds, -progress.num_tokens
        self.num_steps += 1
        self.total_loss += progress.loss
        self.num_tokens += progress.num_tokens
        finished = progress.step == progress.total_steps
        if finished or progress.step % self.every == 0:
            parts = [
                f"epoch {progress.epoch}",
                f"loss {progress.loss:.3f}",
                f"mean {self.total_loss / self.num_steps:.3f}",
                f"lr {progress.learning_rate:.1e}",
            ]
            if self.num_tokens > 0:
                speed = self.num_tokens / (progress.seconds - self.shown_at)
                parts.append(f"{speed:,.0f} tokens/s")
            self.shown_at, self.num_tokens = progress.seconds, 0
            self.bar.set_postfix_str(", ".join(filter(None, [*parts, self.note()])), refresh=False)
            self.bar.update(progress.step - self.bar.n)
        if finished:
            self.bar.close()


class Metrics:
    """Append a line of JSON for every step to a file, and lines of other measurements.

    After a resumption the lines that the killed process wrote after its last checkpoint are
    dropped, so that every step is there once. A full disk costs lines, not the training.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.started = False
        self.torn = False

    def __call__(self, progress: Progress) -> None:
        if not self.started:
            self.started = True
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
        """Append a line, which needs the key `step`."""
        self._try(self._append, ("\n" if self.torn else "") + json.dumps(line) + "\n")

    def read(self) -> list[dict]:
        """Return all whole lines."""
        lines = []
        for text in self.path.read_bytes().split(b"\n") if self.path.is_file() else []:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue  # torn when the disk was full or the machine stopped
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines

    def _rewrite(self, lines: list[dict]) -> None:
        with atomic_write(self.path) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def _append(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)

    def _try(self, write: Callable, value) -> None:
        try:
            write(value)
            self.torn = False
        except OSError as error:
            if not self.torn:
                warnings.warn(f"{self.path}: lines are lost ({error})", stacklevel=4)
            self.torn = True
