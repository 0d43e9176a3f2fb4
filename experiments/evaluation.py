"""What follows from predictions: accuracy with its interval, classes, confusions, calibration."""

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix

from experiments.statistics import wilson_interval
from gpt2.evaluate import DIGITS, compute_accuracy
from gpt2.xnli import LABEL2ID
from utils import atomic_write


@dataclass(frozen=True)
class Evaluation:
    """The predictions for a data set and what follows from them.

    `predictions` has a row a pair: pair_id, label and prediction (texts), and the probability of
    each digit (see gpt2.evaluate.predict). A prediction that is no label counts as wrong.
    """

    predictions: pd.DataFrame

    def save(self, path) -> None:
        """Write the predictions as a CSV file, texts in quotes, whole or not at all."""
        columns = [self.predictions[name].tolist() for name in self.predictions]
        with (
            atomic_write(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerows([self.predictions.columns, *zip(*columns, strict=True)])

    @classmethod
    def load(cls, path) -> "Evaluation":
        """Read what `save` wrote; every text and number comes back as it was."""
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
        return cls(pd.DataFrame(rows, columns=names))

    @property
    def accuracy(self) -> float:
        return compute_accuracy(
            self.predictions["prediction"].tolist(), self.predictions["label"].tolist()
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        n = len(self.predictions)
        return wilson_interval(round(self.accuracy * n), n)

    @property
    def loss(self) -> float:
        """Mean of -log P(label) over the pairs, in nats; P over the whole vocabulary."""
        gold = self.predictions["label"].astype(int).to_numpy()
        p = self._probabilities[np.arange(len(gold)), gold]
        return float(-np.log(p.clip(np.finfo(p.dtype).tiny)).mean())

    @property
    def share_without_label(self) -> float:
        """Share of predictions that are none of the three digits."""
        return float((~self.predictions["prediction"].isin(DIGITS)).mean())

    @property
    def accuracy_among_labels(self) -> float:
        """Accuracy when only the three digits are allowed as predictions."""
        best = self._probabilities.argmax(axis=1)
        return float((best == self.predictions["label"].astype(int)).mean())

    def per_class(self) -> pd.DataFrame:
        """Return precision, recall, F1 and support of each label."""
        report = classification_report(
            self.predictions["label"],
            self.predictions["prediction"],
            labels=DIGITS,
            target_names=list(LABEL2ID),
            output_dict=True,
            zero_division=0.0,
        )
        return pd.DataFrame({name: report[name] for name in LABEL2ID}).T

    def confusion(self) -> pd.DataFrame:
        """Return counts, gold labels by predictions; the last column is "no label"."""
        predictions = self.predictions["prediction"].where(
            self.predictions["prediction"].isin(DIGITS), "no label"
        )
        counts = confusion_matrix(
            self.predictions["label"], predictions, labels=[*DIGITS, "no label"]
        )
        return pd.DataFrame(counts[:3], list(LABEL2ID), [*LABEL2ID, "no label"])

    def confident_errors(self, data: pd.DataFrame, count: int = 10) -> pd.DataFrame:
        """Return the wrong predictions with the highest probability among the three labels.

        `data` is the data set's: its columns premise, hypo and label, and the prediction with its
        probability. Raises ValueError for another data set's.
        """
        if data["pair_id"].tolist() != self.predictions["pair_id"].tolist():
            raise ValueError("data holds other pairs than these predictions")
        share = self._shares()
        table = data[["premise", "hypo", "label"]].assign(
            prediction=[list(LABEL2ID)[best] for best in share.argmax(axis=1)],
            probability=share.max(axis=1),
        )
        wrong = table[table["prediction"] != table["label"]]
        return wrong.sort_values("probability", ascending=False).head(count)

    def calibration_error(self, bins: int = 10) -> float:
        """Return the expected calibration error (Guo et al. 2017) over three labels."""
        share = self._shares()
        confidence, best = share.max(axis=1), share.argmax(axis=1)
        correct = best == self.predictions["label"].astype(int).to_numpy()
        which = np.minimum((confidence * bins).astype(int), bins - 1)
        gaps = [
            abs(correct[which == b].mean() - confidence[which == b].mean()) * (which == b).mean()
            for b in range(bins)
            if (which == b).any()
        ]
        return float(sum(gaps))

    @property
    def _probabilities(self) -> np.ndarray:
        return self.predictions[[f"p({digit})" for digit in DIGITS]].to_numpy()

    def _shares(self) -> np.ndarray:
        """Return the digits' probabilities, scaled to a sum of 1 in each row."""
        return self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
