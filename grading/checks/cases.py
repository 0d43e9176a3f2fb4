"""What the checks compare with: inputs, right results, and what common mistakes give.

They lie in cases.safetensors, made by `python -m grading.submissions.expected`, so that a check
holds no formula that an exercise asks for. The grader makes others, which nobody has seen.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

CASES = Path(__file__).parent / "cases.safetensors"
SMALL = {"vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
SMALL |= {"max_position_embeddings": 40, "pad_token_id": 96}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LEARNING_RATE = 0.05  # of plain gradient descent, so that AdamW has its own check
# Of two epochs: the largest norm of the gradient, what each step leaves of the learning rate, and
# how many times next_token_loss the loss is.
TRAINING = {"epochs": 2, "clip": 10.0, "decay": 0.9, "factor": 2.0}


@dataclass(frozen=True)
class Case:
    """A case by its name, "layer" or "loss: left".

    `also` are other right results, `mistakes` pairs of what to say and the result it is for. Where
    a result is infinite, any number is right.
    """

    name: str
    inputs: dict[str, Tensor]
    expected: Tensor
    also: tuple[Tensor, ...]
    mistakes: tuple[tuple[str, Tensor], ...]

    @property
    def what(self) -> str:
        """Its name without the exercise's."""
        return self.name.split(": ")[-1]


def case(name: str) -> Case:
    """Return a case; KeyError for a name that there is not."""
    tensors, hints = _others or _from_file()
    parts = {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}|")}
    mistakes = tuple((hint, parts.pop(f"mistake {i}")) for i, hint in enumerate(hints[name]))
    also = tuple(parts.pop(key) for key in sorted(parts) if key.startswith("also "))
    expected = parts.pop("expected")
    return Case(name, {key: t.clone() for key, t in parts.items()}, expected, also, mistakes)


def cases(exercise: str) -> list[Case]:
    """Return the cases that are named after an exercise: "loss: left", "loss: sum", ..."""
    _, hints = _others or _from_file()
    return [case(name) for name in hints if name.startswith(f"{exercise}: ")]


def small_model(**settings):
    """Return the model of the checks, with its random weights, in evaluation mode."""
    from config import GPT2Config
    from gpt2.model import GPT2Model

    model = GPT2Model(GPT2Config(**SMALL, **settings)).eval()
    model.load_state_dict(case("model").inputs)
    return model


@contextmanager
def other_cases(tensors: dict[str, Tensor], hints: dict[str, list[str]]) -> Iterator[None]:
    """Inside the block, take cases from these instead of the file."""
    global _others
    before, _others = _others, (tensors, hints)
    try:
        yield
    finally:
        _others = before


_others: tuple[dict[str, Tensor], dict[str, list[str]]] | None = None


@cache
def _from_file() -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    with safe_open(CASES, framework="pt") as file:
        hints = json.loads(file.metadata()["hints"])
        return {key: file.get_tensor(key) for key in file.keys()}, hints  # noqa: SIM118
