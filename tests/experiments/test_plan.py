"""What a training will take: rows, hours, disk, money."""

import gzip
import re
import shutil
from dataclasses import replace

import pytest

from config import PRETRAIN_GPT2, GPT2Config
from experiments.plan import LONG_SHARE, PROBE, SHARE, plan, pretraining_plan, product_speed
from experiments.profiles import SAMPLE as SAMPLE_PROFILE
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset
from tests import SAMPLE


@pytest.fixture
def profile(tmp_path):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    GPT2Model(GPT2Config(**shape)).save_pretrained(tmp_path)
    return replace(SAMPLE_PROFILE, weights=str(tmp_path), data=str(SAMPLE), train_rows=None)


def test_hours_are_operations_over_the_speed(profile, monkeypatch):
    monkeypatch.setattr("experiments.plan.product_speed", lambda precision: 1000.0)
    rows = XNLIDataset.in_folder(SAMPLE, subset=float(PROBE), verbose=False)
    lengths = rows.lengths_with_answer.astype(float)
    blocks, attention = 6 * 12 * 2 * 16**2 * lengths, 6 * 2 * 16 * lengths**2
    answer = 6 * 16 * 50257  # one label a row
    flop = (blocks + attention + answer).mean() * 600 * profile.recipe.epochs * 3
    hours = flop / (SHARE * 1000) / 3600
    said = plan(profile, runs=3)
    assert (
        f"600 rows, {profile.recipe.epochs} epochs, about 3 runs: about {hours:.1f} hours" in said
    )
    gigabytes = 4 * (12 * 2 * 16**2 + (50257 + 1024) * 16) * 9 / 1e9
    assert f"{gigabytes:.1f} GB" in said and "\n" not in said


@pytest.mark.parametrize(("train_rows", "rows"), [(None, 600), (50, 50), (9999, 600)])
def test_rows_are_those_that_there_are(train_rows, rows, profile):
    assert f": {rows} rows," in plan(replace(profile, train_rows=train_rows), runs=1)


def test_the_toy_model_has_its_own_shape():
    said = plan(replace(SAMPLE_PROFILE, weights="toy", data=str(SAMPLE)), runs=2)
    assert re.search(r"600 rows, 4 epochs, about 2 runs: (minutes|about .* hours)", said)


def test_pretraining_has_steps_tokens_hours_and_a_price(monkeypatch):
    monkeypatch.setattr("experiments.plan.product_speed", lambda precision: 1e15)
    said = pretraining_plan(PRETRAIN_GPT2, rows=10**7, price=2.0)
    a_token = 6 * (12 * 12 * 768**2 + 768 * 50257) + 6 * 12 * 768 * 1024
    hours = a_token * 1024 * 10**7 / (LONG_SHARE * 1e15) / 3600
    assert "124 M weights, 10,240.0 M tokens, 19,531 steps of 524,288 tokens" in said
    assert f"about {hours:.1f} hours on this" in said and f"{2 * hours:.2f} at 2 an hour" in said
    monkeypatch.setenv("WORLD_SIZE", "8")
    said = pretraining_plan(PRETRAIN_GPT2, rows=10**7, price=2.0)
    assert f"about {hours / 8:.1f} hours on 8 ×" in said and f"{2 * hours:.2f} at 2" in said


def test_the_speed_is_of_this_machine():
    assert 1e8 < product_speed("float32") < 1e16


def test_rows_of_a_compressed_file_are_counted_too(profile, tmp_path):
    folder = shutil.copytree(SAMPLE, tmp_path / "data")
    (path,) = folder.glob("**/multinli.train.en.tsv")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert plan(replace(profile, data=str(folder)), runs=1).startswith("fine-tuning: 600 rows")
