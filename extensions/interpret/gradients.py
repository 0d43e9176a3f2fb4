"""Integrated gradients: how much each token adds to a score.

The gradient at the input says what a small change does; where the score is saturated it says
nothing. Integrated gradients follow it from a baseline x' (a text of average tokens) to the input:

    attribution_t = (x_t - x'_t) · ∫₀¹ ∂F/∂x_t (x' + α (x - x')) dα

    F ▲            ___•  F(x)       The attributions add up to F(x) - F(x'): completeness.
      │        ___/                 It says whether the integral, computed at some points, is
      │   ____/                     exact enough; here they are doubled until the error is
      •──┴───────────▶ α            below 1 %.
     F(x')

x are the token embeddings; the positions stay as they are. The points are those of Gauss and
Legendre, which need several times fewer than equal steps.

Paper: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (ICML).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from extensions.interpret.checks import check_model, check_prompts
from gpt2.model import GPT2Model
from utils import in_evaluation_mode

FEWEST, MOST = 16, 1024  # points
BUDGET = 4096  # points times positions that are computed at a time


def log_odds(digits: Sequence[int], label: int) -> Callable[[Tensor], Tensor]:
    """Return F: logits (..., vocab) -> log of the odds of one label against the others."""
    one, others = digits[label], [digit for i, digit in enumerate(digits) if i != label]
    return lambda logits: logits[..., one] - logits[..., others].logsumexp(dim=-1)


@in_evaluation_mode
def integrated_gradients(
    model: GPT2Model,
    ids: Tensor,
    score: Callable[[Tensor], Tensor],
    *,
    baseline: Tensor | None = None,
    tolerance: float = 0.01,
) -> tuple[Tensor, float]:
    """Return what each token of a text, ids (T,), adds to `score(logits)` of the next token, (T,),
    and the completeness error, relative to F(x) - F(x').

    `baseline` is x', (hidden,) or (T, hidden); by default the mean of all token embeddings. Raises
    ValueError where the error stays above `tolerance`.
    """
    check_model(model)
    check_prompts([ids])
    ids = ids.to(model.word_embedding.weight.device)
    x = model.word_embedding(ids).detach()
    if baseline is None:
        baseline = model.word_embedding.weight.detach().mean(dim=0)
    change = x - baseline.to(x)

    def score_at(alphas: Tensor) -> tuple[Tensor, Tensor]:
        points = (x + (alphas[:, None, None] - 1) * change).requires_grad_()
        with model.word_embedding.register_forward_hook(lambda module, ids, output: points):
            output = model(ids.expand(len(alphas), -1))
        return score(model.hidden_state_to_token(output["last_token"])), points

    with torch.enable_grad():
        ends = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device)
        before, after = score_at(ends)[0].tolist()
        count = FEWEST
        while True:
            attribution = torch.zeros(len(ids), dtype=torch.double, device=x.device)
            places, weights = (torch.from_numpy(a).to(x) for a in _points(count))
            for part in torch.arange(count).split(max(1, BUDGET // len(ids))):
                scores, points = score_at(places[part])
                (slope,) = torch.autograd.grad((scores * weights[part]).sum(), points)
                attribution += (slope * change).sum(dim=(0, 2)).double()
            missing = abs(attribution.sum().item() - (after - before))
            error = missing / max(abs(after - before), 1e-12)
            if error <= tolerance:
                return attribution.cpu(), error
            if count >= MOST:
                raise ValueError(
                    f"the completeness error is {error:.1%} with {count} points; the score hardly "
                    "differs from the baseline's or is not smooth: give another baseline"
                )
            count *= 2


def _points(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where in [0, 1] to evaluate, and the weights."""
    places, weights = np.polynomial.legendre.leggauss(count)
    return (places + 1) / 2, weights / 2
