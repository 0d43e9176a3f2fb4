"""The checks of section 3.2: attention, block, embedding, projection, and the model as a whole."""

import inspect

import torch
import transformers
from torch import Tensor, nn

from grading.checks.cases import NO_DROPOUT, SMALL, Case, case, cases, small_model
from grading.checks.findings import Findings

LINE_BY_LINE = "compare with section 3.2, line by line"
IN_THE_GRAPH = "keep all of it in the graph (no .data, no .detach(), no torch.no_grad())"
HALF = "input + dropout(dense_layer(output)), with the layer and the dropout that are given"
RATE = 0.3  # of dropout


def check_attention(findings: Findings) -> None:
    """The mask, the weights, and both implementations: values, pads, a cache, and dropout."""
    for given in (case("causal mask"), case("mask of one query")):
        mask = findings.observe(_mask, given)
        if mask is not None:  # the handout has no such function
            hint = "0 where a query may look, the smallest number of the dtype elsewhere"
            findings.case(given, mask, hint)
    given = case("attention weights")
    weights = findings.observe(_weights, given)
    if weights is not None:  # nor this one
        findings.case(given, weights, LINE_BY_LINE)
    for implementation in ("eager", "sdpa"):
        for given in cases("attention"):
            got = findings.observe(_attend, given, implementation)
            findings.case(given, got, LINE_BY_LINE, f"{implementation}, {given.what}")
        given = case("attention of the identity")  # what comes out are the weights, twice
        got = findings.observe(_attend, given, implementation, RATE)
        findings.case(given, got, "dropout is for training", "no dropout in evaluation")
        hint = "apply self.dropout to the weights, after the softmax"
        for masked in (False, True):
            got = findings.observe(_attend, given, implementation, RATE, True, masked)
            _check_dropout(findings, got, given.expected, hint, copies=2)
        given = case("attention: pads")
        got = findings.observe(_attend, given, implementation, 0.0, True)
        findings.case(given, got, LINE_BY_LINE, f"{implementation}, pads, in training")
        learns = findings.observe(_attention_learns, given, implementation)
        what = f"{implementation}, query, key and value learn"
        findings.holds(what, learns, "no gradient", "a gradient", IN_THE_GRAPH)


def _mask(given: Case) -> Tensor | None:
    """Return the mask with -1 for the number that hides a position: any low one will do."""
    from gpt2 import attention

    if not hasattr(attention, "causal_mask"):
        return None
    T, S, mask = (given.inputs[name] for name in ("T", "S", "mask"))
    return attention.causal_mask(int(T), int(S), mask).clamp(min=-1.0)


def _weights(given: Case) -> Tensor | None:
    module = _attention(given)
    if not hasattr(module, "attention_weights"):
        return None
    return module.attention_weights(*_copied(given, "key", "query", "mask"))


def _attend(
    given: Case, implementation: str, dropout: float = 0.0, training=False, masked=False
) -> Tensor:
    """Return what attention gives; `masked` for a mask of no pads."""
    settings = {"attn_implementation": implementation, "attention_probs_dropout_prob": dropout}
    module = _attention(given, **settings).train(training)
    torch.manual_seed(0)
    *tensors, mask = _copied(given, "key", "query", "value", "mask")
    mask = torch.zeros(1, 1, 1, tensors[0].size(2)) if masked else mask
    return module.attention(*tensors, mask)


def _attention_learns(given: Case, implementation: str) -> bool:
    module = _attention(given, attn_implementation=implementation)
    tensors = [given.inputs[name].requires_grad_() for name in ("key", "query", "value")]
    masks = None, given.inputs["mask"]
    results = [module.attention(*_copied(given, "key", "query", "value"), mask) for mask in masks]
    return all(learns(result, *tensors) for result in results)


def _copied(given: Case, *names: str) -> list[Tensor | None]:
    """Return copies of a case's inputs, which may be changed in place; None for what it has not."""
    tensors = (given.inputs.get(name) for name in names)
    return [None if tensor is None else tensor.clone() for tensor in tensors]


def _attention(given: Case, **settings) -> nn.Module:
    """Return the module for a case's keys (B, h, S, d), in evaluation mode."""
    from config import GPT2Config
    from gpt2.attention import CausalSelfAttention

    _, h, _, d = given.inputs["key"].shape
    shape = {**SMALL, "hidden_size": h * d, "num_attention_heads": h}
    return CausalSelfAttention(GPT2Config(**shape, **settings)).eval()


