"""The checks of section 3.2: attention, block, embedding, projection, and the model as a whole."""

import inspect

import torch
import transformers
from torch import Tensor, nn

from grading.checks.cases import NO_DROPOUT, SMALL, Case, case, small_model
from grading.checks.findings import Findings

LINE_BY_LINE = "compare with section 3.2, line by line"
MASKS = ("square", "a cache", "pads")
WITH_CACHE = ("a cache", "a cache without pads", "a cache and both masks", "one query")
ATTENTION = ("no mask", "no pads", "pads on the right", "pads on the left", "both masks")


def check_attention(findings: Findings) -> None:
    """Attention in both implementations: values, pads, a cache, and dropout; and its two parts."""
    for name in MASKS:
        given = case(f"causal mask: {name}")
        mask = findings.observe(_mask, given)
        if mask is None:  # the handout has no such function
            continue
        findings.shape(f"causal mask, {name}: shape", mask, given.expected.shape)
        hidden = mask.clamp(min=-1.0)  # the number that hides a position may be any low one
        hint = "0 where a query may look, the smallest number of the dtype elsewhere"
        findings.case(f"causal mask, {name}", hidden, given, hint=hint)
    given = case("attention weights")
    weights, real = findings.observe(_weights, given), given.inputs["real"]
    if weights is not None:
        findings.shape("weights: shape", weights, (2, 3, 5, 5), "keep the heads apart")
        got = weights.transpose(1, 2)[real]
        findings.case("weights", got, given, hint=LINE_BY_LINE)
    for implementation in ("eager", "sdpa"):
        for name in (*ATTENTION, *WITH_CACHE):
            given = case(f"attention: {name}")
            shape, merge = {**SMALL, **NO_DROPOUT, "hidden_size": 12}, "merge the heads"
            got = findings.observe(_attend, shape, implementation, given)
            at = given.inputs["real"]
            findings.case(name, got, given, hint=LINE_BY_LINE, at=at, shape_hint=merge)
            hint = "the softmax of a row that is -inf everywhere is NaN; a mask must stay finite"
            findings.true(f"{name}: no NaN", not got.isnan().any(), "NaN", "numbers", hint)
        _check_attention_dropout(findings, implementation)


def _mask(given: Case) -> Tensor | None:
    from gpt2 import attention

    T, S = given.inputs["shape"].tolist()
    if not hasattr(attention, "causal_mask"):
        return None
    return attention.causal_mask(T, S, given.inputs.get("padding_mask"))


def _weights(given: Case) -> Tensor | None:
    module = _attention({**SMALL, "hidden_size": 12})
    if not hasattr(module, "attention_weights"):
        return None
    return module.attention_weights(*(given.inputs[name] for name in ("key", "query", "mask")))


def _attention(shape: dict, training: bool = False) -> nn.Module:
    from config import GPT2Config
    from gpt2.attention import CausalSelfAttention

    return CausalSelfAttention(GPT2Config(**shape)).train(training)


def _check_attention_dropout(findings: Findings, implementation: str) -> None:
    """With the identity as value, the output is the weights."""
    given = case("attention: dropout")
    shape = {**SMALL, "hidden_size": 8, "num_attention_heads": 1}
    shape["attention_probs_dropout_prob"] = 0.5
    got = findings.observe(_attend, shape, implementation, given)
    findings.close("no dropout in evaluation", got, given.expected, hint="dropout is for training")
    got = findings.observe(_attend, shape, implementation, given, True)
    hint = "apply self.dropout to the weights, after the softmax"
    _check_dropout(findings, got, given.expected, 0.5, hint)


def _check_dropout(findings: Findings, got, whole: Tensor, rate: float, hint: str, to=0.0) -> None:
    """Note that dropout took away about this share of what is added `to` something, and scaled
    the rest."""
    findings.shape("shape in training", got, whole.shape)
    got, whole = (got - to)[whole != to], (whole - to)[whole != to]
    dropped = got.abs() < 1e-6
    share, expected = dropped.float().mean().item(), f"about {rate:.0%}"
    findings.true("dropout in training", 0 < share < 2 * rate, f"{share:.0%}", expected, hint)
    kept = whole[~dropped] / (1 - rate)
    findings.close("what dropout keeps", got[~dropped], kept, hint=hint)


