"""The ways to fine-tune that are compared, each with the learning rates to choose from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from extensions import bitfit, bottleneck, ia3, last_layers, lora, prefix
from gpt2.model import GPT2Model

FULL = "full"


@dataclass(frozen=True)
class Method:
    """A way to fine-tune: how the model is prepared, and the learning rates to choose from, as
    multiples of the recipe's."""

    prepare: Callable[[GPT2Model], None] | None
    rates: tuple[float, ...]


METHODS = {
    FULL: Method(None, (0.5, 1, 2)),
    "LoRA, rank 8": Method(partial(lora.attach, rank=8), (2, 5, 10, 20)),
    "DoRA, rank 8": Method(partial(lora.attach, rank=8, dora=True), (2, 5, 10, 20)),
    "adapters, width 32": Method(partial(bottleneck.attach, width=32), (5, 10, 20)),
    "prefix, 16": Method(partial(prefix.attach, length=16), (20, 100, 200)),
    "IA3": Method(ia3.attach, (20, 100, 200)),
    "BitFit": Method(bitfit.attach, (10, 20, 50)),
    "last layer": Method(partial(last_layers.attach, layers=1), (0.5, 1, 2, 4)),
    "last 2 layers": Method(partial(last_layers.attach, layers=2), (0.5, 1, 2, 4)),
}
