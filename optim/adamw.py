"""AdamW (Loshchilov & Hutter 2019), in the order of the handout, section 3.3."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

BLOCK = 2**18  # elements: the five tensors of a step then fit in a CPU's cache together


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
    lr²·λ·m̂/(√v̂ + ε) a step.) Everything is in place: beside the two moments a step takes one
    block of elements on a CPU, and one tensor of the parameter's size elsewhere.

    Raises ValueError for a hyper-parameter out of range, RuntimeError for a sparse gradient.
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

    def add_param_group(self, param_group: dict) -> None:
        """As torch's, and every group's hyper-parameters are checked, its own or the default's."""
        group = {**self.defaults, **param_group}
        for name in ("lr", "eps", "weight_decay"):
            value = group[name]
            if isinstance(value, str) or not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers, got {betas!r}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be in [0, 1), got {betas}")
        super().add_param_group(param_group)
        if any(parameter.is_complex() for parameter in self.param_groups[-1]["params"]):
            raise ValueError("params must be real; torch.view_as_real makes complex ones so")

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # another AdamW's state may lack what is ours
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError(
                        "AdamW needs dense gradients, but a parameter's is sparse; "
                        "make its nn.Embedding with sparse=False, or use torch.optim.SparseAdam"
                    )
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1

                step_size, correction = group["lr"], 1.0
                if group["correct_bias"]:
                    step_size /= 1 - beta1 ** state["step"]
                    correction = math.sqrt(1 - beta2 ** state["step"])

                for theta, g, m, v in _blocks(p, p.grad, state["exp_avg"], state["exp_avg_sq"]):
                    m.lerp_(g, 1 - beta1)  # β₁·m + (1 - β₁)·g
                    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                    denominator = v.sqrt().div_(correction).add_(group["eps"])
                    theta.addcdiv_(m, denominator, value=-step_size)
                    if group["weight_decay"] > 0:
                        theta.mul_(1 - group["lr"] * group["weight_decay"])
        return loss


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same tensors in aligned flat pieces that stay in the cache; on a GPU, or where memory
    is not contiguous, in one piece."""
    if tensors[0].device.type != "cpu" or not all(t.is_contiguous() for t in tensors):
        return iter([tensors])
    return zip(*(t.view(-1).split(BLOCK) for t in tensors), strict=True)
