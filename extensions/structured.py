"""Whole heads and whole layers removed: a smaller model that is faster on any machine.

Trained models have heads and layers whose absence costs little. The context of head h (T, d) enters
the block through d columns of W_O alone, so a model without it equals one in which it is 0:

    importance of head h over texts:  I_h = Σ |∂L/∂ξ_h| at ξ = 1,  with context_h ← ξ_h·context_h

    W_Q, W_K, W_V  ┌──────────┐ head 0        W_O  head 0   1    2
                   ├── gone ──┤ head 1             ┌────┬──────┬────┐
                   └──────────┘ head 2             └────┴ gone ┴────┘

A layer that is removed leaves its residual connection, H'' = H. Remove before quantizing, and
before making the optimizer: the remaining weights are new parameters, which train as usual.

Paper: Michel et al. 2019, "Are Sixteen Heads Really Better than One?" (NeurIPS), section 4.1.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from config import GPT2Config
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from gpt2.weights import read_weights
from utils import atomic_write, in_evaluation_mode, save_tensors

Heads = Mapping[int, Sequence[int]]  # of each layer


def all_heads(model: GPT2Model) -> list[Tensor]:
    """Return ξ of each layer, (heads,), with every head in: 1."""
    device = model.word_embedding.weight.device
    attentions = [layer.self_attention for layer in model.gpt_layers]
    return [torch.ones(attention.num_attention_heads, device=device) for attention in attentions]


@contextmanager
def scaled_heads(model: GPT2Model, scales: Sequence[Tensor]) -> Iterator[None]:
    """Return a context in which each head's context, the input of W_O, is multiplied by its ξ."""
    with ExitStack() as hooks:
        for layer, scale in zip(model.gpt_layers, scales, strict=True):

            def multiply(module, inputs, scale=scale):
                context = inputs[0].unflatten(-1, (len(scale), -1))  # (B, T, h, d)
                return ((context * scale[:, None].to(context.dtype)).flatten(-2),)

            hooks.enter_context(layer.attention_dense.register_forward_pre_hook(multiply))
        yield


@in_evaluation_mode
def head_importance(model: GPT2Model, batches: Iterable) -> list[Tensor]:
    """Return I_h of each layer's heads, (heads,) with norm 1; a batch counts as one text."""
    scales = [ones.requires_grad_() for ones in all_heads(model)]
    totals = [torch.zeros_like(scale) for scale in scales]
    with scaled_heads(model, scales), torch.enable_grad():
        for batch in batches:
            gradients = torch.autograd.grad(next_token_loss(model, batch), scales)
            totals = [total + g.abs() for total, g in zip(totals, gradients, strict=True)]
    if not any(total.any() for total in totals):
        raise ValueError("batches shows no head's importance; give at least one, with labels")
    return [total / total.norm().clamp(min=1e-30) for total in totals]


def least_important(importance: Sequence[Tensor], count: int) -> dict[int, list[int]]:
    """Return the `count` heads of lowest importance by layer; every layer keeps its best one."""
    order = sorted(
        (score, layer, head)
        for layer, scores in enumerate(importance)
        for head, score in enumerate(scores.tolist())
        if head != scores.argmax()
    )
    if not 0 <= count <= len(order):
        raise ValueError(f"count must be 0 to {len(order)}, got {count}: each layer keeps a head")
    heads: dict[int, list[int]] = {}
    for _, layer, head in order[:count]:
        heads.setdefault(layer, []).append(head)
    return heads


def remove_heads(model: GPT2Model, heads: Heads) -> None:
    """Remove heads, in place: `{0: [1, 2]}` are two of the first layer's, which keeps others."""
    _check(model, heads, ())
    for layer, removed in heads.items():
        block = model.gpt_layers[layer]
        attention = block.self_attention
        kept = sorted({*range(attention.num_attention_heads)} - {*removed})
        d = attention.attention_head_size
        index = torch.cat([torch.arange(h * d, (h + 1) * d) for h in kept])
        for linear in (attention.query, attention.key, attention.value):
            linear.weight = nn.Parameter(linear.weight.detach()[index])
            linear.bias = nn.Parameter(linear.bias.detach()[index])
            linear.out_features = len(index)
        dense = block.attention_dense
        dense.weight = nn.Parameter(dense.weight.detach()[:, index])
        dense.in_features = attention.all_head_size = len(index)
        attention.num_attention_heads = len(kept)


def remove_layers(model: GPT2Model, layers: Sequence[int]) -> None:
    """Remove layers, in place; at least one must stay."""
    _check(model, {}, layers)
    kept = [layer for i, layer in enumerate(model.gpt_layers) if i not in set(layers)]
    model.gpt_layers = nn.ModuleList(kept)
    model.config = GPT2Config(**vars(model.config) | {"num_hidden_layers": len(kept)})


def save(model: GPT2Model, folder) -> None:
    """Write config.json and pruned.safetensors, in which the shapes tell each layer's heads."""
    model.config.save_pretrained(folder)
    with atomic_write(Path(folder) / "pruned.safetensors") as path:
        save_tensors(model.state_dict(), path)


def load(folder) -> GPT2Model:
    """Return the model that `save` has written, in evaluation mode; a damaged file's ValueError."""
    weights = read_weights(Path(folder) / "pruned.safetensors")
    model = GPT2Model(GPT2Config.from_pretrained(folder))
    for i, ones in enumerate(all_heads(model)):
        rows = len(weights[f"gpt_layers.{i}.self_attention.query.weight"])
        kept = rows // model.gpt_layers[i].self_attention.attention_head_size
        remove_heads(model, {i: range(kept, len(ones))})
    model.load_state_dict(weights)
    return model.eval()


def _check(model: GPT2Model, heads: Heads, layers: Sequence[int]) -> None:
    """Raise ValueError for what can't be removed."""
    there_are = range(len(model.gpt_layers))
    if missing := {*heads, *layers} - {*there_are}:
        raise ValueError(f"there is no layer {min(missing)}; the model has 0 to {there_are[-1]}")
    if {*layers} == {*there_are}:
        raise ValueError("layers names all layers of the model; leave at least one out")
    for layer, removed in heads.items():
        attention = model.gpt_layers[layer].self_attention
        there_are = range(attention.num_attention_heads)
        if missing := {*removed} - {*there_are}:
            raise ValueError(
                f"layer {layer} has no head {min(missing)}; it has 0 to {there_are[-1]}"
            )
        if {*removed} == {*there_are}:
            raise ValueError(f"heads names all heads of layer {layer}; leave at least one out")
        if type(attention.query) is not nn.Linear:
            raise ValueError(f"layer {layer} has no plain nn.Linear; remove heads before the rest")
