"""Single neurons: which separate the labels, what they fire for, which serve one language.

A neuron is one number of the f that leave the GELU. How much of its variance over texts is between
the labels is the effect size (correlation ratio, Fisher 1925):

    η² = Σ_label n_label (mean_label - mean)² / Σ_texts (a - mean)²        0: nothing; 1: all of it

            a  │ ·:·       ::·      With thousands of neurons the best looks better than it
               │      ·:·           is: choose them on some texts, and report η² on others.
         label   0     1    2

LAPE asks which neurons serve a language. p_k is the share of a language's tokens for which the
neuron is active (above 0); the entropy of these shares, made to sum to 1, is low for a neuron that
few languages use:

    LAPE = -Σ_k p'_k log p'_k        p'_k = p_k / Σ_k p_k

Specific are the neurons of the lowest LAPE among those that are active at all, each to the
languages in which it is: p_k above the 95th percentile of all shares.

Paper: Tang et al. 2024, "Language-Specific Neurons" (ACL), sections 2.2 and 3.1.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from extensions.interpret.capture import last_positions, of_each
from extensions.interpret.checks import check_place
from gpt2.model import GPT2Model

CHUNK = 512  # prompts whose neurons are in memory at a time


def separation(
    model: GPT2Model, prompts: Sequence[Tensor], labels: Sequence
) -> tuple[Tensor, Tensor]:
    """Return every neuron's η² at the prompts' last tokens, (L, f), and its mean for each label in
    their order, (labels, L, f)."""
    classes = sorted(set(labels))
    sums, squares = 0.0, 0.0
    counts = torch.tensor([[list(labels).count(c)] for c in classes]).double()[..., None]
    for start in range(0, len(prompts), CHUNK):
        a = last_positions(model, prompts[start : start + CHUNK], _neurons).double()  # (n, L, f)
        part = labels[start : start + CHUNK]
        member = torch.tensor([[label == c for label in part] for c in classes]).double()
        sums = sums + torch.einsum("cn,nlf->clf", member, a)
        squares = squares + a.square().sum(dim=0)
    mean = sums.sum(dim=0) / len(prompts)
    means = sums / counts
    between = (counts * (means - mean).square()).sum(dim=0)
    total = squares - len(prompts) * mean.square()
    return (between / total.clamp(min=1e-12)).float(), means.float()


def separating_neurons(
    model: GPT2Model, prompts: Sequence[Tensor], labels: Sequence, count: int = 10
) -> pd.DataFrame:
    """Return the neurons that separate the labels best: chosen on the first half of the prompts,
    with η² of both halves, and the mean for each label on the second."""
    half = len(prompts) // 2
    chosen_by, _ = separation(model, prompts[:half], labels[:half])
    held_out, means = separation(model, prompts[half:], labels[half:])
    columns, rows = [f"mean {label}" for label in sorted(set(labels[half:]))], {}
    for index in chosen_by.flatten().argsort(descending=True)[:count].tolist():
        layer, neuron = divmod(index, chosen_by.size(1))
        row = {"η² chosen by": chosen_by[layer, neuron], "η² held out": held_out[layer, neuron]}
        row |= dict(zip(columns, means[:, layer, neuron], strict=True))
        rows[layer, neuron] = {name: float(value) for name, value in row.items()}
    table = pd.DataFrame.from_dict(rows, "index")
    return table.rename_axis(["layer", "neuron"])


def top_examples(
    model: GPT2Model, prompts: Sequence[Tensor], layer: int, neuron: int, count: int = 5
) -> list[tuple[float, int]]:
    """Return the prompts for whose last tokens the neuron is most active: (activation, row)."""
    check_place(model, layer, neuron=neuron)
    found = last_positions(model, prompts, lambda seen: seen.neurons[layer][..., neuron])
    best = found.topk(min(count, len(prompts)))
    return list(zip(best.values.tolist(), best.indices.tolist(), strict=True))


def active_shares(model: GPT2Model, prompts: Sequence[Tensor]) -> Tensor:
    """Return the share of all tokens for which each neuron is active, (L, f)."""
    total, tokens = 0, 0

    def count(row, seen) -> None:
        nonlocal total, tokens
        active = torch.stack([(layer > 0).sum(dim=0) for layer in seen.neurons])
        total, tokens = total + active.cpu(), tokens + len(prompts[row])

    of_each(model, prompts, count, weights=False)
    return total / tokens


def lape(shares: Tensor) -> Tensor:
    """Return each neuron's entropy over languages, (L, f), of its shares (languages, L, f)."""
    p = shares / shares.sum(dim=0).clamp(min=1e-30)
    return torch.special.entr(p).sum(dim=0)


def language_neurons(
    shares: Mapping[str, Tensor], rate: float = 0.01, active: float = 0.95
) -> dict[str, dict[int, list[int]]]:
    """Return by language its specific neurons by layer: among the share `rate` of lowest LAPE.

    `active` is the percentile of all shares that a neuron must exceed in a language to be its own.
    """
    if not 0 < rate <= 1 or not 0 <= active < 1:
        raise ValueError(f"rate must be in (0, 1] and active in [0, 1), got {rate} and {active}")
    stacked = torch.stack([*shares.values()])
    bar = stacked.flatten().quantile(active)
    scores = lape(stacked).masked_fill((stacked <= bar).all(dim=0), float("inf"))
    count = round(rate * scores.numel())
    found: dict[str, dict[int, list[int]]] = {lang: {} for lang in shares}
    for index in scores.flatten().argsort()[:count].tolist():
        layer, neuron = divmod(index, scores.size(1))
        for lang, share in shares.items():
            if scores[layer, neuron].isfinite() and share[layer, neuron] > bar:
                found[lang].setdefault(layer, []).append(neuron)
    return found


def _neurons(seen) -> Tensor:
    return torch.stack(seen.neurons, dim=2)  # (B, T, L, f)
