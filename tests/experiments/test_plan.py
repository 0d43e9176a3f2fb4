"""What a notebook's fine-tuning will take: rows, hours, disk."""

import re
from dataclasses import replace

import pytest

from config import GPT2Config
from experiments.plan import PROBE, SHARE, plan, product_speed
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
    tokens = rows.lengths_with_answer.mean() * 600 * profile.recipe.epochs * 3
    hours = 6 * tokens * (12 * 2 * 16**2) / (SHARE * 1000) / 3600
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


def test_the_speed_is_of_this_machine():
    assert 1e8 < product_speed("float32") < 1e16
