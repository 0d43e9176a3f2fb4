"""Sentiment of tweets: negative, neutral or positive, in eight languages.

Barbieri et al. 2022, "XLM-T: Multilingual Language Models in Twitter for Sentiment Analysis and
Beyond" (LREC); https://aclanthology.org/2022.lrec-1.27. Each language has 1,839 train, 324 dev and
870 test tweets, a third of them of each class; the tweets are not translations of each other.

    sentiment/en/train_text.txt      sentiment/en/train_labels.txt
    what a lovely morning            2                                0 negative
    the train is late again          0                                1 neutral
                                                                      2 positive
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from extensions.tasks import FileTask, as_data, check_split, read_file

LANGUAGES = ("en", "ar", "de", "es", "fr", "hi", "it", "pt")
FILES = {"train": "train", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class SentimentTask(FileTask):
    """Three-class sentiment; the order of `labels` is that of the digits in the label files."""

    prompt: str = "Text: {text}\nSentiment:"
    labels: Mapping[str, str] = field(
        default_factory=lambda: {
            "negative": " negative",
            "neutral": " neutral",
            "positive": " positive",
        }
    )
    languages: tuple[str, ...] = LANGUAGES

    measure = "macro F1"

    def read(self, folder, split: str, lang: str, subset: float = 1.0) -> pd.DataFrame:
        """Return the usable tweets: text, label (a name), pair_id (language and line) and line.

        Tweets without text, or with a label that is no class, are in `.attrs["skipped"]`.

        Raises FileNotFoundError, or ValueError where there are not as many labels as texts.
        """
        check_split(split)
        start = f"sentiment/{{lang}}/{FILES[split]}"
        path, texts = read_file(folder, f"{start}_text.txt", lang)
        labels_path, labels = read_file(folder, f"{start}_labels.txt", lang)
        if len(texts) != len(labels):
            raise ValueError(
                f"{labels_path}: {len(labels):,} labels for {len(texts):,} texts in {path.name}; "
                "download both again"
            )
        names = {str(digit): name for digit, name in enumerate(self.labels)}
        rows, skipped = [], []
        for line, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
            if label.strip() not in names:
                skipped.append((line, f"label {label[:20]!r}"))
            elif not text.strip():
                skipped.append((line, "no text"))
            else:
                rows.append((text, names[label.strip()], f"{lang}-{line}", line))
        return as_data(rows, ("text", "label", "pair_id", "line"), skipped, subset)

    def score(self, predictions: pd.DataFrame) -> float:
        """Return the mean over the three classes of F1 = 2 P R / (P + R).

        A class that is neither there nor predicted has F1 = 0. A prediction that is no label
        counts as wrong: it lowers the recall of the true class.
        """
        texts = [text.strip().lower() for text in self.labels.values()]
        gold, predicted = (
            predictions[column].str.strip().str.lower() for column in ("label", "prediction")
        )
        scores = []
        for text in texts:
            right = ((gold == text) & (predicted == text)).sum()
            scores.append(2 * right / max(1, (gold == text).sum() + (predicted == text).sum()))
        return float(sum(scores) / len(scores))
