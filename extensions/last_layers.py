"""Train the last k blocks and freeze the others (Lee, Tang & Lin 2019, arXiv 1911.03090).

The first blocks of a pretrained model serve every task; the last are the most specific to one.

    embeddings ── block 1 ── ... ── block n-k ──┊── block n-k+1 ── ... ── block n ── final norm
                       frozen                   ┊                trained

The gradient stops at the dotted line, which saves time and memory as no adapter does.
"""

from torch import nn

from extensions import adapter_files
from extensions.adapter_files import save
from extensions.adapters import PREFIX, detach, train_only

__all__ = ["attach", "detach", "load", "save"]
METHOD = "LAST_LAYERS"  # peft has no such method


def attach(model: nn.Module, layers: int = 1) -> None:
    """Train the last `layers` blocks and the final norm; `detach` restores their values."""
    total = len(model.gpt_layers)
    if not 1 <= layers <= total:
        raise ValueError(f"layers must be 1 to {total}, which this model has, got {layers}")
    train_only(model, METHOD, _last(model, layers), {"layers": layers})


def load(model: nn.Module, folder) -> None:
    """Attach with saved blocks."""
    config, tensors = adapter_files.read(model, folder, METHOD, "layers")
    parameters = {PREFIX + name: p for name, p in _last(model, config["layers"]).items()}
    adapter_files.check(parameters, tensors, folder)
    attach(model, config["layers"])
    adapter_files.fill(parameters, tensors, folder)


def _last(model: nn.Module, layers: int) -> dict[str, nn.Parameter]:
    first = len(model.gpt_layers) - layers
    trained = [f"gpt_layers.{i}." for i in range(first, len(model.gpt_layers))]
    starts = (*trained, "final_layer_norm.")
    return {name: p for name, p in model.named_parameters() if name.startswith(starts)}
