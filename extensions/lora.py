"""LoRA: a low-rank matrix beside each frozen weight (Hu et al. 2021, arXiv 2106.09685).

A fine-tuned weight differs from the pretrained one by a matrix of low rank, so only its two thin
factors are trained: rank·(in + out) numbers instead of in·out. B starts at 0, so the model starts
unchanged.

            ┌── W (frozen) ────────┐
    x ──────┤                      + ── y         y = W·x + b + s·B·A·x,   s = alpha / rank
            └── A ── B ── ·s ──────┘

rsLoRA (Kalajdzievski 2023): s = alpha / √rank, so that large ranks still learn.
DoRA (Liu et al. 2024): length and direction apart; W' = m · V/‖V‖ with V = W + s·B·A, where the
norm is each row's and counts as a constant in the gradient, and m starts at ‖W‖.
"""

import copy
import math

import torch
from torch import Tensor, nn

from extensions import adapter_files
from extensions.adapter_files import save
from extensions.adapters import Wrapped, attached, detach, linear_layers, switch, wrap

__all__ = ["attach", "detach", "load", "merge", "save", "switch", "unmerge"]
METHOD = "LORA"
# Of peft's files: the keys that are read, with their defaults; and what changes no number.
SETTINGS = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "use_rslora": False, "use_dora": False}
NEUTRAL = {"peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"}
NEUTRAL |= {"task_type", "inference_mode", "target_modules", "exclude_modules", "layers_pattern"}
NEUTRAL |= {"layers_to_transform", "megatron_core", "qalora_group_size", "fan_in_fan_out"}
PLAIN = (("bias", "none"), ("init_lora_weights", True), ("init_lora_weights", "gaussian"))


class LoRA(nn.Module):
    """The factors beside one linear layer, under peft's names."""

    def __init__(self, base: nn.Linear, config: dict):
        super().__init__()
        rank = config["r"]
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.scale = config["lora_alpha"] / (math.sqrt(rank) if config["use_rslora"] else rank)
        self.dropout = nn.Dropout(config["lora_dropout"])
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)  # drawn as torch does
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.lora_magnitude_vector = None
        if config["use_dora"]:
            self.lora_magnitude_vector = nn.Parameter(base.weight.detach().norm(dim=1))
        self.merged: nn.Linear | None = None

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        if self.merged is not None:
            return self.merged(x)
        change = self.scale * self.lora_B(self.lora_A(self.dropout(x)))
        if self.lora_magnitude_vector is None:
            return base(x) + change
        bias = 0 if base.bias is None else base.bias
        return self.stretch(base).to(x.dtype) * (base(x) - bias + change) + bias

    def stretch(self, base: nn.Linear) -> Tensor:
        """Return DoRA's m / ‖V‖, a number for each output."""
        return self.lora_magnitude_vector / self.direction(base).detach().norm(dim=1)

    def direction(self, base: nn.Linear) -> Tensor:
        """Return V = W + s·B·A."""
        return base.weight + self.scale * self.lora_B.weight @ self.lora_A.weight

    def weight(self, base: nn.Linear) -> Tensor:
        """Return the one matrix that has the same effect."""
        if self.lora_magnitude_vector is None:
            return self.direction(base)
        return self.stretch(base)[:, None] * self.direction(base)


def attach(
    model: nn.Module,
    rank: int = 8,
    *,
    alpha: float = 16,
    dropout: float = 0.0,
    targets=None,
    rslora: bool = False,
    dora: bool = False,
    name: str = "default",
) -> None:
    """Add LoRA to the linear layers that `targets` name, and train nothing else.

    By default these are all that the blocks have; the paper's are query and value. Further
    adapters need another `name`; `switch(model, name)` chooses one. `dropout` is applied to the
    input of A. Raises ValueError for a bad rank or a target that matches nothing.
    """
    layers = linear_layers(model, targets)
    config = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "use_rslora": rslora}
    config |= {"use_dora": dora, "target_modules": list(layers)}
    adapters = {path: LoRA(base, config) for path, base in layers.items()}
    wrap(model, METHOD, adapters, config, name)


def load(model: nn.Module, folder, name: str = "default") -> None:
    """Attach a saved LoRA, ours or peft's; ValueError for a variant that is not computed here."""
    saved, tensors = adapter_files.read(model, folder, METHOD, "r", "lora_alpha")
    for key, value in saved.items():
        if value and key not in NEUTRAL | SETTINGS.keys() and (key, value) not in PLAIN:
            raise ValueError(
                f"{folder}: {key}={value!r} in adapter_config.json is not computed here; load it "
                "with peft"
            )
    config = {key: saved.get(key, default) for key, default in SETTINGS.items()}
    config["target_modules"] = adapter_files.layers_in(tensors, ".lora_A.weight")
    layers = linear_layers(model, config["target_modules"])
    adapters = {path: LoRA(base, config) for path, base in layers.items()}
    adapter_files.fill_adapters(adapters, tensors, folder)
    wrap(model, METHOD, adapters, config, name)


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Compute one matrix per layer for the active adapter, which then costs nothing to apply.

    The original weights stay beside it. Raises ValueError for an adapter that is merged already.
    """
    active = _active(model)
    if any(adapter.merged is not None for adapter, _ in active):
        raise ValueError("the active adapter is merged already; call unmerge(model) first")
    for adapter, base in active:
        adapter.merged = copy.deepcopy(base)
        adapter.merged.weight.copy_(adapter.weight(base))


def unmerge(model: nn.Module) -> None:
    """Undo `merge`: apply the factors of the active adapter again, beside the original weights."""
    active = _active(model)
    if any(adapter.merged is None for adapter, _ in active):
        raise ValueError("the active adapter is not merged; call merge(model) first")
    for adapter, _ in active:
        adapter.merged = None


def _active(model: nn.Module) -> list[tuple[LoRA, nn.Linear]]:
    """Return the active adapter's parts, each with the layer that it is for."""
    wrapped = [module for module in model.modules() if isinstance(module, Wrapped)]
    found = [(w.adapters[w.active], w.base_layer) for w in wrapped if w.active in w.adapters]
    if not found or attached(model).method != METHOD:
        raise ValueError("no LoRA is active; call attach(model) or switch(model, name) first")
    return found
