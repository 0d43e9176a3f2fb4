"""Errors that say what is wrong with a model, a place in it, or a text, and the fix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2.tokenizer import encode_texts

PARTS = ("word_embedding", "pos_embedding", "gpt_layers", "final_layer_norm", "config")
LAYER_PARTS = ("self_attention", "attention_dense", "interm_af", "out_dense")


def check_prompts(prompts: Sequence[Tensor]) -> None:
    """Raise ValueError where there is nothing to read."""
    if not len(prompts):
        raise ValueError("prompts is empty; give at least one text")
    if empty := [row for row, prompt in enumerate(prompts) if not len(prompt)]:
        raise ValueError(f"prompt {empty[0]} has no token; give texts of at least one")


def check_model(model) -> None:
    """Raise ValueError for a model that has not GPT-2's parts."""
    missing = [part for part in PARTS if not hasattr(model, part)]
    layers = [] if missing else list(model.gpt_layers)
    missing += [part for layer in layers for part in LAYER_PARTS if not hasattr(layer, part)]
    if missing or not layers:
        raise ValueError(
            f"{type(model).__name__} has no {[*missing, 'layer'][0]}, so it is not GPT-2-shaped; "
            "load it with GPT2Model.from_pretrained"
        )


def check_place(model, layer: int, *, head: int | None = None, neuron: int | None = None) -> None:
    """Raise ValueError for a layer, head or neuron that the model has not."""
    check_model(model)
    layers = len(model.gpt_layers)
    if layer not in range(layers):
        raise ValueError(f"there is no layer {layer!r}; the model has 0 to {layers - 1}")
    block = model.gpt_layers[layer]
    counts = {"head": (head, block.self_attention.num_attention_heads)}
    counts["neuron"] = (neuron, model.config.intermediate_size)
    for name, (index, count) in counts.items():
        if index is not None and index not in range(count):
            raise ValueError(f"layer {layer} has no {name} {index!r}; it has 0 to {count - 1}")


def encode(model, tokenizer, text: str) -> Tensor:
    """Return a text's ids, (T,), that the model can read; ValueError where it is empty or long."""
    check_model(model)
    (ids,) = encode_texts(tokenizer, [text])
    most = model.config.max_position_embeddings
    if not ids:
        raise ValueError("text is empty; give at least one character")
    if len(ids) > most:
        raise ValueError(
            f"text has {len(ids):,} tokens, but the model reads {most:,} at most; shorten it"
        )
    return torch.tensor(ids)
