"""Evaluations: measures against tables computed by hand, and files that lose nothing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.evaluation import Evaluation, length_groups
from gpt2.evaluate import predict
from gpt2.xnli import XNLIDataset
from tests import SAMPLE
from tests.hugging_face import small_model


def table(labels, predictions, probabilities=None, ids=None):
    frame = pd.DataFrame({"label": list(labels), "prediction": list(predictions)})
    frame["pair_id"] = ids if ids is not None else list(map(str, range(len(frame))))
    probabilities = np.full((len(frame), 3), 1 / 3) if probabilities is None else probabilities
    for i in range(3):
        frame[f"p({i})"] = np.asarray(probabilities, dtype=float)[:, i]
    return Evaluation(frame)


def test_measures_of_a_table_computed_by_hand():
    probabilities = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.2], [0.2, 0.1, 0.1], [0.1, 0.5, 0.1]]
    evaluation = table("0120", ["0", "2", "the", "1"], probabilities)
    assert evaluation.accuracy == 0.25
    assert evaluation.share_without_label == 0.25
    assert evaluation.loss == pytest.approx(-np.log([0.8, 0.1, 0.1, 0.1]).mean())
    assert evaluation.confusion().to_numpy().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert evaluation.per_class().loc["entailment", ["precision", "recall"]].tolist() == [1.0, 0.5]


def test_confident_errors_are_sorted_and_of_the_same_pairs():
    evaluation = table("0012", "1022", [[0.1, 0.6, 0.1], [1, 0, 0], [0, 0, 0.9], [0, 0, 1]])
    data = pd.DataFrame({"pair_id": list("0123"), "premise": list("abcd"), "hypo": list("efgh")})
    data["label"] = ["entailment", "entailment", "contradictory", "neutral"]
    errors = evaluation.confident_errors(data)
    assert errors["premise"].tolist() == ["c", "a"]
    assert errors["prediction"].tolist() == ["neutral", "contradictory"]
    assert errors["probability"].tolist() == pytest.approx([1.0, 0.75])
    with pytest.raises(ValueError, match="data holds other pairs than these predictions"):
        evaluation.confident_errors(data.assign(pair_id=list("4123")))


def test_measures_fit_the_predictions_of_a_model(tokenizer):
    dataset = XNLIDataset.in_folder(SAMPLE, "dev", verbose=False)
    model = small_model(vocab_size=50257, max_position_embeddings=128)
    evaluation = Evaluation(predict(model, tokenizer, dataset, progress=False))
    assert evaluation.predictions["pair_id"].tolist() == dataset.data["pair_id"].tolist()
    assert evaluation.confusion().to_numpy().sum() == len(dataset) == 60
    assert evaluation.per_class()["support"].sum() == len(dataset)
    assert 0 <= evaluation.accuracy <= evaluation.interval[1]


texts = st.text(max_size=6)
numbers = st.floats(0, 1)


@given(st.lists(st.tuples(texts, texts, numbers, numbers, numbers), max_size=5))
@example([("1", "\r", 0.1, 0.2, 0.3), ('"', 'a\r\n"b', 5e-324, 1.0, 0.0)])
@example([("", "\x00", 0.1, 0.2, 0.3), ("NA", "\u2028", 0.1, 0.2, 1 / 3), ("007", "\x1a", 0, 1, 1)])
@example([("1e5", "nan", 0.1, 0.2, 0.3), ("\ufeff", ",\n", 0.1, 0.2, 0.3)])
def test_saving_and_loading_changes_no_text_and_no_bit(tmp_path_factory, rows):
    ids, predictions = [row[0] for row in rows], [row[1] for row in rows]
    probabilities = np.array([row[2:] for row in rows], dtype=float).reshape(-1, 3)
    evaluation = table(["0"] * len(rows), predictions, probabilities, ids)
    path = tmp_path_factory.mktemp("evaluation") / "test.en.csv"
    evaluation.save(path)
    loaded = Evaluation.load(path).predictions
    assert list(loaded) == list(evaluation.predictions)
    for name in loaded:
        assert loaded[name].tolist() == evaluation.predictions[name].tolist()


def test_groups_have_their_own_accuracy_and_interval():
    predictions = pd.DataFrame({"label": [*"0120"], "prediction": [*"0110"]})
    table = Evaluation(predictions).by_group(pd.Series(["a", "a", "b", "b"], index=[7, 8, 9, 10]))
    assert table["accuracy"].tolist() == [1.0, 0.5] and table["pairs"].tolist() == [2, 2]
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()


@given(st.lists(st.integers(0, 9), min_size=1))
@example([5] * 8)
def test_groups_by_length_are_ranges_that_do_not_overlap(lengths):
    texts = pd.Series(["x" * length for length in lengths], index=range(7, len(lengths) + 7))
    groups = length_groups(texts)
    ranges = {group: tuple(map(int, group.split(" to "))) for group in set(groups)}
    ends = [end for pair in sorted(ranges.values()) for end in pair]
    assert ends == sorted(ends) and len(ranges) <= 4
    for length, group in zip(lengths, groups, strict=True):
        assert ranges[group][0] <= length <= ranges[group][1]


def test_groups_by_length_are_about_equally_large():
    groups = length_groups(pd.Series(["x" * length for length in range(1, 41)]))
    assert groups.value_counts().to_dict() == {
        **{"1 to 10": 10, "11 to 20": 10, "21 to 30": 10, "31 to 40": 10}
    }
