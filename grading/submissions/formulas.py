"""The handout's formulas, written out once more, from the handout and from nothing of ours.

Models and their parts are transformers'. mistakes.toml says what goes wrong in these lines.
"""

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from grading.checks.cases import LEARNING_RATE, SMALL
from grading.checks.model import hidden_states

PAD = SMALL["pad_token_id"]
LOW = torch.finfo(torch.float32).min

# ---- Section 3.2 -------------------------------------------------------------------------------


def hidden(T: int, S: int, mask: Tensor | None) -> Tensor:
    """Return what the last T of S positions do not see, (T, S), or (B, 1, T, S) with a mask."""
    later = ~torch.ones(T, S).tril(S - T).bool()
    return later if mask is None else later | (mask < 0)


def causal_mask(T: int, S: int, mask: Tensor) -> Tensor:
    """Return -1 for what is hidden, and 0 elsewhere."""
    return -1.0 * hidden(T, S, mask)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(QKᵀ/√d + masks), (B, h, T, S)."""
    T, S = query.size(-2), key.size(-2)
    scores = query @ key.mT / math.sqrt(query.size(-1))
    return scores.masked_fill(hidden(T, S, mask), -1e30).softmax(dim=-1)


def weights_of_tokens(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    return of_tokens(attention_weights(query, key, mask), mask)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weighted values, heads merged, (B, T, h·d)."""
    context = of_tokens(attention_weights(query, key, mask) @ value, mask)
    return context.transpose(1, 2).flatten(2)


def of_tokens(result: Tensor, mask: Tensor | None) -> Tensor:
    """Return a result (B, h, T, ...) with inf, for any number, where the query is a pad."""
    if mask is None:
        return result
    T, S = result.size(2), mask.size(-1)
    sees_itself = mask.expand(-1, 1, T, S).diagonal(S - T, 2, 3) == 0
    return result.masked_fill(~sees_itself[..., None], math.inf)


