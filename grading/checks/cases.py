"""What the checks compare with: inputs, expected results, and what common mistakes give.

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
SMALL = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 40,
    "pad_token_id": 96,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LEARNING_RATE = 0.1  # of plain gradient descent, so that AdamW has its own check
BATCH = {"ids": "input_ids", "mask": "attention_mask", "labels": "labels"}  # of a case, ours


@dataclass(frozen=True)
class Case:
    """`also` are other right results, `mistakes` pairs of what to say and the result it is for."""

    inputs: dict[str, Tensor]
    expected: Tensor
    also: tuple[Tensor, ...]
    mistakes: tuple[tuple[str, Tensor], ...]


def case(name: str) -> Case:
    """A case by its name; KeyError for one that there is not."""
    tensors, hints = _others or _from_file()
    parts = {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}|")}
    mistakes = tuple((hint, parts.pop(f"mistake {i}")) for i, hint in enumerate(hints[name]))
    also = tuple(parts.pop(key) for key in sorted(parts) if key.startswith("also "))
    expected = parts.pop("expected")
    return Case({key: t.clone() for key, t in parts.items()}, expected, also, mistakes)


def small_model(**settings):
    """The model of the checks, with its random weights, in evaluation mode."""
    from config import GPT2Config
    from gpt2.model import GPT2Model

    model = GPT2Model(GPT2Config(**SMALL, **settings)).eval()
    model.load_state_dict(case("model").inputs)
    return model


@contextmanager
def other_cases(tensors: dict[str, Tensor], hints: dict[str, list[str]]) -> Iterator[None]:
    """Inside the block, `case` takes from these instead of the file."""
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
