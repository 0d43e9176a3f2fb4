"""AdamW's step by torch's fused kernel, for all parameters at once where it computes the same.

The kernel decays first: θ ← (1 - lr·λ)·θ - lr·m̂/(√v̂ + ε). The handout's order comes out with
lr·(1 - lr·λ) in place of lr, and a λ with which their product stays lr·λ. The kernel always
corrects the bias.

An optimizer whose formulas were changed takes those: the kernel is tried against them once.
`GPT2_FAST=0` in the environment turns the kernel off.
"""

import os
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw


def update(optimizer, group: dict, numbers: dict) -> list[Tensor]:
    """Update a group's parameters that have gradients; return those left to the formulas.

    `numbers` are the group's hyper-parameters. Every parameter that is returned has its state.
    Raises RuntimeError for a sparse gradient.
    """
    left: list[Tensor] = []
    together: dict[tuple, list[Tensor]] = {}
    allowed = (
        os.environ.get("GPT2_FAST", "1") != "0"
        and numbers["correct_bias"]
        and numbers["lr"] * numbers["weight_decay"] <= 0.5  # else the λ below grows without bound
        and _has_these_formulas(type(optimizer)._update)
    )
    for p in group["params"]:
        if p.grad is None:
            continue
        if p.grad.is_sparse:
            raise RuntimeError("a gradient is sparse; make its nn.Embedding with sparse=False")
        state = optimizer.state[p]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        if allowed and _takes(p, p.grad, state["exp_avg"], state["exp_avg_sq"]):
            together.setdefault((p.device, p.dtype, state["step"]), []).append(p)
        else:
            left.append(p)
    for parameters in together.values():
        _update_together(parameters, [optimizer.state[p] for p in parameters], **numbers)
    return left


def _takes(p: Tensor, *others: Tensor) -> bool:
    return (
        type(p) in (Tensor, Parameter)  # no part of a sharded one
        and p.dtype in (torch.float32, torch.float64)
        and p.device.type in ("cpu", "cuda")
        and p.is_contiguous()
        and all(other.dtype == p.dtype and other.is_contiguous() for other in others)
    )


@cache
def _has_these_formulas(formulas: Callable) -> bool:
    """Return whether `formulas`, an AdamW's `_update`, gives what the kernel gives, tried once."""

    def kernel(_, p, state, **numbers):
        _update_together([p], [state], **numbers)

    results = []
    for update_one in (kernel, formulas):
        p = torch.linspace(-2, 3, 7, dtype=torch.float64)
        state = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        numbers = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.5}
        try:
            for step in range(3):
                p.grad = torch.cos(p + step)
                update_one(None, p, state, **numbers, correct_bias=True)
        except Exception:  # whatever is wrong with them shows when the formulas are used
            return False
        results.append(p)
    return torch.allclose(*results)


def _update_together(parameters, states, lr, betas, eps, weight_decay, correct_bias) -> None:
    """Update parameters that have come to the same step, with `correct_bias`."""
    counts = torch.full((len(parameters),), float(states[0]["step"]), device=parameters[0].device)
    remains = 1 - lr * weight_decay
    adamw(
        parameters,
        [p.grad for p in parameters],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        list(counts.unbind()),  # the kernel counts them up by one
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=lr * remains,
        weight_decay=weight_decay / remains,
        eps=eps,
        maximize=False,
    )
    for state in states:
        state["step"] += 1
