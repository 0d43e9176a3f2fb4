"""Integrated gradients add up, and are what calculus says in simple cases."""

import pytest
import torch

from extensions.interpret.gradients import integrated_gradients, log_odds
from tests.extensions.interpret.test_capture import IDS, hooks_of

SCORE = log_odds([1, 2, 3], 0)


def ends(model, ids, baseline):
    with torch.no_grad():
        with model.word_embedding.register_forward_hook(lambda m, i, o: baseline.expand_as(o)):
            before = SCORE(model.hidden_state_to_token(model(ids[None])["last_token"])).item()
        after = SCORE(model.hidden_state_to_token(model(ids[None])["last_token"])).item()
    return before, after


@pytest.mark.parametrize("length", [2, 7, 20])
def test_they_are_complete_to_one_per_cent(tiny_model, length):
    ids = IDS[1, :length]
    found, error = integrated_gradients(tiny_model, ids, SCORE)
    before, after = ends(tiny_model, ids, tiny_model.word_embedding.weight.mean(dim=0))
    assert found.shape == (length,) and error < 0.01
    assert abs(found.sum().item() - (after - before)) <= 0.011 * abs(after - before)


def test_a_token_that_is_the_baseline_adds_nothing(tiny_model):
    ids = IDS[0, :6]
    baseline = tiny_model.word_embedding(IDS[1, :6]).detach().clone()
    baseline[2] = tiny_model.word_embedding.weight[ids[2]].detach()
    found, _ = integrated_gradients(tiny_model, ids, SCORE, baseline=baseline)
    assert found[2] == 0 and (found[[0, 1, 3, 4, 5]] != 0).all()


def test_a_smaller_tolerance_takes_more_points(tiny_model):
    loose, _ = integrated_gradients(tiny_model, IDS[0], SCORE)
    tight, error = integrated_gradients(tiny_model, IDS[0], SCORE, tolerance=1e-3)
    assert error < 1e-3
    torch.testing.assert_close(loose, tight, rtol=0, atol=0.01 * tight.abs().max().item())


def test_log_odds_are_those_of_the_labels():
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    p = logits[0, 1:].softmax(-1)
    assert log_odds([1, 2, 3], 2)(logits).item() == pytest.approx((p[2] / (1 - p[2])).log().item())


def test_the_model_is_left_as_it_was(tiny_model):
    tiny_model.requires_grad_(False).train()
    with torch.no_grad():
        integrated_gradients(tiny_model, IDS[0, :4], SCORE)
    assert tiny_model.training and hooks_of(tiny_model) == 0
    assert all(p.grad is None and not p.requires_grad for p in tiny_model.parameters())
    with pytest.raises(ValueError, match=r"completeness error is .*; the score hardly"):
        integrated_gradients(
            tiny_model, IDS[0, :4], lambda logits: 0 * logits[..., 0] + torch.randn(len(logits))
        )
    assert hooks_of(tiny_model) == 0
    with pytest.raises(ValueError, match="prompt 0 has no token"):
        integrated_gradients(tiny_model, IDS[0, :0], SCORE)