def _check_dropout(
    findings: Findings, got, whole: Tensor, hint: str, to=0.0, copies: int = 1
) -> None:
    """Note that dropout takes away about RATE of what is added `to` something, and scales the
    rest; and the same of `copies` that stand side by side in the last axis."""
    findings.shape("shape in training", got, whole.shape)
    added, got = whole - to, got - to
    dropped = got.abs() < 1e-6
    share, expected = dropped[added != 0].float().mean().item(), f"about {RATE:.0%}"
    findings.true("dropout in training", 0 < share < 2 * RATE, f"{share:.0%}", expected, hint)
    dropped = torch.cat([dropped.chunk(copies, dim=-1)[0]] * copies, dim=-1)
    kept = (added / (1 - RATE)).masked_fill(dropped, 0.0)
    findings.close("what dropout keeps", got, kept, hint=hint)


def check_add(findings: Findings) -> None:
    """GPT2Layer.add: what is added to what, and what dropout may take away."""
    given = case("add")
    before = given.inputs["input"]
    got, left, learns = findings.observe(_add, given)
    findings.case(given, got, HALF, "the sum")
    hint = "an operation in place overwrites what the residual connection needs"
    findings.close("the input is left as it was", left, before, hint=hint, atol=0)
    what = "both inputs and the dense layer learn"
    findings.holds(what, learns, "no gradient", "a gradient", IN_THE_GRAPH)
    got, *_ = findings.observe(_add, given, True)
    hint = "dropout applies to what is added, after the dense layer, and only to that"
    _check_dropout(findings, got, given.expected, hint, to=before)


def _add(given: Case, training: bool = False) -> tuple[Tensor, Tensor, bool]:
    """Return the sum, the input afterwards, and whether all that is added learns."""
    from config import GPT2Config
    from gpt2.layer import GPT2Layer

    layer = GPT2Layer(GPT2Config(**SMALL)).train(training)
    dropout, dense = nn.Dropout(RATE), nn.Linear(8, 6)
    dense.load_state_dict({name: given.inputs[name] for name in ("weight", "bias")})
    inputs = [given.inputs[name].requires_grad_() for name in ("input", "output")]
    before, output = _copied(given, "input", "output")
    torch.manual_seed(0)
    got = layer.add(before, output, dense, dropout.train(training))
    return got, before, learns(got, *inputs, dense.weight, dense.bias)


def check_layer(findings: Findings) -> None:
    """GPT2Layer.forward against transformers' block with the same random weights.

    Half of what an addition adds is taken away by its dropout and the rest doubled: either way the
    output is as far off as what is added.
    """
    given, half, gradient = case("layer"), case("layer: first half"), case("layer: gradient")
    hint = "norm, attention, add; norm, interm_dense, activation, add with out_dense"
    findings.case(given, findings.observe(_layer, given), hint, "a block", atol=1e-4)
    got = findings.observe(_layer_gradient, given)
    findings.case(gradient, got, IN_THE_GRAPH, "the gradient of its input", atol=1e-4)
    hint = "each of the two additions has its own dropout module"
    for name, other_rate, before, after in (
        ("attention_dropout", 1.0, given.inputs["x"], half.expected),
        ("out_dropout", 0.0, half.expected, given.expected),
    ):
        got = findings.observe(_layer_in_training, given, name, other_rate)
        findings.shape(f"shape with {name}", got, after.shape)
        real = after.isfinite()
        off, added = (got - after)[real].abs(), (after - before)[real].abs()
        share = ((got - before)[real].abs() < 1e-4).float().mean().item()  # taken away
        right = torch.allclose(off, added, atol=1e-4) and 0.2 < share < 0.8
        otherwise = "a dropout elsewhere" if off.max() > 1e-4 else "none"
        expected = "half of what is added, and the rest doubled"
        findings.holds(f"{name} in training takes away", right, otherwise, expected, hint)


def _layer(given: Case) -> Tensor:
    return small_model().gpt_layers[-1](*_copied(given, "x", "mask"))


def _layer_gradient(given: Case) -> Tensor:
    x, mask = given.inputs["x"].requires_grad_(), given.inputs["mask"]
    states = small_model().gpt_layers[-1](x.clone(), mask)
    loss = states[mask.view(x.shape[:2]) == 0].square().mean()
    return torch.autograd.grad(loss, x, allow_unused=True, materialize_grads=True)[0]


def _layer_in_training(given: Case, dropout: str, other_rate: float) -> Tensor:
    """Return the output with this one of the block's dropouts, and another rate in the other."""
    layer = small_model(**NO_DROPOUT).train().gpt_layers[-1]
    layer.attention_dropout.p = layer.out_dropout.p = other_rate
    getattr(layer, dropout).p = 0.5
    torch.manual_seed(0)
    return layer(*_copied(given, "x", "mask"))


