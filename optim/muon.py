"""Muon (Jordan et al. 2024): momentum whose singular values all become about 1, for matrices.

An Adam step of a weight matrix is usually dominated by a few directions. Muon replaces the step by
the nearest matrix with orthogonal rows or columns, so that rare directions are learned as fast.
"""

import math

import torch
from torch import Tensor

from optim.adamw import AdamW

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the polynomial, steep at 0; Jordan et al. chose them
ITERATIONS = 5


class Muon(AdamW):
    """Muon for `matrices`, AdamW for the `others` (embeddings, biases, layer norms).

    For every matrix W (m, n) with gradient G, at each step:

        B ← μ·B + (1 - μ)·G                      μ = `momentum`
        O = orthogonalized(μ·B + (1 - μ)·G)      Nesterov's momentum
        W ← W - lr·λ·W                           λ = `weight_decay`
        W ← W - lr·0.2·√max(m, n)·O

    O's numbers have a root mean square of about 1/√max(m, n); with the factor it is 0.2, about
    that of an AdamW step, so that both sorts share lr and λ (Liu et al. 2025, section 2.2).
    O is computed in `dtype`: bfloat16 is exact enough, and fast where the hardware has it.
    The other arguments are AdamW's. Raises ValueError where one of `matrices` is no matrix.
    """

    def __init__(
        self, matrices, others=(), lr=1e-3, *, momentum=0.95, dtype=torch.bfloat16, **adamw
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        groups = [{"params": [*matrices], "momentum": momentum}, {"params": [*others]}]
        for weight in groups[0]["params"]:
            if weight.dim() != 2:
                shape = tuple(weight.shape)
                raise ValueError(f"matrices has a tensor of shape {shape}; give it among others")
        super().__init__([group for group in groups if group["params"]], lr=lr, **adamw)
        self.dtype = dtype

    def _update_group(self, group: dict) -> None:
        if "momentum" not in group:
            super()._update_group(group)
            return
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        for weight in group["params"]:
            if weight.grad is not None:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                self._update_matrix(weight, state["momentum"], lr, decay, group["momentum"])

    def _update_matrix(self, weight: Tensor, average: Tensor, lr, decay, momentum) -> None:
        """Update one matrix in place, and its average gradient B."""
        average.lerp_(weight.grad, 1 - momentum)
        step = orthogonalized(weight.grad.lerp(average, momentum).to(self.dtype))
        weight.mul_(1 - lr * decay)
        weight.sub_(step, alpha=lr * 0.2 * math.sqrt(max(weight.shape)))


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return U·S·Vᵀ of a matrix U·Σ·Vᵀ (m, n), with all of S between 0.5 and 1.5 or so.

    This is Newton and Schulz's iteration: an odd polynomial of the matrix is that polynomial of
    its singular values, here a·σ + b·σ³ + c·σ⁵, which moves every σ in (0, 1] towards 1.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp(min=1e-7)  # the largest singular value is at most 1
    for _ in range(ITERATIONS):
        gram = x @ x.T  # of the smaller side
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
