"""What needs no model: the scores that a model must beat, on each task.

    sentiment   majority class                     the most frequent label of train
    NER         most frequent tag                  each token gets its most frequent tag of train
    QA          first sentence                     of the context
                closest sentence                   with the most words of the question

Each baseline is called with a task, its folder and a language, and returns the predictions for
test: pair_id, label and prediction (texts), so that `task.score` applies.
"""

import re
from collections import Counter, defaultdict

import pandas as pd

from extensions.tasks import FileTask
from extensions.tasks.ner import NERTask, spans_to_answer, text_spans
from extensions.tasks.qa import QATask, normalize
from extensions.tasks.sentiment import SentimentTask

SENTENCE_END = re.compile(r"(?<=[.!?؟।])\s+|(?<=[。！？])\s*")


def majority(task: SentimentTask, folder, lang: str) -> pd.DataFrame:
    """Predict the most frequent label of train; of equally frequent ones the task's first."""
    counts = Counter(task.read(folder, "train", lang)["label"])
    label = max(task.labels, key=counts.__getitem__)
    test = task.read(folder, "test", lang)
    texts = [task.labels[name].strip() for name in test["label"]]
    return _predictions(test.assign(label=texts), [task.labels[label].strip()] * len(test))


def most_frequent_tag(task: NERTask, folder, lang: str) -> pd.DataFrame:
    """Predict for each token its most frequent tag in train, O for a token that is not there."""
    train, test = task.read(folder, "train", lang), task.read(folder, "test", lang)
    counts: dict[str, Counter] = defaultdict(Counter)
    for tokens, tags in zip(train["tokens"], train["tags"], strict=True):
        for token, tag in zip(tokens, tags, strict=True):
            counts[token][tag] += 1
    best = {token: tags.most_common(1)[0][0] for token, tags in counts.items()}
    answers = [
        spans_to_answer(text_spans(tokens, [best.get(token, "O") for token in tokens], lang))
        for tokens in test["tokens"]
    ]
    return _predictions(test, answers)


def first_sentence(task: QATask, folder, lang: str) -> pd.DataFrame:
    """Predict the first sentence of the context."""
    test = task.read(folder, "test", lang)
    return _predictions(test, [sentences(context)[0] for context in test["context"]])


def closest_sentence(task: QATask, folder, lang: str) -> pd.DataFrame:
    """Predict the sentence of the context with the most words of the question, the first of them.

    A Chinese character is a word here.
    """
    test = task.read(folder, "test", lang)
    answers = []
    for context, question in zip(test["context"], test["question"], strict=True):
        words = set(normalize(question, by_character=True))
        answers.append(max(sentences(context), key=lambda s: len(words & set(normalize(s, True)))))
    return _predictions(test, answers)


BASELINES = {
    SentimentTask: (majority,),
    NERTask: (most_frequent_tag,),
    QATask: (first_sentence, closest_sentence),
}


def baseline_scores(task: FileTask, folder, lang: str) -> dict[str, float]:
    """Return the score of each baseline of a task on the test rows of a language, by name."""
    return {
        baseline.__name__.replace("_", " "): task.score(baseline(task, folder, lang))
        for baseline in BASELINES[type(task)]
    }


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, by their final marks; Thai, which has none, is one."""
    return [sentence for sentence in SENTENCE_END.split(text) if sentence]


def _predictions(test: pd.DataFrame, answers: list[str]) -> pd.DataFrame:
    return test[["pair_id", "label"]].assign(prediction=answers)
