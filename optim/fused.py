"""AdamW's step by torch's fused kernel, for all parameters at once where it computes the same.

The kernel decays first: θ ← (1 - lr·λ)·θ - lr·m̂/(√v̂ + ε). The handout's order comes out with
lr·(1 - lr·λ) in place of lr, and a λ with which their product stays lr·λ. The kernel always
corrects the bias, whose correction is 1 after a great number of steps. `GPT2_FAST=0` in the
environment turns it off.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MANY = 2**24  # steps: float32 counts so many one by one,
UNCORRECTED_BETA = 0.99999  # and to that power this is 0


def update(optimizer, group: dict) -> list[Tensor]:
    """Update a group's parameters that have gradients; return those left to the formulas.

    Every one of them has its state afterwards. Raises RuntimeError for a sparse gradient.
    """
    left: list[Tensor] = []
    together: dict[tuple, list[Tensor]] = {}
    for p in group["params"]:
        if p.grad is None:
            continue
        if p.grad.is_sparse:
            raise RuntimeError(
                "AdamW needs dense gradients, but a parameter's is sparse; make its nn.Embedding "
                "with sparse=False, or use torch.optim.SparseAdam"
            )
        state = optimizer.state[p]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        if _kernel_takes(p, state["exp_avg"], state["exp_avg_sq"], group):
            together.setdefault((p.device, p.dtype, state["step"]), []).append(p)
            continue
        left.append(p)
    for parameters in together.values():
        _update_together(parameters, [optimizer.state[p] for p in parameters], group)
    return left


def _kernel_takes(p: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, group: dict) -> bool:
    """Return whether torch's fused kernel does with this parameter what the formulas do."""
    return (
        os.environ.get("GPT2_FAST", "1") != "0"
        and p.device.type in ("cpu", "cuda")
        and p.dtype in (torch.float32, torch.float64)
        and p.grad.dtype == p.dtype
        and all(tensor.is_contiguous() for tensor in (p, p.grad, exp_avg, exp_avg_sq))
        and float(group["lr"]) * float(group["weight_decay"]) <= 0.5
        and (group["correct_bias"] or max(map(float, group["betas"])) <= UNCORRECTED_BETA)
    )


def _update_together(parameters: Sequence[Tensor], states: Sequence[dict], group: dict) -> None:
    """Update parameters that have come to the same step."""
    done, device = states[0]["step"], parameters[0].device
    count = float(done if group["correct_bias"] else MANY - 1)
    counts = torch.full((len(parameters),), count, dtype=torch.float32, device=device)
    lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
    kept = 1 - lr * weight_decay
    beta1, beta2 = map(float, group["betas"])
    adamw(
        list(parameters),
        [p.grad for p in parameters],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        list(counts.unbind()),  # the kernel counts them up by one
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=lr * kept,
        weight_decay=weight_decay / kept,
        eps=float(group["eps"]),
        maximize=False,
    )
    for state in states:
        state["step"] += 1
