"""Other tasks than NLI (handout section 6), each a prompt, its answers and a score of its own.

    data/tasks/, or real data in its layout      prompt                       answer
    sentiment/{lang}/train_{text,labels}.txt     Text: ... Sentiment:         positive
    ner/train-{lang}.tsv                         Sentence: ... Entities:      PER: ...; LOC: ...
    qa/xquad.{lang}.json                         Context: ... Question: ...   part of the context

What trains, evaluates and compares models on NLI does the same for these: they are `gpt2.tasks`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gpt2.tasks import PromptDataset, Task
from gpt2.text import decode_lines

SPLITS = ("train", "dev", "test")


class FileTask(Task):
    """A task whose rows lie in a folder in a published layout; the relatives say how to `read`."""

    rows_of = PromptDataset

    def read(self, folder, split: str, lang: str, subset: float = 1.0) -> pd.DataFrame:
        """Return the usable rows: the prompt's fields, label, pair_id and line.

        `subset` is a share of them (the first ones) or, above 1, their number. Rows that cannot be
        used are in `.attrs["skipped"]` as (line, reason).
        """
        raise NotImplementedError

    def dataset(
        self,
        folder,
        split="train",
        lang="en",
        *,
        tokenizer,
        max_length=1024,
        subset=1.0,
        verbose=True,
    ) -> PromptDataset:
        """Return the rows of `read` as prompts; with `verbose` a line says what was loaded."""
        data = self.read(folder, split, lang, subset)
        rows = self.rows_of(data, self, tokenizer, split, lang, max_length)
        if verbose:
            reasons = "; ".join(f"line {line}: {reason}" for line, reason in rows.skipped[:3])
            print(
                f"{type(self).__name__} {lang} {split}: {len(rows):,} rows, {len(rows.skipped):,} "
                f"skipped{f' ({reasons})' if reasons else ''}, {rows.num_truncated:,} truncated"
            )
        return rows


def read_file(folder, template: str, lang: str) -> tuple[Path, list[str]]:
    """Return the path of a language's file in `folder`, and its lines.

    Raises FileNotFoundError that says which languages there are, ValueError for broken UTF-8.
    """
    path = Path(folder) / template.format(lang=lang)
    if not path.is_file():
        start, end = (Path(folder).as_posix() + "/" + template).split("{lang}")
        files = Path(folder).glob(template.replace("{lang}", "*"))
        there = sorted(file.as_posix().removeprefix(start).removesuffix(end) for file in files)
        advice = (
            f"there is {', '.join(there)}" if there else "data/tasks/README.md says how to get it"
        )
        raise FileNotFoundError(f"{path}: no such file; {advice}")
    lines = decode_lines(path, path.read_bytes(), "utf-8", "save the file as UTF-8")
    return path, lines[:-1] if lines[-1] == "" else lines


def as_data(rows: Sequence[tuple], columns: Sequence[str], skipped: list, subset: float):
    """Return rows as a DataFrame, the first `subset` of them, with what was skipped."""
    if not subset > 0 or (subset > 1 and not float(subset).is_integer()):
        raise ValueError(f"subset must be a share in (0, 1] or a whole number, got {subset}")
    count = int(subset) if subset > 1 else max(1, int(len(rows) * subset))
    data = pd.DataFrame(rows[:count], columns=list(columns))
    data.attrs["skipped"] = skipped
    return data


def check_split(split: str) -> None:
    """Raise ValueError for a split that is none of ours."""
    if split not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got {split!r}")
