"""The readers on the real data; set TASKS_DIR to the folder with sentiment/, ner/ and qa/."""

import os
from pathlib import Path

import pytest

from extensions.tasks.baselines import baseline_scores
from extensions.tasks.ner import NERTask, answer_to_spans, text_spans
from extensions.tasks.qa import QATask
from extensions.tasks.sentiment import SentimentTask

REAL = Path(os.environ.get("TASKS_DIR", "no TASKS_DIR"))
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (REAL / "sentiment").is_dir(), reason="set TASKS_DIR"),
]
SPLITS = ("train", "dev", "test")
ROWS = {SentimentTask: (1839, 324, 870), QATask: (584, 202, 404)}


@pytest.mark.parametrize("task", [SentimentTask(), QATask()], ids=lambda t: type(t).__name__)
def test_every_published_row_is_read_and_questions_are_parallel(task):
    for split, count in zip(SPLITS, ROWS[type(task)], strict=True):
        parts = [task.read(REAL, split, lang) for lang in task.languages]
        assert {len(part) for part in parts} == {count}
        assert not any(part.attrs["skipped"] for part in parts)
        assert len({tuple(part["pair_id"]) for part in parts}) == (1 if task.fields[1:] else 8)


@pytest.mark.parametrize("lang", NERTask().languages)
def test_every_sentence_is_read_and_its_answer_reads_back(lang):
    for split in ("train", "test"):
        data = NERTask().read(REAL, split, lang)
        assert len(data) >= 100 and not data.attrs["skipped"]
        for row in data.itertuples():
            assert answer_to_spans(row.label) == text_spans(row.tokens, row.tags, lang)


def test_baselines_have_the_scores_that_the_data_implies():
    assert baseline_scores(SentimentTask(), REAL, "en") == {"majority": pytest.approx(1 / 6)}
    assert 0 < baseline_scores(NERTask(), REAL, "en")["most frequent tag"] < 0.5
    assert all(score < 0.25 for score in baseline_scores(QATask(), REAL, "en").values())