def check_embed(findings: Findings) -> None:
    """GPT2Model.embed: token and position embeddings, and dropout.

    By the handout positions are 0, 1, 2, ...; whether others that are given are used is free.
    """
    given, placed = case("embed"), case("embed: positions")
    ids, positions = given.inputs["ids"], placed.inputs["positions"]
    got, in_training, at_positions, learns = findings.observe(_embed, ids, positions)
    hint = "a row of each table for every token, and no dropout in evaluation"
    findings.case(given, got, hint, "token and position")
    if at_positions is not None:
        hint = "position_ids are rows of the position embedding, as they are"
        findings.case(placed, at_positions, hint, "positions that are given")
    hint = "apply self.embed_dropout to the sum"
    _check_dropout(findings, in_training, given.expected, hint)
    findings.holds("both tables learn", learns, "no gradient", "a gradient", IN_THE_GRAPH)


def _embed(ids: Tensor, positions: Tensor) -> list:
    model = small_model(hidden_dropout_prob=RATE)
    tables = model.word_embedding.weight, model.pos_embedding.weight
    takes_them = "position_ids" in inspect.signature(model.embed).parameters
    at_positions = model.embed(ids, positions) if takes_them else None
    got = model.embed(ids)
    return [got, model.train().embed(ids), at_positions, learns(got, *tables)]


def check_hidden_state_to_token(findings: Findings) -> None:
    """GPT2Model.hidden_state_to_token: logits with the token embedding's own weights."""
    for given in cases("hidden_state_to_token"):
        logits, learns = findings.observe(_project, given.inputs["hidden_state"])
        hint = "multiply by the transposed token embedding"
        findings.case(given, logits, hint, f"logits of {given.what}")
    what = "tied weights learn from the logits"
    findings.holds(what, learns, "no gradient", "a gradient", IN_THE_GRAPH)


def _project(hidden: Tensor) -> tuple[Tensor, bool]:
    """Return the logits in training, and whether a gradient reaches weights and state."""
    model, hidden = small_model(hidden_dropout_prob=RATE).train(), hidden.requires_grad_()
    logits = model.hidden_state_to_token(hidden)
    return logits, learns(logits, model.word_embedding.weight, hidden)


def learns(result: Tensor, *leaves: Tensor) -> bool:
    """Return whether a gradient of the result reaches all of these tensors."""
    if not result.requires_grad:
        return False
    gradients = torch.autograd.grad(result.sum(), leaves, allow_unused=True)
    return all(gradient is not None and bool(gradient.any()) for gradient in gradients)


def check_model(findings: Findings, config=None) -> None:
    """The handout's sanity check: hidden states against transformers' with the same weights.

    Rows are whole, padded on either side, and of one token; positions may count from a row's first
    token or from its first column. The tolerance of 1e-4 is less than the error of, say, the exact
    GELU. By default the model has the 124M shape.
    """
    from config import GPT2Config

    config = config or GPT2Config()
    reference = hugging_face_model(config)
    width = min(20, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (4, width), generator=generator)
    columns = torch.arange(width)
    real = columns < torch.tensor([[width], [width // 2], [width // 2], [1]])
    real[2] = real[2].flip(0)
    got = findings.observe(_read, reference, config, ids, real.long())
    with torch.no_grad():
        states = [hidden_states(reference, ids, real, from_column=each) for each in (False, True)]
    right = [each.masked_fill(~real[..., None], torch.inf) for each in states]
    hint = "the checks of the parts say more"
    findings.close("hidden states", got["last_hidden_state"], *right, hint=hint, atol=1e-4)
    right = [each[torch.arange(4), (columns * real).argmax(dim=1)] for each in states]
    hint = "the last token is the last one whose mask is 1"
    findings.close("last_token", got["last_token"], *right, hint=hint, atol=1e-4)


@torch.no_grad()
def _read(reference, config, ids: Tensor, mask: Tensor) -> dict:
    """Return the model's outputs, with these weights."""
    from gpt2 import weights
    from gpt2.model import GPT2Model

    model = GPT2Model(config).eval()
    model.load_state_dict(weights.from_hugging_face(reference.state_dict(), config))
    return dict(model(ids, mask))


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
    no_pad = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    settings = config.to_dict() | no_pad | {"initializer_range": spread}
    reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings)).eval()
    with torch.no_grad():  # fresh biases are 0 and norms 1
        for parameter in reference.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return reference
