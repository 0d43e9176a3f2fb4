"""Do translations have the same states? CKA and retrieval, layer by layer.

X (N, d) are the states of N sentences in one language, Y those of their translations. Linear CKA
compares how the sentences lie to each other, whatever the axes; retrieval asks whether a sentence's
nearest neighbour in the other language (cosine, each language's mean taken off) is its translation:

    CKA(X, Y) = ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖)       columns centred; 1 for a rotation of X

      X   a·   ·b          Y     ·b'
            c·                a'·    ·c'        a turned triangle: CKA 1

The control is the same with the pairs shuffled. CKA of few sentences in many dimensions is high by
itself, so only its distance from the control means something.

Papers: Kornblith et al. 2019 (CKA); Artetxe & Schwenk 2019 (retrieval of translations).
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Return the linear CKA of two (N, d) matrices whose rows belong together."""
    if len(x) != len(y) or len(x) < 3:
        raise ValueError(f"CKA needs at least 3 rows that are pairs, got {len(x)} and {len(y)}")
    x, y = (each.double() - each.double().mean(dim=0) for each in (x, y))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).square().sum() / scale.clamp(min=1e-30))


def retrieval(x: Tensor, y: Tensor) -> float:
    """Return the share of rows whose nearest row of the other matrix is their pair, mean of both
    directions; 1/N by chance."""
    x, y = (torch.nn.functional.normalize(each - each.mean(dim=0), dim=-1) for each in (x, y))
    similarity, pairs = x @ y.T, torch.arange(len(x))
    right = [(similarity.argmax(dim=direction) == pairs).float().mean() for direction in (0, 1)]
    return float(sum(right) / 2)


def alignment(states: Mapping[str, Tensor], pivot: str = "en", seed: int = 0) -> pd.DataFrame:
    """Return a row a language and state: CKA and retrieval of its sentences and the pivot's, and
    both with shuffled pairs. `states` are (N, L + 1, d) of the same sentences in each language."""
    if pivot not in states:
        raise ValueError(f"states has no {pivot!r} to compare with; it has {', '.join(states)}")
    shuffled = torch.randperm(len(states[pivot]), generator=torch.Generator().manual_seed(seed))
    rows = []
    for lang in states:
        for state in range(states[pivot].size(1)) if lang != pivot else ():
            x, y = states[pivot][:, state].float(), states[lang][:, state].float()
            row = {"language": lang, "state": state, "CKA": linear_cka(x, y)}
            row |= {"CKA shuffled": linear_cka(x[shuffled], y), "retrieval": retrieval(x, y)}
            rows.append(row | {"retrieval shuffled": retrieval(x[shuffled], y)})
    return pd.DataFrame(rows)
