"""Cases of sections 3.3 to 4.3: AdamW, the loss, steps of training, generation. For instructors."""

from copy import deepcopy
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grading.checks.cases import LEARNING_RATE, SMALL
from grading.checks.model import hidden_states
from grading.checks.optimizer import SETTINGS
from grading.checks.training import LOSSES, STEPS

PAD = SMALL["pad_token_id"]
SLIPS = {  # what goes wrong in AdamW, as arguments of `adamw_by_hand`
    "epsilon is added outside the root": [{"eps_inside": True}],
    "the root is missing": [{"root": False}],
    "the second moment takes the squared gradient": [{"squared": False}],
    "the bias is corrected twice: in m̂ and v̂, and again in the step size": [
        *({"corrections": pair} for pair in ((2, 1), (2, 2), (2, 0))),
        {"scaled": True},
    ],
    "m̂ is not corrected": [{"corrections": (0, 1)}],
    "v̂ is not corrected": [{"corrections": (1, 0)}],
    "correct the bias if, and only if, correct_bias": [
        {"correct_bias": flag} for flag in (True, False)
    ],
    "the decay is decoupled: it is no part of the gradient": [{"coupled": True}],
    "the decay is scaled by the learning rate": [{"decay_times_lr": False}],
    "the weight decay is missing": [{"weight_decay": 0.0}],
}


def adamw(cases, seed: int) -> None:
    gradients = np.random.default_rng(seed).normal(size=(12, 3, 2))
    gradients *= np.geomspace(0.01, 10, 12)[:, None, None]
    for name, hyper in SETTINGS.items():
        right, *also = (
            adamw_by_hand(gradients, **hyper, eps_corrected=eps, decay_first=first)
            for eps, first in product((True, False), (False, True))
        )
        mistakes = {
            hint: [adamw_by_hand(gradients, **hyper | slip) for slip in slips]
            for hint, slips in SLIPS.items()
        }
        inputs = {"gradients": gradients}
        cases.add(f"AdamW: {name}", inputs, right, mistakes, also=also, apart=1e-8)


def adamw_by_hand(
    gradients, lr, betas, eps, weight_decay, correct_bias, *, corrections=(1, 1), eps_inside=False,
    root=True, decay_first=False, coupled=False, decay_times_lr=True, squared=True,
    eps_corrected=True, scaled=False,
) -> np.ndarray:  # fmt: skip
    """The steps from 1 by the formulas of section 3.3; or with one of the usual mistakes."""
    theta, m, v = (np.full(gradients[0].shape, start) for start in (1.0, 0.0, 0.0))
    decay = (lr if decay_times_lr else 1.0) * weight_decay
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * theta if coupled else g
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * (g**2 if squared else np.abs(g))
        of_m, of_v = ((1 - beta**t) if correct_bias else 1.0 for beta in betas)
        m_hat, v_hat = m / of_m ** corrections[0], v / of_v ** corrections[1]
        added = eps if eps_corrected else eps / np.sqrt(of_v)
        below = v_hat + (added if eps_inside else 0.0)
        below = (np.sqrt(below) if root else below) + (0.0 if eps_inside else added)
        theta = theta * (1 - decay) if decay_first and not coupled else theta
        theta = theta - lr * (np.sqrt(of_v) / of_m if scaled else 1.0) * m_hat / below
        theta = theta * (1 - decay) if not decay_first and not coupled else theta
    return theta


# ---- Sections 3.4 to 4.3 -----------------------------------------------------------------------