def _attend(shape: dict, implementation: str, given: Case, training: bool = False) -> Tensor:
    module = _attention({**shape, "attn_implementation": implementation}, training)
    torch.manual_seed(0)
    tensors = (given.inputs.get(name) for name in ("key", "query", "value", "mask"))
    return module.attention(*tensors)


def check_add(findings: Findings) -> None:
    """GPT2Layer.add: what is added to what, and what dropout may take away."""
    given = case("add")
    before = given.inputs["input"]
    got, left = findings.observe(_add, given)
    findings.case("the sum", got, given, hint="which of the two goes through the dense layer?")
    hint = "an operation in place overwrites what the residual connection needs"
    findings.close("the input is left as it was", left, before, hint=hint, atol=0)
    got, _ = findings.observe(_add, given, True)
    hint = "dropout applies to what is added, after the dense layer, and only to that"
    _check_dropout(findings, got, given.expected, 0.5, hint, to=before)


def _add(given: Case, training: bool = False) -> tuple[Tensor, Tensor]:
    """The sum, and the input afterwards."""
    from config import GPT2Config
    from gpt2.layer import GPT2Layer

    layer, dropout, dense = GPT2Layer(GPT2Config(**SMALL)), nn.Dropout(0.5), nn.Linear(8, 6)
    dense.load_state_dict({name: given.inputs[name] for name in ("weight", "bias")})
    before = given.inputs["input"].clone()
    torch.manual_seed(0)
    return layer.add(before, given.inputs["output"], dense, dropout.train(training)), before


def check_layer(findings: Findings) -> None:
    """GPT2Layer.forward against transformers' block with the same random weights."""
    for number in range(SMALL["num_hidden_layers"]):
        given = case(f"layer: {number}")
        x, mask, real = (given.inputs[name] for name in ("x", "mask", "real"))
        got = findings.observe(_layer, number, x, mask)
        hint = "norm, attention, add; norm, interm_dense, activation, add with out_dense"
        findings.case(f"block {number}", got, given, hint=hint, at=real, atol=1e-4)
    for name in ("attention_dropout", "out_dropout"):
        one, other = findings.observe(_layer_twice, name, x, mask)
        differ = one.shape == other.shape and (one != other).any()
        what, hint = f"{name} in training", "each of the two additions has its own dropout"
        findings.true(what, differ, "twice the same", "two different outputs", hint)


def _layer(number: int, x: Tensor, mask: Tensor) -> Tensor:
    return small_model().gpt_layers[number](x, mask)


def _layer_twice(dropout: str, x: Tensor, mask: Tensor) -> list[Tensor]:
    """Two outputs in training, with this one of the block's dropouts."""
    layer = small_model().train().gpt_layers[-1]
    layer.self_attention.dropout.p = layer.attention_dropout.p = layer.out_dropout.p = 0.0
    getattr(layer, dropout).p = 0.5
    return [layer(x, mask), layer(x, mask)]


def check_embed(findings: Findings) -> None:
    """GPT2Model.embed: token and position embeddings, and dropout.

    By the handout positions are 0, 1, 2, ...; whether others that are given are used is free.
    """
    given, placed = case("embed"), case("embed: positions")
    ids, positions = given.inputs["ids"], placed.inputs["positions"]
    got, in_training, at_positions = findings.observe(_embed, ids, positions)
    findings.case("token and position", got, given, hint="a row of each table for every token")
    if at_positions is not None:
        hint = "position_ids are rows of the position embedding, as they are"
        findings.case("positions that are given", at_positions, placed, hint=hint)
    hint = "apply self.embed_dropout to the sum"
    _check_dropout(findings, in_training, given.expected, 0.1, hint)


def _embed(ids: Tensor, positions: Tensor) -> list[Tensor | None]:
    model = small_model()
    takes_them = "position_ids" in inspect.signature(model.embed).parameters
    at_positions = model.embed(ids, positions) if takes_them else None
    return [model.embed(ids), model.train().embed(ids), at_positions]


