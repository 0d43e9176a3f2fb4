"""The shortcuts compute what the model computes. (`last_token`: see test_evaluate.)"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gpt2.decoding
import gpt2.fast_linear
from config import GPT2Config
from gpt2.attention import KeyValueCache
from gpt2.generate import generate
from gpt2.model import GPT2Model
from gpt2.shortcuts import OneToken

SMALL = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "max_position_embeddings": 32, "pad_token_id": 60, "initializer_range": 0.2}  # fmt: skip


@given(
    rows=st.integers(1, 9),
    packed_for=st.integers(1, 9),
    pads=st.integers(0, 5),
    attention=st.sampled_from(["eager", "sdpa"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_one_token_after_many_is_what_the_model_makes_of_it(
    rows, packed_for, pads, attention, dtype
):
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**SMALL, attn_implementation=attention)).eval().to(dtype)
    ids = torch.randint(60, (rows, 12))
    mask = torch.ones_like(ids)
    mask[: rows // 2, :pads] = 0
    found = []
    shortcut = OneToken(model, packed_for)
    with torch.no_grad():
        for one in (model, shortcut):
            cache = KeyValueCache(model.config, rows, 20, dtype=dtype)
            model(ids[:, :10], mask[:, :10], cache)
            for end in (11, 12):
                new, seen = ids[:, end - 1 : end], mask[:, :end]
                if one is model:
                    hidden = model(new, seen, cache)["last_hidden_state"]
                    logits = model.hidden_state_to_token(hidden[:, -1])
                else:
                    hidden = shortcut.hidden_state(new, seen, cache)
                    logits = shortcut.logits(hidden[:, -1])
            found.append(
                (
                    hidden,
                    logits,
                    *(
                        x
                        for layer in cache.layers
                        for x in (layer.key[:, :, :12], layer.value[:, :, :12])
                    ),
                )
            )
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    for theirs, ours in zip(*found, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class Adapted(nn.Linear):
    """Such as LoRA makes of a layer."""


def subclass(model):
    model.gpt_layers[0].interm_dense.__class__ = Adapted


def hook(model):
    model.gpt_layers[1].self_attention.key.register_forward_hook(lambda *_: None)


def own_forward(model):
    layer = model.gpt_layers[0].out_layer_norm
    layer.forward = lambda x: x


def exact_gelu(model):
    model.gpt_layers[1].interm_af = nn.GELU()


def no_bias(model):
    model.gpt_layers[1].out_dense.bias = None


@pytest.mark.parametrize("change", [subclass, hook, own_forward, exact_gelu, no_bias])
def test_a_model_that_something_was_added_to_takes_the_long_way(change):
    model = GPT2Model(GPT2Config(**SMALL))
    assert OneToken.takes(model)
    change(model)
    assert not OneToken.takes(model)


def test_it_is_left_out_for_other_types_and_taken_without_onednn(monkeypatch):
    model = GPT2Model(GPT2Config(**SMALL)).eval()
    assert not OneToken.takes(model.double())
    model.float()
    ids = torch.randint(60, (2, 5))
    expected = generate(model, ids, max_new_tokens=20, eos=-1, use_cache=False)
    monkeypatch.setattr(gpt2.decoding, "STEPS_BEFORE_SHORTCUT", 1)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert torch.equal(generate(model, ids, max_new_tokens=20, eos=-1), expected)


def test_a_long_text_is_the_same_by_the_shortcut_and_weights_may_change_between_texts():
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**{**SMALL, "max_position_embeddings": 64})).eval()
    ids = torch.randint(60, (3, 4))
    for _ in range(2):
        expected = generate(model, ids, max_new_tokens=40, eos=-1, use_cache=False)
        assert torch.equal(generate(model, ids, max_new_tokens=40, eos=-1), expected)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