def add(input: Tensor, output: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return input + F.linear(output, weight, bias)


def layer(block, x: Tensor, mask: Tensor, feed_forward: bool = True) -> Tensor:
    """Return what a block gives for x (B, T, hidden), or its first half; inf for pads."""
    T, mlp = x.size(1), block.mlp
    masks = LOW * hidden(T, T, mask)
    h = x + block.attn(block.ln_1(x), attention_mask=masks)[0]
    if feed_forward:
        h = h + mlp.c_proj(mlp.act(mlp.c_fc(block.ln_2(h))))
    return h.masked_fill(mask.view(-1, T, 1) < 0, math.inf)


@torch.enable_grad()
def layer_gradient(block, x: Tensor, mask: Tensor) -> Tensor:
    """Return the gradient of x for the mean square of what a block gives for tokens."""
    x = x.clone().requires_grad_()
    states = layer(block, x, mask)
    return torch.autograd.grad(states[states.isfinite()].square().mean(), x)[0]


def embed(model, ids: Tensor, positions: Tensor) -> Tensor:
    tokens, places = model.transformer.wte, model.transformer.wpe
    return tokens(ids) + places(positions)


def hidden_state_to_token(model, hidden_state: Tensor) -> Tensor:
    return model.lm_head(hidden_state)


# ---- Section 3.3 -------------------------------------------------------------------------------


def adamw(
    gradients: Tensor, lr, betas, eps, weight_decay, correct_bias, *, eps_corrected=True,
    decays_updated=True,
) -> Tensor:  # fmt: skip
    """Return the parameter after a step from 1 for each gradient."""
    beta1, beta2 = betas
    theta, m, v = torch.ones_like(gradients[0]), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        before = theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        of_m, of_v = (1 - beta1**t, 1 - beta2**t) if correct_bias else (1.0, 1.0)
        added = eps if eps_corrected else eps / math.sqrt(of_v)
        theta = theta - lr * (m / of_m) / ((v / of_v).sqrt() + added)
        theta = theta - lr * weight_decay * (theta if decays_updated else before)
    return theta


# ---- Sections 3.4 to 4.3 -----------------------------------------------------------------------


def loss(
    model, ids: Tensor, mask: Tensor, labels: Tensor, reduction: str, from_column: bool = False
) -> Tensor:
    """Return the loss of a batch (B, T), -100 where a token has no label."""
    states = hidden_states(model, ids, mask, from_column=from_column)
    losses = cross_entropy(model.lm_head(states)[:, :-1], ids[:, 1:])
    labelled = labels != -100
    losses = losses[labelled[:, 1:]]
    return losses if reduction == "none" else getattr(losses, reduction)()


@torch.enable_grad()
def loss_gradient(model, **batch) -> Tensor:
    """Return the gradient of a loss for the embedding of tokens, which is the projection, too."""
    return torch.autograd.grad(loss(model, **batch), model.transformer.wte.weight)[0]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return it for each target (B, T); 0 for -100."""
    return F.cross_entropy(logits.mT, targets, reduction="none")


@torch.enable_grad()
def train(
    model, ids: Tensor, masks: Tensor, labels: Tensor, accumulate: int, *, epochs: int = 1,
    clip: float = math.inf, decay: float = 1.0, factor: float = 1.0, from_column: bool = False,
) -> Tensor:  # fmt: skip
    """Return the loss of each step on batches (n, B, T), and the last norm's bias in the end.

    `factor` scales the loss, `clip` is the largest norm of the gradient, `decay` the learning
    rate's after each step.
    """
    model, results = deepcopy(model), []
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    batches = list(zip(ids, masks, labels, strict=True))
    for start in [*range(0, len(batches), accumulate)] * epochs:
        step = batches[start : start + accumulate]
        count, total = sum(num_labels(labels) for *_, labels in step), 0.0
        for ids, mask, labels in step:
            logits = model.lm_head(hidden_states(model, ids, mask, from_column=from_column))
            part = factor * cross_entropy(logits[:, :-1], labels[:, 1:]).sum() / count
            part.backward()
            total += part.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] *= decay
        results.append(total)
    return torch.tensor([*results, *model.transformer.ln_f.bias.tolist()])


def num_labels(labels: Tensor) -> int:
    return int((labels[:, 1:] != -100).sum())


def probabilities(model, ids: Tensor, mask: Tensor) -> Tensor:
    """Return those of the token after one text (1, T): (vocabulary,)."""
    return model.lm_head(hidden_states(model, ids, mask)[0, -1]).softmax(-1)


def greedy(
    model, ids: Tensor, mask: Tensor, new: int, end: int, from_column=False, penalty: int = 1
) -> Tensor:
    """Return the tokens of each row's text up to `end`, (B, longest), filled up with -1.

    Neither `end` nor the padding token belongs to a text, wherever it stands. Logits of tokens that
    are there already come `penalty` times closer to 0, or further from it if negative.

    AssertionError where two tokens are almost equally probable.
    """
    T, starts = ids.size(1), mask.argmax(dim=1).tolist()
    for _ in range(new):
        last = hidden_states(model, ids, mask, from_column=from_column)[:, -1]
        logits = model.lm_head(last)
        seen = logits.gather(1, ids)
        logits = logits.scatter(1, ids, torch.where(seen > 0, seen / penalty, seen * penalty))
        top = logits.topk(2)
        assert (top.values[:, 0] - top.values[:, 1] > 1e-3).all(), "a tie"
        ids = torch.cat([ids, top.indices[:, :1]], dim=1)
        mask = F.pad(mask, (0, 1), value=1)
    texts = []
    for row, start in zip(ids.tolist(), starts, strict=True):
        stop = row.index(end, T) if end in row[T:] else len(row)
        texts.append(torch.tensor([t for t in row[start:stop] if t not in (end, PAD)]))
    return pad_sequence(texts, batch_first=True, padding_value=-1)


# ---- What sizes of GPT-2 cost ------------------------------------------------------------------


def parameter_count(V: int, P: int, d: int, L: int, f: int) -> int:
    attention, feed_forward = 4 * (d * d + d), d * f + f + f * d + d
    return V * d + P * d + L * (attention + feed_forward + 2 * (2 * d)) + 2 * d


def training_costs(V: int, P: int, d: int, L: int, f: int, parameters: int, T: int) -> Tensor:
    """Return the operations of a step on T tokens, and the bytes of four numbers a weight."""
    linear, attention = 2 * T * (4 * d * d + 2 * d * f), 2 * (2 * T * T * d)
    operations = 3 * (L * (linear + attention) + 2 * T * d * V)
    return torch.tensor([operations, 4 * (1 + 1 + 2) * parameters])
