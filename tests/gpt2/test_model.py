"""GPT2Model against Hugging Face's GPT-2, and what padding and causality must never do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from config import GPT2Config
from gpt2.cache import KeyValueCache
from gpt2.model import GPT2Model
from tests.hugging_face import (
    batch_of,
    ours_from,
    reference_model,
    reference_positions,
    small_model,
)
from utils import MODEL_SIZES

LIMIT = 1e-4  # the project's promise, float32


def differences(reference, ours, input_ids, mask):
    """The largest differences in hidden states and logits over all real tokens."""
    with torch.no_grad():
        theirs = reference.transformer(
            input_ids, attention_mask=mask, position_ids=reference_positions(mask)
        ).last_hidden_state
        mine = ours(input_ids, mask)["last_hidden_state"]
        logits = ours.hidden_state_to_token(mine) - reference.lm_head(theirs)
    real = mask.bool()
    return (mine - theirs)[real].abs().max().item(), logits[real].abs().max().item()


@pytest.mark.parametrize("size", list(MODEL_SIZES))
def test_hidden_states_and_logits_equal_hugging_faces_for_all_four_shapes(size, tmp_path):
    shape = MODEL_SIZES[size]
    wide = {"n_embd": shape["d"], "n_layer": 1, "n_head": shape["num_heads"]}
    deep = {"n_embd": 4 * shape["num_heads"], "n_layer": shape["l"], "n_head": shape["num_heads"]}
    for each in (wide, deep):  # both at once would take gigabytes
        reference = reference_model(**each, n_positions=1024, vocab_size=503, spread=0.02)
        reference.save_pretrained(tmp_path)
        for attention in ("eager", "sdpa"):
            ours = GPT2Model.from_pretrained(tmp_path, attn_implementation=attention)
            for side in ("right", "left"):
                batch = batch_of([40, 1, 17], 40, 503, side)
                assert max(differences(reference, ours, *batch)) < LIMIT


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("length", [1, 2, 3, 127, 128, 1023, 1024])
def test_it_equals_hugging_face_at_every_length_up_to_1024(length, attention, tmp_path):
    reference = reference_model(n_positions=1024)
    ours = ours_from(reference, tmp_path, attn_implementation=attention)
    for side in ("right", "left"):
        batch = batch_of([length, (length + 1) // 2], length, 101, side)
        assert max(differences(reference, ours, *batch)) < LIMIT


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_gradients_of_a_loss_equal_hugging_faces(attention, side, tmp_path):
    reference = reference_model()
    ours = ours_from(reference, tmp_path, attn_implementation=attention)
    input_ids, mask = batch_of([20, 9, 13], 20, 101, side)
    real = mask.bool()
    theirs = reference.transformer(
        input_ids, attention_mask=mask, position_ids=reference_positions(mask)
    ).last_hidden_state
    mine = ours(input_ids, mask)["last_hidden_state"]
    for model, head, hidden in (
        (reference, reference.lm_head, theirs),
        (ours, ours.hidden_state_to_token, mine),
    ):
        model.zero_grad()
        head(hidden[real]).logsumexp(-1).sum().backward()
    layer, peer = ours.gpt_layers[1], reference.transformer.h[1]
    query, key, value = peer.attn.c_attn.weight.grad.split(24, dim=1)
    pairs = [
        (ours.word_embedding.weight.grad, reference.transformer.wte.weight.grad),
        (ours.pos_embedding.weight.grad, reference.transformer.wpe.weight.grad),
        (ours.final_layer_norm.weight.grad, reference.transformer.ln_f.weight.grad),
        (layer.self_attention.query.weight.grad, query.t()),
        (layer.self_attention.key.weight.grad, key.t()),
        (layer.self_attention.value.weight.grad, value.t()),
        (layer.attention_dense.weight.grad, peer.attn.c_proj.weight.grad.t()),
        (layer.interm_dense.weight.grad, peer.mlp.c_fc.weight.grad.t()),
        (layer.out_dense.weight.grad, peer.mlp.c_proj.weight.grad.t()),
        (layer.out_layer_norm.bias.grad, peer.ln_2.bias.grad),
    ]
    for mine, theirs in pairs:
        assert torch.norm(mine - theirs) / torch.norm(theirs) < LIMIT


def test_the_exact_gelu_is_caught(tmp_path):
    reference = reference_model(n_embd=96, spread=0.2)
    ours = ours_from(reference, tmp_path)
    batch = batch_of([30, 12], 30, 101)
    assert max(differences(reference, ours, *batch)) < LIMIT
    for layer in ours.gpt_layers:
        layer.interm_af = nn.GELU()
    assert max(differences(reference, ours, *batch)) > LIMIT


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@given(data=st.data())
def test_no_token_sees_a_later_token(attention, data):
    model = small_model(attn_implementation=attention).eval()
    T = data.draw(st.integers(2, 32))
    changed = data.draw(st.integers(1, T - 1))
    ids = torch.tensor([data.draw(st.lists(st.integers(0, 49), min_size=T, max_size=T))])
    other = ids.clone()
    other[0, changed] = (other[0, changed] + 1) % 50
    mask = torch.ones_like(ids)
    with torch.no_grad():
        before, after = (model(x, mask)["last_hidden_state"][0] for x in (ids, other))
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.equal(before[changed], after[changed])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["right", "left"])
@given(data=st.data())
def test_padding_is_invisible(attention, side, data):
    model = small_model(attn_implementation=attention).eval()
    lengths = data.draw(st.lists(st.integers(1, 32), min_size=1, max_size=4))
    width = max(lengths) + data.draw(st.integers(0, 16))
    pad = data.draw(st.integers(0, 49))
    input_ids, mask = batch_of(lengths, width, 50, side)
    with torch.no_grad():
        out = model(input_ids, mask)
        other_pads = model(input_ids.masked_fill(mask == 0, pad), mask)["last_hidden_state"]
        for row, length in enumerate(lengths):
            real = mask[row].bool()
            alone = model(input_ids[row, real][None])
            hidden = out["last_hidden_state"][row, real]
            assert torch.equal(hidden, other_pads[row, real])
            assert torch.allclose(hidden, alone["last_hidden_state"][0], atol=1e-5)
            assert torch.equal(out["last_token"][row], hidden[length - 1])
            assert torch.allclose(alone["last_token"][0], hidden[-1], atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_row_of_nothing_but_padding_makes_no_nan(attention, dtype, tiny_config):
    tiny_config.attn_implementation = attention
    model = GPT2Model(tiny_config).to(dtype).eval()
    input_ids, mask = batch_of([5, 0, 3], 9, 101, "left")
    assert model(input_ids, mask)["last_hidden_state"].isfinite().all()


def test_left_padding_under_autocast_makes_no_nan_and_stays_close(tiny_model):
    input_ids, mask = batch_of([9, 2, 5], 9, 101, "left")
    with torch.no_grad():
        full = tiny_model(input_ids, mask)["last_token"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = tiny_model(input_ids, mask)["last_token"]
    assert torch.norm(half - full) / torch.norm(full) < 0.05  # bf16 keeps 8 bits


@pytest.mark.parametrize("side", ["right", "left"])
def test_eager_and_sdpa_mean_the_same_dropout_and_masks(side, tiny_config):
    """With the dropout of the attention weights at p, both keep 1 - p and scale by 1/(1 - p)."""
    _, mask = batch_of([30, 11], 30, 101, side)
    means = []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        tiny_config.attn_implementation = attention
        layer = GPT2Model(tiny_config).gpt_layers[0].self_attention.train()
        layer.dropout.p = 0.5
        x = torch.randn(1, 30, 24).expand(4000, -1, -1)
        extended = (
            None
            if side == "right"
            else ((1 - mask[1]) * torch.finfo(x.dtype).min)[None, None, None].float()
        )
        layer.eval()
        expected = layer(x[:1], extended)[0]
        layer.train()
        with torch.no_grad():
            dropped = layer(x, extended)
        assert not torch.allclose(dropped[0], expected)
        error = (dropped.mean(0) - expected)[mask[1].bool()].abs().max()
        assert error < 6 * dropped.std(0).max() / 4000**0.5
        means.append(expected)
    assert torch.allclose(*means, atol=1e-6)


def test_tied_projection_is_the_transposed_embedding(tiny_model):
    hidden = torch.randn(2, 5, 24)
    expected = hidden @ tiny_model.word_embedding.weight.T
    assert torch.allclose(tiny_model.hidden_state_to_token(hidden), expected, atol=1e-6)
    assert tiny_model.hidden_state_to_token(hidden[0, 0]).shape == (101,)


def test_initial_weights_are_as_the_handout_says():
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(num_hidden_layers=1))
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            assert (weight == (1.0 if name.endswith("weight") else 0.0)).all()
        elif name.endswith("bias"):
            assert (weight == 0).all()
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.02), name
            assert abs(weight.mean().item()) < 5e-4


@pytest.mark.parametrize("bad", [101, 5000, -1])
def test_an_id_outside_the_vocabulary_is_named(bad, tiny_model):
    ids = torch.ones(2, 6, dtype=torch.long)
    ids[1, 4] = bad
    with pytest.raises(ValueError, match=rf"input_ids\[1, 4\] = {bad} is outside .* \(0 to 100\)"):
        tiny_model(ids, torch.ones_like(ids))


def test_a_sequence_longer_than_the_positions_is_a_clear_error(tiny_model):
    ids = torch.ones(1, 65, dtype=torch.long)
    with pytest.raises(ValueError, match="reaches 65 positions, but this model has 64"):
        tiny_model(ids, torch.ones_like(ids))


def test_positions_past_the_end_are_a_clear_error_behind_a_cache_too(tiny_model):
    ids = torch.ones(1, 40, dtype=torch.long)
    cache = KeyValueCache()
    tiny_model(ids, None, cache)
    with pytest.raises(ValueError, match="reaches 80 positions, but this model has 64"):
        tiny_model(ids, None, cache)


def test_a_mask_of_another_shape_is_a_clear_error(tiny_model):
    ids = torch.ones(2, 6, dtype=torch.long)
    with pytest.raises(ValueError, match=r"attention_mask is \[2, 5\], but must be \[2, 6\]"):
        tiny_model(ids, torch.ones(2, 5))
