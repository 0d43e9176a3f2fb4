"""Prefix-tuning: the numbers and files of peft on Hugging Face's GPT-2, and the caller's cache."""

import peft
import pytest
import torch
import torch.nn.functional as F

from extensions import prefix
from gpt2.cache import KeyValueCache
from gpt2.loss import IGNORED, next_token_loss
from tests.extensions.methods import move
from tests.hugging_face import batch_of, ours_from, reference_model

VOCAB = 101


@pytest.fixture
def pair(tmp_path):
    """Hugging Face's model, and ours with the same weights."""
    reference = reference_model()
    return reference, ours_from(reference, tmp_path / "base")


def logits(model, ids, mask):
    return model.hidden_state_to_token(model(ids, mask)["last_hidden_state"])


@pytest.mark.parametrize("side", ["right", "alone"])
def test_outputs_gradients_and_files_equal_pefts(pair, side, tmp_path):
    reference, ours = pair
    prefix.attach(ours, length=4)
    move(ours)
    prefix.save(ours, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(reference, tmp_path / "ours").eval()
    theirs.active_peft_config.inference_mode = False  # peft loads prompts for inference alone
    theirs.requires_grad_(True)
    lengths = [5, 9, 2] if side == "right" else [9]
    ids, mask = batch_of(lengths, 9, VOCAB)
    labels = ids.masked_fill(mask == 0, IGNORED)
    found, expected = logits(ours, ids, mask), theirs(ids, attention_mask=mask).logits
    real = mask.bool()
    torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-5)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    next_token_loss(ours, batch).backward()
    F.cross_entropy(expected[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
    gradient = ours.prefix.prompt_embeddings.grad
    assert gradient.abs().max() > 1e-4
    other = theirs.prompt_encoder["default"].embedding.weight.grad
    torch.testing.assert_close(gradient, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projection", [False, True])
def test_we_load_pefts_files(pair, projection, tmp_path):
    reference, ours = pair
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=projection
    )
    theirs = peft.get_peft_model(reference, config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    prefix.load(ours, tmp_path / "theirs")
    ids, mask = batch_of([5, 9, 2], 9, VOCAB)
    expected = theirs(ids, attention_mask=mask).logits
    real = mask.bool()
    torch.testing.assert_close(logits(ours, ids, mask)[real], expected[real], rtol=0, atol=1e-5)


@torch.no_grad()
def test_it_starts_as_the_text_before_every_text(pair):
    _, model = pair
    words, (ids, mask) = torch.tensor([7, 3, 9]), batch_of([5, 9, 2], 9, VOCAB)
    both = torch.cat([words.expand(3, -1), ids], dim=1)
    expected = model(both, F.pad(mask, (3, 0), value=1))["last_hidden_state"][:, 3:]
    prefix.attach(model, ids=words)
    torch.testing.assert_close(model(ids, mask)["last_hidden_state"], expected)
    assert torch.equal(model(ids)["last_hidden_state"][1], model(ids, mask)["last_hidden_state"][1])


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cache_of_the_callers_holds_the_text_alone(pair, side):
    _, model = pair
    prefix.attach(model, length=4)
    move(model)
    ids, mask = batch_of([5, 9, 2], 9, VOCAB, side)
    more, more_mask = batch_of([3, 2, 3], 3, VOCAB)
    whole_mask = torch.cat([mask, more_mask], dim=1)
    whole = model(torch.cat([ids, more], dim=1), whole_mask)
    for cache in (KeyValueCache(), KeyValueCache(capacity=20, dtype=torch.float32)):
        model(ids, attention_mask=mask, cache=cache)
        assert cache.length == 9
        rows = torch.tensor([2, 0, 2])
        chosen = cache.select(rows)
        parts = model(more[rows], whole_mask[rows], cache=chosen)
        assert (chosen.length, cache.length) == (12, 9)
        torch.testing.assert_close(parts["last_token"], whole["last_token"][rows])
    last = model(more[:, :1], cache=cache)["last_hidden_state"]  # without a mask: no pads
    assert last.shape == (3, 1, 24)


def test_the_prefix_takes_positions(pair):
    _, model = pair
    prefix.attach(model, length=4)
    model(torch.ones(1, 60, dtype=torch.long))
    with pytest.raises(ValueError, match="reaches 65 positions, but this model has 64"):
        model(torch.ones(1, 61, dtype=torch.long))