@torch.no_grad()
def loss(cases, reference) -> None:
    """Three texts; the padding token ends each, as end-of-text, and is inside the first."""
    texts = [torch.randint(PAD, (length,)) for length in (8, 5, 3)]
    for text in texts:
        text[-1] = PAD
    texts[0][3] = PAD
    alone = [(reference(text[None]).logits, text[None]) for text in texts]
    each = [_cross_entropy(logits[:, :-1], text[:, 1:]) for logits, text in alone]
    # With or without the first token, which is no label.
    itself = [[_cross_entropy(x[:, a:], text[:, a:]) for x, text in alone] for a in (0, 1)]
    every = torch.cat(each)
    no_ends = every[torch.cat([text[1:] for text in texts]) != PAD]
    for name, reduction in LOSSES.items():
        ids, mask = _padded(texts, 40 if name == "full length" else 8, left=name == "left")
        reduce = {"mean": torch.mean, "sum": torch.sum, "none": torch.clone}[reduction]
        states = [
            hidden_states(reference, ids, mask, masked=masked, from_column=column)
            for masked, column in product((True, False), (False, True))
        ]
        logits = [reference.lm_head(each[:, :-1]) for each in states]
        all_labels = [_cross_entropy(each, ids[:, 1:]) for each in logits]
        own, read = _cross_entropy(logits[0], ids[:, :-1]), mask[:, :-1].bool()
        after_a_token = read & F.pad(read[:, :-1], (1, 0))
        shifted = [own[seen.flatten()] for seen in (read, after_a_token)]
        mistakes = {
            "labels that equal pad_token_id are lost, and with them every end of text: "
            "the mask says what is a pad": reduce(no_ends),
            "position i predicts token i + 1, and not its own": [
                reduce(losses) for losses in (*map(torch.cat, itself), *shifted)
            ],
            "pads are counted": [reduce(losses) for losses in all_labels],
            "`reduction` says whether it is the mean of the labels' losses, their sum, or all": [
                every.mean(),
                every.sum(),
            ],
        }
        labelled, also = (mask[:, 1:] > 0).flatten(), []
        if name == "left":  # positions may count from a row's first column
            also = [reduce(all_labels[1][labelled & read.flatten()])]
        else:
            first_pads = all_labels[0][read.flatten()]
            mistakes["the first pad after each text is counted"] = reduce(first_pads)
        if reduction == "mean":
            of_rows = torch.stack([losses.mean() for losses in each])
            mistakes["every token has the same weight, not every row"] = of_rows.mean()
            numbers = len(texts), mask.sum(), ids.numel(), ids[:, 1:].numel()
            mistakes["divide by the number of labels"] = [every.sum() / n for n in numbers]
        elif reduction == "none":
            zeros = torch.where(labelled, all_labels[0], 0.0)
            mistakes["only real labels, one after the other: (N,)"] = zeros
        cases.add(f"loss: {name}", {"ids": ids, "mask": mask}, reduce(every), mistakes, also=also)
    # Fine-tuning: only the last token of each row has a label.
    ids, mask = _padded(texts, 8)
    labels = torch.full_like(ids, -100)
    for row, text in enumerate(texts):
        labels[row, len(text) - 1] = text[-1]
    at_label = torch.stack([losses[-1] for losses in each])
    mistakes = {
        "only the label counts, not the whole text": every.mean(),
        "a label is predicted from the position before it": torch.stack(
            [losses[-1] for losses in itself[0]]
        ).mean(),
        "the mean over the labels, not their sum": at_label.sum(),
    }
    inputs = {"ids": ids, "mask": mask, "labels": labels}
    cases.add("loss: labels", inputs, at_label.mean(), mistakes)


