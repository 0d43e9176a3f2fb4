"""AdamW (Loshchilov & Hutter 2019), in the order of the handout, section 3.3."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw


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
    lr²·λ·m̂/(√v̂ + ε) a step.)

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
            number = isinstance(value, int | float | Tensor) and not isinstance(value, bool)
            if not number or not (math.isfinite(value) and value >= 0):
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
            for name in ("maximize", "amsgrad"):
                if group.get(name):
                    raise ValueError(f"the loaded state has {name}=True, which this AdamW is not")
        for moments in self.state.values():  # torch's counts in a tensor
            moments["step"] = int(moments["step"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        for group in self.param_groups:
            # BEGIN SOLUTION AdamW.step
            together: dict[tuple, list[Tensor]] = {}
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
                if _kernel_takes(p, state["exp_avg"], state["exp_avg_sq"], group):
                    together.setdefault((p.device, p.dtype, state["step"]), []).append(p)
                else:
                    self._update(p, group)
            for parameters in together.values():
                self._update_together(parameters, group)
            # END SOLUTION
        return loss

    # BEGIN SOLUTION NO PROMPT
    # `_update` is the formulas; `_update_together` has torch's fused kernel compute the same for
    # ordinary tensors, many times as fast.
    def _update(self, p: Tensor, group: dict) -> None:
        """The formulas, in place."""
        (beta1, beta2), state, g = group["betas"], self.state[p], p.grad
        m, v = state["exp_avg"], state["exp_avg_sq"]
        step_size, correction = group["lr"], 1.0
        if group["correct_bias"]:
            step_size /= 1 - beta1 ** state["step"]
            correction = math.sqrt(1 - beta2 ** state["step"])
        m.lerp_(g, 1 - beta1)  # β₁·m + (1 - β₁)·g
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        denominator = v.sqrt().div_(correction).add_(group["eps"])
        p.addcdiv_(m, denominator, value=-step_size)
        if group["weight_decay"] > 0:
            p.mul_(1 - group["lr"] * group["weight_decay"])

    def _update_together(self, parameters: Sequence[Tensor], group: dict) -> None:
        """The same by torch's fused kernel, of parameters that have come to the same step.

        The kernel decays first: θ ← (1 - lr·λ)·θ - lr·m̂/(√v̂ + ε). Ours comes out if its lr is
        lr·(1 - lr·λ), and its λ such that their product stays lr·λ. It always corrects the bias,
        which after a great number of steps is 1.
        """
        states = [self.state[p] for p in parameters]
        step = states[0]["step"] if group["correct_bias"] else MANY
        device = parameters[0].device
        counts = torch.full((len(parameters),), step - 1.0, dtype=torch.float32, device=device)
        kept = 1 - group["lr"] * group["weight_decay"]
        beta1, beta2 = group["betas"]
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
            lr=group["lr"] * kept,
            weight_decay=group["weight_decay"] / kept,
            eps=group["eps"],
            maximize=False,
        )


MANY = 2**24  # steps; so many float32 still counts one by one,
UNCORRECTED_BETA = 0.99999  # and to that power this is 0


def _kernel_takes(p: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, group: dict) -> bool:
    """Whether torch's fused kernel does with this parameter exactly what the formulas do."""
    return (
        p.device.type in ("cpu", "cuda")
        and p.dtype in (torch.float32, torch.float64)
        and p.grad.dtype == p.dtype
        and all(tensor.is_contiguous() for tensor in (p, p.grad, exp_avg, exp_avg_sq))
        and group["lr"] * group["weight_decay"] <= 0.5
        and (group["correct_bias"] or max(group["betas"]) <= UNCORRECTED_BETA)
    )
    # END SOLUTION
