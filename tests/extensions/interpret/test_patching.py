"""Ablation and patching: equal to models that are changed by hand, and gone afterwards."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config import GPT2Config
from extensions.interpret.capture import capture
from extensions.interpret.gradients import log_odds
from extensions.interpret.patching import PLACES, patching_effects, replaced, without
from extensions.structured import all_heads, remove_heads, scaled_heads
from gpt2.evaluate import answer
from gpt2.model import GPT2Model
from tests.conftest import TINY
from tests.extensions.interpret.test_capture import IDS, hooks_of

MODEL = GPT2Model(GPT2Config(**TINY, initializer_range=0.2)).eval()
SCORE = log_odds([1, 2, 3], 0)


def states(model, ids=IDS):
    with torch.no_grad():
        return model(ids)["last_hidden_state"]


@pytest.mark.parametrize("layer", range(3))
def test_all_heads_ablated_equal_an_attention_output_of_zero(tiny_model, layer):
    with without(tiny_model, {layer: [0, 1, 2]}):
        found = states(tiny_model)
    zero = copy.deepcopy(tiny_model)
    zero.gpt_layers[layer].self_attention.forward = lambda x, *rest: torch.zeros_like(x)
    assert torch.equal(found, states(zero))
    with replaced(tiny_model, "attention", layer):
        nothing = states(tiny_model)
    zero.gpt_layers[layer].attention_dense.forward = lambda x: torch.zeros_like(x)
    assert torch.equal(nothing, states(zero))


@settings(max_examples=12)
@given(st.lists(st.sets(st.integers(0, 2), max_size=2), min_size=3, max_size=3))
def test_ablated_heads_equal_removed_ones(removed):
    heads, scales = dict(enumerate(map(sorted, removed))), all_heads(MODEL)
    smaller = copy.deepcopy(MODEL)
    remove_heads(smaller, heads)
    for layer, gone in heads.items():
        scales[layer][gone] = 0
    with without(MODEL, heads):
        found = states(MODEL)
        evaluated = answer(MODEL, list(IDS), [1, 2])[1]  # with a cache, in parts
    torch.testing.assert_close(found, states(smaller), rtol=0, atol=1e-5)
    torch.testing.assert_close(evaluated, answer(smaller, list(IDS), [1, 2])[1], rtol=0, atol=1e-4)
    with scaled_heads(MODEL, scales):
        torch.testing.assert_close(found, states(MODEL), rtol=0, atol=1e-6)


def test_ablated_neurons_equal_a_model_without_their_columns(tiny_model):
    smaller = copy.deepcopy(tiny_model)
    with torch.no_grad():
        smaller.gpt_layers[1].out_dense.weight[:, [3, 50]] = 0
    with without(tiny_model, neurons={1: [3, 50]}):
        found = states(tiny_model)
    torch.testing.assert_close(found, states(smaller), rtol=0, atol=1e-5)
    assert not torch.equal(found, states(tiny_model))


@pytest.mark.parametrize("place", ["state", "contexts", "neurons"])
def test_a_models_own_values_change_no_bit(tiny_model, place):
    with capture(tiny_model) as seen:
        expected = states(tiny_model)
    values = {"state": seen.states, "contexts": seen.contexts, "neurons": seen.neurons}[place]
    for layer in range(3):
        with replaced(tiny_model, place, layer, values[layer], positions=[0, 4, 19]):
            assert torch.equal(states(tiny_model), expected)


@pytest.mark.parametrize("layer", range(3))
def test_the_whole_state_of_another_text_gives_its_answer(tiny_model, layer):
    with capture(tiny_model) as seen:
        other = states(tiny_model, IDS[1:2])
    with replaced(tiny_model, "state", layer, seen.states[layer]):
        assert torch.equal(states(tiny_model, IDS[:1]), other)


def test_a_position_changes_itself_and_what_comes_later(tiny_model):
    before = states(tiny_model)
    with replaced(tiny_model, "state", 1, 0.0, positions=[7]):
        changed = (states(tiny_model) != before).any(dim=-1)
    assert not changed[:, :7].any() and changed[:, 7:].all()


def test_effects_are_0_before_the_change_and_1_for_all_of_it(tiny_model):
    clean, corrupted = IDS[0], IDS[0].clone()
    corrupted[11] = 77
    effects = patching_effects(tiny_model, clean, corrupted, SCORE, place="state")
    assert effects.shape == (3, 20)
    assert effects[:, :11].abs().max() < 1e-5  # what comes before is the same
    assert effects[0, 11] == pytest.approx(1, abs=1e-4)  # all of the change, and nothing else
    assert effects[0, 12:].abs().max() < 1e-5
    heads = patching_effects(tiny_model, clean, corrupted, SCORE)
    assert heads.shape == (3, 3) and heads.abs().max() > 1e-3
    with capture(tiny_model) as seen:
        other = SCORE(tiny_model.hidden_state_to_token(tiny_model(corrupted[None])["last_token"]))
    with replaced(tiny_model, "contexts", 1, seen.contexts[1], units=[2]):
        patched = SCORE(tiny_model.hidden_state_to_token(tiny_model(clean[None])["last_token"]))
    start = SCORE(tiny_model.hidden_state_to_token(tiny_model(clean[None])["last_token"]))
    by_hand = ((start - patched) / (start - other)).item()
    assert heads[1, 2].item() == pytest.approx(by_hand, abs=1e-4)
    assert hooks_of(tiny_model) == 0


def test_no_hook_is_left_after_an_exception(tiny_model):
    for place in PLACES:
        with pytest.raises(KeyError), replaced(tiny_model, place, 0):
            raise KeyError
    with pytest.raises(KeyError), without(tiny_model, {0: [1]}, {2: [3]}):
        raise KeyError
    with pytest.raises(ValueError, match="no layer 9"), without(tiny_model, {0: [1], 9: [1]}):
        pass
    assert hooks_of(tiny_model) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replaced(m, "heads", 0), "place must be one of state, contexts, .*got 'heads'"),
        (lambda m: replaced(m, "state", 3), "there is no layer 3; the model has 0 to 2"),
        (lambda m: without(m, {1: [3]}), "layer 1 has no head 3; it has 0 to 2"),
        (lambda m: without(m, neurons={1: [96]}), "layer 1 has no neuron 96; it has 0 to 95"),
        (lambda m: replaced(m, "state", 0, positions=[20]), "no position 20; the text has 20 tok"),
    ],
)
def test_places_that_do_not_exist_are_refused(change, message, tiny_model):
    with pytest.raises(ValueError, match=message), change(tiny_model):
        states(tiny_model)
    assert hooks_of(tiny_model) == 0


def test_pairs_of_other_lengths_and_places_are_refused(tiny_model):
    with pytest.raises(ValueError, match="clean has 20 tokens and corrupted 19; give texts of"):
        patching_effects(tiny_model, IDS[0], IDS[0, :19], SCORE)
    with pytest.raises(ValueError, match="place must be one of contexts, state, neurons; got 'at"):
        patching_effects(tiny_model, IDS[0], IDS[1], SCORE, place="attention")
