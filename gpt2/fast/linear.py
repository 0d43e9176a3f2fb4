"""nn.Linear on a CPU: by oneDNN in float32, with packed weights, and without products of pads.

torch gives float32 products to MKL, which on AMD's processors takes two to four times as long,
since it uses half of their vectors' width; on Intel's it is as fast. A weight in the order that
oneDNN wants, packed once for many calls, is read faster on both: most with few rows, as when
generating token by token. In training half of a batch of unsorted texts is pads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import processor

PLAIN_FORWARD = nn.Linear.forward
CALLS_BEFORE_PACKING = 12  # a packed copy costs about what it saves in so many calls
FEW = 4  # rows below which float32 is fastest as torch computes it
MANY = 256  # rows above which it is so on Intel's processors
WORTH = 2**24  # multiplications that make up for choosing the rows of tokens


@contextmanager
def fast_linears(model: nn.Module) -> Iterator[None]:
    """Give every plain nn.Linear of a model a faster forward inside the context.

    Plain is the exact type with nn.Parameters of float32 or bfloat16 on a CPU. Subclasses,
    quantized, pruned and parametrized layers are left as they are, and so is a layer whose
    forward was replaced; hooks run as always.

    Called with ids (B, T), a mask (B, T) and gradients, `model` has outputs of 0 at pads where
    that spares enough. No state of a token depends on them, nor a loss that leaves pads out.
    """
    swapped, tokens = [module for module in model.modules() if _is_plain(module)], _Tokens()
    note = model.register_forward_pre_hook(tokens.note, with_kwargs=True)
    forget = model.register_forward_hook(tokens.forget, always_call=True)
    for module in swapped:
        module.forward = partial(_FastForward(tokens), module)
    try:
        yield
    finally:
        for module in swapped:
            del module.forward
        note.remove()
        forget.remove()


def _is_plain(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and nn.Linear.forward is PLAIN_FORWARD
        and "forward" not in vars(module)
        and module._parameters.get("weight") is not None
        and all(type(p) is nn.Parameter for p in module._parameters.values() if p is not None)
        and not module.weight.is_inference()
        and module.weight.device.type == "cpu"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and module.weight.dtype in (torch.float32, torch.bfloat16)
        and (module.weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


class _FastForward:
    """The forward of one nn.Linear; holds the packed copy of its weight."""

    def __init__(self, tokens: "_Tokens"):
        self.tokens = tokens
        self.calls = 0  # since the weight last changed
        self.version: tuple = (None, None)  # the weight that `calls` is about, and its version
        self.packed: Tensor | None = None

    def __call__(self, module: nn.Linear, x: Tensor) -> Tensor:
        if not self.tokens.are_enough(x, module.weight):
            return self._product(module, x)
        rows, back = self.tokens.rows, self.tokens.back
        y = self._product(module, _Rows.apply(x.flatten(0, 1), rows, back))
        return _Rows.apply(y, back, rows).unflatten(0, x.shape[:2])

    def _product(self, module: nn.Linear, x: Tensor) -> Tensor:
        weight, bias = module.weight, module.bias
        suits = (
            type(x) is Tensor
            and x.device.type == weight.device.type == "cpu"
            and x.dtype == weight.dtype
            and x.dim() >= 2
            and x.numel() > 0
            and not torch.is_autocast_enabled("cpu")
        )
        if not suits or _is_fastest_by_torch(x):
            return F.linear(x, weight, bias)
        if torch.is_grad_enabled():
            return _Linear.apply(x, weight, bias)
        if self.version[0] is not weight or self.version[1] != weight._version:
            self.calls, self.packed, self.version = 0, None, (weight, weight._version)
        self.calls += 1
        if self.calls == CALLS_BEFORE_PACKING:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 128)
        return product(x, weight if self.packed is None else self.packed, bias)


def _is_fastest_by_torch(x: Tensor) -> bool:
    if x.dtype == torch.bfloat16:
        return torch.is_grad_enabled()
    rows = x.numel() // x.size(-1)
    on_intel = "Intel" in processor()
    return rows < FEW or (on_intel and (rows > MANY or torch.is_grad_enabled()))


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x · weightᵀ + bias without a gradient, (..., K) by (M, K) to (..., M)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """With y = x·Wᵀ + b: dL/dx = dL/dy·W, dL/dW = dL/dyᵀ·x, dL/db = Σ dL/dy."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            product(grad, weight.t()) if wants_x else None,
            product(rows.t(), x.flatten(0, -2).t()) if wants_weight else None,
            rows.sum(dim=0) if wants_bias else None,
        )


class _Tokens:
    """Which of a call's B·T positions hold tokens, and where each position is among these."""

    def __init__(self):
        self.shape: torch.Size | None = None  # (B, T), while `model` is called with a mask

    def note(self, model, args, kwargs) -> None:
        named = {**dict(zip(("input_ids", "attention_mask"), args, strict=False)), **kwargs}
        ids, mask = named.get("input_ids"), named.get("attention_mask")
        both = isinstance(ids, Tensor) and isinstance(mask, Tensor) and ids.shape == mask.shape
        if both and mask.dim() == 2 and mask.device.type == "cpu" and torch.is_grad_enabled():
            real = mask.flatten() != 0
            self.shape, self.rows = mask.shape, real.nonzero().squeeze(1)
            self.back = torch.where(real, real.cumsum(0) - 1, len(self.rows))  # a pad: after all

    def forget(self, *_) -> None:
        self.shape = None

    def are_enough(self, x: Tensor, weight: Tensor) -> bool:
        """Return whether x·Wᵀ is faster without pads."""
        if x.shape[:-1] != self.shape:
            return False
        return len(self.rows) > 0 and (len(self.back) - len(self.rows)) * weight.numel() > WORTH


class _Rows(torch.autograd.Function):
    """Row indices[i] of x at i, zeros where that is len(x); with `back` for the gradient."""

    @staticmethod
    def forward(ctx, x, indices, back):
        ctx.save_for_backward(indices, back)
        if len(indices) > len(x):
            x = torch.cat([x, x.new_zeros(1, x.size(1))])
        return x.index_select(0, indices)

    @staticmethod
    def backward(ctx, grad):
        indices, back = ctx.saved_tensors
        return _Rows.apply(grad, back, indices), None, None
