"""BitFit: train only the biases (Ben-Zaken, Ravfogel & Goldberg 2021, arXiv 2106.10199).

The smallest change that needs no new module: every linear layer and every norm computes

    y = W·x + b      W frozen, b trained

which is 0.1 % of GPT-2's parameters. A bias moves all positions alike; what depends on the input
stays as pretraining left it.
"""

from torch import nn

from extensions import adapter_files
from extensions.adapter_files import save
from extensions.adapters import PREFIX, detach, train_only

__all__ = ["attach", "detach", "load", "save"]
METHOD = "BITFIT"  # peft has no such method


def attach(model: nn.Module) -> None:
    """Train the biases and nothing else; `detach` restores their values."""
    train_only(model, METHOD, _biases(model), {})


def load(model: nn.Module, folder) -> None:
    """Attach with saved biases."""
    _, tensors = adapter_files.read(model, folder, METHOD)
    biases = {PREFIX + name: bias for name, bias in _biases(model).items()}
    adapter_files.check(biases, tensors, folder)
    attach(model)
    adapter_files.fill(biases, tensors, folder)


def _biases(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if name.endswith(".bias")}
