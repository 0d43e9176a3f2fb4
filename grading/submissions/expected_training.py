"""Cases of sections 3.3 to 4.3: AdamW, the loss, steps of training, generation. For instructors."""

from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from config import GPT2Config
from grading.checks.cases import SMALL
from grading.checks.model import hidden_states, hugging_face_model
from grading.checks.optimizer import SETTINGS
from grading.checks.training import LEARNING_RATE, LOSSES, STEPS

PAD = SMALL["pad_token_id"]


def adamw(cases, seed: int) -> None:
    gradients = np.random.default_rng(seed).normal(size=(12, 3, 2))
    gradients *= np.geomspace(0.01, 10, 12)[:, None, None]
    slips = {
        "epsilon is added outside the root": [{"eps_inside": True}],
        "the root is missing": [{"root": False}],
        "the second moment takes the squared gradient": [{"squared": False}],
    }
    corrections = {  # how often (m, v) are
        "the bias is corrected twice: in m̂ and v̂, and again in the step size": [
            *({"corrections": pair} for pair in ((2, 1), (2, 2), (2, 0))),
            {"scaled": True},
        ],
        "m̂ is not corrected": [{"corrections": (0, 1)}],
        "v̂ is not corrected": [{"corrections": (1, 0)}],
    }
    decays = {
        "the decay is decoupled: it is no part of the gradient": [{"coupled": True}],
        "the decay is scaled by the learning rate": [{"decay_times_lr": False}],
        "the weight decay is missing": [{"weight_decay": 0.0}],
    }
    for name, hyper in SETTINGS.items():
        mistakes = slips | (corrections if hyper["correct_bias"] else {})
        mistakes |= decays if hyper["weight_decay"] else {}
        mistakes["correct the bias if, and only if, correct_bias"] = [
            {"correct_bias": not hyper["correct_bias"]}
        ]
        right = [
            adamw_by_hand(gradients, **hyper, eps_corrected=eps, decay_first=first)
            for eps, first in product((True, False), (False, True))
        ]
        cases.add(
            f"AdamW: {name}",
            {"gradients": gradients},
            right[0],
            {
                text: [adamw_by_hand(gradients, **{**hyper, **slip}) for slip in variants]
                for text, variants in mistakes.items()
            },
            also=right[1:],
            apart=1e-8,
        )


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


def loss(cases, reference) -> None:
    """Three texts; the padding token ends each, as end-of-text, and is inside the first."""
    texts = [torch.randint(PAD, (length,)) for length in (8, 5, 3)]
    for text in texts:
        text[-1] = PAD
    texts[0][3] = PAD
    log_p = [log_probabilities(reference, text) for text in texts]
    following = list(zip(log_p, texts, strict=True))
    each = [-p[:-1].gather(1, t[1:, None]).flatten() for p, t in following]
    every, of_rows = torch.cat(each), torch.stack([losses.mean() for losses in each])
    itself = [  # with or without the first token, which is no label
        torch.cat([-p[a:].gather(1, t[a:, None]).flatten() for p, t in following]) for a in (0, 1)
    ]
    no_ends = every[torch.cat([t[1:] for t in texts]) != PAD]
    for name, reduction in LOSSES.items():
        ids, mask = _padded(texts, 40 if name == "full length" else 8, left=name == "left")
        reduced = {"mean": torch.Tensor.mean, "sum": torch.Tensor.sum, "none": torch.clone}
        reduce = reduced[reduction]
        mistakes = {
            "labels that equal pad_token_id are lost, and with them every end of text: "
            "the mask says what is a pad": reduce(no_ends),
            "position i predicts token i + 1, not token i": [reduce(each) for each in itself],
        }
        logits = [
            reference.lm_head(hidden_states(reference, ids, seen, positions))
            for seen in (mask, None)
            for positions in ((mask.cumsum(1) - 1).clamp(min=0), torch.arange(ids.size(1))[None])
        ]
        all_labels = [_cross_entropy(each[:, :-1], ids[:, 1:]) for each in logits]
        own, real = _cross_entropy(logits[0][:, :-1], ids[:, :-1]), mask[:, :-1].bool()
        labelled = real & F.pad(real[:, :-1], (1, 0))
        mistakes["position i predicts token i + 1, and not its own"] = [
            reduce(own[seen.flatten()]) for seen in (real, labelled)
        ]
        mistakes["pads are counted"] = [reduce(each) for each in all_labels]
        also = []
        if name == "left":  # positions may count from a row's first column
            real = (mask[:, 1:] * mask[:, :-1]).flatten().bool()
            also = [reduce(all_labels[1][real])]
        else:
            after_a_token = mask[:, :-1].flatten().bool()
            first_pads = all_labels[0][after_a_token]
            mistakes["the first pad after each text is counted"] = reduce(first_pads)
        if reduction == "mean":
            mistakes["the mean over the tokens, not their sum"] = every.sum()
            mistakes["every token has the same weight, not every row"] = of_rows.mean()
            numbers = len(texts), mask.sum(), ids.numel(), ids[:, 1:].numel()
            mistakes["divide by the number of labels"] = [every.sum() / n for n in numbers]
        elif reduction == "sum":
            mistakes['reduction="sum" is the sum over the tokens, not their mean'] = every.mean()
        else:
            zeros = torch.where((mask[:, 1:] > 0).flatten(), all_labels[0], 0.0)
            mistakes["only real labels, one after the other: (N,)"] = zeros
        cases.add(f"loss: {name}", {"ids": ids, "mask": mask}, reduce(every), mistakes, also=also)
    # Fine-tuning: only the last token of each row has a label.
    ids, mask = _padded(texts, 8)
    labels = torch.full_like(ids, -100)
    for row, text in enumerate(texts):
        labels[row, len(text) - 1] = text[-1]
    at_label = torch.stack([losses[-1] for losses in each])
    at_itself = torch.stack([-p[-1, t[-1]] for p, t in following])
    cases.add(
        "loss: labels",
        {"ids": ids, "mask": mask, "labels": labels},
        at_label.mean(),
        {
            "only the label counts, not the whole text": every.mean(),
            "a label is predicted from the position before it": at_itself.mean(),
            "the mean over the labels, not their sum": at_label.sum(),
        },
    )


