"""The sanity checks pass for our code, fail for wrong code, and show what they got."""

import pytest
import torch
from torch import nn

from config import GPT2Config
from gpt2.layer import GPT2Layer
from gpt2.model import GPT2Model
from grading.checks import check_model, check_optimizer
from optim.adamw import AdamW

SMALL = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 500,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}


def test_the_right_model_passes(capsys):
    assert check_model(GPT2Config(**SMALL))
    printed = capsys.readouterr().out
    assert printed.count("[OK]") == 2 and "expected below 1e-04" in printed


def test_the_exact_gelu_fails(monkeypatch, capsys):
    original = GPT2Layer.__init__

    def with_exact_gelu(self, config):
        original(self, config)
        self.interm_af = nn.GELU()

    monkeypatch.setattr(GPT2Layer, "__init__", with_exact_gelu)
    assert not check_model(GPT2Config(**SMALL))
    assert "[FAIL] hidden states" in capsys.readouterr().out


def swap_norms(layer):
    layer.attention_layer_norm, layer.out_layer_norm = (
        layer.out_layer_norm,
        layer.attention_layer_norm,
    )


def drop_biases(layer):
    layer.add = lambda x, y, dense, dropout: x + dropout(y @ dense.weight.T)


@pytest.mark.parametrize("mistake", [swap_norms, drop_biases])
def test_swapped_norms_and_dropped_biases_fail(mistake, monkeypatch, capsys):
    original = GPT2Model.load_state_dict

    def then_spoil(self, *args, **settings):
        original(self, *args, **settings)
        for layer in self.gpt_layers:
            mistake(layer)

    monkeypatch.setattr(GPT2Model, "load_state_dict", then_spoil)
    assert not check_model(GPT2Config(**SMALL))
    assert capsys.readouterr().out.count("[FAIL]") == 2


def test_the_right_optimizer_passes_and_another_fails(capsys):
    assert check_optimizer()

    class NoCorrection(AdamW):
        def __init__(self, params, correct_bias, **settings):
            super().__init__(params, correct_bias=False, **settings)

    assert not check_optimizer(NoCorrection)
    printed = capsys.readouterr().out
    assert "[OK] AdamW" in printed and "[FAIL] AdamW" in printed
    assert torch.is_grad_enabled()
