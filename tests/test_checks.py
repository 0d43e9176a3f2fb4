"""The sanity checks pass for our code, fail for wrong code, and show what they got."""

import torch
from torch import nn

from config import GPT2Config
from gpt2.layer import GPT2Layer
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


def test_the_right_optimizer_passes_and_another_fails(capsys):
    assert check_optimizer()

    class NoCorrection(AdamW):
        def __init__(self, params, correct_bias, **settings):
            super().__init__(params, correct_bias=False, **settings)

    assert not check_optimizer(NoCorrection)
    printed = capsys.readouterr().out
    assert "[OK] AdamW" in printed and "[FAIL] AdamW" in printed
    assert torch.is_grad_enabled()
