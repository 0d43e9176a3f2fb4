"""The logit lens: what the model would answer if it stopped after a layer.

Every block adds to the same residual stream, so a state in the middle can be read as if it were the
last one:

    log P_l(label) = log softmax(E · norm(state_l))[label]

    state 0 ──▶ state 1 ──▶ state 2 ──▶ state 3
       │           │           │           │        at the prompt's last token, "Label:"
       ▼           ▼           ▼           ▼
     0 1 2       0 1 2       0 1 2       0 1 2      the label's answer appears in the first state
       ?           1           2           2        from which it stays what it is in the end: 2

The model's own final norm and projection read it. A lens can only see what is already written in
the output's coordinates: where it sees nothing, a probe may still find the answer (probes.py).

Papers: nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023 (its limits).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap
from torch import Tensor

from experiments.statistics import wilson_interval
from extensions.interpret.capture import last_positions
from gpt2.model import GPT2Model

PROJECTED = 16  # texts whose states are projected to the vocabulary at a time


def label_lens(model: GPT2Model, prompts: Sequence[Tensor], digits: Sequence[int]) -> Tensor:
    """Return log P of the label tokens `digits` in each state at each prompt's last token:
    (N, L + 1, labels). P is over the whole vocabulary, as in an evaluation."""
    states = last_positions(model, prompts, lambda seen: torch.stack(seen.states, dim=2))
    return read(model, states, digits)


@torch.no_grad()
def read(model: GPT2Model, states: Tensor, digits: Sequence[int]) -> Tensor:
    """Return log P of the label tokens for any states (N, ..., hidden): (N, ..., labels)."""
    device, found = model.word_embedding.weight.device, []
    for part in states.split(PROJECTED):
        logits = model.hidden_state_to_token(model.final_layer_norm(part.to(device)))
        found.append(logits.float().log_softmax(dim=-1)[..., list(digits)].cpu())
    return torch.cat(found)


def appears_in(lens: Tensor) -> Tensor:
    """Return the first state from which the best label stays the final one, (N,): 0 to L."""
    best = lens.argmax(dim=-1)
    agrees = (best == best[:, -1:]).int().flip(1).cumprod(dim=1)  # from the last state backwards
    return lens.size(1) - agrees.sum(dim=1)


def lens_table(lens: Tensor, labels: Sequence[str]) -> pd.DataFrame:
    """Return a row a state: accuracy of the best of the labels with its 95 % interval, how often it
    is already the final one, and the mean probability of the right label and of all labels."""
    gold = torch.tensor([int(label) for label in labels])
    best, rows, n = lens.argmax(dim=-1), [], len(gold)
    for state in range(lens.size(1)):
        right = int((best[:, state] == gold).sum())
        p = lens[:, state].exp()
        rows.append(
            {
                "accuracy": right / n,
                **dict(zip(("low", "high"), wilson_interval(right, n), strict=True)),
                "as in the end": float((best[:, state] == best[:, -1]).float().mean()),
                "P(right)": float(p[torch.arange(n), gold].mean()),
                "P(any label)": float(p.sum(dim=-1).mean()),
            }
        )
    return pd.DataFrame(rows, index=pd.RangeIndex(lens.size(1), name="state"))


def appearance(lens: Tensor) -> tuple[float, float, float]:
    """Return the mean state in which the answer appears, and its 95 % bootstrap interval."""
    states = appears_in(lens).numpy().astype(float)
    if np.ptp(states) == 0:
        return (float(states[0]),) * 3
    settings = {"n_resamples": 2000, "method": "percentile", "random_state": 0}
    found = bootstrap((states,), np.mean, **settings)
    interval = found.confidence_interval
    return float(states.mean()), float(interval.low), float(interval.high)
