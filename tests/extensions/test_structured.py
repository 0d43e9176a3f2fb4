"""Removed heads and layers: equal to the masked model, and a model like any other."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from config import GPT2Config
from extensions.quantization import quantize
from extensions.structured import (
    all_heads,
    head_importance,
    least_important,
    load,
    remove_heads,
    remove_layers,
    save,
    scaled_heads,
)
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from gpt2.train import train
from optim.adamw import AdamW
from tests.conftest import TINY

HEADS = {0: [1], 2: [0, 2]}
IDS = torch.arange(60).view(3, 20) % 100
MASK = torch.ones_like(IDS)
MODEL = GPT2Model(GPT2Config(**TINY, initializer_range=0.2)).eval()


@pytest.fixture
def smaller(tiny_model):
    """The tiny model with one, three and two heads removed, and without its second layer."""
    model = copy.deepcopy(tiny_model)
    remove_heads(model, HEADS)
    remove_layers(model, [1])
    return model


@given(st.lists(st.sets(st.integers(0, 2), max_size=2), min_size=3, max_size=3))
def test_removed_heads_equal_masked_ones(removed):
    heads = dict(enumerate(map(sorted, removed)))
    scales, model = all_heads(MODEL), copy.deepcopy(MODEL)
    for layer, indices in heads.items():
        scales[layer][indices] = 0
    remove_heads(model, heads)
    with scaled_heads(MODEL, scales), torch.no_grad():
        masked = MODEL(IDS)["last_hidden_state"]
    torch.testing.assert_close(model(IDS)["last_hidden_state"], masked, rtol=0, atol=1e-5)
    sizes = [layer.attention_dense.weight.size(1) for layer in model.gpt_layers]
    assert sizes == [8 * (3 - len(gone)) for gone in removed]


@given(st.sets(st.integers(0, 2), max_size=2))
def test_removed_layers_equal_skipped_ones(layers):
    model, hidden = copy.deepcopy(MODEL), MODEL.embed(IDS)
    remove_layers(model, sorted(layers))
    for i in sorted({0, 1, 2} - layers):
        hidden = MODEL.gpt_layers[i](hidden, None)
    expected = MODEL.final_layer_norm(hidden)
    torch.testing.assert_close(model(IDS)["last_hidden_state"], expected, rtol=0, atol=1e-5)
    assert model.config.num_hidden_layers == 3 - len(layers)
    assert MODEL.config.num_hidden_layers == 3


def test_evaluation_generation_and_loss_run_its_own_forward(smaller):
    mask = MASK.clone()
    mask[0, :4] = 0  # on the left
    logits = smaller.hidden_state_to_token(smaller(IDS, mask)["last_token"])
    alone = smaller.hidden_state_to_token(smaller(IDS[:1, 4:])["last_token"])
    torch.testing.assert_close(logits[:1], alone, rtol=0, atol=1e-4)
    prompts = [row[real.bool()] for row, real in zip(IDS, mask, strict=True)]
    expected = logits.log_softmax(-1)[:, [1, 2]]
    torch.testing.assert_close(answer(smaller, prompts, [1, 2])[1], expected, rtol=0, atol=1e-4)
    settings = {"max_new_tokens": 8, "eos": -1}
    cached = generate(smaller, IDS, mask, **settings)
    assert torch.equal(cached, generate(smaller, IDS, mask, use_cache=False, **settings))
    all_logits = smaller.hidden_state_to_token(smaller(IDS)["last_hidden_state"])
    loss = torch.nn.functional.cross_entropy(all_logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    torch.testing.assert_close(next_token_loss(smaller, (IDS, MASK)), loss)


def test_it_trains_and_is_quantized_like_any_model(smaller):
    before = next_token_loss(smaller, (IDS, MASK)).item()
    train(smaller, [(IDS, MASK)] * 5, AdamW(smaller.parameters(), lr=3e-3))
    smaller.eval()
    after = next_token_loss(smaller, (IDS, MASK))
    assert after < 0.9 * before
    quantize(smaller)
    torch.testing.assert_close(next_token_loss(smaller, (IDS, MASK)), after, rtol=0.02, atol=0)


def test_it_is_saved_and_loaded(smaller, tmp_path):
    save(smaller, tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded(IDS)["last_token"], smaller(IDS)["last_token"])
    remove_heads(loaded, {0: [0]})  # again
    (tmp_path / "pruned.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"pruned\.safetensors: not a whole safetensors file"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"self_attention.*has shape \[16, 24\]"):
        smaller.save_pretrained(tmp_path)


def test_without_layers_it_is_saved_as_a_gpt2(tiny_model, tmp_path):
    remove_layers(tiny_model, [0, 2])
    tiny_model.save_pretrained(tmp_path)
    loaded = GPT2Model.from_pretrained(tmp_path, l=1)
    assert torch.equal(loaded(IDS)["last_token"], tiny_model(IDS)["last_token"])


def test_importance_is_the_slope_of_the_loss(tiny_model):
    """By finite differences, in double precision."""
    model, batch = tiny_model.double(), (IDS, MASK)
    found = head_importance(model, [batch])
    for layer in range(3):
        slopes = []
        for head in range(3):
            losses = []
            for xi in (1 - 1e-3, 1 + 1e-3):
                scales = [scale.double() for scale in all_heads(model)]
                scales[layer][head] = xi
                with scaled_heads(model, scales), torch.no_grad():
                    losses.append(next_token_loss(model, batch))
            slopes.append(abs(losses[1] - losses[0]) / 2e-3)
        slopes = torch.stack(slopes)
        torch.testing.assert_close(
            found[layer].double(), slopes / slopes.norm(), rtol=0.02, atol=1e-3
        )
    model.requires_grad_(False)  # a frozen model has importances, too
    assert torch.equal(head_importance(model, [batch])[0], found[0])


@given(st.integers(0, 6), st.integers(0, 99))
def test_the_least_important_heads_go_and_every_layer_keeps_one(count, seed):
    importance = list(torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)))
    heads = least_important(importance, count)
    assert sum(map(len, heads.values())) == count
    assert all(len(gone) < 3 for gone in heads.values())
    gone = [importance[i][h] for i, layer in heads.items() for h in layer]
    stay = [importance[i][h] for i in range(3) for h in range(3) if h not in heads.get(i, [])
            and h != importance[i].argmax()]  # fmt: skip
    assert not gone or not stay or max(gone) <= min(stay)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (lambda m: remove_heads(m, {1: [0, 1, 2]}), "all heads of layer 1; leave at least one out"),
        (lambda m: remove_heads(m, {0: [3]}), "layer 0 has no head 3; it has 0 to 2"),
        (lambda m: remove_heads(m, {7: [0]}), "there is no layer 7; the model has 0 to 2"),
        (lambda m: remove_layers(m, [0, 1, 2]), "all layers of the model; leave at least one out"),
        (lambda m: remove_layers(m, [-1]), "there is no layer -1; the model has 0 to 2"),
        (lambda m: least_important(all_heads(m), 7), "count must be 0 to 6, got 7"),
        (lambda m: head_importance(m, []), "batches shows no head's importance"),
    ],
)
def test_what_can_not_be_removed_is_refused(remove, message, tiny_model):
    before = copy.deepcopy(tiny_model.state_dict())
    with pytest.raises(ValueError, match=message):
        remove(tiny_model)
    after = tiny_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_heads_of_quantized_layers_are_not_removed(tiny_model):
    quantize(tiny_model)
    with pytest.raises(ValueError, match=r"no plain nn\.Linear"):
        remove_heads(tiny_model, {0: [0]})
