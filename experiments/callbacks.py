"""Callbacks of `gpt2.train.train`: a text progress bar, and metrics as lines of JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from console import progress_bar
from experiments.files import digest, write_text
from gpt2.checkpoints import Progress


class ProgressBar:
    """Draw one text bar: speed, last loss, mean loss since the bar started, learning rate.

    The text that `note()` returns is shown at the end of the bar.
    """

    def __init__(self, description: str = "training", note: Callable[[], str] = str):
        self.settings = {"desc": description, "unit": "step", "mininterval": 0.5, "ncols": 140}
        self.note, self.bar = note, None
        self.losses = []

    def __call__(self, progress: Progress) -> None:
        if self.bar is None:
            initial, total = progress.step - 1, progress.total_steps
            self.bar = progress_bar(total=total, initial=initial, **self.settings)
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
            write_text(self.path, "".join(map(self._text, before)))
        self.write(asdict(progress))

    def write(self, line: dict) -> None:
        """Append a line, which needs the key `step`."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self._text(line))

    def read(self) -> list[dict]:
        """Return all lines but a last one that was torn when the machine stopped.

        Raises ValueError for another line that is not as it was written.
        """
        lines = []
        *texts, _torn = self.path.read_bytes().split(b"\n") if self.path.is_file() else [b""]
        for number, text in enumerate(texts, 1):
            try:
                line = json.loads(text)
                if line.pop("checksum") != digest(json.dumps(line).encode()):
                    raise ValueError("wrong checksum")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}: damaged ({error}); delete "
                    f"{self.path.parent} and run again"
                ) from None
            lines.append(line)
        return lines

    def _text(self, line: dict) -> str:
        """Return a line of the file: JSON, the last key a checksum of the rest."""
        return json.dumps({**line, "checksum": digest(json.dumps(line).encode())}) + "\n"
