"""Sentiment: what is read, what is skipped and said, and macro-F1."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from extensions.tasks.sentiment import SentimentTask

TASK = SentimentTask()
NAMES = ("negative", "neutral", "positive")
predicted = st.sampled_from((*NAMES, "no label"))
ROWS = st.lists(st.tuples(st.sampled_from(NAMES), predicted), min_size=1)


def table(rows):
    return pd.DataFrame(rows, columns=["label", "prediction"])


@pytest.fixture
def write(tmp_path):
    def write(texts, labels, name="train"):
        folder = tmp_path / "sentiment" / "en"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}_text.txt").write_bytes(texts.encode())
        (folder / f"{name}_labels.txt").write_bytes(labels.encode())
        return tmp_path

    return write


# ---- Score -------------------------------------------------------------------------------------


@given(ROWS)
def test_the_score_is_that_of_scikit_learn(rows):
    labels, guesses = zip(*rows, strict=True)
    settings = {"labels": NAMES, "average": "macro", "zero_division": 0}
    assert TASK.score(table(rows)) == pytest.approx(f1_score(labels, guesses, **settings))


@given(ROWS)
def test_case_and_white_space_of_a_prediction_do_not_matter(rows):
    spaced = [(label, f" {guess.upper()}\n") for label, guess in rows]
    assert TASK.score(table(spaced)) == TASK.score(table(rows))


def test_right_predictions_score_1_and_no_label_scores_0():
    assert TASK.score(table([(name, name) for name in NAMES])) == 1
    assert TASK.score(table([(name, "good") for name in NAMES])) == 0


def test_one_class_of_three_equal_ones_scores_one_sixth():
    assert TASK.score(table([(name, "neutral") for name in NAMES])) == pytest.approx(1 / 6)


def test_other_label_words_are_scored_as_themselves():
    words = {"negative": " bad", "neutral": " so-so", "positive": " good"}
    task = replace(TASK, labels=words)
    assert task.score(table([("bad", "bad"), ("so-so", "so-so"), ("good", "Good")])) == 1


# ---- Reading -----------------------------------------------------------------------------------


def test_rows_have_text_label_and_an_id_of_their_own(write):
    folder = write('one "quote\ntwo\x0b2\nthree\n', "0\n1\n2\n")
    data = TASK.read(folder, "train", "en")
    assert data["text"].tolist() == ['one "quote', "two\x0b2", "three"]
    assert data["label"].tolist() == list(NAMES)
    assert data["pair_id"].tolist() == ["en-1", "en-2", "en-3"]  # tweets are not translations
    assert data["line"].tolist() == [1, 2, 3] and data.attrs["skipped"] == []


def test_a_missing_last_line_feed_and_crlf_change_nothing(write):
    expected = TASK.read(write("a\nb\n", "0\n2\n"), "train", "en")
    for texts, labels in (("a\nb", "0\n2"), ("a\r\nb\r\n", "0\r\n2\r\n"), ("\ufeffa\nb", "0\n2\n")):
        assert TASK.read(write(texts, labels), "train", "en").equals(expected)


def test_unusable_rows_are_skipped_with_line_and_reason(write):
    data = TASK.read(write("a\n \nc\nd\n", "0\n1\n7\n2\n"), "train", "en")
    assert data["line"].tolist() == [1, 4]
    assert data.attrs["skipped"] == [(2, "no text"), (3, "label '7'")]


@pytest.mark.parametrize(("subset", "count"), [(1.0, 4), (0.5, 2), (0.01, 1), (3, 3), (9, 4)])
def test_a_subset_is_a_share_or_a_number_of_the_first_rows(subset, count, write):
    data = TASK.read(write("a\nb\nc\nd\n", "0\n1\n2\n0\n"), "train", "en", subset)
    assert data["line"].tolist() == list(range(1, count + 1))


@pytest.mark.parametrize("subset", [0, -1, 1.5])
def test_a_wrong_subset_is_refused(subset, write):
    with pytest.raises(ValueError, match="subset must be a share"):
        TASK.read(write("a\n", "0\n"), "train", "en", subset)


def test_our_dev_is_their_val(write):
    assert len(TASK.read(write("a\nb\n", "0\n1\n", name="val"), "dev", "en")) == 2


def test_unequal_files_and_missing_ones_are_clear_errors(write, tmp_path):
    folder = write("a\nb\n", "0\n")
    with pytest.raises(ValueError, match=r"train_labels\.txt: 1 labels for 2 texts in train_text"):
        TASK.read(folder, "train", "en")
    with pytest.raises(FileNotFoundError, match=r"no such file; there is en$"):
        TASK.read(folder, "train", "fr")
    with pytest.raises(FileNotFoundError, match=r"data/tasks/README\.md says how to get it"):
        TASK.read(folder / "elsewhere", "train", "en")
    with pytest.raises(ValueError, match="split must be train, dev or test, got 'val'"):
        TASK.read(folder, "val", "en")


def test_broken_utf8_names_file_and_line(write, tmp_path):
    folder = write("a\nb\n", "0\n1\n")
    (tmp_path / "sentiment/en/train_text.txt").write_bytes(b"a\n\xe9\n")
    with pytest.raises(ValueError, match=r"train_text\.txt, line 2: not UTF-8 \(byte 0xe9\)"):
        TASK.read(folder, "train", "en")
