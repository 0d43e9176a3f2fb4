"""The study of tasks: every setting is tested on the same rows, by the task's own score."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from config import FINETUNE_MINIATURE
from experiments.statistics import bootstrap_interval
from extensions.plots import plot_tasks
from extensions.tasks.ner import NERTask
from extensions.tasks.qa import QATask
from extensions.tasks.sentiment import SentimentTask
from extensions.tasks.study import (
    ALL,
    ENGLISH,
    SETTINGS,
    SINGLE,
    TaskStudy,
    relation_table,
    score_table,
)
from tests import ROOT
from tests.small import save_small_gpt2

DATA = ROOT / "data" / "tasks"
RECIPE = replace(FINETUNE_MINIATURE, subset=8.0, epochs=1, max_length=200)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    weights = save_small_gpt2(folder / "gpt", max_position_embeddings=256)
    return {"weights": weights, "data": DATA, "runs": folder / "runs"}


@pytest.mark.all
@pytest.mark.parametrize("task", [SentimentTask(), NERTask(max_answer=16), QATask(max_answer=16)])
def test_all_settings_of_a_task_have_the_same_rows_and_its_score(task, where, monkeypatch):
    few = partial(bootstrap_interval, count=30)
    monkeypatch.setattr("experiments.evaluation.bootstrap_interval", few)
    study = TaskStudy("t", task, RECIPE, **where, languages=["en", "es"], most=4)
    table = study.table()
    assert set(table["n"]) == {4} and not table.isna().any().any()
    expected = {*study.baselines(), *SETTINGS}
    assert set(table["setting"]) == expected and len(table) == 2 * len(expected)
    assert (table["low"] <= table["score"] + 1e-9).all()
    assert (table["score"] <= table["high"] + 1e-9).all()
    rows = table.set_index(["setting", "language"])
    assert rows.loc[(ENGLISH, "en"), "score"] == rows.loc[(SINGLE, "en"), "score"]  # one run
    assert study.run(study.languages).settings.languages == ("en", "es")
    run = study.run(("en",))
    evaluation = run.evaluate(run.model(), study.rows("test", "es"), progress=False)
    assert rows.loc[(ENGLISH, "es"), "score"] == evaluation.score
    assert len(score_table(table)) == 2 and score_table(table).loc[("t", "es"), ALL].endswith("]")


def test_the_whole_test_set_is_the_runs_saved_predictions(where):
    study = TaskStudy("s", SentimentTask(), RECIPE, **where, languages=["en"])
    (evaluation,) = study.evaluations(ENGLISH).values()
    saved = study.run(("en",)).evaluation("test", "en")
    pd.testing.assert_frame_equal(evaluation.predictions, saved.predictions)
    assert evaluation.score == saved.score == study.task.score(saved.predictions)


def test_a_language_that_the_task_lacks_is_an_error(where):
    with pytest.raises(ValueError, match="s has no th, only en, ar, de"):
        TaskStudy("s", SentimentTask(), RECIPE, **where, languages=["en", "th"])


def test_the_relation_is_over_all_and_over_the_shared_languages():
    def rows(task, languages, scores):
        table = pd.DataFrame({"task": task, "language": languages, "setting": ENGLISH})
        values = {"score": scores, "low": scores, "high": scores, "fertility": np.arange(4) + 1.0}
        return table.assign(**values)

    scores = pd.concat(
        [
            rows("a", ["en", "de", "hi", "th"], [0.9, 0.7, 0.5, 0.4]),
            rows("b", ["en", "de", "hi", "it"], [0.8, 0.4, 0.6, 0.3]),
        ]
    )
    premiums = pd.Series({"en": 1.0, "de": 2.0, "hi": 4.0, "th": 8.0, "it": 1.8})
    table = relation_table(scores, premiums)
    assert table.loc[("a", "all", "premium"), "rho"] == pytest.approx(-1)
    assert table.loc[("a", "all", "premium"), "languages"] == 3
    assert table.loc[("b", "all", "premium"), "rho"] == pytest.approx(1)
    assert table.loc[("b", "shared", "premium"), "languages"] == 2
    baseline = scores[scores["task"] == "a"].assign(setting="majority")
    both = pd.concat([baseline, scores], ignore_index=True)
    axes = plot_tasks(both, premiums).axes
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    legend = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert legend == ["majority", ENGLISH]  # of every panel
