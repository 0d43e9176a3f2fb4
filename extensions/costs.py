"""What a model costs: operations by formula, bytes on disk and in training, time.

A product of an (n, k) and a (k, m) matrix takes 2·n·k·m operations (a multiplication and an
addition each). For a text of T tokens, L layers, width d and feed-forward width f, the forward pass
takes

    L · (2·T·(4·d² + 2·d·f)  +  4·T²·d)  +  2·d·V·P

for the linear layers, for queries · keys and weights · values, and for P positions that are
projected to V tokens. (Norms, softmax and GELU are left out: a few per cent.) The backward pass
takes twice that: each product has two gradients. Where only an adapter is trained, frozen weights
need none, so that it takes about once.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from utils import in_evaluation_mode


def forward_flops(model: GPT2Model, tokens: int, projected: int = 1) -> int:
    """Return the operations of the forward pass for a text of this many tokens.

    Where heads were removed from a layer, a is what is left of the width d in its attention.
    """
    d, f = model.config.hidden_size, model.config.intermediate_size
    widths = [layer.self_attention.all_head_size for layer in model.gpt_layers]
    layers = [2 * tokens * (4 * d * a + 2 * d * f) + 4 * tokens**2 * a for a in widths]
    return sum(layers) + 2 * d * model.config.vocab_size * projected


def trainable(model: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of all that a model holds, shared tensors once."""
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def training_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """Return the bytes that a training step needs at once: the model, a gradient and AdamW's two
    moments for what is trained, and what the forward pass stores for the backward pass."""
    saved: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def store(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        loss = next_token_loss(model, batch)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    del loss  # what is stored lives until here, so that no address is used twice
    return stored_bytes(model) + 3 * trained + sum(saved.values())


@torch.no_grad()
@in_evaluation_mode
def latency(model: nn.Module, ids: Tensor, repeats: int = 20) -> float:
    """Return the median seconds of the answer for one prompt, ids (T,)."""
    ids = ids[None].to(next(iter(model.state_dict().values())).device)
    return _median_seconds(
        lambda: model.hidden_state_to_token(model(ids)["last_token"]).argmax().item(), repeats
    )


def _median_seconds(work: Callable[[], object], repeats: int) -> float:
    seconds: Sequence[float] = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        work()
        seconds = [*seconds, time.perf_counter() - started]
    return median(seconds[2:])  # the first ones set things up
