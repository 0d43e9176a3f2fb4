"""What follows from predictions: accuracy with its interval, classes, confusions."""

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix

from experiments.files import write_text
from experiments.statistics import wilson_interval
from gpt2.evaluate import DIGITS, compute_accuracy
from gpt2.xnli import LABEL2ID


@dataclass(frozen=True)
class Evaluation:
    """The predictions for a data set and what follows from them.

    `predictions` has a row a pair: pair_id, label and prediction (texts), and the probability of
    each digit (see gpt2.evaluate.predict). A prediction that is no label counts as wrong.
    """

    predictions: pd.DataFrame

    def save(self, path) -> None:
        """Write the predictions as a CSV file, texts in quotes, whole or not at all."""
        texts = {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"}
        write_text(path, self.predictions.to_csv(index=False, **texts))

    @classmethod
    def load(cls, path) -> "Evaluation":
        """Read what `save` wrote; every text and number comes back as it was."""
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
        return cls(pd.DataFrame(rows, columns=names))

    @property
    def accuracy(self) -> float:
        return compute_accuracy(*(self.predictions[c].tolist() for c in ("prediction", "label")))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        n = len(self.predictions)
        return wilson_interval(round(self.accuracy * n), n)

    @property
    def loss(self) -> float:
        """Mean of -log P(label) over the pairs, in nats; P over the whole vocabulary."""
        return float(self.by_pair("loss").mean())

    @property
    def share_without_label(self) -> float:
        """Share of predictions that are none of the three digits."""
        return float((~self.predictions["prediction"].isin(DIGITS)).mean())

    def per_class(self) -> pd.DataFrame:
        """Return precision, recall, F1 and support of each label."""
        names = {"labels": DIGITS, "target_names": list(LABEL2ID)}
        texts = self.predictions["label"], self.predictions["prediction"]
        report = classification_report(*texts, **names, output_dict=True, zero_division=0.0)
        return pd.DataFrame({name: report[name] for name in LABEL2ID}).T

    def confusion(self) -> pd.DataFrame:
        """Return counts, gold labels by predictions; the last column is "no label"."""
        label, prediction = self.predictions["label"], self.predictions["prediction"]
        prediction = prediction.where(prediction.isin(DIGITS), "no label")
        counts = confusion_matrix(label, prediction, labels=[*DIGITS, "no label"])
        return pd.DataFrame(counts[:3], list(LABEL2ID), [*LABEL2ID, "no label"])

    def by_pair(self, measure: str = "accuracy") -> pd.Series:
        """Return whether each pair is right, as 0 or 1, or its "loss", by pair_id."""
        if measure == "accuracy":
            values = (self.predictions["prediction"] == self.predictions["label"]).to_numpy(float)
        else:
            gold = self.predictions["label"].astype(int).to_numpy()
            p = self._probabilities[np.arange(len(gold)), gold]
            values = -np.log(p.clip(np.finfo(p.dtype).tiny))
        return pd.Series(values, index=self.predictions["pair_id"])

    def by_group(self, groups: pd.Series) -> pd.DataFrame:
        """Return accuracy, its interval and the number of pairs of each group; one group a pair."""
        right = self.predictions["prediction"] == self.predictions["label"]
        rows = {
            name: (part.mean(), *wilson_interval(int(part.sum()), len(part)), len(part))
            for name, part in right.groupby(groups.to_numpy())
        }
        return pd.DataFrame.from_dict(rows, "index", columns=["accuracy", "low", "high", "pairs"])

    def confident_errors(self, data: pd.DataFrame, count: int = 10) -> pd.DataFrame:
        """Return the rows of `data`, the data set's, that are wrong with the highest probability
        among the three labels. Raises ValueError for another data set's."""
        if data["pair_id"].tolist() != self.predictions["pair_id"].tolist():
            raise ValueError("data holds other pairs than these predictions")
        share = self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
        table = data[["premise", "hypo", "label"]].assign(
            prediction=[list(LABEL2ID)[best] for best in share.argmax(axis=1)],
            probability=share.max(axis=1),
        )
        wrong = table[table["prediction"] != table["label"]]
        return wrong.sort_values("probability", ascending=False).head(count)

    @property
    def _probabilities(self) -> np.ndarray:
        return self.predictions[[f"p({digit})" for digit in DIGITS]].to_numpy()
