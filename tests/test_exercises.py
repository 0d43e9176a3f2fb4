"""What is written by hand in exercises/ agrees with the package, and its checks see mistakes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from config import GPT2Config
from exercises import accounting
from exercises.finetuning import finetuning_step
from extensions.costs import forward_flops
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from grading.checks import check
from optim.adamw import AdamW
from tests.hugging_face import batch_of

PUBLISHED = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168}
PUBLISHED |= {"gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}


def labelled_batch():
    ids, mask = batch_of([9, 4, 6], 9, 100)
    labels = torch.full_like(ids, -100)
    for row, length in enumerate([9, 4, 6]):
        labels[row, length - 1] = ids[row, length - 1]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def test_a_step_by_hand_is_one_of_the_packages(tiny_model):
    """The same loss and, to rounding, the same weights as by next_token_loss."""
    batch = labelled_batch()
    other = GPT2Model(tiny_model.config).eval()
    other.load_state_dict(tiny_model.state_dict())
    optimizers = [AdamW(model.parameters(), lr=1e-3, eps=1e-2) for model in (tiny_model, other)]
    for _ in range(3):
        loss = next_token_loss(other, batch)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        by_hand = finetuning_step(tiny_model, batch, optimizers[0])
        assert by_hand == pytest.approx(loss.item(), rel=1e-5)
    for ours, theirs in zip(tiny_model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_four_sizes_have_the_published_numbers_of_parameters():
    counted = {size: accounting.count_parameters(c) for size, c in accounting.SIZES.items()}
    assert counted == PUBLISHED


@pytest.mark.parametrize("width", [None, 40])
def test_a_step_costs_what_torch_counts(width):
    shape = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": width}
    config = GPT2Config(61, 16, **shape, attn_implementation="eager", pad_token_id=0)
    model = GPT2Model(config)
    assert accounting.count_parameters(config) == sum(p.numel() for p in model.parameters())
    operations, size = accounting.training_costs(config, 1000, 12)
    assert operations == 3 * forward_flops(model, 12, projected=12) and size == 16_000
    with FlopCounterMode(display=False) as counter:
        logits = model.hidden_state_to_token(model(torch.ones(1, 12).long())["last_hidden_state"])
        logits.sum().backward()
    assert counter.get_total_flops() == operations


def wrong_step(labels=lambda b: b["labels"], shift=1, forget=True, sign=1.0, step=True, pad=None):
    def finetuning_step(model, batch, optimizer):
        hidden = model(batch["input_ids"], batch["attention_mask"])["last_hidden_state"]
        logits = model.hidden_state_to_token(hidden)[:, : hidden.size(1) - shift]
        targets = labels(batch)[:, shift:]
        if pad is not None:
            targets = targets.masked_fill(targets == pad, -100)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        if forget:
            optimizer.zero_grad()
        (sign * loss).backward()
        if step:
            optimizer.step()
        return loss

    return finetuning_step


def all_tokens(batch):
    return batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)


@pytest.mark.parametrize(
    ("how", "hint"),
    [
        ({}, None),
        ({"shift": 0}, "position i predicts token i + 1"),
        ({"labels": all_tokens}, "only the labels count"),
        ({"pad": 96}, "not the padding token"),
        ({"forget": False}, "clear the gradients"),
        ({"sign": -1.0}, "the loss grows"),
        ({"step": False}, "nothing is learned"),
    ],
)
def test_the_check_of_the_step_names_the_mistake(how, hint, monkeypatch):
    monkeypatch.setattr("exercises.finetuning.finetuning_step", wrong_step(**how))
    report = check("fine-tuning step")
    assert bool(report) == (hint is None)
    assert hint is None or hint in report.lines()[0][3]


def test_the_last_step_must_reach_the_weights(monkeypatch):
    right, calls = wrong_step(), []

    def last_one_is_missing(model, batch, optimizer):
        calls.append(1)
        return (wrong_step(step=False) if len(calls) == 3 else right)(model, batch, optimizer)

    monkeypatch.setattr("exercises.finetuning.finetuning_step", last_one_is_missing)
    assert "token embedding after them" in str(check("fine-tuning step"))


def counting(**changes):
    def count(config):
        d, f, L = config.hidden_size, config.intermediate_size, config.num_hidden_layers
        layer = 4 * d * d + 2 * d * f + changes.get("biases", 5 * d + f) + 4 * d
        embeddings = (config.vocab_size + config.max_position_embeddings) * d
        return embeddings * changes.get("embeddings", 1) + L * layer + changes.get("norm", 2 * d)

    return count


@pytest.mark.parametrize(
    ("changes", "hint"),
    [({}, ""), ({"norm": 0}, "the final layer norm"), ({"biases": 0}, "has a bias")],
)
def test_the_check_of_the_count_names_the_mistake(changes, hint, monkeypatch):
    monkeypatch.setattr(accounting, "count_parameters", counting(**changes))
    report = check("parameter count")
    assert bool(report) == (not changes) and hint in report.lines()[0][3]


@pytest.mark.parametrize(
    ("factors", "hint"),
    [((1, 1), ""), ((1 / 3, 1), "the backward pass takes twice"), ((1, 0.75), "two moments")],
)
def test_the_check_of_the_costs_names_the_mistake(factors, hint, monkeypatch):
    training_costs = accounting.training_costs

    def costs(*arguments):
        right = training_costs(*arguments)
        return [round(number * factor) for number, factor in zip(right, factors, strict=True)]

    monkeypatch.setattr(accounting, "training_costs", costs)
    report = check("training costs")
    assert bool(report) == (factors == (1, 1)) and hint in report.lines()[0][3]
