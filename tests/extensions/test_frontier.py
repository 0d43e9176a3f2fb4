"""The comparison of methods: rates chosen on dev, a result for every run, one row a method."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from config import FINETUNE_ENGLISH, GPT2Config
from extensions import bitfit, costs, lora
from extensions.frontier import Frontier
from extensions.methods import FULL, METHODS, Method
from extensions.plots import plot_frontier
from gpt2.model import GPT2Model
from gpt2.text import TextDataset, text_loader
from tests import ROOT, SAMPLE

QUICK = replace(FINETUNE_ENGLISH, subset=24.0, epochs=1, learning_rate=2e-3)
FEW = {
    FULL: Method(None, (0.1, 1)),
    "LoRA": Method(partial(lora.attach, rank=2), (1, 5)),
    "BitFit": Method(bitfit.attach, (1,)),
}


@pytest.fixture(scope="module")
def frontier(tmp_path_factory, tokenizer):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("frontier")
    config = GPT2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=128
    )
    GPT2Model(config).save_pretrained(folder / "weights")
    _, text = TextDataset(ROOT / "pretrain.txt", tokenizer, 32).split(0.01)
    where = {"weights": folder / "weights", "data": SAMPLE, "runs": folder / "runs"}
    return Frontier(QUICK, **where, text=text_loader(text, 8), methods=FEW, seeds=(0, 1))


def test_the_rate_is_the_best_on_dev(frontier, capsys):
    for method, rates in ((FULL, (0.1, 1)), ("LoRA", (1, 5))):
        dev = {rate: frontier.run(method, rate, 0).result["dev_accuracy"] for rate in rates}
        assert dev[frontier.rate(method)] == max(dev.values())
    assert "LoRA: dev accuracy by learning rate: 2.0e-03" in capsys.readouterr().out


def test_every_run_is_measured_and_every_method_has_a_row(frontier):
    runs = {(result["method"], result["seed"]): result for result in frontier.results}
    assert set(runs) == {(method, seed) for method in FEW for seed in (0, 1)}
    table = frontier.table()
    assert table.index.tolist() == list(FEW) and table.loc[FULL, "p"] == 1
    for method in FEW:
        accuracies = [runs[method, seed]["accuracy"]["en"] for seed in (0, 1)]
        assert table.loc[method, "accuracy"] == pytest.approx(sum(accuracies) / 2)
    full, low_rank = runs[FULL, 0], runs["LoRA", 0]
    for cost in ("trained", "bytes_on_disk", "training_bytes"):
        assert low_rank[cost] < full[cost]
    assert full["trained"] == costs.trainable(frontier.run(FULL, 1, 0).model())
    assert len(plot_frontier(table).axes[0].texts) == 3


def test_a_comparison_needs_full_finetuning(tmp_path):
    where = {"weights": tmp_path, "data": SAMPLE, "text": None}
    with pytest.raises(ValueError, match="methods must have 'full'"):
        Frontier(QUICK, **where, methods={"LoRA": FEW["LoRA"]})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prepares_a_model_and_has_rates_to_choose_from(method, tiny_model):
    assert len(METHODS[method].rates) >= 3
    before = costs.trainable(tiny_model)
    if METHODS[method].prepare is not None:
        METHODS[method].prepare(tiny_model)
        assert 0 < costs.trainable(tiny_model) < before
