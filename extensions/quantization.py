"""Linear layers in 8-bit integers: a quarter of the bytes, and a product in whole numbers.

A processor that multiplies int8 does so up to four times as often per second as float32. Weights
get a scale per output channel, once; activations get one per token, whenever they come:

    W ≈ s_w·W_q    s_w[m] = max_k |W[m, k]| / 127    W_q = round(W / s_w)
    x ≈ s_x·x_q    s_x[n] = max_k |x[n, k]| / 127    x_q = round(x / s_x)

    (x·Wᵀ + b)[n, m] ≈ s_x[n] · s_w[m] · Σ_k x_q[n, k]·W_q[m, k] + b[m]

    x (N, K) float ──► x_q (N, K) int8 ──┐
                  └──► s_x (N, 1)        ├──► int32 (N, M) ──► · s_x · s_w + b ──► float (N, M)
    W_q (M, K) int8, s_w (M,) ───────────┘

Since a scale does not change along k, it leaves the sum, which is then exact: rounding W and x is
all that is lost. With `weight_only` x stays as it is and W_q is multiplied out before the usual
product, which saves bytes and no time. The vocabulary's matrix stays in floating point.

Paper: Dettmers et al. 2022, "LLM.int8()", section 2.1 (vector-wise quantization).
"""

import platform
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 127  # of int8; -128 is not used, so that the numbers are symmetric
FEWEST_ROWS = 32  # torch._int_mm on CUDA refuses fewer than 17


def to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of x (N, K) as int8, and the scale of each, (N, 1) in float32."""
    low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)
    scale = torch.maximum(high, -low).float() / LARGEST
    scale = scale.clamp(min=1e-30)  # of a row of zeros
    return (x * scale.reciprocal()).round_().to(torch.int8), scale


@cache
def _fused_to_int8():
    return torch.compile(to_int8, dynamic=True)


def integer_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a·bᵀ of int8 numbers, exact in int32: (N, K) by (M, K) to (N, M)."""
    missing = FEWEST_ROWS - len(a) if a.is_cuda else 0
    if missing > 0:
        return torch._int_mm(F.pad(a, (0, 0, 0, missing)), b.t())[: len(a)]
    return torch._int_mm(a, b.t())


class WeightOnlyInt8Linear(nn.Module):
    """y = x·(s_w·W_q)ᵀ + b, in x's dtype; the gradient reaches x and b."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight, scale = to_int8(linear.weight.detach())
        self.register_buffer("weight", weight)  # (M, K) int8
        self.register_buffer("scale", scale[:, 0])  # (M,)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return y (..., M) for x (..., K)."""
        return F.linear(x, (self.weight * self.scale[:, None]).to(x.dtype), self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, for print(model)."""
        return f"in_features={self.weight.size(1)}, out_features={self.weight.size(0)}"


class Int8Linear(WeightOnlyInt8Linear):
    """y = s_x · s_w · (x_q·W_qᵀ) + b, in x's dtype and without a gradient."""

    def __init__(self, linear: nn.Linear, fused: bool = False):
        super().__init__(linear)
        self.to_int8 = _fused_to_int8() if fused else to_int8
        self.packed = PackedProduct()

    def forward(self, x: Tensor) -> Tensor:
        """Return y (..., M) for x (..., K)."""
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError(
                "int8 activations have no gradient; train before quantizing, use torch.no_grad(), "
                "or quantize with weight_only=True"
            )
        rows, scale = self.to_int8(x.flatten(0, -2))
        if PackedProduct.suits(x):
            y = self.packed(rows, self.weight, self.scale)  # (N, M)
        else:
            y = integer_product(rows, self.weight) * self.scale
        bias = y.new_zeros(1) if self.bias is None else self.bias.detach()
        y = torch.addcmul(bias, y, scale, out=y)
        return y.to(x.dtype).view(*x.shape[:-1], -1)


class PackedProduct:
    """(x_q·W_qᵀ)·s_w by oneDNN, from a copy of W_q in the order that the processor reads.

    torch._int_mm reorders W_q at every call and writes int32, which is read again for the scale.
    """

    def __init__(self):
        self.source: tuple = (None, None)  # the weight that `packed` is made of, and its version
        self.packed: Tensor | None = None

    @staticmethod
    def suits(x: Tensor) -> bool:
        """Return whether oneDNN multiplies int8 on this processor, and rightly."""
        x86 = platform.machine() in ("x86_64", "AMD64")
        there = hasattr(torch.ops.onednn, "qlinear_pointwise")
        return x86 and there and x.device.type == "cpu" and _packed_product_is_exact()

    def __call__(self, rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the product of int8 rows (N, K) and weights (M, K), float32 (N, M)."""
        if self.source[0] is not weight or self.source[1] != weight._version:
            self.source = (weight, weight._version)
            self.packed = torch.ops.onednn.qlinear_prepack(weight, None)
        zero = torch.zeros_like(scale, dtype=torch.long)  # symmetric: all zero points are 0
        of_rows, of_result = (1.0, 0), (1.0, 0)  # scale and zero point
        return torch.ops.onednn.qlinear_pointwise(
            rows, *of_rows, self.packed, scale.float(), zero, None, *of_result, torch.float32,
            "none", [], "",
        )  # fmt: skip

    def __deepcopy__(self, memo) -> "PackedProduct":
        return PackedProduct()  # torch copies no packed weight; it is made again

    def __reduce__(self):
        return PackedProduct, ()


@cache
def _packed_product_is_exact() -> bool:
    """Return whether the largest products come out right, tried once.

    Without the instructions of VNNI (on AVX2, say) oneDNN adds two products in 16 bits, which holds
    them only if the weights use 7 bits; it cuts larger sums off without a word.
    """
    rows = torch.full((1, 64), 127, dtype=torch.int8)
    product = PackedProduct()(rows, rows.expand(4, 64).contiguous(), torch.ones(4))
    return bool((product == 64 * 127 * 127).all())


def quantize(model: nn.Module, *, weight_only: bool = False, fused: bool = False) -> None:
    """Replace every nn.Linear of a model by int8, in place; all its parameters are frozen.

    `fused` lets torch.compile round x in one pass over memory instead of six, which takes a C++
    compiler and a quarter of a minute at the first call. To load a saved state dict, quantize a new
    model first. Raises ValueError for a model without nn.Linear, as one that is quantized already.
    """
    layer = WeightOnlyInt8Linear if weight_only else partial(Int8Linear, fused=fused)
    linears = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    if not linears:
        raise ValueError("the model has no nn.Linear: it is quantized already; load it again")
    for name in linears:
        model.set_submodule(name, layer(model.get_submodule(name)))
    model.requires_grad_(False)
