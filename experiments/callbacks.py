"""Callbacks of `gpt2.train.train`: a text progress bar, and metrics as lines of JSON."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from experiments.files import write_text
from gpt2.checkpoints import Progress


class ProgressBar:
    """Draw one text bar: speed, last loss, mean loss since the bar started, learning rate.

    The text that `note()` returns is shown at the end of the bar.
    """

    def __init__(self, description: str = "training", note: Callable[[], str] = str):
        self.settings = {"desc": description, "unit": "step", "ncols": 140, "mininterval": 0.5}
        self.note, self.bar = note, None
        self.losses = []

    def __call__(self, progress: Progress) -> None:
        if self.bar is None:
            initial, total = progress.step - 1, progress.total_steps
            self.bar = tqdm(total=total, initial=initial, **self.settings)
        self.losses.append(progress.loss)
        parts = [
            f"epoch {progress.epoch}",
            f"loss {progress.loss:.3f}",
            f"mean {sum(self.losses) / len(self.losses):.3f}",
            f"lr {progress.learning_rate:.1e}",
        ]
        self.bar.set_postfix_str(", ".join(filter(None, [*parts, self.note()])), refresh=False)
        self.bar.update()
        if progress.step == progress.total_steps:
            self.bar.close()


class Metrics:
    """Append a line of JSON for every step to a file, and lines of other measurements.

    After a resumption the lines that the killed process wrote after its last checkpoint are
    dropped, so that every step is there once.
    """

    def __init__(self, path):
        self.path, self.started = Path(path), False

    def __call__(self, progress: Progress) -> None:
        if not self.started:
            self.started = True
            before = [line for line in self.read() if line["step"] < progress.step]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in before))
        self.write(asdict(progress))

    def write(self, line: dict) -> None:
        """Append a line, which needs the key `step`."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict]:
        """Return all whole lines."""
        lines = []
        for text in self.path.read_bytes().split(b"\n") if self.path.is_file() else []:
            with suppress(ValueError):  # torn when the machine stopped
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("step"), int):
                    lines.append(line)
        return lines
