"""Bottleneck adapters: two small layers after each half of a block (Houlsby et al. 2019).

A network of few hidden units, added to what attention and the feed-forward network give, before
the residual connection; it learns what to change of it (arXiv 1902.00751). Its last matrix starts
at 0, so the model starts unchanged.

    y = W·x + b  ──┬────────────────────────────┐
                   └── down ── GELU ── up ──────+── y + up(GELU(down(y)))
                   hidden → width     → hidden

The dense layers are `attention_dense` and `out_dense`; the activation is the model's own.
"""

from torch import Tensor, nn

from extensions import adapter_files
from extensions.adapter_files import save
from extensions.adapters import detach, linear_layers, switch, wrap
from gpt2.layer import ACTIVATIONS

__all__ = ["attach", "detach", "load", "save", "switch"]
METHOD = "BOTTLENECK"  # peft has no such method


class Bottleneck(nn.Module):
    """The network after one linear layer."""

    def __init__(self, base: nn.Linear, width: int, activation: nn.Module):
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.down = nn.Linear(base.out_features, width)
        self.activation = activation
        self.up = nn.Linear(width, base.out_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        y = base(x)
        return y + self.up(self.activation(self.down(y)))


def attach(
    model: nn.Module,
    width: int = 64,
    targets=("attention_dense", "out_dense"),
    name: str = "default",
) -> None:
    """Add a network of `width` hidden units after each of `targets`, and train nothing else.

    Further ones need another `name`; `switch(model, name)` chooses. Raises ValueError for a bad
    width or a name that matches no linear layer.
    """
    adapters = _adapters(model, width, targets)
    wrap(model, METHOD, adapters, {"width": width, "target_modules": list(adapters)}, name)


def load(model: nn.Module, folder, name: str = "default") -> None:
    """Attach saved networks."""
    config, tensors = adapter_files.read(model, folder, METHOD, "width", "target_modules")
    adapters = _adapters(model, config["width"], config["target_modules"])
    adapter_files.fill_adapters(adapters, tensors, folder)
    wrap(model, METHOD, adapters, config, name)


def _adapters(model: nn.Module, width: int, targets) -> dict[str, Bottleneck]:
    make_activation = ACTIVATIONS[model.config.activation_function]
    layers = linear_layers(model, targets)
    return {path: Bottleneck(base, width, make_activation()) for path, base in layers.items()}
