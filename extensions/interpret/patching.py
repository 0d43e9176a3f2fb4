"""Causes inside a model: put something else in one place, and see what the answer does.

That a head looks at a name does not say that the answer needs it. *Ablation* puts 0 in the place of
what it writes. *Activation patching* puts there what it writes for another text, which differs in
one word only; if that moves the answer towards the other text's, the difference passes there:

    Anna is in the kitchen. ↵ Hypothesis: Anna  is in the kitchen.   F = +5    (entailment)
    Anna is in the kitchen. ↵ Hypothesis: David is in the kitchen.   F = -4    (neutral)
                                            │ one head of this run
                                            ▼ put into the other:    F = +1    effect 4 / 9

    effect = (F(clean) - F(patched)) / (F(clean) - F(corrupted))         0: nothing; 1: all of it

The places: the `state` that enters a block, the `contexts` of the heads (before W_O), what
`attention` and `feed-forward` add to the state, the `neurons` (after the GELU).

Papers: Meng et al. 2022, "Locating and Editing Factual Associations in GPT" (section 2); Wang et
al. 2023, "Interpretability in the Wild"; Heimersheim & Nanda 2024 (how to read it).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from extensions.interpret.capture import capture
from extensions.interpret.checks import check_place
from gpt2.model import GPT2Model
from utils import in_evaluation_mode

PLACES = {  # of a block: the module, and whether it is what the module reads or what it writes
    "state": ("", "reads"),
    "contexts": ("attention_dense", "reads"),
    "attention": ("attention_dense", "writes"),
    "neurons": ("interm_af", "writes"),
    "feed-forward": ("out_dense", "writes"),
}
CAPTURED = {"contexts": "contexts", "state": "states", "neurons": "neurons"}  # of a Captured


@contextmanager
def replaced(
    model: GPT2Model,
    place: str,
    layer: int,
    value: float | Tensor = 0.0,
    *,
    units: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
) -> Iterator[None]:
    """Return a context in which a place of a block holds `value`: a number, or the same place of
    another run, (B, T, width) or (1, T, width).

    `units` are heads (of the contexts) or columns, `positions` columns of the ids that are read; by
    default all. Positions are for whole texts, not for what a cache continues.
    """
    if place not in PLACES:
        raise ValueError(f"place must be one of {', '.join(PLACES)}; got {place!r}")
    check_place(model, layer)
    for unit in units or ():
        check_place(model, layer, **{{"contexts": "head"}.get(place, "neuron"): unit})
    block = model.gpt_layers[layer]
    heads = block.self_attention.num_attention_heads if place == "contexts" else None

    def change(tensor: Tensor) -> Tensor:
        T, width = tensor.shape[-2:]
        if outside := [p for p in positions or () if p not in range(T)]:
            raise ValueError(f"there is no position {outside[0]}; the text has {T} tokens")
        rows, columns = (
            torch.full((n,), chosen is None, device=tensor.device)
            for n, chosen in ((T, positions), (heads or width, units))
        )
        rows[list(positions or ())], columns[list(units or ())] = True, True
        columns = columns.repeat_interleave(width // len(columns))
        other = torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device)
        return torch.where(rows[:, None] & columns, other, tensor)

    path, side = PLACES[place]
    module = block.get_submodule(path)
    if side == "reads":
        handle = module.register_forward_pre_hook(
            lambda module, inputs: (change(inputs[0]), *inputs[1:])
        )
    else:
        handle = module.register_forward_hook(lambda module, inputs, output: change(output))
    with handle:
        yield


@contextmanager
def without(
    model: GPT2Model,
    heads: Mapping[int, Sequence[int]] | None = None,
    neurons: Mapping[int, Sequence[int]] | None = None,
) -> Iterator[None]:
    """Return a context in which heads and neurons, by layer, give 0: `without(model, {0: [1, 2]})`.

    Evaluation and generation in it are the ablated model's.
    """
    with ExitStack() as changes:
        for place, chosen in {"contexts": heads or {}, "neurons": neurons or {}}.items():
            for layer, units in chosen.items():
                changes.enter_context(replaced(model, place, layer, units=units))
        yield


@torch.no_grad()
@in_evaluation_mode
def patching_effects(
    model: GPT2Model,
    clean: Tensor,
    corrupted: Tensor,
    score: Callable[[Tensor], Tensor],
    place: str = "contexts",
) -> Tensor:
    """Return F(clean) - F(patched) over F(clean) - F(corrupted), `score` being F of the logits
    after the text: of every head, (L, h), for "contexts", of every position, (L, T), for "state"
    and "neurons".

    `clean` and `corrupted` are ids (T,) of the same length.
    """
    if place not in CAPTURED:
        raise ValueError(f"place must be one of {', '.join(CAPTURED)}; got {place!r}")
    if clean.shape != corrupted.shape:
        raise ValueError(
            f"clean has {len(clean)} tokens and corrupted {len(corrupted)}; give texts of the same "
            "length, or their positions do not match"
        )
    device = model.word_embedding.weight.device

    def answer(ids: Tensor) -> float:
        output = model(ids[None].to(device))
        return score(model.hidden_state_to_token(output["last_token"])).item()

    with capture(model, weights=False) as seen:
        start, end = answer(clean), answer(corrupted)
    values, by_head = getattr(seen, CAPTURED[place]), place == "contexts"
    width = model.gpt_layers[0].self_attention.num_attention_heads
    effects = torch.empty(len(model.gpt_layers), width if by_head else len(clean))
    for layer, index in torch.cartesian_prod(*map(torch.arange, effects.shape)).tolist():
        what = {"units": [index]} if by_head else {"positions": [index]}
        with replaced(model, place, layer, values[layer], **what):
            effects[layer, index] = start - answer(clean)
    return effects / (start - end)
