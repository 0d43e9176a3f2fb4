"""What the page shows of a pair, in Python: by hooks on the model's own modules.

    probabilities <- last state <- layer 3 <- layer 2 <- layer 1 <- embedding
                                    |  |       |  |       |  |
                    attention maps -+  +- states for the logit lens (nostalgebraist 2020)

An ablated head's context is set to 0 before W_O. The hooks are removed after each call.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

Head = tuple[int, int]  # layer and head, from 0


@torch.no_grad()
def analyze(
    model,
    ids: Sequence[int],
    labels: Sequence[int],
    ablated: Iterable[Head] = (),
) -> dict:
    """Return what the model makes of a prompt's ids: `probabilities` of the label tokens, `lens`,
    theirs after the embedding and each layer, and `attention`, (heads, T, T) for each layer."""
    with without_heads(model, ablated), captured(model) as (states, maps):
        last = model(_tensor(ids, model))["last_token"][0]
    lens = [model.final_layer_norm(state) for state in states]
    return {
        "probabilities": token_probabilities(model, last, labels),
        "lens": [token_probabilities(model, state, labels) for state in lens],
        "attention": maps,
    }


@torch.no_grad()
def label_probabilities(model, ids, labels, ablated: Iterable[Head] = ()) -> list[float]:
    """Return the probabilities of the label tokens after a prompt's ids."""
    with without_heads(model, ablated):
        state = model(_tensor(ids, model))["last_token"][0]
    return token_probabilities(model, state, labels)


@torch.no_grad()
def candidates(model, ids, count: int, ablated: Iterable[Head] = ()) -> list[tuple[int, float]]:
    """Return the most probable next tokens, each with its probability."""
    with without_heads(model, ablated):
        state = model(_tensor(ids, model))["last_token"][0]
    logits = model.hidden_state_to_token(state).double()
    best = logits.topk(count)
    probabilities = (best.values - logits.logsumexp(dim=-1)).exp()
    return list(zip(best.indices.tolist(), probabilities.tolist(), strict=True))


def token_probabilities(model, state: Tensor, tokens: Sequence[int]) -> list[float]:
    """Return the probabilities of some tokens, out of all, after a state (hidden,)."""
    logits = model.hidden_state_to_token(state).double()
    return (logits[list(tokens)] - logits.logsumexp(dim=-1)).exp().tolist()


@contextmanager
def without_heads(model, heads: Iterable[Head]) -> Iterator[None]:
    """Set the context of these heads to 0; ValueError for a head that the model has not."""
    layers, per_layer = model.config.num_hidden_layers, model.config.num_attention_heads
    with ExitStack() as hooks:
        for layer, head in heads:
            if not (0 <= layer < layers and 0 <= head < per_layer):
                raise ValueError(
                    f"there is no head {head} in layer {layer}: the model has layers 0 to "
                    f"{layers - 1} with heads 0 to {per_layer - 1}"
                )
            attention = model.gpt_layers[layer].self_attention
            start = head * attention.attention_head_size

            def silence(module, inputs, context, start=start):
                context = context.clone()
                context[..., start : start + module.attention_head_size] = 0
                return context

            hooks.callback(attention.register_forward_hook(silence).remove)
        yield


@contextmanager
def captured(model) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Yield lists that one forward of one text fills: the last position's states (hidden,) after
    the embedding and each layer, and each layer's attention weights (heads, T, T)."""
    states: list[Tensor] = []
    maps: list[Tensor] = []

    def save_state(module, inputs, output):
        states.append(output[0, -1])

    def save_map(module, inputs):
        key, query = (module.transform(inputs[0], part) for part in (module.key, module.query))
        maps.append(module.attention_weights(key, query, None)[0])

    with ExitStack() as hooks:
        hooks.callback(model.embed_dropout.register_forward_hook(save_state).remove)
        for layer in model.gpt_layers:
            hooks.callback(layer.register_forward_hook(save_state).remove)
            hooks.callback(layer.self_attention.register_forward_pre_hook(save_map).remove)
        yield states, maps


def below_diagonal(weights: Tensor) -> list[str]:
    """Return each head's attention weights (heads, T, T) as base64 of a byte a weight, 255 for 1,
    row by row, without those above the diagonal, which are 0."""
    rows, columns = torch.tril_indices(*weights.shape[-2:])
    numbers = (weights[:, rows, columns] * 255).round().byte().cpu().numpy()
    return [base64.b64encode(row.tobytes()).decode() for row in numbers]


def _tensor(ids: Sequence[int], model) -> Tensor:
    return torch.tensor([list(ids)], device=next(model.parameters()).device)
