"""F.linear in float32 on a CPU, by oneDNN.

torch gives such products to MKL, which takes two to four times as long on AMD's processors, since
it uses half of their vectors' width. Elsewhere, and for other types, all is left to torch.
"""

from contextlib import AbstractContextManager, ContextDecorator, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias without a gradient, [..., K] by [M, K] to [..., M]."""
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if onednn is None or not _is_ours(x, weight):
        return F.linear(x, weight, bias)
    return onednn(x, weight, bias, "none", [], "")


def fast_product(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ·b without a gradient, [N, M] and [N, K] to [M, K].

    oneDNN copies what lies crosswise in memory: that is either aᵀ or the product's transpose.
    """
    if a.size(0) < b.size(1) or a.numel() == 0:
        return fast_linear(a.t(), b.t())
    # torch turns a matrix around by a loop of its own; with a third dimension by the usual one, in
    # a third of the time.
    return fast_linear(b.t(), a.t()).t()[None].contiguous()[0]


def packs(dtype: torch.dtype) -> bool:
    """Whether `pack` and `packed_linear` are for this type on this machine."""
    if dtype == torch.bfloat16:
        supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return supported is not None and supported()
    return dtype == torch.float32


def pack(weight: Tensor, rows: int) -> Tensor:
    """A copy of a weight [M, K], in the order in which `packed_linear` reads it quickest for so
    many rows; the weight itself where that gains nothing."""
    reorder = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
    if reorder is None or (weight.dtype == torch.float32 and rows < 4):
        return weight.detach()
    return reorder(weight.detach(), rows)


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None = None, *, gelu: bool = False
) -> Tensor:
    """x · weightᵀ + bias of a weight that `pack` gave, then the tanh form of GELU if asked for."""
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if onednn is not None:
        after = ("gelu", [], "tanh") if gelu else ("none", [], "")
        return onednn(x, packed, bias, *after)
    y = F.linear(x, packed, bias)
    return F.gelu(y, approximate="tanh") if gelu else y


class FastLinear(ContextDecorator, TorchFunctionMode):
    """A context or decorator: every F.linear is `fast_linear`, and so are its gradients."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        ours = function is F.linear and len(args) >= 2 and _is_ours(*args[:2])
        if ours and not torch.is_autocast_enabled("cpu"):
            function = _Linear.apply if torch.is_grad_enabled() else fast_linear
            if len(args) == 2:
                args = (*args, (kwargs or {}).get("bias"))
            kwargs = None
        return function(*args, **(kwargs or {}))


def fast_linears(model: nn.Module) -> AbstractContextManager:
    """FastLinear for a model that it is for, else a context that does nothing.

    It hears of every function call, which for twelve layers can cost more than the calls: nothing
    to launch the kernels of a GPU from.
    """
    weight = next(model.parameters())
    ours = weight.device.type == "cpu" and weight.dtype == torch.float32
    return FastLinear() if ours else nullcontext()


class _Linear(torch.autograd.Function):
    """With y = x·Wᵀ + b: dL/dx = dL/dy·W, dL/dW = dL/dyᵀ·x, dL/db = Σ dL/dy."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return fast_linear(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            fast_linear(grad, weight.t()) if wants_x else None,
            fast_product(rows, x.flatten(0, -2)) if wants_weight else None,
            rows.sum(dim=0) if wants_bias else None,
        )


def _is_ours(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() >= 2
        and x.numel() > 0
    )
