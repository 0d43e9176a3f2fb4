"""The parameter-efficient methods, each attached with its parameters far from where they start."""

from types import ModuleType

import torch

from extensions import bitfit, bottleneck, ia3, last_layers, lora, prefix

METHODS: dict[str, tuple[ModuleType, dict]] = {
    "lora": (lora, {"rank": 3}),
    "rslora": (lora, {"rank": 3, "rslora": True, "targets": ("query", "value")}),
    "dora": (lora, {"rank": 3, "dora": True}),
    "bottleneck": (bottleneck, {"width": 5}),
    "ia3": (ia3, {}),
    "prefix": (prefix, {"length": 4}),
    "bitfit": (bitfit, {}),
    "last_layers": (last_layers, {"layers": 2}),
}
BY_NAME = [name for name, (module, _) in METHODS.items() if hasattr(module, "switch")]


def attach(model, method: str, **more) -> ModuleType:
    """Attach a method to a model, as its defaults start; return its module."""
    module, settings = METHODS[method]
    module.attach(model, **settings, **more)
    return module


@torch.no_grad()
def move(model, spread: float = 0.3, seed: int = 1) -> None:
    """Change what is trained as if it had been."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += spread * torch.randn(parameter.shape, generator=generator)
