"""The parameters that AdamW updates: in this edition all of them, by the formulas."""

import torch
from torch import Tensor


def update(optimizer, group: dict, numbers: dict) -> list[Tensor]:
    """Return a group's parameters that have gradients, each with its state.

    Raises RuntimeError for a sparse gradient.
    """
    parameters = [p for p in group["params"] if p.grad is not None]
    for p in parameters:
        if p.grad.is_sparse:
            raise RuntimeError("AdamW needs dense gradients; make nn.Embedding with sparse=False")
        state = optimizer.state[p]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
    return parameters
