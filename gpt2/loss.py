"""The one objective of Tasks 1, 2 and 3: cross-entropy of the next token."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gpt2.fast.linear import fast_linear, fast_product
from utils import in_evaluation_mode

IGNORED = -100  # a label that does not count, as everywhere in torch


def next_token_loss(model, batch, num_labels=None, *, count_padding=False) -> Tensor:
    """The mean of -log P(x_{i+1} | x_≤i) over the label tokens of a batch (handout section 3.4).

    `batch` is a mapping with `input_ids` and `attention_mask`, [B, T] each, and optionally
    `labels` [B, T], where -100 does not count; or a pair (input_ids, attention_mask). Without
    `labels` every token counts but the first of its row, which nothing predicts. Pads count only
    with `count_padding=True`, which is how the course's published curve was made.

    The sum is divided by `num_labels` where that is given: a batch that is accumulated in parts
    divides each part by the label tokens of the whole. Only positions with a label are projected
    to the vocabulary. Raises ValueError for a batch without a label.
    """
    input_ids, attention_mask, labels = _unpack(batch, count_padding)
    hidden_states = model(input_ids, attention_mask)["last_hidden_state"]
    # BEGIN SOLUTION next_token_loss
    targets = labels[:, 1:]  # position i predicts token i + 1
    counted = targets != IGNORED
    total = _summed_cross_entropy(
        hidden_states[:, :-1][counted],
        getattr(model, "module", model).word_embedding.weight,  # under a parallel wrapper
        targets[counted],
    )
    if num_labels is None:
        num_labels = counted.sum()
        if num_labels == 0:
            raise ValueError("no token of this batch has a label, so it has no loss")
    return total / num_labels
    # END SOLUTION


def count_labels(batch, *, count_padding=False) -> int:
    """How many label tokens `next_token_loss` averages over in this batch."""
    _, _, labels = _unpack(batch, count_padding)
    return int((labels[:, 1:] != IGNORED).sum())


@torch.no_grad()
@in_evaluation_mode
def mean_loss(model, loader) -> float:
    """Nats per label token over a whole loader, dropout off; the model's mode is put back."""
    device = next(model.parameters()).device
    total = count = 0
    for batch in loader:
        names = ("input_ids", "attention_mask", "labels")
        tensors = zip(names, _unpack(batch, count_padding=False), strict=True)
        batch = {name: tensor.to(device) for name, tensor in tensors}
        total += next_token_loss(model, batch, num_labels=1).item()
        count += count_labels(batch)
    if count == 0:
        raise ValueError("no token of the loader has a label, so there is no loss")
    return total / count


def _unpack(batch, count_padding: bool) -> tuple[Tensor, Tensor, Tensor]:
    """input_ids, attention_mask and labels of a batch, [B, T] each."""
    if isinstance(batch, Mapping):
        input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
        labels = batch.get("labels")
    else:
        (input_ids, attention_mask), labels = batch, None
    if labels is not None:
        return input_ids, attention_mask, labels
    if count_padding:
        return input_ids, attention_mask, input_ids
    real = attention_mask.bool()
    after_a_token = torch.cat([torch.zeros_like(real[:, :1]), real[:, :-1]], dim=1)
    return input_ids, attention_mask, input_ids.masked_fill(~(real & after_a_token), IGNORED)


# BEGIN SOLUTION NO PROMPT
ROWS = 1024  # rows of logits in memory at a time: 200 MB for GPT-2's vocabulary in float32


def _summed_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """cross_entropy(hidden @ weight.T, targets, reduction="sum") in little memory, and faster.

    hidden [N, d], weight [vocab, d], targets [N] -> scalar.
    """
    if not torch.is_grad_enabled():  # a Function would make the weight's gradient all the same
        weight = weight.detach()
    return _SummedCrossEntropy.apply(hidden, weight, targets)


class _SummedCrossEntropy(torch.autograd.Function):
    """Some rows of logits at a time, overwritten by their gradient as soon as they are known.

    With p = softmax(h·Wᵀ): dL/dh = (p - onehot)·W and dL/dW = (p - onehot)ᵀ·h, so the forward
    pass can leave both behind and the backward pass has only to hand them over.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets):
        device_type = hidden.device.type
        half = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if half else hidden.dtype
        wants_hidden, wants_weight, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight) if wants_weight and len(hidden) == 0 else None
        # A sum of thousands of terms needs more digits than half precision has.
        total = hidden.new_zeros((), dtype=torch.float32 if dtype.itemsize < 4 else dtype)
        with torch.autocast(device_type, enabled=False):
            W = weight.to(dtype)
            for start in range(0, len(hidden), ROWS):
                rows = slice(start, start + ROWS)
                h, y = hidden[rows].to(dtype), targets[rows, None]
                logits = fast_linear(h, W).to(total.dtype)
                largest, target_logit = logits.amax(dim=1, keepdim=True), logits.gather(1, y)
                p = torch.softmax(logits, dim=1, out=logits)
                # log Σ exp(logits) from the likeliest token, whose probability can't underflow
                log_sum = largest - p.amax(dim=1, keepdim=True).log()
                total += (log_sum - target_logit).sum()
                grad = p.scatter_add_(1, y, p.new_full(y.shape, -1.0)).to(dtype)
                if wants_hidden:
                    grad_hidden[rows] = fast_linear(grad, W.t())
                if wants_weight:
                    part = fast_product(grad, h)
                    grad_weight = part.to(weight.dtype) if start == 0 else grad_weight.add_(part)
        ctx.gradients = grad_hidden, grad_weight
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        if ctx.gradients is None:
            raise RuntimeError("next_token_loss can be differentiated only once")
        gradients, ctx.gradients = ctx.gradients, None
        return *(None if g is None else g.mul_(grad_output) for g in gradients), None
        # END SOLUTION
