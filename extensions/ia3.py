"""IA³: learned vectors that rescale activations (Liu et al. 2022, arXiv 2205.05638).

Far fewer parameters than LoRA's: a number for each key, each value, and each unit between the two
matrices of the feed-forward network. They start at 1, so the model starts unchanged.

    keys, values:    x ── W ──(⊙ l)── y         y = l ⊙ (W·x + b)
    feed-forward:    x ──(⊙ l)── W₂ ── y        y = W₂·(l ⊙ x) + b
"""

import torch
from torch import Tensor, nn

from extensions import adapter_files
from extensions.adapter_files import save
from extensions.adapters import detach, linear_layers, switch, wrap

__all__ = ["attach", "detach", "load", "save", "switch"]
METHOD = "IA3"


class IA3(nn.Module):
    """The vector of one linear layer, under peft's name: (out, 1), or (1, in) for its input."""

    def __init__(self, base: nn.Linear, on_input: bool):
        super().__init__()
        shape = (1, base.in_features) if on_input else (base.out_features, 1)
        self.ia3_l = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        if self.ia3_l.size(0) == 1:
            return base((x * self.ia3_l.flatten()).to(x.dtype))
        y = base(x)
        return (y * self.ia3_l.flatten()).to(y.dtype)


def attach(
    model: nn.Module, targets=("key", "value"), feedforward=("out_dense",), name: str = "default"
) -> None:
    """Rescale the outputs of `targets` and the inputs of `feedforward`; train nothing else.

    Further vectors need another `name`; `switch(model, name)` chooses. Raises ValueError for a
    name that matches no linear layer.
    """
    outputs, inputs = linear_layers(model, targets), linear_layers(model, feedforward)
    adapters = {path: IA3(base, path in inputs) for path, base in (outputs | inputs).items()}
    wrap(model, METHOD, adapters, _config(adapters), name)


def load(model: nn.Module, folder, name: str = "default") -> None:
    """Attach saved vectors, ours or peft's."""
    _, tensors = adapter_files.read(model, folder, METHOD)
    layers = linear_layers(model, adapter_files.layers_in(tensors, ".ia3_l"))
    adapters = {
        path: IA3(base, tensors[f"{adapter_files.PREFIX}{path}.ia3_l"].size(0) == 1)
        for path, base in layers.items()
    }
    adapter_files.fill_adapters(adapters, tensors, folder)
    wrap(model, METHOD, adapters, _config(adapters), name)


def _config(adapters: dict[str, IA3]) -> dict:
    inputs = [path for path, adapter in adapters.items() if adapter.ia3_l.size(0) == 1]
    return {"target_modules": list(adapters), "feedforward_modules": inputs}
