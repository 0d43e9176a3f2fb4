"""The checks of section 3.2: attention, block, embedding, projection, and the model as a whole."""

import torch
import transformers
from torch import Tensor, nn

from config import GPT2Config
from gpt2 import weights
from gpt2.attention import CausalSelfAttention, causal_mask
from gpt2.layer import GPT2Layer
from gpt2.model import GPT2Model
from grading.checks.cases import SMALL, Case, case, small_model
from grading.checks.findings import Findings

LINE_BY_LINE = "compare with section 3.2, line by line"
MASKS = ("square", "a cache", "pads")
ATTENTION = ("no mask", "no pads", "pads on the right", "pads on the left", "both masks", "a cache")


def check_attention(findings: Findings) -> None:
    """causal_mask, attention_weights and attention: values, pads, a cache, and dropout."""
    for name in MASKS:
        given = case(f"causal mask: {name}")
        mask = findings.observe(_mask, given)
        if not findings.shape(f"causal mask, {name}: shape", mask, given.expected.shape):
            return
        hidden = mask.clamp(min=-1.0)  # the number that hides a position may be any low one
        hint = "0 where a query may look, the smallest number of the dtype elsewhere"
        if not findings.close(
            f"causal mask, {name}", hidden, given.expected, hints=given.mistakes, hint=hint
        ):
            return
    given = case("attention weights")
    weights, real = findings.observe(_weights, given), given.inputs["real"]
    if not findings.shape("weights: shape", weights, (2, 3, 5, 5), "keep the heads apart"):
        return
    if not findings.close(
        "weights", weights.transpose(1, 2)[real], given.expected, hints=given.mistakes,
        hint=LINE_BY_LINE,
    ):  # fmt: skip
        return
    for implementation in ("eager", "sdpa"):
        for name in ATTENTION:
            given = case(f"attention: {name}")
            real = given.inputs["real"]
            got = findings.observe(_attend, {**SMALL, "hidden_size": 12}, implementation, given)
            if not findings.shape(f"{name}: shape", got, (*real.shape, 12), "merge the heads"):
                return
            if not findings.close(
                name, got[real], given.expected, hints=given.mistakes, hint=LINE_BY_LINE
            ):
                return
            if not findings.true(
                f"{name}: no NaN",
                not got.isnan().any(),
                "NaN",
                "numbers",
                "the softmax of a row that is -inf everywhere is NaN; a mask must stay finite",
            ):
                return
        _check_attention_dropout(findings, implementation)


def _mask(given: Case) -> Tensor:
    T, S = given.inputs["shape"].tolist()
    return causal_mask(T, S, given.inputs.get("padding_mask"))


def _weights(given: Case) -> Tensor:
    module = CausalSelfAttention(GPT2Config(**{**SMALL, "hidden_size": 12})).eval()
    return module.attention_weights(*(given.inputs[name] for name in ("key", "query", "mask")))


def _check_attention_dropout(findings: Findings, implementation: str) -> None:
    """With the identity as value, the output is the weights."""
    given, rate = case("attention: dropout"), 0.5
    shape = {**SMALL, "hidden_size": 8, "num_attention_heads": 1}
    shape["attention_probs_dropout_prob"] = rate
    got = findings.observe(_attend, shape, implementation, given)
    findings.close("no dropout in evaluation", got, given.expected, hint="dropout is for training")
    got = findings.observe(_attend, shape, implementation, given, True)
    if not findings.shape("shape in training", got, given.expected.shape):
        return
    kept, weights = got != 0, int((given.expected > 0).sum())
    findings.true(
        "dropout in training",
        0 < int(kept.sum()) < weights,
        f"{int(kept.sum())} weights kept",
        f"some of {weights}",
        "apply self.dropout to the weights",
    )
    findings.close(
        "what dropout keeps",
        got[kept],
        (given.expected / (1 - rate))[kept],
        hint="dropout belongs to the weights, after the softmax",
    )


def _attend(shape: dict, implementation: str, given: Case, training: bool = False) -> Tensor:
    module = CausalSelfAttention(GPT2Config(**shape, attn_implementation=implementation))
    torch.manual_seed(0)
    tensors = (given.inputs.get(name) for name in ("key", "query", "value", "mask"))
    return module.train(training).attention(*tensors)


def check_add(findings: Findings) -> None:
    """GPT2Layer.add: what is added to what, and what dropout may take away."""
    given = case("add")
    before = given.inputs["input"]
    got, left = findings.observe(_add, given)
    hint = "which of the two goes through the dense layer?"
    findings.close("the sum", got, given.expected, hints=given.mistakes, hint=hint)
    findings.close(
        "the input is left as it was",
        left,
        before,
        hint="an operation in place overwrites what the residual connection needs",
        atol=0,
    )
    got, _ = findings.observe(_add, given, True)
    if not findings.shape("shape in training", got, before.shape):
        return
    part = got - before
    dropped = part.abs() < 1e-6
    findings.true(
        "dropout in training",
        0.2 < dropped.float().mean() < 0.8,
        f"{dropped.float().mean():.0%} dropped",
        "about 50%",
        "dropout applies to what is added, and only to that",
    )
    whole = (given.expected - before) / 0.5
    findings.close(
        "what dropout keeps",
        part[~dropped],
        whole[~dropped],
        hint="dropout comes after the dense layer and leaves the input alone",
    )


