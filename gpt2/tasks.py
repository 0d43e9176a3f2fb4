"""A task as data: what a prompt asks, and which answers it may have (handout sections 4.2 and 6).

XNLI (gpt2/xnli.py) is one. Data sets, evaluation, baselines and the identity of a run follow from
the task alone, so another prompt, other label words or other columns are a change in one place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from config import GPT2Config
from gpt2.evaluate import compute_accuracy, predict
from gpt2.loss import IGNORED
from gpt2.prompts import encode_prompts, fields_of, label_tokens
from gpt2.tokenizer import pad_id
from utils import fingerprint


@dataclass(frozen=True)
class Task:
    """A prompt with fields in braces, and the text that follows it for each label."""

    prompt: str
    labels: Mapping[str, str] = field(default_factory=dict)  # name -> text, such as "0" or " Yes"

    languages = ("en",)  # that there is data in
    measure = "accuracy"  # what `score` returns

    def __post_init__(self):
        texts = [text.strip().lower() for text in self.labels.values()]
        if len(set(texts)) < len(texts) or "" in texts or len(texts) == 1:
            raise ValueError(f"labels must be two or more different texts, got {self.labels!r}")
        if not self.fields:
            raise ValueError(f"prompt must have fields in braces, got {self.prompt!r}")
        if isinstance(self.languages, str) or not self.languages:
            raise ValueError(f'languages must be a tuple such as ("en",), got {self.languages!r}')

    @property
    def fields(self) -> tuple[str, ...]:
        """The names in the prompt's braces, in their order: columns of the data."""
        return tuple(fields_of(self.prompt))

    def describe(self) -> dict:
        """Return all that decides the numbers of a run on this task, for its identity."""
        return {"task": type(self).__name__, **asdict(self)}

    def predict(self, model, tokenizer, dataset, *, progress: bool = True) -> pd.DataFrame:
        """Return a row an item: pair_id, label, prediction, and what their loss follows from."""
        return predict(model, tokenizer, dataset, progress=progress)

    def score(self, predictions: pd.DataFrame) -> float:
        """Return the task's `measure` of columns `label` and `prediction` (texts): accuracy."""
        return compute_accuracy(*(predictions[c].tolist() for c in ("prediction", "label")))


