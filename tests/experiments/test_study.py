"""Comparisons: the study of settings, and of ways to decode."""

from dataclasses import replace

import pytest
import torch

from config import FINETUNE_ENGLISH, GPT2Config
from experiments.finetuning import finetune
from experiments.study import decoding_table, run_study, study_table
from gpt2.model import GPT2Model
from tests import SAMPLE
from tests.small import save_small_gpt2


@pytest.fixture
def arguments(tmp_path):
    return {
        "weights": save_small_gpt2(tmp_path / "tiny"),
        "data": SAMPLE,
        "runs": tmp_path / "runs",
        "progress": False,
    }


def test_a_study_trains_each_variant_once(arguments, monkeypatch):
    variants = [
        replace(FINETUNE_ENGLISH, subset=40.0, learning_rate=lr, batch_size=b)
        for lr in (1e-3, 1e-2)
        for b in (4, 8)
    ]
    finetune(variants[2], **arguments)
    runs = run_study(variants, **arguments)
    table = study_table(runs)
    assert len(table) == 4 and {"learning_rate", "batch_size"} <= set(table.columns)
    assert "seed" not in table.columns
    assert table["dev accuracy"].is_monotonic_decreasing
    assert (
        (table["low"] <= table["dev accuracy"]) & (table["dev accuracy"] <= table["high"])
    ).all()
    assert len({run.path for run in runs}) == 4
    monkeypatch.setattr("experiments.finetuning.train", None)
    assert study_table(run_study(variants, **arguments)).equals(table)


def test_a_study_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no settings to study"):
        run_study([])


def test_a_decoding_table_scores_each_text_under_the_model(tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = GPT2Model(config)
    strategies = {
        "greedy": {},
        "beam": {"num_beams": 4},
        "sampling": {"do_sample": True, "generator": torch.Generator().manual_seed(0)},
    }
    table = decoding_table(model, tokenizer, "The cat", strategies, max_gen_length=8)
    assert list(table.index) == list(strategies) and model.training
    nats = table["nats per token"]
    assert nats["beam"] <= nats["greedy"] < nats["sampling"]
    assert (table["distinct tokens"] > 0).all() and (table["distinct tokens"] <= 1).all()
    ids = tokenizer("The cat" + table["text"]["greedy"], return_tensors="pt")["input_ids"]
    logits = model.eval().hidden_state_to_token(model(ids)["last_hidden_state"])[0, :-1]
    by_hand = torch.nn.functional.cross_entropy(logits[-8:], ids[0, -8:])
    assert nats["greedy"] == pytest.approx(by_hand.item(), rel=1e-4)
