"""What is compared: ways to fine-tune, ways to make the fine-tuned model smaller, and students."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from extensions import bitfit, bottleneck, ia3, last_layers, lora, prefix, pruning, structured
from extensions.distillation import distillation_loss
from extensions.gptq import gptq, round_to_nearest
from extensions.quantization import quantize
from gpt2.model import GPT2Model

FULL = "full"


@dataclass(frozen=True)
class Method:
    """A way to fine-tune: how the model is prepared, and the learning rates to choose from, as
    multiples of the recipe's.

    With `layers` the model starts as a student: with these layers of the pretrained one. `loss` is
    called with `teacher=`, the fully fine-tuned model, and else as a `loss_fn` is.
    """

    prepare: Callable[[GPT2Model], None] | None
    rates: tuple[float, ...]
    layers: Sequence[int] | None = None
    loss: Callable | None = None


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


@dataclass(frozen=True)
class Examples:
    """Training pairs that a compression may look at: prompts, ids (T,) each, and batches of one
    pair with its label."""

    prompts: list[Tensor]
    batches: list[dict[str, Tensor]]


Compression = Callable[[GPT2Model, Examples], None]  # changes a fine-tuned model in place


def _half_the_heads(model: GPT2Model, examples: Examples) -> None:
    importance = structured.head_importance(model, examples.batches)
    removed = structured.least_important(importance, sum(map(len, importance)) // 2)
    structured.remove_heads(model, removed)


def _without_last_layer(model: GPT2Model, examples: Examples) -> None:
    structured.remove_layers(model, [len(model.gpt_layers) - 1])


def _with_prompts(function: Callable, **settings) -> Compression:
    return lambda model, examples: function(model, calibration=examples.prompts, **settings)


def _alone(function: Callable, **settings) -> Compression:
    return lambda model, examples: function(model, **settings)


COMPRESSIONS: dict[str, Compression] = {
    "int8": _alone(quantize),
    "int8, weights only": _alone(quantize, weight_only=True),
    "4 bits, nearest": _alone(round_to_nearest, bits=4),
    "4 bits, GPTQ": _with_prompts(gptq, bits=4),
    "3 bits, nearest": _alone(round_to_nearest, bits=3),
    "3 bits, GPTQ": _with_prompts(gptq, bits=3),
    "2 bits, nearest": _alone(round_to_nearest, bits=2),
    "2 bits, GPTQ": _with_prompts(gptq, bits=2),
    "half the weights, magnitude": _alone(pruning.magnitude, sparsity=0.5),
    "half the weights, Wanda": _with_prompts(pruning.wanda, sparsity=0.5),
    "half the heads": _half_the_heads,
    "without the last layer": _without_last_layer,
}


def students(layers: int) -> dict[str, Method]:
    """Return the students of a model with so many layers: every second one, three objectives."""
    settings = {"prepare": None, "rates": (0.5, 1, 2), "layers": range(0, layers, 2)}
    taught = partial(distillation_loss, temperature=1.0)
    return {
        "student, labels alone": Method(**settings),
        "student, teacher": Method(**settings, loss=taught),
        "student, teacher and states": Method(**settings, loss=partial(taught, hidden=1.0)),
    }
