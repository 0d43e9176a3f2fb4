"""Cases of sections 3.3 to 4.3: AdamW, the loss, steps of training, generation. For instructors."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from config import GPT2Config
from grading.checks.cases import SMALL
from grading.checks.model import hugging_face_model
from grading.checks.optimizer import SETTINGS
from grading.checks.training import STEPS


def adamw(cases, seed: int) -> None:
    gradients = np.random.default_rng(seed).normal(size=(12, 3, 2))
    gradients *= np.geomspace(0.01, 10, 12)[:, None, None]
    slips = {
        "the bias is corrected twice": {"corrections": 2},
        "epsilon is added outside the root": {"eps_inside": True},
        "the root is missing": {"root": False},
        "the second moment takes the squared gradient": {"squared": False},
    }
    decays = {
        "the update comes first, the decay after it": {"decay_first": True},
        "the decay is decoupled: it is no part of the gradient": {"coupled": True},
        "the decay is scaled by the learning rate": {"decay_times_lr": False},
        "the weight decay is missing": {"weight_decay": 0.0},
    }
    for name, hyper in SETTINGS.items():
        mistakes = dict(slips) if hyper["correct_bias"] else dict(list(slips.items())[1:])
        if hyper["eps"] < 0.1:  # too little to tell
            del mistakes["epsilon is added outside the root"]
        if hyper["weight_decay"]:
            mistakes |= decays
        mistakes["correct the bias if, and only if, correct_bias"] = {
            "correct_bias": not hyper["correct_bias"]
        }
        cases.add(
            f"AdamW: {name}",
            {"gradients": gradients},
            adamw_by_hand(gradients, **hyper),
            {
                text: adamw_by_hand(gradients, **{**hyper, **slip})
                for text, slip in mistakes.items()
            },
        )


def adamw_by_hand(
    gradients, lr, betas, eps, weight_decay, correct_bias, *, corrections=1, eps_inside=False,
    root=True, decay_first=False, coupled=False, decay_times_lr=True, squared=True,
) -> np.ndarray:  # fmt: skip
    """The steps from 1 by the formulas of section 3.3; or with one of the usual mistakes."""
    theta, m, v = (np.full(gradients[0].shape, start) for start in (1.0, 0.0, 0.0))
    decay = (lr if decay_times_lr else 1.0) * weight_decay
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * theta if coupled else g
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * (g**2 if squared else np.abs(g))
        m_hat, v_hat = m, v
        for _ in range(corrections if correct_bias else 0):
            m_hat, v_hat = m_hat / (1 - betas[0] ** t), v_hat / (1 - betas[1] ** t)
        below = v_hat + (eps if eps_inside else 0.0)
        below = (np.sqrt(below) if root else below) + (0.0 if eps_inside else eps)
        theta = theta * (1 - decay) if decay_first and not coupled else theta
        theta = theta - lr * m_hat / below
        theta = theta * (1 - decay) if not decay_first and not coupled else theta
    return theta


# ---- Sections 3.4 to 4.3 -----------------------------------------------------------------------


def loss(cases, reference) -> None:
    ids = torch.randint(SMALL["vocab_size"] - 1, (3, 8))
    for side in ("right", "left"):
        mask = (torch.arange(8) < torch.tensor([[8], [5], [2]])).long()
        mask = mask if side == "right" else mask.flip(1)
        padded = ids.masked_fill(mask == 0, SMALL["pad_token_id"])
        texts = [row[real.bool()] for row, real in zip(ids, mask, strict=True)]
        log_p = [log_probabilities(reference, text) for text in texts]
        each = [-p[:-1].gather(1, t[1:, None]) for p, t in zip(log_p, texts, strict=True)]
        unshifted = [-p.gather(1, t[:, None]) for p, t in zip(log_p, texts, strict=True)]
        early = [-p[:-1].gather(1, t[:-1, None]) for p, t in zip(log_p, texts, strict=True)]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = reference(padded, attention_mask=mask, position_ids=positions).logits
        all_targets = F.cross_entropy(logits[:, :-1].flatten(0, 1), padded[:, 1:].flatten())
        mistakes = {
            "position i predicts token i + 1, not token i": torch.cat(unshifted).mean(),
            "position i predicts token i + 1, and not its own": torch.cat(early).mean(),
            "the mean over the tokens, not their sum": torch.cat(each).sum(),
            "every token has the same weight, not every row": torch.stack(
                [losses.mean() for losses in each]
            ).mean(),
        }
        if side == "right":
            mistakes["pads are counted"] = all_targets
        cases.add(
            f"loss: padded on the {side}",
            {"ids": padded, "mask": mask},
            torch.cat(each).mean(),
            mistakes,
        )
        if side == "right":
            names = {"sum": torch.cat(each).sum(), "none": torch.cat(each).flatten()}
            hints = {"sum": "the sum over the tokens, not their mean", "none": ""}
            for name, expected in names.items():
                slip = {hints[name]: torch.cat(each).mean()} if hints[name] else {}
                cases.add(f"loss: {name}", {"ids": padded, "mask": mask}, expected, slip)
    # Fine-tuning: only the last token of each row has a label.
    mask = (torch.arange(8) < torch.tensor([[8], [6], [4]])).long()
    padded = ids.masked_fill(mask == 0, SMALL["pad_token_id"])
    labels = torch.full_like(padded, -100)
    at_label, at_itself, whole = [], [], []
    for row in range(3):
        end = int(mask[row].sum()) - 1
        labels[row, end] = padded[row, end]
        log_p = log_probabilities(reference, padded[row, : end + 1])
        at_label.append(-log_p[end - 1, padded[row, end]])
        at_itself.append(-log_p[end, padded[row, end]])
        whole.append(-log_p[:-1].gather(1, padded[row, 1 : end + 1, None]))
    cases.add(
        "loss: labels",
        {"ids": padded, "mask": mask, "labels": labels},
        torch.stack(at_label).mean(),
        {
            "only the label counts, not the whole text": torch.cat(whole).mean(),
            "a label is predicted from the position before it": torch.stack(at_itself).mean(),
            "the mean over the labels, not their sum": torch.stack(at_label).sum(),
        },
    )


@torch.no_grad()
def log_probabilities(reference, text: Tensor) -> Tensor:
    """[T, vocab] of one text without pads."""
    return reference(text[None]).logits[0].log_softmax(-1)


def steps(cases, reference) -> None:
    """Steps of the optimizer, with the mistakes that a loop can make."""
    batches = torch.randint(SMALL["vocab_size"] - 1, (4, 3, 9))
    batches[2:] = batches[:2]  # again, with a lower loss after learning

    def losses(rows, forget=True, step=True, sign=1.0) -> Tensor:
        model = hugging_face_model(GPT2Config(**SMALL), spread=0.4)
        model.load_state_dict(reference.state_dict())
        optimizer = HandoutAdamW(model.parameters())
        results = []
        for row in rows:
            logits = model(row).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), row[:, 1:].flatten())
            results.append(loss.item())
            if forget:
                model.zero_grad()
            (sign * loss).backward()
            if step:
                optimizer.step()
        return torch.tensor(results)

    cases.add(
        "steps: 1",
        {"batches": batches},
        losses(batches),
        {
            "clear the gradients of the step before": losses(batches, forget=False),
            "nothing is learned: call the optimizer after the backward pass": losses(
                batches, step=False
            ),
            "the loss grows": losses(batches, sign=-1.0),
        },
    )
    pairs = batches.view(2, 6, 9)
    half = batches.view(2, 2, 3, 9)[:, -1]
    cases.add(
        "steps: 2",
        {"batches": batches},
        losses(pairs),
        {"all batches of a step count, not the last alone": losses(half)},
    )


class HandoutAdamW:
    """The formulas of section 3.3, with the settings STEPS."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for p, (m, v) in zip(self.parameters, self.moments, strict=True):
            m.copy_(0.9 * m + 0.1 * p.grad)
            v.copy_(0.999 * v + 0.001 * p.grad**2)
            m_hat, v_hat = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            p -= STEPS["lr"] * m_hat / (v_hat.sqrt() + STEPS["eps"])
            p -= STEPS["lr"] * STEPS["weight_decay"] * p


def generation(cases, reference) -> None:
    """Greedy continuations of three prompts by 12 tokens; AssertionError for a tie."""
    for number, prompt in enumerate(([11, 12, 13, 14, 15], [21, 22], [31])):
        ids = list(prompt)
        for _ in range(12):
            top = log_probabilities(reference, torch.tensor(ids))[-1].topk(2)
            assert top.values[0] - top.values[1] > 1e-3, "a tie"
            ids.append(int(top.indices[0]))
        inputs = {"prompt": torch.tensor(prompt), "end": torch.tensor(ids[len(prompt) + 2])}
        cases.add(f"generation: {number}", inputs, torch.tensor(ids))
