"""What follows from predictions: accuracy or another score, its interval, classes, confusions."""

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.files import write_text
from experiments.statistics import bootstrap_interval, wilson_interval
from gpt2.tasks import Task
from gpt2.xnli import XNLI


@dataclass(frozen=True)
class Evaluation:
    """The predictions for a data set and what follows from them.

    `predictions` has a row a pair: pair_id, label and prediction (texts), and the probability of
    each label (see gpt2.evaluate.predict). A prediction that is no label counts as wrong.
    """

    predictions: pd.DataFrame
    task: Task = XNLI

    def save(self, path) -> None:
        """Write the predictions as a CSV file, texts in quotes, whole or not at all."""
        texts = {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"}
        write_text(path, self.predictions.to_csv(index=False, **texts))

    @classmethod
    def load(cls, path, task: Task = XNLI) -> "Evaluation":
        """Read what `save` wrote; every text and number comes back as it was."""
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
        return cls(pd.DataFrame(rows, columns=names), task)

    @property
    def score(self) -> float:
        """The task's own measure; of NLI the accuracy."""
        return self.task.score(self.predictions)

    @property
    def accuracy(self) -> float:
        return Task.score(self.task, self.predictions)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the score: Wilson's of an accuracy, else of resampled rows."""
        n = len(self.predictions)
        if self.task.measure == "accuracy":
            return wilson_interval(round(self.accuracy * n), n)
        return bootstrap_interval(self.task.score, self.predictions)

    @property
    def loss(self) -> float:
        """Mean of -log P(label) over the pairs, in nats; P over all texts of so many tokens."""
        return float(self.by_pair("loss").mean())

    @property
    def share_without_label(self) -> float:
        """Share of predictions that are none of the labels."""
        return float((~self.predictions["prediction"].isin(self._texts)).mean())

    def per_class(self) -> pd.DataFrame:
        """Return precision, recall, F1 and support of each label."""
        from sklearn.metrics import classification_report  # two seconds, which commands can spare

        names = {"labels": self._texts, "target_names": list(self.task.labels)}
        texts = self.predictions["label"], self.predictions["prediction"]
        report = classification_report(*texts, **names, output_dict=True, zero_division=0.0)
        return pd.DataFrame({name: report[name] for name in self.task.labels}).T

    def confusion(self) -> pd.DataFrame:
        """Return counts, gold labels by predictions; the last column is "no label"."""
        from sklearn.metrics import confusion_matrix

        label, prediction = self.predictions["label"], self.predictions["prediction"]
        prediction = prediction.where(prediction.isin(self._texts), "no label")
        counts = confusion_matrix(label, prediction, labels=[*self._texts, "no label"])
        names = list(self.task.labels)
        return pd.DataFrame(counts[:-1], names, [*names, "no label"])

    def by_pair(self, measure: str = "accuracy") -> pd.Series:
        """Return whether each pair is right, as 0 or 1, or its "loss", by pair_id."""
        if measure == "accuracy":
            values = (self.predictions["prediction"] == self.predictions["label"]).to_numpy(float)
        elif "loss" in self.predictions:
            values = self.predictions["loss"].to_numpy()
        else:
            gold = self.predictions["label"].map(self._texts.index).to_numpy()
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
        among the labels. Raises ValueError for another data set's."""
        if data["pair_id"].tolist() != self.predictions["pair_id"].tolist():
            raise ValueError("data holds other pairs than these predictions")
        share = self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
        names = list(self.task.labels)
        table = data[[*self.task.fields, "label"]].assign(
            prediction=[names[best] for best in share.argmax(axis=1)],
            probability=share.max(axis=1),
        )
        wrong = table[table["prediction"] != table["label"]]
        return wrong.sort_values("probability", ascending=False).head(count)

    @property
    def _texts(self) -> list[str]:
        return [text.strip() for text in self.task.labels.values()]

    @property
    def _probabilities(self) -> np.ndarray:
        return self.predictions[[f"p({text})" for text in self._texts]].to_numpy()


def length_groups(texts: pd.Series, count: int = 4) -> pd.Series:
    """Return a name for each text's length in characters, such as "12 to 40", of groups of about
    the same number of texts; there are fewer than `count` where many are of the same length."""
    lengths = texts.str.len()
    ends = np.quantile(lengths, np.arange(1, count + 1) / count, method="inverted_cdf")
    group = lengths.groupby(np.searchsorted(np.unique(ends), lengths))
    return group.transform("min").astype(str) + " to " + group.transform("max").astype(str)
