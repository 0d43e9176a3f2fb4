"""The study of Task 3 as a program: finished work is not repeated, killed work goes on."""

import json
import random
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks import languages
from config import FINETUNE_TOY, GPT2Config
from gpt2.model import GPT2Model
from tests import SAMPLE
from tests.killing import kill_until_finished


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    config = GPT2Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.5,
        hidden_dropout_prob=0.0,
    )
    folder = tmp_path_factory.mktemp("tiny")
    GPT2Model(config).save_pretrained(folder)
    return folder


def study(weights, folder):
    """At a rate at which even this model's answers differ from pair to pair."""
    languages.FINETUNE_TOY = replace(FINETUNE_TOY, learning_rate=3e-3)
    languages.main([
        "--weights", str(weights), "--xnli", str(SAMPLE), "--languages", "de",
        "--rows", "120", "--epochs", "2", "--seeds", "0", "1", "--threads", "1",
        "--runs", str(folder / "runs"), "--out", str(folder / "out"),
    ])  # fmt: skip


def tables(folder):
    """Every table that a study wrote, without the seconds that it took."""
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
    began = time.monotonic()
    study(tiny, folder)
    return folder, time.monotonic() - began


def test_a_finished_study_trains_and_evaluates_nothing_again(tiny, whole, monkeypatch):
    folder, _ = whole
    before = tables(folder)
    assert {"results.csv", "differences.csv", "train_by_test.csv"} <= before.keys()
    assert before["transfer.csv"]["accuracy"].nunique() > 5 < before["results.csv"]["std"].nunique()
    monkeypatch.setattr("experiments.finetuning.train", None)
    monkeypatch.setattr("experiments.finetuning.evaluate", None)
    study(tiny, folder)
    same(before, tables(folder))


def test_a_study_says_by_which_command_it_came_and_shows_its_figures(whole):
    folder, _ = whole
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert "--seeds 0 1" in summary["command"] and str(folder) not in json.dumps(summary)
    page = (folder / "out" / "README.md").read_text()
    shown = [line.split("(")[1].rstrip(")") for line in page.splitlines() if line[:2] == "!["]
    assert len(shown) == 5
    for name in shown:
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_study_killed_anywhere_gives_the_same_tables(tiny, whole, tmp_path, kills):
    folder, seconds = whole
    dice = random.Random(kills)
    left = iter([dice.uniform(0.1, 1.2) * seconds / kills for _ in range(kills)])
    assert kill_until_finished(study, (tiny, tmp_path), lambda: next(left, 300)) > 0
    same(tables(folder), tables(tmp_path))
