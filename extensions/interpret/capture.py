"""What a model computes inside, captured by hooks while its own forward runs.

An answer says what a model does, and not how. Hooks see the numbers on the way:

    state 0 ──▶ block 0 ──▶ state 1 ──▶ block 1 ──▶ state 2 ──▶ final norm ──▶ logits
                   │
                   ├─ weights   (h, T, S)   softmax(QKᵀ/√d + M), by the model's own method
                   ├─ contexts  (T, h·d)    what enters W_O, d columns a head
                   └─ neurons   (T, f)      what leaves the GELU

A hook reads and changes nothing, so the answer has the same bits as without it. The weights are
computed beside the forward pass, also where a fused kernel never stores them ("sdpa"). Data sets
are read in batches of bounded size, and of each text only what a function takes is stored.

Papers: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits" (the names of the
parts); Nanda & Bloom 2022, TransformerLens (hooks at each of them).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from extensions.interpret.checks import check_model, check_prompts
from gpt2.evaluate import GPU_TOKEN_BUDGET, TOKEN_BUDGET, _last_states, _padded
from gpt2.fast import faster
from gpt2.model import GPT2Model
from utils import in_evaluation_mode


@dataclass
class Captured:
    """What one call of a model has computed: a list with an entry for each layer.

    `states` has one more: what enters the first block, and what leaves each block.
    """

    states: list[Tensor] = field(default_factory=list)  # (B, T, hidden)
    weights: list[Tensor] = field(default_factory=list)  # (B, h, T, S)
    contexts: list[Tensor] = field(default_factory=list)  # (B, T, h·d)
    neurons: list[Tensor] = field(default_factory=list)  # (B, T, f)
    last: Tensor | None = None  # (B,), the column of each row's last token

    def row(self, index: int, T: int) -> "Captured":
        """Return what belongs to one row of the batch, a text of T tokens, without its pads."""
        states, contexts, neurons = (
            [part[index, :T] for part in parts]
            for parts in (self.states, self.contexts, self.neurons)
        )
        weights = [part[index, :, :T, :T] for part in self.weights]
        return Captured(states, weights, contexts, neurons)


@contextmanager
def capture(model: GPT2Model, *, weights: bool = True) -> Iterator[Captured]:
    """Return a context in which a Captured holds what the model's last call has computed.

    Without `weights` the attention weights are left out, which saves time.
    """
    check_model(model)
    seen = Captured()

    def start(layer, inputs) -> None:
        seen.states, seen.weights, seen.contexts, seen.neurons = [inputs[0].detach()], [], [], []

    def attend(attention, inputs, output) -> None:
        x, mask, *caches = inputs
        with torch.no_grad():
            query, key = (attention.transform(x, w) for w in (attention.query, attention.key))
            for stored in filter(None, caches):  # it holds the new keys by now
                key = stored.key[:, :, : stored.cache.length + x.size(1)]
            seen.weights.append(attention.attention_weights(key, query.to(key.dtype), mask))

    def finish(module, inputs, output) -> None:
        found = output["last_hidden_state"] == output["last_token"][:, None]
        seen.last = found.all(dim=-1).int().argmax(dim=1)

    with ExitStack() as hooks:
        hooks.enter_context(model.gpt_layers[0].register_forward_pre_hook(start))
        for layer in model.gpt_layers:
            handles = [
                layer.attention_dense.register_forward_pre_hook(
                    lambda module, inputs: seen.contexts.append(inputs[0].detach())
                ),
                layer.interm_af.register_forward_hook(
                    lambda module, inputs, output: seen.neurons.append(output.detach())
                ),
                layer.register_forward_hook(
                    lambda module, inputs, output: seen.states.append(output.detach())
                ),
            ]
            if weights:
                handles.append(layer.self_attention.register_forward_hook(attend))
            for handle in handles:
                hooks.enter_context(handle)
        hooks.enter_context(model.register_forward_hook(finish))
        yield seen


@torch.no_grad()
@in_evaluation_mode
def of_each(
    model: GPT2Model, prompts: Sequence[Tensor], take: Callable, *, weights: bool = True
) -> list:
    """Return `take(row, captured)` of each prompt, ids (T,), in their order; no pad is in it."""
    check_model(model)
    check_prompts(prompts)
    device = model.word_embedding.weight.device
    budget = TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    taken: dict[int, object] = {}
    with faster(model), capture(model, weights=weights) as seen:
        while order:
            size = max(1, budget // len(prompts[order[0]]))
            rows, order = order[:size], order[size:]
            model(*_padded([prompts[row] for row in rows], device))
            for index, row in enumerate(rows):
                taken[row] = take(row, seen.row(index, len(prompts[row])))
    return [taken[row] for row in range(len(prompts))]


@torch.no_grad()
@in_evaluation_mode
def last_positions(model: GPT2Model, prompts: Sequence[Tensor], take: Callable) -> Tensor:
    """Return `take(captured)`, (B, T, ...), at the last token of each prompt: (N, ...) in order.

    The prompts are read as gpt2.evaluate.predict reads them: once what they have in common, then
    the rests, with the cache.
    """
    check_model(model)
    check_prompts(prompts)
    device = model.word_embedding.weight.device
    order, parts = [], []
    with faster(model), capture(model, weights=False) as seen:
        for rows, _ in _last_states(model, prompts, device):
            parts.append(take(seen)[torch.arange(len(rows), device=device), seen.last].cpu())
            order += rows
    return torch.cat(parts)[torch.tensor(order).argsort()]
