"""The hypothesis-only baseline finds what gives labels away, and nothing where nothing does."""

import random

import pytest

from experiments.baseline import hypothesis_only
from gpt2.xnli import XNLIDataset
from tests import SAMPLE

LABELS = ("entailment", "neutral", "contradictory")


def dataset(folder, split, rows):
    path = folder / "XNLI-MT-1.0" / "multinli" / f"multinli.{split}.en.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["premise\thypo\tlabel", *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return XNLIDataset("train", "en", train_path_template=str(path))


def rows(count, seed, telling):
    dice = random.Random(seed)
    for i in range(count):
        label = dice.choice(LABELS)
        word = {"entailment": "some", "neutral": "most", "contradictory": "no"}[label]
        words = [dice.choice(["cats", "dogs", "birds"]) for _ in range(4)]
        yield f"A premise {i}.", " ".join([word if telling else "all", *words]), label


def test_a_word_that_tells_the_label_is_found(tmp_path):
    train = dataset(tmp_path, "train", rows(300, 0, telling=True))
    test = dataset(tmp_path, "test", rows(100, 1, telling=True))
    assert hypothesis_only(train, test).accuracy == 1.0


def test_hypotheses_that_tell_nothing_leave_chance(tmp_path):
    train = dataset(tmp_path, "train", rows(600, 0, telling=False))
    test = dataset(tmp_path, "test", rows(600, 1, telling=False))
    low, high = hypothesis_only(train, test).interval
    assert low < 0.37 and high > 0.3


def test_probabilities_are_a_distribution():
    train, test = (XNLIDataset.in_folder(SAMPLE, split) for split in ("train", "test"))
    evaluation = hypothesis_only(train, test)
    columns = evaluation.predictions[["p(0)", "p(1)", "p(2)"]]
    assert columns.sum(axis=1).tolist() == pytest.approx([1.0] * 120)
    assert evaluation.share_without_label == 0 and 0.2 < evaluation.accuracy < 0.7


def test_of_one_label_alone_it_says_that_label(tmp_path):
    train = dataset(tmp_path, "train", [("p", "some cats", "neutral"), ("q", "dogs", "neutral")])
    test = dataset(tmp_path, "test", rows(30, 1, telling=True))
    found = hypothesis_only(train, test).predictions
    assert set(found["prediction"]) == {"2"} and (found["p(2)"] == 1).all()