def check_hidden_state_to_token(findings: Findings) -> None:
    """GPT2Model.hidden_state_to_token: logits with the token embedding's own weights."""
    for name in ("3 dimensions", "2 dimensions"):
        given = case(f"hidden_state_to_token: {name}")
        logits, learns = findings.observe(_project, given.inputs["hidden"])
        hint = "multiply by the transposed token embedding"
        findings.case(f"logits of {name}", logits, given, hint=hint)
    hint = "keep the product in the graph (no .data, no .detach())"
    what = "tied weights learn from the logits"
    findings.true(what, learns, "no gradient", "a gradient", hint)


def _project(hidden: Tensor) -> tuple[Tensor, bool]:
    """The logits, and whether a gradient comes back from them to the weights and the state."""
    model, hidden = small_model(), hidden.clone().requires_grad_()
    logits = model.hidden_state_to_token(hidden)
    if not logits.requires_grad:
        return logits, False
    logits.sum().backward()
    return logits, model.word_embedding.weight.grad is not None and hidden.grad is not None


def check_model(findings: Findings, config=None) -> None:
    """The handout's sanity check: hidden states against transformers' with the same weights.

    The batch has unequal rows, padded on the right and then on the left, where positions may
    count from a row's first token or from its first column. The tolerance of 1e-4 is less than
    the error of, say, the exact GELU. By default the model has the 124M shape.
    """
    from config import GPT2Config

    config = config or GPT2Config()
    reference = hugging_face_model(config)
    width = min(20, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (3, width), generator=generator)
    masks = {"right": torch.arange(width) < torch.tensor([[width], [width // 2], [1]])}
    masks["left"] = masks["right"].flip(1)
    outputs = findings.observe(_read, reference, config, ids, [m.long() for m in masks.values()])
    for (side, real), got in zip(masks.items(), outputs, strict=True):
        states = [hidden_states(reference, ids, real, from_column=c) for c in (False, True)]
        what = f"hidden states, padded on the {side}"
        findings.shape(what, got["last_hidden_state"], states[0].shape)
        got_real, right = got["last_hidden_state"][real], [each[real] for each in states]
        findings.close(what, got_real, *right, hint="the checks of the parts say more", atol=1e-4)
        what, columns = f"last_token, padded on the {side}", (torch.arange(width) * real).argmax(1)
        right = [each[torch.arange(3), columns] for each in states]
        hint = "the last token is the last one whose mask is 1"
        findings.close(what, got["last_token"], *right, hint=hint, atol=1e-4)


@torch.no_grad()
def _read(reference, config, ids: Tensor, masks: list[Tensor]) -> list[dict]:
    """Return the model's outputs, with these weights, under each mask."""
    from gpt2 import weights
    from gpt2.model import GPT2Model

    model = GPT2Model(config).eval()
    model.load_state_dict(weights.from_hugging_face(reference.state_dict(), config))
    return [dict(model(ids, mask)) for mask in masks]


@torch.no_grad()
def hidden_states(
    reference, ids: Tensor, mask: Tensor, *, from_column: bool = False, masked: bool = True
) -> Tensor:
    """Return the states (B, T, hidden) of transformers' model.

    Positions count from a row's first token, or from its first column.
    """
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    positions = torch.arange(ids.size(1)).expand_as(ids) if from_column else positions
    seen = mask.long() if masked else None
    return reference.transformer(ids, attention_mask=seen, position_ids=positions).last_hidden_state


def hugging_face_model(config, spread: float = 0.1, seed: int = 0) -> nn.Module:
    """Return transformers' GPT-2 of this shape, with random weights in which every mistake shows.

    `spread` is their standard deviation: above 0.02, so that a GELU is not linear.
    """
    torch.manual_seed(seed)
    settings = hugging_face_config(config)
    settings.initializer_range = spread
    reference = transformers.GPT2LMHeadModel(settings).eval()
    with torch.no_grad():  # fresh biases are 0 and norms 1
        for parameter in reference.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return reference


def hugging_face_config(config) -> transformers.GPT2Config:
    """Return transformers' configuration of this shape, without a padding token."""
    no_pad = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    return transformers.GPT2Config(**config.to_dict() | no_pad)
