"""Callbacks of `gpt2.train.train`: a text progress bar, and metrics as lines of JSON."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from experiments.files import write_text
from gpt2.checkpoints import Progress


class ProgressBar:
    """Draw one text bar: last loss, mean loss since the bar started, learning rate, speed.

    The text that `note()` returns is shown at the end of the bar.
    """

    def __init__(self, description: str = "training", note: Callable[[], str] = str):
        self.description, self.note = description, note
        self.bar = None

    def __call__(self, progress: Progress) -> None:
        if self.bar is None or progress.step == 1:
            total, done = progress.total_steps, progress.step - 1
            settings = {"desc": self.description, "unit": "step", "ncols": 140, "mininterval": 0.5}
            self.bar = tqdm(total=total, initial=done, **settings)
            self.losses, self.num_tokens, self.first = [], 0, progress
        else:
            self.num_tokens += progress.num_tokens
        self.losses.append(progress.loss)
        parts = [
            f"epoch {progress.epoch}",
            f"loss {progress.loss:.3f}",
            f"mean {sum(self.losses) / len(self.losses):.3f}",
            f"lr {progress.learning_rate:.1e}",
        ]
        if self.num_tokens > 0:
            speed = self.num_tokens / (progress.seconds - self.first.seconds)
            parts.append(f"{speed:,.0f} tokens/s")
        self.bar.set_postfix_str(", ".join(filter(None, [*parts, self.note()])), refresh=False)
        self.bar.update()
        if progress.step == progress.total_steps:
            self.bar.close()


class Metrics:
    """Append a line of JSON for every step to a file, and lines of other measurements.

    After a resumption the lines that the killed process wrote after its last checkpoint are
    dropped, so that every step is there once. A full disk costs lines, not the training.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.started = self.torn = False

    def __call__(self, progress: Progress) -> None:
        if not self.started:
            self.started = True
            before = [line for line in self.read() if line["step"] < progress.step]
            with self._reported():
                write_text(self.path, "".join(json.dumps(line) + "\n" for line in before))
        self.write(asdict(progress))

    def write(self, line: dict) -> None:
        """Append a line, which needs the key `step`."""
        start = "\n" if self.torn else ""
        with self._reported(), open(self.path, "a", encoding="utf-8") as file:
            file.write(start + json.dumps(line) + "\n")

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

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Warn of the first of several errors in a row."""
        try:
            yield
        except OSError as error:
            if not self.torn:
                warnings.warn(f"{self.path}: lines are lost ({error})", stacklevel=5)
            self.torn = True
        else:
            self.torn = False
