"""next_token_loss against the plain shifted cross-entropy that it stands for."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2.fast
from config import GPT2Config
from gpt2.loss import IGNORED, answer_and_text_loss, count_labels, mean_loss, next_token_loss
from gpt2.model import GPT2Model
from tests.hugging_face import batch_of, small_model


def plain_loss(model, input_ids, mask, labels):
    """All logits, shifted, averaged over the labels that count."""
    logits = model.hidden_state_to_token(model(input_ids, mask)["last_hidden_state"])
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def assert_same(model, loss, expected):
    assert abs(loss.item() - expected.item()) <= 1e-6 * max(1, abs(expected.item()))
    mine, theirs = gradients(model, loss), gradients(model, expected)
    assert torch.norm(mine - theirs) / torch.norm(theirs) < 1e-6
    assert (mine - theirs).abs().max() < 1e-6


def make_model(dtype=torch.float32):
    return small_model(dtype, initializer_range=0.1).eval()


@settings(max_examples=30)
@given(data=st.data())
def test_value_and_gradient_equal_the_plain_shifted_cross_entropy(data):
    model = make_model()
    lengths = data.draw(st.lists(st.integers(2, 20), min_size=1, max_size=4))
    input_ids, mask = batch_of(lengths, max(lengths), 50)
    labels = input_ids.masked_fill(mask == 0, IGNORED)
    loss = next_token_loss(model, {"input_ids": input_ids, "attention_mask": mask})
    assert_same(model, loss, plain_loss(model, input_ids, mask, labels))


@settings(max_examples=30)
@given(data=st.data())
def test_explicit_labels_count_wherever_they_are(data):
    model = make_model()
    input_ids, mask = batch_of([9, 14], 14, 50, data.draw(st.sampled_from(["left", "right"])))
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=28, max_size=28)))
    labels = input_ids.masked_fill(~keep.view(2, 14), IGNORED)
    labels[1, 13] = 7
    batch = {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
    assert_same(model, next_token_loss(model, batch), plain_loss(model, input_ids, mask, labels))


def test_left_padding_gives_the_same_loss_as_right_padding():
    model = make_model(torch.float64)
    right, mask = batch_of([11, 4, 7], 11, 50)
    left = torch.stack([r.roll(int((m == 0).sum())) for r, m in zip(right, mask, strict=True)])
    loss = next_token_loss(model, (right, mask))
    assert next_token_loss(model, (left, mask.flip(1))).item() == pytest.approx(loss.item(), 1e-12)


def test_pads_and_first_tokens_have_no_label():
    assert count_labels(batch_of([11, 4], 16, 50)) == 10 + 3


@pytest.mark.parametrize("frozen", [True, False])
def test_chunks_change_neither_loss_nor_gradient(frozen, monkeypatch):
    monkeypatch.setattr(gpt2.fast.in_chunks, "__kwdefaults__", {"size": 7})
    model = make_model()
    model.word_embedding.weight.requires_grad_(not frozen)
    input_ids, mask = batch_of([20, 13, 17], 20, 50)
    labels = input_ids.masked_fill(mask == 0, IGNORED)
    calls = []
    project = model.hidden_state_to_token
    model.hidden_state_to_token = lambda h: (calls.append(len(h)), project(h))[1]
    loss = next_token_loss(model, (input_ids, mask))
    assert max(calls) == 7 and sum(calls) == 47
    model.hidden_state_to_token = project
    expected = plain_loss(model, input_ids, mask, labels)
    found = []
    for each in (loss, expected):
        model.zero_grad()
        each.backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_reductions_are_torchs():
    model = make_model(torch.float64)
    batch = batch_of([20, 3, 11], 20, 50)
    each = next_token_loss(model, batch, "none")
    assert each.shape == (count_labels(batch),)
    assert next_token_loss(model, batch, "sum").item() == pytest.approx(each.sum().item())
    assert next_token_loss(model, batch).item() == pytest.approx(each.mean().item())
    with pytest.raises(ValueError, match='reduction must be "mean", "sum" or "none"'):
        next_token_loss(model, batch, "average")


@pytest.mark.parametrize("label", [-1, -101, 50, 99])
def test_a_label_that_is_no_token_is_named(label):
    input_ids, mask = batch_of([9, 4], 9, 50)
    labels = input_ids.clone()
    labels[1, 2] = label
    batch = {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
    with pytest.raises(ValueError, match=rf"labels has {label}, which is no token id \(0 to 49\)"):
        next_token_loss(make_model(), batch)


def test_bf16_autocast_stays_close_to_float32():
    model = make_model()
    batch = batch_of([20, 13, 17], 20, 50)
    full = next_token_loss(model, batch)
    expected = gradients(model, full)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = next_token_loss(model, batch)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=1e-2)
    assert torch.norm(gradients(model, half) - expected) / torch.norm(expected) < 0.03


def test_a_frozen_embedding_gets_no_gradient_and_the_rest_does():
    model = make_model()
    model.word_embedding.weight.requires_grad_(False)
    next_token_loss(model, batch_of([9, 4], 9, 50)).backward()
    assert model.word_embedding.weight.grad is None
    assert model.gpt_layers[0].out_dense.weight.grad.abs().sum() > 0


def test_only_labelled_positions_are_projected():
    """A batch of 8 x 32 positions with one label a row makes logits for 8 of them."""
    model = make_model()
    input_ids, mask = batch_of([32] * 8, 32, 50)
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, -1] = 3
    projected = []
    project = model.hidden_state_to_token
    model.hidden_state_to_token = lambda h: (projected.append(tuple(h.shape)), project(h))[1]
    batch = {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
    next_token_loss(model, batch).backward()
    assert projected == [(8, 16)]


def test_accumulated_parts_divide_by_the_labels_of_the_whole():
    model = make_model(torch.float64)
    input_ids, mask = batch_of([20, 3, 11, 2], 20, 50)
    whole = gradients(model, next_token_loss(model, (input_ids, mask)))
    parts = [(input_ids[:1], mask[:1]), (input_ids[1:], mask[1:])]
    num_labels = sum(map(count_labels, parts))
    loss = sum(next_token_loss(model, part, "sum") for part in parts) / num_labels
    assert torch.allclose(gradients(model, loss), whole, atol=1e-12)


def test_a_batch_without_a_label_is_a_clear_error():
    with pytest.raises(ValueError, match="no token of this batch has a label"):
        next_token_loss(make_model(), batch_of([1, 1], 4, 50))


def test_mean_loss_takes_every_kind_of_batch():
    model = make_model()
    ids, mask = batch_of([12, 7], 12, 50)
    labels = torch.full_like(ids, IGNORED)
    labels[:, 5] = 3
    nli = {"input_ids": ids, "attention_mask": mask, "labels": labels, "label_strs": ["0", "1"]}
    assert mean_loss(model, [nli]) == pytest.approx(next_token_loss(model, nli).item(), rel=1e-6)
    assert mean_loss(model, [(ids, mask)]) == pytest.approx(
        next_token_loss(model, (ids, mask)).item(), rel=1e-6
    )


def test_mean_loss_weighs_tokens_not_batches_and_restores_the_mode():
    model = make_model().train()
    ids, mask = batch_of([20, 2], 20, 50)
    loader = [{"input_ids": ids[i : i + 1], "attention_mask": mask[i : i + 1]} for i in (0, 1)]
    mean = mean_loss(model, loader)
    assert model.training
    assert mean == pytest.approx(next_token_loss(model.eval(), (ids, mask)).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_sum_of_many_labels_keeps_its_digits_in_half_precision(dtype):
    model = GPT2Model(
        GPT2Config(
            vocab_size=500, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=128, pad_token_id=0,
        )
    ).eval()  # fmt: skip
    ids = torch.randint(1, 500, (100, 128))
    with torch.no_grad():
        expected = next_token_loss(model, (ids, torch.ones_like(ids)), reduction="sum")
        half = next_token_loss(model.to(dtype), (ids, torch.ones_like(ids)), reduction="sum")
    assert expected > 2**16 and half.dtype == torch.float32
    assert half.item() == pytest.approx(expected.item(), rel=1e-3)


# ---- The loss of answers and texts -------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_answer_and_text_loss_adds_each_rows_mean_over_its_prompt(tiny_model, side, weight):
    """Against the losses of each row alone, its answer and its prompt apart."""
    rows, answers, expected = [], [2, 1, 3], 0.0
    for length, answer in zip((7, 4, 9), answers, strict=True):
        ids = torch.randint(100, (length,), generator=torch.Generator().manual_seed(length))
        labels = torch.full_like(ids, IGNORED)
        labels[-answer:] = ids[-answer:]
        one = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
        text = torch.where(labels == IGNORED, ids, IGNORED)
        text[0] = IGNORED
        expected += next_token_loss(tiny_model, {**one, "labels": labels[None]}, "sum")
        expected += weight * next_token_loss(tiny_model, {**one, "labels": text[None]}, "mean")
        rows.append((ids, labels))
    pad = {"batch_first": True, "padding_side": side}
    ids = torch.nn.utils.rnn.pad_sequence([ids for ids, _ in rows], padding_value=100, **pad)
    labels = torch.nn.utils.rnn.pad_sequence([x for _, x in rows], padding_value=IGNORED, **pad)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(x) for _, x in rows], **pad)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    total = answer_and_text_loss(tiny_model, batch, "sum", weight)
    torch.testing.assert_close(total, expected)
    mean = answer_and_text_loss(tiny_model, batch, "mean", weight)
    torch.testing.assert_close(mean, expected / sum(answers))