def _add(given: Case, training: bool = False) -> tuple[Tensor, Tensor]:
    """The sum, and the input afterwards."""
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
        if not findings.shape(f"block {number}: shape", got, x.shape):
            return
        hint = "norm, attention, add; norm, interm_dense, activation, add with out_dense"
        if not findings.close(
            f"block {number}", got[real], given.expected, hints=given.mistakes, hint=hint, atol=1e-4
        ):
            return
    for name in ("attention_dropout", "out_dropout"):
        one, other = findings.observe(_layer_twice, name, x, mask)
        findings.true(
            f"{name} in training",
            one.shape == other.shape and (one != other).any(),
            "twice the same",
            "two different outputs",
            "each of the two additions has its own dropout",
        )


def _layer(number: int, x: Tensor, mask: Tensor) -> Tensor:
    return small_model().gpt_layers[number](x, mask)


def _layer_twice(dropout: str, x: Tensor, mask: Tensor) -> list[Tensor]:
    """Two outputs in training, with this one of the block's dropouts."""
    layer = small_model().train().gpt_layers[-1]
    layer.self_attention.dropout.p = layer.attention_dropout.p = layer.out_dropout.p = 0.0
    getattr(layer, dropout).p = 0.5
    return [layer(x, mask), layer(x, mask)]


def check_embed(findings: Findings) -> None:
    """GPT2Model.embed: token and position embeddings, and dropout."""
    given = case("embed")
    got, in_training = findings.observe(_embed, given.inputs["ids"])
    hint = "a row of each table for every token"
    findings.close("token and position", got, given.expected, hints=given.mistakes, hint=hint)
    dropped = (in_training == 0).float().mean()
    findings.true(
        "dropout in training",
        0 < dropped < 0.5,
        f"{dropped:.0%} dropped",
        "about 10%",
        "apply self.embed_dropout to the sum",
    )


def _embed(ids: Tensor) -> list[Tensor]:
    model = small_model()
    return [model.embed(ids), model.train().embed(ids)]


def check_hidden_state_to_token(findings: Findings) -> None:
    """GPT2Model.hidden_state_to_token: logits with the token embedding's own weights."""
    for name in ("3 dimensions", "2 dimensions"):
        given = case(f"hidden_state_to_token: {name}")
        logits, learns = findings.observe(_project, given.inputs["hidden"])
        if not findings.close(
            f"logits of {name}", logits, given.expected, hints=given.mistakes,
            hint="multiply by the transposed token embedding",
        ):  # fmt: skip
            return
    findings.true(
        "tied weights learn from the logits",
        learns,
        "no gradient",
        "a gradient",
        "keep the product in the graph (no .data, no .detach())",
    )


def _project(hidden: Tensor) -> tuple[Tensor, bool]:
    """The logits, and whether a gradient comes back from them to the weights and the state."""
    model, hidden = small_model(), hidden.clone().requires_grad_()
    logits = model.hidden_state_to_token(hidden)
    if not logits.requires_grad:
        return logits, False
    logits.sum().backward()
    return logits, model.word_embedding.weight.grad is not None and hidden.grad is not None


def check_model(findings: Findings, config: GPT2Config | None = None) -> None:
    """The handout's sanity check: hidden states against transformers' with the same weights.

    The batch has unequal rows, padded on the right and then on the left. The tolerance of 1e-4
    is less than the error of, say, the exact GELU. By default the model has the 124M shape.
    """
    config = config or GPT2Config()
    reference = hugging_face_model(config)
    width = min(20, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (3, width), generator=generator)
    masks = {"right": torch.arange(width) < torch.tensor([[width], [width // 2], [1]])}
    masks["left"] = masks["right"].flip(1)
    outputs = findings.observe(_read, reference, config, ids, [m.long() for m in masks.values()])
    for (side, real), got in zip(masks.items(), outputs, strict=True):
        positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        with torch.no_grad():
            expected = reference.transformer(
                ids, attention_mask=real.long(), position_ids=positions
            ).last_hidden_state
        hint = "the checks of the parts say more"
        if side == "left":
            hint = "in a row padded on the left, position 0 is its first token"
        what = f"hidden states, padded on the {side}"
        if not findings.shape(what, got["last_hidden_state"], expected.shape):
            return
        findings.close(what, got["last_hidden_state"][real], expected[real], hint=hint, atol=1e-4)
        columns = (torch.arange(width) * real).argmax(dim=1)
        findings.close(
            f"last_token, padded on the {side}",
            got["last_token"],
            expected[torch.arange(3), columns],
            hint="the last token is the last one whose mask is 1",
            atol=1e-4,
        )


@torch.no_grad()
def _read(reference, config: GPT2Config, ids: Tensor, masks: list[Tensor]) -> list[dict]:
    """Return our model's outputs, with their weights, under each mask."""
    model = GPT2Model(config).eval()
    model.load_state_dict(weights.from_hugging_face(reference.state_dict(), config))
    return [dict(model(ids, mask)) for mask in masks]


def hugging_face_model(
    config: GPT2Config, spread: float = 0.1, seed: int = 0
) -> transformers.GPT2LMHeadModel:
    """Return transformers' GPT-2 of this shape, with random weights in which every mistake shows.

    `spread` is their standard deviation: above 0.02, so that a GELU is not linear.
    """
    torch.manual_seed(seed)
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_inner=config.intermediate_size,
            n_positions=config.max_position_embeddings,
            layer_norm_epsilon=config.layer_norm_eps,
            initializer_range=spread,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    with torch.no_grad():  # fresh biases are 0 and norms 1
        for parameter in reference.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return reference