class PromptDataset(Dataset):
    """The rows of one language and split of a task: prompts, and the tokens that answer them.

    `data` has a row an item: the prompt's fields, `label` (a name of the task's labels) and
    `pair_id`; its `.attrs["skipped"]` may list unusable rows as (line, reason).

    A train item is a dict of `input_ids` [T] (prompt and answer), `attention_mask` [T], `labels`
    [T] (-100 except for the answer) and `label_str`, the answer's text. A dev or test item has the
    prompt alone, and no `labels`. Rows of more than `max_length` tokens lose the ends of their
    longest fields, never the prompt's own words or the answer; `num_truncated` counts them.
    """

    def __init__(self, data: pd.DataFrame, task: Task, tokenizer, split, lang, max_length=1024):
        self._start(task, tokenizer, split, lang, max_length)
        self.data, self.pair_ids = data, data["pair_id"].tolist()
        self.skipped = data.attrs.get("skipped", [])
        if len(data) == 0:
            raise ValueError(f"{lang} {split}: no usable row, {self._skipped_rows()}")
        self._use(self._encode(data))

    def _start(self, task: Task, tokenizer, split: str, lang: str, max_length: int) -> None:
        self.task, self.tokenizer, self.split, self.lang = task, tokenizer, split, lang
        self.max_length = max_length
        self.label_tokens = label_tokens(tokenizer, task.prompt, task.labels)
        self.longest_answer = max(map(len, self.label_tokens), default=0)
        # The static method pads as GPT-2's tokenizer does; a loader of this set as its own does.
        self.collate_fn = partial(PromptDataset.collate_fn, pad_token_id=pad_id(tokenizer))

    def _encode(self, data: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the prompts as in `encode_prompts`, and of a task with labels their numbers."""
        texts, labels = data[[*self.task.fields]], [*self.task.labels]
        usable = texts.notna().all(axis=1) & (data["label"].isin(labels) if labels else True)
        if not usable.all():
            row = data[~usable].iloc[0].to_dict()
            raise ValueError(f"{self.lang} {self.split}: no text or no label of {labels} in {row}")
        room = self.max_length - self.longest_answer
        encoded = encode_prompts(self.task.prompt, data, self.tokenizer, room)
        if self.task.labels:
            numbers = {name: i for i, name in enumerate(self.task.labels)}
            encoded["labels"] = data["label"].map(numbers).to_numpy(np.uint8)
        return encoded

    def _use(self, encoded: dict[str, np.ndarray]) -> None:
        self.ids, self.offsets = encoded["ids"], encoded["offsets"]
        self.truncated = encoded["truncated"]
        self.labels, self.answers = self._answers(encoded)

    def _answers(self, encoded: dict[str, np.ndarray]) -> tuple[list[str], list[list[int]]]:
        """Return every row's right answer: its text without white space around it, its tokens."""
        self.label_ids = encoded["labels"]
        texts = [text.strip() for text in self.task.labels.values()]
        labels = [texts[label] for label in self.label_ids]
        return labels, [self.label_tokens[label] for label in self.label_ids]

    def _skipped_rows(self) -> str:
        reasons = "; ".join(f"line {line}: {reason}" for line, reason in self.skipped[:3])
        return f"{len(self.skipped):,} skipped" + (f" ({reasons})" if reasons else "")

    @property
    def num_truncated(self) -> int:
        """How many rows lost text to fit `max_length`."""
        return int(self.truncated.sum())

    @property
    def lengths(self) -> np.ndarray:
        """Every row's prompt length in tokens."""
        return np.diff(self.offsets)

    @property
    def lengths_with_answer(self) -> np.ndarray:
        """Every row's length in tokens as a train item."""
        return self.lengths + np.fromiter(map(len, self.answers), int, len(self))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that follow from the rows' ids and answers."""
        answers = np.array([[i, token] for i, row in enumerate(self.answers) for token in row])
        return fingerprint(*map(torch.from_numpy, (self.ids, self.offsets, answers)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def prompt(self, index: int) -> Tensor:
        """Return the ids (T,) of a row's prompt."""
        start, end = self.offsets[index : index + 2]
        return torch.from_numpy(self.ids[start:end].astype(np.int64))

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # negative ones count from the end
        if self.split == "train":
            return self.answered(index)
        input_ids, text = self.prompt(index), self.labels[index]
        mask = torch.ones_like(input_ids)
        return {"input_ids": input_ids, "attention_mask": mask, "label_str": text}

    def answered(self, index: int) -> dict:
        """Return a row's prompt with its answer, as a train item."""
        prompt, answer = self.prompt(index), torch.tensor(self.answers[index])
        # BEGIN SOLUTION labels
        input_ids = torch.cat([prompt, answer])
        labels = torch.full_like(input_ids, IGNORED)
        labels[-len(answer) :] = answer
        # END SOLUTION
        mask, text = torch.ones_like(input_ids), self.labels[index]
        return {"input_ids": input_ids, "attention_mask": mask, "labels": labels, "label_str": text}

    @staticmethod
    def collate_fn(batch: Sequence[dict], pad_token_id: int = GPT2Config().pad_token_id) -> dict:
        """Return `input_ids`, `attention_mask`, (`labels`), [B, T], padded on the right, and
        `label_strs`."""
        padding = {"input_ids": pad_token_id, "attention_mask": 0, "labels": IGNORED}
        padded = {
            name: pad_sequence([item[name] for item in batch], True, value)
            for name, value in padding.items()
            if name in batch[0]
        }
        return {**padded, "label_strs": [item["label_str"] for item in batch]}
