"""Weights in 4 bits: rounded to the nearest number, or by GPTQ with what the inputs show.

An eighth of float32's bytes. Each `group` of a row's weights has its own 2⁴ numbers, from its
smallest weight to its largest: w ≈ s·(code - z), with code in 0 ... 15.

Rounding to the nearest minimizes the error of each weight by itself; what counts is the error of
the layer's output over the inputs x that it gets, with H = Σ x·xᵀ (K, K):

    Σ_x ‖W·x - Ŵ·x‖² = tr((W - Ŵ)·H·(W - Ŵ)ᵀ)

GPTQ rounds one column after the other and moves what was lost onto the columns that follow, where
inputs are correlated. With H⁻¹ = Uᵀ·U (Cholesky, U upper triangular), for column i = 0, 1, ...:

    e = (W[:, i] - Ŵ[:, i]) / U[i, i]        W[:, j] ← W[:, j] - e·U[i, j]   for all j > i

    rounded   │ i │  still floating point     within the group at once,
    ██████████│▓▓▓│ ← ─ e·U[i, j] ─ ─ ─ ─     in later groups by one product a group

Blocks are quantized from the first to the last, each with the inputs that it gets from those
before it, already quantized.

Paper: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization", section 3 (ICLR).
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import progress_bar
from utils import in_evaluation_mode


class Int4Linear(nn.Module):
    """y = x·Ŵᵀ + b with Ŵ = s·(code - z): two codes a byte, s and z for each group of a row."""

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None):
        super().__init__()
        codes = codes.to(torch.uint8)  # (M, K)
        self.register_buffer("codes", codes[:, 0::2] | codes[:, 1::2] << 4)  # (M, K / 2)
        self.register_buffer("scale", scale)  # (M, K / group)
        self.register_buffer("zero", zero.to(torch.uint8))  # (M, K / group)
        self.bias = bias

    def weight(self) -> Tensor:
        """Return Ŵ (M, K)."""
        codes = torch.stack([self.codes & 15, self.codes >> 4], dim=-1).flatten(1)
        codes = codes.unflatten(1, (self.scale.size(1), -1)).float()  # (M, K / group, group)
        return ((codes - self.zero[..., None]) * self.scale[..., None]).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return y (..., M) for x (..., K), in x's dtype."""
        return F.linear(x, self.weight().to(x.dtype), self.bias)


def grid(weights: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point (..., 1) of groups of weights (..., group); 0 is always hit."""
    low = weights.amin(dim=-1, keepdim=True).clamp(max=0)
    high = weights.amax(dim=-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-30)
    return scale, (-low / scale).round()


def nearest(weights: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return the code of the number nearest to each weight, 0 to 2^bits - 1."""
    return (weights / scale + zero).round().clamp(0, 2**bits - 1)


def round_to_nearest(model: nn.Module, bits: int = 4, group: int = 64) -> None:
    """Replace every nn.Linear of a model, in place, by one with rounded weights; freeze the model.

    To load a saved state dict, of GPTQ's too, do this with a new model first. Raises ValueError for
    bits that are not 2, 3 or 4, a group that does not fit, or a model that is quantized already.
    """
    for name in _linears(model, bits, group):
        linear = model.get_submodule(name)
        weights = linear.weight.detach().float().unflatten(1, (-1, group))
        scale, zero = grid(weights, bits)
        codes = nearest(weights, scale, zero, bits).flatten(1)
        model.set_submodule(name, Int4Linear(codes, scale[..., 0], zero[..., 0], linear.bias))
    model.requires_grad_(False)


@torch.no_grad()
@in_evaluation_mode
def gptq(model: nn.Module, calibration: Sequence[Tensor], bits: int = 4, group: int = 64) -> None:
    """Do as `round_to_nearest`, by GPTQ; `calibration` are texts (ids (T,)) like those to come."""
    if len(calibration) == 0:
        raise ValueError("calibration has no texts; GPTQ needs some, such as 64 training prompts")
    names = _linears(model, bits, group)
    for i in progress_bar(range(len(model.gpt_layers)), desc="GPTQ", unit="block"):
        linears = {n: model.get_submodule(n) for n in names if n.startswith(f"gpt_layers.{i}.")}
        products = _input_products(model, linears, calibration)
        for name, linear in linears.items():
            columns = solve(linear.weight.float(), products[name], bits, group)
            model.set_submodule(name, Int4Linear(*columns, linear.bias))
    model.requires_grad_(False)


def solve(weight: Tensor, H: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return GPTQ's codes, scales and zero points for a weight (M, K), as `Int4Linear` has them."""
    W, H = weight.clone(), H.clone()
    H.diagonal().add_(0.01 * H.diagonal().mean() + 1e-8)  # so that it has an inverse
    U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
    codes, scales, zeros = torch.empty_like(W), [], []
    for start in range(0, W.size(1), group):
        end = start + group
        block, errors = W[:, start:end], torch.empty_like(W[:, start:end])
        scale, zero = grid(block, bits)
        for i in range(group):
            column = block[:, i : i + 1].clone()
            code = nearest(column, scale, zero, bits)
            row = U[start + i, start + i : end]  # from U[i, i] to the group's end
            error = (column - scale * (code - zero)) / row[0]
            block[:, i:] -= error * row
            codes[:, start + i], errors[:, i] = code[:, 0], error[:, 0]
        W[:, end:] -= errors @ U[start:end, end:]
        scales, zeros = [*scales, scale], [*zeros, zero]
    return codes, torch.cat(scales, dim=1), torch.cat(zeros, dim=1)


def _input_products(model, linears: dict[str, nn.Linear], calibration) -> dict[str, Tensor]:
    """Return H = Σ x·xᵀ over the inputs of each layer; one text at a time, so there are no pads."""
    H = {name: torch.zeros(m.in_features, m.in_features) for name, m in linears.items()}

    def add(name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].flatten(0, -2).float()
        H[name] = H[name].to(x.device).addmm_(x.t(), x)

    hooks = [m.register_forward_pre_hook(partial(add, name)) for name, m in linears.items()]
    for ids in calibration:
        model(ids[None].to(model.word_embedding.weight.device))
    for hook in hooks:
        hook.remove()
    return H


def _linears(model: nn.Module, bits: int, group: int) -> list[str]:
    linears = {name: m for name, m in model.named_modules() if type(m) is nn.Linear}
    if not linears:
        raise ValueError("the model has no nn.Linear: it is quantized already; load it again")
    if bits not in (2, 3, 4):
        raise ValueError(f"bits must be 2, 3 or 4, got {bits!r}; for 8 see quantization.py")
    for name, linear in linears.items():
        if group < 2 or group % 2 or linear.in_features % group:
            inputs = f"the {linear.in_features} inputs of {name}"
            raise ValueError(f"group={group} must be even and divide {inputs}")
    return list(linears)
