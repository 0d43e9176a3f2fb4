"""Pruned weights: how many, which, and that they stay pruned."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from config import GPT2Config
from extensions.pruning import keep_zeros, magnitude, sparsity_of, wanda
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.model import GPT2Model
from gpt2.train import train
from optim.adamw import AdamW
from tests.conftest import TINY

METHODS = (magnitude, lambda model, sparsity: wanda(model, sparsity, texts()))


def texts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 100, (25,), generator=generator) for _ in range(6)]


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if type(module) is nn.Linear]


@given(st.floats(0, 0.99))
def test_wanda_prunes_exactly_the_sparsity_of_every_row(sparsity):
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**TINY))
    wanda(model, sparsity, texts()[:1])
    for linear in linears(model):
        zeros = (linear.weight == 0).sum(dim=1)
        assert (zeros == int(sparsity * linear.in_features)).all()


@given(st.floats(0, 0.99))
def test_magnitude_prunes_the_smallest_of_a_matrix(sparsity):
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**TINY))
    before = copy.deepcopy(model)
    magnitude(model, sparsity)
    for linear, full in zip(linears(model), linears(before), strict=True):
        pruned = linear.weight == 0
        assert pruned.sum() == int(sparsity * pruned.numel())
        assert torch.equal(linear.weight[~pruned], full.weight[~pruned])
        if pruned.any():
            assert full.weight[pruned].abs().max() <= full.weight[~pruned].abs().min()


def test_wanda_scores_weights_by_their_inputs(tiny_model):
    """With the first block's own inputs, computed plainly."""
    before = copy.deepcopy(tiny_model)
    wanda(tiny_model, 0.5, texts())
    layer, full = (m.gpt_layers[0] for m in (tiny_model, before))
    x = torch.cat([full.attention_layer_norm(before.embed(ids[None]))[0] for ids in texts()])
    score = full.self_attention.query.weight.abs() * x.norm(dim=0)
    pruned = layer.self_attention.query.weight == 0
    for row, gone in zip(score, pruned, strict=True):
        assert row[gone].max() <= row[~gone].min()


def test_wanda_loses_less_where_inputs_differ_in_size():
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**TINY)).eval()
    for layer in model.gpt_layers:  # inputs of very different size
        for norm in (layer.attention_layer_norm, layer.out_layer_norm):
            norm.weight.data = torch.logspace(-1, 1, len(norm.weight))
    ids, errors = torch.stack(texts()), []
    exact = model(ids)["last_hidden_state"]
    for method in METHODS:
        pruned = copy.deepcopy(model)
        method(pruned, 0.5)
        errors.append((pruned(ids)["last_hidden_state"] - exact).norm())
    assert errors[1] < errors[0]


@pytest.mark.parametrize("method", METHODS, ids=["magnitude", "wanda"])
def test_a_pruned_model_is_an_ordinary_model(method, tiny_model, tmp_path):
    method(tiny_model, 0.5)
    assert sparsity_of(tiny_model) == 0.5
    tiny_model.save_pretrained(tmp_path)
    loaded, ids = GPT2Model.from_pretrained(tmp_path), torch.stack(texts())
    assert sparsity_of(loaded) == 0.5
    assert torch.equal(
        generate(loaded, ids, max_new_tokens=5), generate(tiny_model, ids, max_new_tokens=5)
    )
    plain = tiny_model.hidden_state_to_token(tiny_model(ids)["last_token"]).log_softmax(-1)
    torch.testing.assert_close(answer(tiny_model, list(ids), [5])[1], plain[:, [5]])


@pytest.mark.parametrize("method", METHODS, ids=["magnitude", "wanda"])
def test_zeros_stay_zeros_in_training(method, tiny_model):
    method(tiny_model, 0.5)
    keep_zeros(tiny_model)
    before = copy.deepcopy(tiny_model)
    batches = [(torch.stack(texts()), torch.ones(6, 25).long())] * 3
    train(tiny_model, batches, AdamW(tiny_model.parameters(), lr=0.01, weight_decay=0.1))
    for linear, old in zip(linears(tiny_model), linears(before), strict=True):
        assert torch.equal(linear.weight == 0, old.weight == 0)
        assert not torch.equal(linear.weight, old.weight)


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(sparsity, tiny_model):
    for method in METHODS:
        with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), the share of zeros"):
            method(tiny_model, sparsity)


def test_what_can_not_be_pruned_is_refused(tiny_model):
    with pytest.raises(ValueError, match="calibration has no texts; Wanda needs some"):
        wanda(tiny_model, 0.5, [])
    with pytest.raises(ValueError, match=r"no nn\.Linear to prune; prune before quantizing"):
        magnitude(nn.Sequential(nn.ReLU()), 0.5)