def _padded(texts: list[Tensor], width: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return ids and mask, (B, width)."""
    ids, mask = torch.full((len(texts), width), PAD), torch.zeros(len(texts), width).long()
    for row, text in enumerate(texts):
        place = slice(width - len(text), None) if left else slice(len(text))
        ids[row, place], mask[row, place] = text, 1
    return ids, mask


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")


@torch.no_grad()
def log_probabilities(reference, text: Tensor) -> Tensor:
    """[T, vocab] of one text without pads."""
    return reference(text[None]).logits[0].log_softmax(-1)


def steps(cases, reference) -> None:
    """Steps of gradient descent, with the mistakes that a loop can make."""
    texts = [[torch.randint(PAD, (n,)) for n in lengths] for lengths in ((9, 7, 2), (4, 3, 3))]
    pairs = zip(*(_padded(batch, 9) for batch in texts), strict=True)
    ids, masks = (torch.stack(both * 4)[:7] for both in pairs)  # again, with a lower loss

    def losses(accumulate, *, share="label", clear="step", step="step", sign=1.0, reported=None,
               scale="share") -> Tensor:  # fmt: skip
        """Return the loss of each step; `clear` and `step` say after what."""
        model = hugging_face_model(GPT2Config(**SMALL), spread=0.4)
        model.load_state_dict(reference.state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        results = []
        for start in range(0, len(ids), accumulate):
            batches = range(start, min(start + accumulate, len(ids)))
            number = sum(int(masks[i][:, 1:].sum()) for i in batches)
            parts = []
            for i in batches:
                if clear == "before each batch":
                    optimizer.zero_grad()
                each = _cross_entropy(model(ids[i]).logits[:, :-1], ids[i][:, 1:])
                each = each[masks[i][:, 1:].flatten().bool()]
                by = {
                    "label": number,
                    "batch": len(each),
                    "mean of means": len(each) * len(batches),
                }
                part = each.sum() / by[share]
                (sign * part * (number if scale == "sum" else 1.0)).backward()
                parts.append(part.item())
                if step == "batch":
                    optimizer.step()
                    optimizer.zero_grad()
            if step == "step":
                optimizer.step()
            if clear == "step":
                optimizer.zero_grad()
            results.append(parts[-1] if reported == "last" else sum(parts))
        return torch.tensor(results)

    slips = {
        "clear the gradients of the step before": {"clear": "never"},
        "nothing is learned: call the optimizer after the backward pass": {"step": "never"},
        "the loss grows": {"sign": -1.0},
        "the gradient is that of the mean, not of the sum": {"scale": "sum"},
    }
    of_many = {
        "a step is the mean over all its labels, not a sum of means": {"share": "batch"},
        "every label has the same weight, not every batch": {"share": "mean of means"},
        "clear the gradients once a step, not before each batch": {"clear": "before each batch"},
        "one update for all batches of a step": {"step": "batch"},
        "the loss of a step is that of all its batches, not of the last": {"reported": "last"},
    }
    for accumulate in STEPS:
        mistakes = slips | (of_many if accumulate > 1 else {})
        cases.add(
            f"steps: {accumulate}",
            {"ids": ids, "masks": masks},
            losses(accumulate),
            {text: losses(accumulate, **slip) for text, slip in mistakes.items()},
            apart=2e-3,
        )


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
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        positions = torch.arange(ids.size(1))[None] if from_column else positions
        with torch.no_grad():
            logits = reference.lm_head(hidden_states(reference, ids, mask, positions)[:, -1])
        top = logits.topk(2)
        assert (top.values[:, 0] - top.values[:, 1] > 1e-3).all(), "a tie"
        ids = torch.cat([ids, top.indices[:, :1]], dim=1)
        mask = F.pad(mask, (0, 1), value=1)
    return ids
