"""Extractive question answering: the answer is a passage of the context, generated.

Artetxe et al. 2020, "On the Cross-lingual Transferability of Monolingual Representations" (ACL):
XQuAD, 240 paragraphs and 1,190 questions of SQuAD 1.1, the same in 11 languages. The usual model
points at the first and the last token; a language model writes the answer.

    Context: ... The river Vey rises near Tarn and flows into ...      F1 of words, for each gold
    Question: Where does the Vey rise?                                 answer; the best one counts
    Answer: near Tarn                 gold: Tarn                       P 1/2  R 1  F1 2/3

Exact match and F1 are those of SQuAD's script (Rajpurkar et al. 2016), with its English
normalization in all languages, as in the paper. `by_character` is MLQA's way with Chinese (Lewis
et al. 2020): each Chinese character is a word, and punctuation of all scripts is left out.
"""

import json
import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from extensions.tasks import as_data, check_split, read_file
from extensions.tasks.free import FreeTask

LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh")
SPLIT_OF_ARTICLE = ("train", "train", "train", "dev", "test", "test")  # of each six in a row
WORD = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+")


@dataclass(frozen=True)
class QATask(FreeTask):
    """Questions about a paragraph; `by_character` counts Chinese characters as words."""

    prompt: str = "Context: {context}\nQuestion: {question}\nAnswer:"
    languages: tuple[str, ...] = LANGUAGES
    max_answer: int = 96
    by_character: bool = False

    measure = "F1"

    def read(self, folder, split: str, lang: str, subset: float = 1.0) -> pd.DataFrame:
        """Return the usable questions: context, question, label, pair_id (SQuAD's id) and line.

        XQuAD has one part. Of each six articles the first three are our train, the fourth is dev
        and the last two are test, the same in every language: 584, 202 and 404 questions.

        `label` has all gold answers, a line each, of which a model trains on the first alone.
        `line` is the number of the question in the file. Questions without a text, or without an
        answer that is in the context, are in `.attrs["skipped"]`.
        """
        check_split(split)
        rows, skipped = [], []
        for line, item in enumerate(read_questions(folder, lang), start=1):
            article, context, question, answers, pair_id = item
            if SPLIT_OF_ARTICLE[article % len(SPLIT_OF_ARTICLE)] != split:
                continue
            golds = [text for text in dict.fromkeys(answers) if text and text in context]
            if not question or not golds:
                reason = "no answer in the context" if question else "no question"
                skipped.append((line, reason))
            else:
                label = golds[0] if split == "train" else "\n".join(golds)
                rows.append((context, question, label, pair_id, line))
        columns = ("context", "question", "label", "pair_id", "line")
        return as_data(rows, columns, skipped, subset)

    def score(self, predictions: pd.DataFrame) -> float:
        """Return the mean F1 of `prediction` against the gold answers in `label`, a line each."""
        return self._mean(f1, predictions)

    def exact_match(self, predictions: pd.DataFrame) -> float:
        """Return the share of predictions that equal a gold answer, both normalized."""
        return self._mean(exact_match, predictions)

    def _mean(self, measure, predictions: pd.DataFrame) -> float:
        """Return the mean over the questions of the best value over their gold answers."""
        values = [
            max(measure(prediction, gold, self.by_character) for gold in label.split("\n"))
            for prediction, label in zip(
                predictions["prediction"], predictions["label"], strict=True
            )
        ]
        return sum(values) / len(values)


def read_questions(folder, lang: str) -> list[tuple[int, str, str, list[str], str]]:
    """Return a file's questions: number of the article, context, question, answers and id."""
    path, lines = read_file(folder, "qa/xquad.{lang}.json", lang)
    try:
        return [
            (
                number,
                one_line(paragraph["context"]),
                one_line(item["question"]),
                [one_line(answer["text"]) for answer in item["answers"]],
                item["id"],
            )
            for number, article in enumerate(json.loads("\n".join(lines))["data"])
            for paragraph in article["paragraphs"]
            for item in paragraph["qas"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no SQuAD JSON ({error!r}); download it again") from error


def one_line(text: str) -> str:
    """Return a text with single spaces for its white space, since an answer ends with its line."""
    return " ".join(text.split())


def normalize(text: str, by_character: bool = False) -> list[str]:
    """Return the words that count: lower case, without punctuation and without a, an, the."""
    characters = (
        character
        for character in text.lower()
        if character not in string.punctuation
        and not (by_character and unicodedata.category(character).startswith("P"))
    )
    text = re.sub(r"\b(a|an|the)\b", " ", "".join(characters))
    return WORD.findall(text) if by_character else text.split()


def exact_match(prediction: str, gold: str, by_character: bool = False) -> float:
    """Return 1 where both have the same words in the same order, else 0."""
    return float(normalize(prediction, by_character) == normalize(gold, by_character))


def f1(prediction: str, gold: str, by_character: bool = False) -> float:
    """Return F1 of the words that a prediction has in common with a gold answer."""
    words, gold_words = normalize(prediction, by_character), normalize(gold, by_character)
    common = (Counter(words) & Counter(gold_words)).total()
    return 2 * common / (len(words) + len(gold_words)) if common else 0.0
