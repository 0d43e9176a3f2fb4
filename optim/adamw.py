"""AdamW (Loshchilov & Hutter 2019), in the order of the handout, section 3.3."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from optim import fused


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    For every parameter θ with gradient g, at its t-th step:

        m ← β₁·m + (1 - β₁)·g             first moment
        v ← β₂·v + (1 - β₂)·g²            second moment
        m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ)    only if `correct_bias`
        θ ← θ - lr·m̂ / (√v̂ + ε)
        θ ← θ - lr·λ·θ                    λ = `weight_decay`

    The decay comes last and takes the updated θ, as in the course's code. (The handout's formula
    has θ of the step before there, which is what `torch.optim.AdamW` computes; the two differ by
    lr²·λ·m̂/(√v̂ + ε) a step.) `optim.fused` updates parameters itself where it can do the same in
    less time.

    Numbers may be Python's, NumPy's or tensors with one element. Raises ValueError for a
    hyper-parameter out of range, RuntimeError for a sparse gradient.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-6,
        weight_decay=0.0,
        correct_bias=True,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; return the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update_group(group)
        return loss

    def _update_group(self, group: dict) -> None:
        numbers = _numbers(group)
        for p in fused.update(self, group, numbers):  # what the kernel leaves to the formulas
            self._update(p, self.state[p], **numbers)

    def _update(self, p: Tensor, state: dict, lr, betas, eps, weight_decay, correct_bias) -> None:
        """Update one parameter in place; `state` has step, exp_avg (m) and exp_avg_sq (v)."""
        # BEGIN SOLUTION AdamW.step
        (beta1, beta2), g = betas, p.grad
        m, v = state["exp_avg"], state["exp_avg_sq"]
        state["step"] += 1
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        m_hat, v_hat = m, v
        if correct_bias:
            m_hat = m / (1 - beta1 ** state["step"])
            v_hat = v / (1 - beta2 ** state["step"])
        p.sub_(lr * m_hat / (v_hat.sqrt() + eps))
        p.sub_(lr * weight_decay * p)
        # END SOLUTION

    def add_param_group(self, param_group: dict) -> None:
        """Add a group as torch does, after checking its hyper-parameters, own or default."""
        group = {**self.defaults, **param_group}
        for name in ("lr", "eps", "weight_decay"):
            if not (value := _number(name, group[name])) >= 0:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
        betas = group["betas"]
        if not isinstance(betas, tuple | list | Tensor) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers, got {betas!r}")
        if not all(0 <= _number("betas", beta) < 1 for beta in betas):
            raise ValueError(f"betas must be in [0, 1), got {betas}")
        super().add_param_group(param_group)
        if any(parameter.is_complex() for parameter in self.param_groups[-1]["params"]):
            raise ValueError("params must be real; torch.view_as_real makes complex ones so")


def _number(name: str, value) -> float:
    """Return the value of a hyper-parameter as Python's float."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


def _numbers(group: dict) -> dict:
    """Return a group's hyper-parameters as plain numbers: a tensor is never changed in place."""
    numbers = {name: float(group[name]) for name in ("lr", "eps", "weight_decay")}
    betas = tuple(float(beta) for beta in group["betas"])
    return {**numbers, "betas": betas, "correct_bias": bool(group["correct_bias"])}
