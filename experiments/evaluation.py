"""What follows from predictions: accuracy with its interval, classes, confusions, calibration."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix

from experiments.statistics import wilson_interval
from gpt2.evaluate import DIGITS, answer, compute_accuracy
from gpt2.xnli import LABEL2ID
from utils import atomic_write


@dataclass(frozen=True)
class Evaluation:
    """The answers to a data set and what follows from them.

    `predictions` has a row a pair: pair_id, label and prediction (texts), and the probability of
    each digit. Accuracy counts an answer that is no label as wrong.
    """

    predictions: pd.DataFrame

    def save(self, path) -> None:
        """Write the predictions as a CSV file, whole or not at all."""
        with atomic_write(path) as temporary:
            self.predictions.to_csv(temporary, index=False)

    @classmethod
    def load(cls, path) -> "Evaluation":
        """What `save` wrote."""
        texts = dict.fromkeys(("pair_id", "label", "prediction"), str)
        # The other parser rounds the last digit of some numbers.
        return cls(pd.read_csv(path, dtype=texts, keep_default_na=False, engine="python"))

    @property
    def accuracy(self) -> float:
        return compute_accuracy(
            self.predictions["prediction"].tolist(), self.predictions["label"].tolist()
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        correct = int((self.predictions["prediction"] == self.predictions["label"]).sum())
        return wilson_interval(correct, len(self.predictions))

    @property
    def loss(self) -> float:
        """Mean of -log P(label) over the pairs, in nats; P over the whole vocabulary."""
        gold = self.predictions["label"].astype(int).to_numpy()
        p = self._probabilities[np.arange(len(gold)), gold]
        return float(-np.log(p.clip(np.finfo(p.dtype).tiny)).mean())

    @property
    def share_without_label(self) -> float:
        """How often the answer is none of the three digits."""
        return float((~self.predictions["prediction"].isin(DIGITS)).mean())

    @property
    def accuracy_among_labels(self) -> float:
        """Accuracy when only the three digits are allowed as an answer."""
        best = self._probabilities.argmax(axis=1)
        return float((best == self.predictions["label"].astype(int)).mean())

    def per_class(self) -> pd.DataFrame:
        """Precision, recall, F1 and support of each label."""
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
        """Counts, gold labels by answers; the last column holds answers that are no label."""
        answers = self.predictions["prediction"].where(
            self.predictions["prediction"].isin(DIGITS), "no label"
        )
        counts = confusion_matrix(self.predictions["label"], answers, labels=[*DIGITS, "no label"])
        return pd.DataFrame(counts[:3], list(LABEL2ID), [*LABEL2ID, "no label"])

    def confident_errors(self, data: pd.DataFrame, count: int = 10) -> pd.DataFrame:
        """The wrong answers that the model is surest of, among the three labels, surest first.

        `data` is the data set's: the columns premise, hypo and label are joined with the answer
        and its probability. Raises ValueError for another data set's.
        """
        if data["pair_id"].tolist() != self.predictions["pair_id"].tolist():
            raise ValueError("data holds other pairs than these answers are to")
        share = self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
        table = data[["premise", "hypo", "label"]].assign(
            answer=[list(LABEL2ID)[best] for best in share.argmax(axis=1)],
            probability=share.max(axis=1),
        )
        wrong = table[table["answer"] != table["label"]]
        return wrong.sort_values("probability", ascending=False).head(count)

    def calibration_error(self, bins: int = 10) -> float:
        """Expected calibration error (Guo et al. 2017) of the three-way probabilities."""
        share = self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
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


def evaluate(model, tokenizer, dataset, *, progress: bool = True) -> Evaluation:
    """The Evaluation of a model on an XNLIDataset."""
    prompts = [dataset[i]["input_ids"] for i in range(len(dataset))]
    if dataset.split == "train":
        prompts = [prompt[:-1] for prompt in prompts]
    tokens, log_probs = answer(model, prompts, dataset.digits, progress=progress)
    texts = tokenizer.batch_decode([[token] for token in tokens.tolist()], skip_special_tokens=True)
    predictions = pd.DataFrame(
        {
            "pair_id": dataset.data["pair_id"],
            "label": dataset.labels,
            "prediction": [text.strip() for text in texts],
        }
    )
    for column, digit in enumerate(DIGITS):
        predictions[f"p({digit})"] = log_probs[:, column].double().exp().numpy()
    return Evaluation(predictions)
