"""The one objective of Tasks 1, 2 and 3: the cross-entropy of the next token (handout 3.4, 4.3)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.fast import in_chunks
from utils import in_evaluation_mode

IGNORED = -100  # a label that does not count, as everywhere in torch


def next_token_loss(model, batch, reduction: str = "mean") -> Tensor:
    """Return -log P(x_{i+1} | x_≤i) over the labelled tokens of a batch.

    `batch` is a mapping with `input_ids` and `attention_mask`, (B, T) each, and optionally `labels`
    (B, T), where -100 does not count; or a pair (input_ids, attention_mask). Without `labels`
    every token counts but the first of its row, and no pad does. `reduction` is "mean", "sum" or
    "none" (N labels, row by row), as in torch. Only labelled positions are projected to the
    vocabulary. Raises ValueError for a batch without a label, or a label that is no token id.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    input_ids, attention_mask, labels = _unpack(batch)
    hidden_states = model(input_ids, attention_mask)["last_hidden_state"]
    # BEGIN SOLUTION next_token_loss
    targets = labels[:, 1:]  # position i predicts token i + 1
    counted = targets != IGNORED
    project = getattr(model, "module", model).hidden_state_to_token  # under a parallel wrapper

    def score(hidden: Tensor, target: Tensor) -> Tensor:
        logits = project(hidden)  # (N, vocab)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, target, reduction="none")

    losses = in_chunks(score, hidden_states[:, :-1][counted], _checked(targets[counted], model))
    return losses if reduction == "none" else getattr(losses, reduction)()
    # END SOLUTION


def answer_and_text_loss(model, batch, reduction: str = "mean", weight: float = 0.5) -> Tensor:
    """Return the loss of the labelled tokens plus `weight` times that of the texts before them.

    Each row adds to -log P(answer | prompt) the mean of -log P(x_{i+1} | x_≤i) over its prompt, so
    that the model keeps to language while it learns a task (Radford et al. 2018, section 3.2).
    `reduction` is "mean" over the labelled tokens, or "sum".
    """
    input_ids, attention_mask, labels = _unpack(batch)
    losses = next_token_loss(model, (input_ids, attention_mask), reduction="none")
    counted = attention_mask[:, 1:].bool() & attention_mask[:, :-1].bool()  # in the order of losses
    answers = labels[:, 1:] != IGNORED
    texts = counted & ~answers
    weights = answers + weight * texts / texts.sum(dim=1, keepdim=True).clamp(min=1)  # (B, T - 1)
    total = (losses * weights[counted]).sum()
    return total / answers.sum() if reduction == "mean" else total


def count_labels(batch) -> int:
    """Return over how many labels `next_token_loss` sums for this batch."""
    *_, labels = _unpack(batch)
    return int((labels[:, 1:] != IGNORED).sum())


@torch.no_grad()
@in_evaluation_mode
def mean_loss(model, loader) -> float:
    """Return the nats per label over a whole loader, dropout off; the model's mode is restored."""
    device = next(model.parameters()).device
    total = count = 0
    for batch in loader:
        input_ids, attention_mask, labels = (tensor.to(device) for tensor in _unpack(batch))
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        if num_labels := count_labels(batch):
            total += next_token_loss(model, batch, reduction="sum").item()
            count += num_labels
    if count == 0:
        raise ValueError("no token of the loader has a label, so there is no loss")
    return total / count


def _unpack(batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return input_ids, attention_mask and labels of a batch, (B, T) each."""
    if isinstance(batch, Mapping):
        input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
        labels = batch.get("labels")
    else:
        (input_ids, attention_mask), labels = batch, None
    if labels is None:
        real = attention_mask.bool()
        after_a_token = F.pad(real[:, :-1], (1, 0))
        labels = input_ids.masked_fill(~(real & after_a_token), IGNORED)
    return input_ids, attention_mask, labels


def _checked(targets: Tensor, model) -> Tensor:
    """Return the labels (N,) if there are any and all are token ids."""
    if len(targets) == 0:
        raise ValueError("no token of this batch has a label, so it has no loss")
    vocab_size = getattr(model, "module", model).config.vocab_size
    wrong = (targets < 0) | (targets >= vocab_size)
    if wrong.any():
        raise ValueError(
            f"labels has {targets[wrong][0].item()}, which is no token id (0 to {vocab_size - 1}); "
            f"give {IGNORED} to a label that does not count"
        )
    return targets
