"""The language study: finished work is not repeated, and killed work resumes."""

import time
from dataclasses import replace
from random import Random

import pandas as pd
import pytest
import torch

from config import FINETUNE_FAST, FINETUNE_TOY
from experiments.finetuning import finetune
from experiments.languages import LanguageStudy
from tests import SAMPLE, few_pairs
from tests.processes import kill_until_finished
from tests.small import save_small_gpt2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    shape = {"hidden_size": 32, "initializer_range": 0.5, "hidden_dropout_prob": 0.0}
    folder = save_small_gpt2(tmp_path_factory.mktemp("tiny"), **shape)
    few_pairs(folder / "data")
    return folder


def study(weights, folder):
    """Run a study at a rate at which even this model's predictions differ from pair to pair."""
    torch.set_num_threads(1)
    settings = replace(FINETUNE_TOY, learning_rate=6e-3, subset=48.0, epochs=1)
    where = {"weights": weights, "data": weights / "data", "runs": folder / "runs"}
    LanguageStudy(settings, languages=["de"], seeds=(0, 1), **where).save(
        folder / "out", command="the command"
    )


def tables(folder):
    """Read every table that a study wrote, without the seconds that it took."""
    read = {path.name: pd.read_csv(path) for path in sorted((folder / "out").glob("*.csv"))}
    return {name: table.drop(columns="seconds", errors="ignore") for name, table in read.items()}


def same(some, others):
    assert some.keys() == others.keys()
    for name in some:
        pd.testing.assert_frame_equal(some[name], others[name])


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A study that nothing disturbed, and how long it took."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    study(tiny, folder)
    return folder, time.monotonic() - started


@pytest.mark.all
def test_a_finished_study_trains_and_evaluates_nothing_again(tiny, whole, monkeypatch):
    folder, _ = whole
    before = tables(folder)
    assert {"results.csv", "differences.csv", "train_by_test.csv"} <= before.keys()
    assert before["transfer.csv"]["accuracy"].nunique() > 5
    assert before["results.csv"]["std"].nunique() > 3
    monkeypatch.setattr("experiments.finetuning.train", None)
    monkeypatch.setattr("gpt2.tasks.predict", None)
    study(tiny, folder)
    same(before, tables(folder))


@pytest.mark.all
def test_the_page_shows_command_and_figures(whole):
    folder, _ = whole
    page = (folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "`the command`" in page and str(folder) not in page
    assert f"torch {torch.__version__}" in page
    shown = [line.split("(")[1].rstrip(")") for line in page.splitlines() if line[:2] == "!["]
    assert len(shown) == 5
    for name in shown:
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def lazy(tiny, tmp_path):
    """Make a study that trains only when it has to."""

    def make(settings=FINETUNE_TOY, **changes):
        where = {"weights": tiny, "data": SAMPLE, "runs": tmp_path}
        return LanguageStudy(replace(settings, subset=30.0, epochs=1), **where, **changes)

    return make


def transfer(accuracies, premiums):
    frame = {"accuracy": accuracies, "p corrected": [0.5] * 4, "premium": premiums}
    return pd.DataFrame(frame, index=["en", "fr", "th", "de"])


def test_languages_are_the_given_the_rules_or_the_cheapest(lazy):
    study = lazy(languages=["en", "sw", "en", "sw"])
    assert study.languages == ["sw"]
    study = lazy()
    study.transfer = transfer([0.6, 0.5, 0.4, 0.3], [1.0, 1.8, 8.0, 1.9])
    assert study.by_rule == [] and study.languages == ["fr", "de"]
    study = lazy()
    study.transfer = transfer([0.6, 0.5, 0.4, 0.3], [1.0, 1.8, 8.0, 1.9])
    study.transfer["p corrected"] = [0.0, 0.9, 0.0, 0.01]
    assert study.by_rule == study.languages == ["de"]


def test_the_english_run_is_that_of_task_2(lazy, tiny, tmp_path):
    study = lazy()
    run = finetune(
        study.settings, weights=tiny, data=SAMPLE, runs=tmp_path, name="english", progress=False
    )
    assert study.english.path == run.path


def test_the_budget_run_sees_as_many_examples_as_one_language(lazy):
    runs = lazy(FINETUNE_FAST, languages=["de"]).runs[0]
    assert set(runs) == {"en", "de", "all", "all-budget"}
    examples = {name: run.result["examples"] for name, run in runs.items()}
    assert examples == {"en": 30, "de": 30, "all": 60, "all-budget": 30}


def test_a_study_without_seeds_is_refused(lazy):
    with pytest.raises(ValueError, match="no seeds"):
        lazy(seeds=())
    with pytest.raises(ValueError, match=r"seeds must differ .*, got \(0, 0\)"):
        lazy(seeds=(0, 0))


@pytest.mark.all
@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_study_killed_anywhere_gives_the_same_tables(tiny, whole, tmp_path, kills):
    folder, seconds = whole
    random = Random(kills)
    left = iter([random.uniform(0.1, 1.2) * seconds / kills for _ in range(kills)])
    assert kill_until_finished(study, (tiny, tmp_path), lambda: next(left, None)) > 0
    same(tables(folder), tables(tmp_path))