def _padded(texts: list[Tensor], width: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return ids and mask, (B, width)."""
    ids, mask = torch.full((len(texts), width), PAD), torch.zeros(len(texts), width).long()
    for row, text in enumerate(texts):
        place = slice(width - len(text), None) if left else slice(len(text))
        ids[row, place], mask[row, place] = text, 1
    return ids, mask


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")


NO_STEP = {
    "clear the gradients of the step before": {"clear": "never"},
    "nothing is learned: call the optimizer after the backward pass": {"update": "never"},
    "the loss grows": {"sign": -1.0},
}


def steps(cases, reference) -> None:
    """Steps of gradient descent, with the mistakes that a loop can make."""
    texts = [[torch.randint(PAD, (n,)) for n in lengths] for lengths in ((9, 7, 2), (4, 3, 3))]
    pairs = zip(*(_padded(batch, 9) for batch in texts), strict=True)
    ids, masks = (torch.stack(both * 4)[:7] for both in pairs)  # again, with a lower loss
    batches = list(zip(ids, masks, ids.masked_fill(masks == 0, -100), strict=True))
    slips = NO_STEP | {
        "the gradient is that of the mean, not of the sum": {"scaled": True},
        "a step is the mean over all its labels, not a sum of means": {"per": "batch"},
        "every label has the same weight, not every batch": {"per": "mean of means"},
        "clear the gradients once a step, not before each batch": {"clear": "before a batch"},
        "one update for all batches of a step": {"update": "each batch"},
        "the loss of a step is that of all its batches, not of the last": {"last": True},
    }
    for accumulate in STEPS:

        def losses(accumulate=accumulate, **slip) -> Tensor:
            return train_by_hand(reference, batches, accumulate, **slip)[0]

        inputs = {"ids": ids, "masks": masks}
        cases.add_slips(f"steps: {accumulate}", inputs, losses, slips, apart=2e-3)


def finetuning(cases, reference) -> None:
    """Three steps on two batches in which the pad also occurs as a token, and as an answer."""
    ids = torch.randint(PAD, (2, 3, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [6], [4]])).long().expand(2, 3, 9)
    ids[:, :, 2], ids[0, 2, 3] = PAD, PAD
    ids = ids.masked_fill(mask == 0, PAD)
    labels = torch.full_like(ids, -100)
    for row, answer in enumerate((2, 1, 1)):  # so many tokens are labels, the last of the row
        end = int(mask[0, row].sum())
        labels[:, row, end - answer : end] = ids[:, row, end - answer : end]

    def train(labels=labels, **slip) -> tuple[Tensor, Tensor]:
        batches = [(ids[i], mask[i], labels[i]) for i in (0, 1, 0)]
        return train_by_hand(reference, batches, **slip)

    slips = NO_STEP | {
        "position i predicts token i + 1, not token i": {"shift": 0},
        "the mean over the labels, not their sum": {"per": "step"},
        "only the labels count, not the whole text": {"labels": ids.masked_fill(mask == 0, -100)},
        "-100 marks what is ignored, not the padding token": {
            "labels": labels.masked_fill(labels == PAD, -100)
        },
    }
    inputs = {"ids": ids, "mask": mask, "labels": labels}
    cases.add_slips("fine-tuning: losses", inputs, lambda **slip: train(**slip)[0], slips)
    cases.add("fine-tuning: weights", {}, train()[1])


def train_by_hand(
    reference, batches, accumulate=1, *, shift=1, per="label", clear="after a step", update="step",
    sign=1.0, scaled=False, last=False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the loss of each step, and the token embedding in the end; or with one of the usual
    mistakes.

    A batch is ids, mask and labels, [B, T] each.
    """
    model, results = deepcopy(reference), []
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for start in range(0, len(batches), accumulate):
        step = batches[start : start + accumulate]
        counts = [int((labels[:, 1:] != -100).sum()) for *_, labels in step]
        parts = []
        for (ids, mask, labels), count in zip(step, counts, strict=True):
            if clear == "before a batch":
                optimizer.zero_grad()
            logits = model(ids, attention_mask=mask).logits[:, : ids.size(1) - shift]
            total = _cross_entropy(logits, labels[:, shift:]).sum()  # 0 at -100
            shares = {"label": sum(counts), "batch": count, "step": 1}
            part = total / (shares | {"mean of means": count * len(step)})[per]
            (sign * part * (sum(counts) if scaled else 1)).backward()
            parts.append(part.item())
            if update == "each batch":
                optimizer.step()
                optimizer.zero_grad()
        if update == "step":
            optimizer.step()
        if clear == "after a step":
            optimizer.zero_grad()
        results.append(parts[-1] if last else sum(parts))
    return torch.tensor(results), model.transformer.wte.weight


def generation(cases, reference) -> None:
    """Greedy continuations of three prompts by 12 tokens; AssertionError for a tie."""
    prompts = [torch.tensor(ids) for ids in ([11, 12, 13, 14, 15], [21, 22], [31])]
    for number, prompt in enumerate(prompts):
        (row,) = _greedy(reference, prompt[None], torch.ones_like(prompt)[None], 12)
        inputs = {"prompt": prompt, "end": row[len(prompt) + 2]}
        cases.add(f"generation: {number}", inputs, row)
    ids, mask = _padded(prompts, 5, left=True)
    right = []
    for from_column in (False, True):  # where a row's positions start
        whole = _greedy(reference, ids, mask, 6, from_column=from_column)
        rows = [row[5 - len(prompt) :] for row, prompt in zip(whole, prompts, strict=True)]
        right.append(torch.stack([F.pad(row, (0, 11 - len(row)), value=-1) for row in rows]))
    cases.add("generation: a padded batch", {"ids": ids, "mask": mask}, right[0], also=right[1:])


def _greedy(reference, ids: Tensor, mask: Tensor, new: int, *, from_column=False) -> Tensor:
    for _ in range(new):
        states = hidden_states(reference, ids, mask, from_column=from_column)
        top = reference.lm_head(states[:, -1]).topk(2)
        assert (top.values[:, 0] - top.values[:, 1] > 1e-3).all(), "a tie"
        ids = torch.cat([ids, top.indices[:, :1]], dim=1)
        mask = F.pad(mask, (0, 1), value=1)
    return ids
