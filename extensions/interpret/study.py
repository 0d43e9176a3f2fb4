"""What the questions of `python -m extensions.interpret` share: model, data, intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.evaluation import Evaluation
from experiments.finetuning import FinetunedRun
from extensions.interpret.probes import mean_states
from gpt2.evaluate import predict
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset

RESAMPLES = 2000


@dataclass
class Answer:
    """What a question found: sentences with its numbers, tables by name, and a figure."""

    question: str
    sentences: list[str]
    tables: dict[str, pd.DataFrame]
    figure: Figure


@dataclass
class Study:
    """A fine-tuned run and its data sets in several languages.

    `pairs` is how many of a test set's pairs are read where every pair takes a long time.
    """

    run: FinetunedRun
    languages: Sequence[str] = LANGUAGES
    pairs: int = 600
    _rows: dict[tuple, XNLIDataset] = field(default_factory=dict)

    @cached_property
    def model(self) -> GPT2Model:
        """The run's best model, in evaluation mode."""
        return self.run.model().eval()

    @cached_property
    def tokenizer(self):
        """GPT-2's."""
        return load_tokenizer("gpt2")

    @cached_property
    def zero_shot(self) -> dict[str, Evaluation]:
        """The predictions for the whole test set in every language."""
        return self.run.evaluations(self.languages, progress=False)

    @cached_property
    def sentence_states(self) -> dict[str, Tensor]:
        """The states of the first test premises by language, mean over the tokens, (N, L + 1, d);
        the same row is the same sentence."""
        return {
            lang: mean_states(self.model, self.sentences(lang, "test", "premise", self.pairs))
            for lang in self.languages
        }

    def rows(self, split: str = "test", lang: str = "en", subset: float = 1.0) -> XNLIDataset:
        """Return a data set; the same one for the same arguments."""
        if (split, lang, subset) not in self._rows:
            common = {"tokenizer": self.tokenizer, "max_length": self.run.settings.max_length}
            self._rows[split, lang, subset] = XNLIDataset.in_folder(
                self.run.data, split, lang, subset=subset, verbose=False, **common
            )
        return self._rows[split, lang, subset]

    def some(self, lang: str) -> XNLIDataset:
        """Return the first pairs of a test set."""
        return self.rows("test", lang, float(self.pairs))

    def predict(self, rows: XNLIDataset) -> Evaluation:
        """Return the model's predictions; inside a context of patching.py, the changed model's."""
        return Evaluation(predict(self.model, self.tokenizer, rows, progress=False))

    def sentences(self, lang: str, split: str, column: str, count: int) -> list[Tensor]:
        """Return the ids of a split's first different sentences; translations have the same row."""
        english = self.rows(split, "en").data[column]
        rows = english.drop_duplicates().index[:count]
        texts = self.rows(split, lang).data[column][rows].tolist()
        settings = {"add_special_tokens": False, "return_attention_mask": False}
        return [torch.tensor(ids) for ids in self.tokenizer(texts, **settings)["input_ids"]]


def prompts(rows: XNLIDataset) -> list[Tensor]:
    """Return every pair's prompt, ids (T,), without a label."""
    has_digit = rows.split == "train"
    return [row["input_ids"][:-1] if has_digit else row["input_ids"] for row in rows]


def mean_interval(values: Sequence[float], groups: Sequence) -> tuple[float, float, float]:
    """Return the mean and its 95 % bootstrap interval; what is in one group, such as the pairs of
    one premise, is resampled together."""
    table = pd.DataFrame({"value": np.asarray(values, float), "group": np.asarray(groups)})
    parts = table.groupby("group")["value"].agg(["sum", "size"]).to_numpy()
    rng = np.random.default_rng(0)
    chosen = parts[rng.integers(len(parts), size=(RESAMPLES, len(parts)))].sum(axis=1)
    low, high = np.quantile(chosen[:, 0] / chosen[:, 1], [0.025, 0.975])
    return float(table["value"].mean()), float(low), float(high)
