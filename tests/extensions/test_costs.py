"""The formula counts what torch counts, and bytes follow what is trained."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from config import GPT2Config
from extensions import costs, last_layers, lora
from extensions.structured import remove_heads
from gpt2.model import GPT2Model


@settings(max_examples=15)
@given(
    layers=st.integers(1, 3),
    heads=st.integers(1, 3),
    tokens=st.integers(1, 20),
    intermediate=st.integers(1, 50),
)
def test_the_formula_counts_what_a_plain_pass_does(layers, heads, tokens, intermediate):
    config = GPT2Config(
        vocab_size=101,
        hidden_size=8 * heads,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=32,
        attn_implementation="eager",
    )
    model = GPT2Model(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.hidden_state_to_token(model(torch.zeros(1, tokens).long())["last_token"])
    assert counter.get_total_flops() == costs.forward_flops(model, tokens)
    if heads > 1:
        remove_heads(model, {0: [0]})
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.hidden_state_to_token(model(torch.zeros(1, tokens).long())["last_token"])
        assert counter.get_total_flops() == costs.forward_flops(model, tokens)


@pytest.fixture
def batch():
    ids = torch.randint(0, 100, (4, 9), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def test_all_parameters_are_stored_and_trained(tiny_model):
    count = sum(parameter.numel() for parameter in tiny_model.parameters())
    assert costs.trainable(tiny_model) == count
    assert costs.stored_bytes(tiny_model) == 4 * count
    assert costs.stored_bytes(tiny_model.to(torch.bfloat16)) == 2 * count


def test_training_bytes_fall_with_what_is_trained(tiny_model, batch):
    count = costs.trainable(tiny_model)
    full = costs.training_bytes(tiny_model, batch)
    assert full > 4 * 4 * count  # weights, gradients, two moments, and activations
    last_layers.attach(tiny_model, 1)
    last = costs.training_bytes(tiny_model, batch)
    last_layers.detach(tiny_model)
    lora.attach(tiny_model, rank=1)
    low_rank = costs.training_bytes(tiny_model, batch)
    assert last < full and low_rank < full
    assert full - last > 3 * 4 * (count - costs.trainable(tiny_model)) / 2


def test_longer_texts_need_more(tiny_model, batch):
    short = {name: tensor[:, :4] for name, tensor in batch.items()}
    assert costs.training_bytes(tiny_model, short) < costs.training_bytes(tiny_model, batch)


def test_a_latency_is_some_time(tiny_model):
    assert 0 < costs.latency(tiny_model, torch.arange(5), repeats=2) < 60
