"""Baselines: what each predicts, and that a task's score applies to it."""

import pytest

from data.download_tasks import NER, QA, SENTIMENT
from extensions.tasks.baselines import (
    BASELINES,
    baseline_scores,
    closest_sentence,
    first_sentence,
    majority,
    most_frequent_tag,
    sentences,
)
from extensions.tasks.ner import NERTask, tag_spans
from extensions.tasks.qa import QATask
from extensions.tasks.sentiment import SentimentTask
from tests import SAMPLE

FOLDER = SAMPLE.parent / "tasks"
LANGUAGES = ("en", "es", "hi")
TASKS = (SentimentTask(), NERTask(), QATask())


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_predictions_are_the_rows_of_test_and_can_be_scored(task, lang):
    test = task.read(FOLDER, "test", lang)
    for baseline in BASELINES[type(task)]:
        predictions = baseline(task, FOLDER, lang)
        assert list(predictions.columns) == ["pair_id", "label", "prediction"]
        assert predictions["pair_id"].tolist() == test["pair_id"].tolist()
        assert 0 <= task.score(predictions) < 1
        assert task.score(predictions.assign(prediction=predictions["label"])) == 1


def test_majority_predicts_the_most_frequent_label_of_train(tmp_path):
    folder = tmp_path / "sentiment" / "en"
    folder.mkdir(parents=True)
    for name, labels in (("train", "2\n1\n2\n"), ("test", "0\n2\n1\n")):
        (folder / f"{name}_text.txt").write_text("a\nb\nc\n")
        (folder / f"{name}_labels.txt").write_text(labels)
    predictions = majority(TASKS[0], tmp_path, "en")
    assert predictions["prediction"].tolist() == ["positive"] * 3
    assert predictions["label"].tolist() == ["negative", "positive", "neutral"]


def test_majority_has_macro_f1_of_one_sixth_on_balanced_classes():
    scores = baseline_scores(TASKS[0], FOLDER, "en")
    assert scores == {"majority": pytest.approx(1 / 6)}


def test_each_token_gets_its_most_frequent_tag(tmp_path):
    (tmp_path / "ner").mkdir()
    train = "Rome\tB-LOC\nsleeps\tO\n\nRome\tB-PER\n\nRome\tB-LOC\nFC\tI-ORG\n\n"
    (tmp_path / "ner/train-en.tsv").write_text(train)
    (tmp_path / "ner/dev-en.tsv").write_text("Rome\tB-LOC\nFC\tO\nOslo\tB-LOC\n")
    predictions = most_frequent_tag(TASKS[1], tmp_path, "en")
    assert predictions["prediction"].tolist() == ["LOC: Rome; ORG: FC"]
    assert TASKS[1].score(predictions) == 0.5


def test_sentences_end_at_the_marks_of_each_script():
    assert sentences("One. Two? Three 3.5!") == ["One.", "Two?", "Three 3.5!"]
    assert sentences("一。二！三") == ["一。", "二！", "三"]
    assert sentences("एक है। दो।") == ["एक है।", "दो।"]


def test_the_closest_sentence_shares_most_words_with_the_question():
    first = first_sentence(TASKS[2], FOLDER, "en")["prediction"]
    closest = closest_sentence(TASKS[2], FOLDER, "en")["prediction"]
    assert first[0] == "The lighthouse on Cape Nerin is 46 metres high."
    assert closest[1] == "The last keeper, Jonas Berg, left the tower in 1988."


# ---- The embedded data --------------------------------------------------------------------------


def test_the_sample_is_small_and_whole_in_three_languages():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 120_000
    counts = {"SentimentTask": [36, 12, 12], "NERTask": [27, 3, 10], "QATask": [12, 4, 8]}
    for task in TASKS:
        for lang in LANGUAGES:
            parts = [task.read(FOLDER, split, lang) for split in ("train", "dev", "test")]
            assert [len(part) for part in parts] == counts[type(task).__name__]
            assert not any(part.attrs["skipped"] for part in parts)
            for field in task.fields[-1:]:
                texts = [text for part in parts for text in part[field]]
                assert len(set(texts)) == len(texts), (lang, field)


def test_the_sample_of_entities_has_no_wrong_transition():
    for lang in LANGUAGES:
        for tags in TASKS[1].read(FOLDER, "train", lang)["tags"]:
            starts = sum(tag.startswith("B-") for tag in tags)
            assert len(tag_spans(tags)) == starts


def test_what_can_be_downloaded_are_the_languages_of_the_tasks():
    assert [sorted(task.languages) for task in TASKS] == [
        sorted(SENTIMENT),
        sorted(NER),
        sorted(QA),
    ]
