"""Make cases.safetensors: expected results, and those of the usual mistakes. For instructors.

    python -m grading.submissions.expected

The formulas of the handout are written out here once more, from the handout and from nothing of
ours; models are transformers'.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from config import GPT2Config
from gpt2 import weights
from grading.checks.cases import CASES, SMALL
from grading.checks.findings import distance
from grading.checks.model import hugging_face_model
from grading.submissions.expected_exercises import accounting
from grading.submissions.expected_training import adamw, finetuning, generation, loss, steps
from utils import atomic_write

LOW = torch.finfo(torch.float32).min
HIDING = {  # what goes wrong with the masks, as an argument of `hidden_by_hand`
    "a position sees later ones": {"causal": False},
    "a position sees the one after it": {"diagonal": 1},
    "a position does not see itself": {"diagonal": -1},
    "the queries are the last of the S positions, not the first": {"first": True},
    "pads are seen": {"padding": False},
}
ATTENDING = {  # and with what follows, of `attention_weights_by_hand`
    **HIDING,
    "add both masks to the scores": {"causal": False, "padding": False},
    "add the mask before the softmax, not after it": {"late": True},
    "divide the scores by the square root of a head's width": {"scaled_by": 1},
    "the width in the denominator is a head's, not the whole state's": {"scaled_by": 12},
    "the softmax is over the keys, not over the queries": {"axis": -2},
}


class Cases:
    """Tensors by name, and the hints that go with mistakes."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self.hints: dict[str, list[str]] = {}

    def add(
        self, name: str, inputs: dict, expected, mistakes=None, *, also=(), apart: float = 1e-3
    ) -> None:
        """Add a case with the results of mistakes, one or a list of them for each hint.

        A mistake that makes no difference here is left out; AssertionError for one that makes
        hardly any.
        """
        right = [torch.as_tensor(each).detach() for each in (expected, *also)]
        parts = {**inputs, "expected": expected} | {f"also {i}": t for i, t in enumerate(also)}
        self.hints[name] = hints = []
        for hint, results in (mistakes or {}).items():
            for wrong in results if isinstance(results, list) else [results]:
                wrong = torch.as_tensor(wrong).detach()
                near = [distance(wrong, each) for each in right if each.shape == wrong.shape]
                if 0 not in near:
                    assert not near or min(near) > apart, (name, hint)
                    parts[f"mistake {len(hints)}"] = wrong
                    hints.append(hint)
        for key, value in parts.items():
            tensor = torch.as_tensor(value).detach()
            self.tensors[f"{name}|{key}"] = tensor.contiguous().clone()

    def add_slips(
        self, name: str, inputs: dict, compute: Callable, slips: Mapping[str, dict], **more
    ) -> None:
        """Add a case that expects `compute()`; `compute(**slip)` is what a mistake gives."""
        mistakes = {hint: compute(**slip) for hint, slip in slips.items()}
        self.add(name, inputs, compute(), mistakes, **more)

    def without_answers(self) -> "Cases":
        """Return the inputs alone: zeros for what is expected, nothing else right, no mistakes."""
        bare = Cases()
        bare.hints = {name: [] for name in self.hints}
        for key, tensor in self.tensors.items():
            part = key.split("|")[1]
            if part == "expected":
                bare.tensors[key] = torch.zeros_like(tensor)
            elif not part.startswith(("also ", "mistake ")):
                bare.tensors[key] = tensor
        return bare

    def save(self, path) -> None:
        with atomic_write(path) as temporary:
            save_file(self.tensors, temporary, {"hints": json.dumps(self.hints)})


@cache
def fresh_cases(seed: int) -> Cases:
    """Return cases of this seed, or of the next in which no tie occurs and every mistake shows."""
    while True:
        try:
            return all_cases(seed)
        except AssertionError:
            seed += 1


def all_cases(seed: int = 0) -> Cases:
    """Return the cases of a seed; AssertionError where a mistake would not show."""
    cases = Cases()
    reference = hugging_face_model(GPT2Config(**SMALL), spread=0.4, seed=seed)
    state = weights.from_hugging_face(reference.state_dict(), GPT2Config(**SMALL))
    cases.add("model", state, torch.zeros(()))
    masks(cases)
    attention(cases)
    add(cases)
    layer(cases, reference)
    embedding(cases, state)
    adamw(cases, seed)
    loss(cases, reference)
    steps(cases, reference)
    generation(cases, reference)
    finetuning(cases, reference)
    accounting(cases)
    return cases


# ---- Section 3.2 -------------------------------------------------------------------------------


def masks(cases: Cases) -> None:
    """What each of T queries, the last of S positions, may not see: -1 there, else 0."""
    S = 5
    row_mask = torch.tensor([[0.0] * S, [LOW, LOW, 0.0, 0.0, 0.0]]).view(2, 1, 1, S)
    for name, T, mask in (("square", S, None), ("a cache", 2, None), ("pads", 3, row_mask)):

        def negative(T=T, mask=mask, exchanged=False, **slip) -> Tensor:
            return -(hidden_by_hand(T, S, mask, **slip) != exchanged).float()

        inputs = {"shape": torch.tensor([T, S])} | ({} if mask is None else {"padding_mask": mask})
        slips = HIDING | {
            "0 and the smallest number are exchanged": {"exchanged": True},
            "rows are queries, columns the positions that they see": {"transposed": True},
        }
        cases.add_slips(f"causal mask: {name}", inputs, negative, slips)


def attention(cases: Cases) -> None:
    B, h, S, d = 2, 3, 5, 4
    key, query, value = (1.5 * torch.randn(B, h, S, d) for _ in range(3))
    left, no_pads = [LOW, LOW, 0.0, 0.0, 0.0], [0.0] * S
    forms = {  # pads of the first row, number of queries, whether they are all or one mask
        "no mask": (no_pads, S, None),
        "no pads": (no_pads, S, "pads"),
        "pads on the right": (left[::-1], S, "pads"),
        "pads on the left": (left, S, "pads"),
        "both masks": (left, S, "both"),
        "a cache": (left, 2, "pads"),
        "a cache without pads": (no_pads, 2, None),
        "a cache and both masks": (left, 2, "both"),
        "one query": (no_pads, 1, None),
    }
    slips = {**ATTENDING, "the heads come out mixed: which axis belongs to them?": {"mixed": True}}
    for name, (row, T, form) in forms.items():
        mask = torch.tensor([row, no_pads]).view(B, 1, 1, S)
        real, queries = (mask.view(B, S) == 0)[:, -T:], query[:, :, -T:]
        inputs = {"key": key, "query": queries, "value": value, "real": real}
        if form == "both":
            inputs["mask"] = mask.masked_fill(~torch.ones(T, S).tril(S - T).bool(), LOW)
        elif form == "pads":
            inputs["mask"] = mask
        compute = partial(attention_by_hand, queries, key, value, mask, real)
        cases.add_slips(f"attention: {name}", inputs, compute, slips)
    mask = torch.tensor([left, no_pads]).view(B, 1, 1, S)
    inputs = {"key": key, "query": query, "mask": mask, "real": mask.view(B, S) == 0}

    def weights_of_real(**slip) -> Tensor:
        return weights_by_hand(query, key, mask, **slip).transpose(1, 2)[inputs["real"]]

    cases.add_slips("attention weights", inputs, weights_of_real, ATTENDING)
    T = 8
    key, query = torch.randn(1, 1, T, T), torch.randn(1, 1, T, T)
    value, mask = torch.eye(T).view(1, 1, T, T), torch.zeros(1, 1, 1, T)
    inputs = {"key": key, "query": query, "value": value, "mask": mask}
    every = torch.ones(1, T, dtype=torch.bool)
    expected = attention_by_hand(query, key, value, mask, every)[None]
    cases.add("attention: dropout", inputs, expected)


def hidden_by_hand(
    T, S, mask=None, *, causal=True, padding=True, diagonal=0, first=False, transposed=False
) -> Tensor:
    """Return what the queries may not see, [T, S], or [B, 1, T, S] with a mask of pads; or with
    one of the usual mistakes."""
    every = torch.ones(T, S, dtype=torch.bool)
    later = ~(every.triu() if transposed else every.tril((0 if first else S - T) + diagonal))
    return (later & causal) | (False if mask is None else (mask < 0) & padding)


def weights_by_hand(query, key, mask, *, scaled_by=None, late=False, axis=-1, **slip) -> Tensor:
    """Return softmax(QKᵀ/√d + masks), [B, h, T, S]; or with one of the usual mistakes."""
    T, S, d = query.size(-2), key.size(-2), query.size(-1)
    scores = query @ key.transpose(-1, -2) * (1 / math.sqrt(scaled_by or d))
    hidden = hidden_by_hand(T, S, mask, **slip)
    if late:
        return scores.softmax(dim=axis).masked_fill(hidden, 0.0)
    return scores.masked_fill(hidden, -1e30).softmax(dim=axis)


def attention_by_hand(query, key, value, mask, real, *, mixed=False, **slip) -> Tensor:
    """Return the weighted values of real positions, heads merged, [N, h·d]; or with one of the
    usual mistakes."""
    merged = weights_by_hand(query, key, mask, **slip) @ value
    return (merged if mixed else merged.transpose(1, 2)).reshape(*real.shape, -1)[real]


def add(cases: Cases) -> None:
    dense = nn.Linear(8, 6)
    before, output = torch.randn(2, 40, 6), torch.randn(2, 40, 8)
    added = dense(output)
    cases.add(
        "add",
        {"input": before, "output": output, "weight": dense.weight, "bias": dense.bias},
        before + added,
        {
            "the input is missing": added,
            "the input is added twice": 2 * before + added,
            "one of the two has the wrong sign": before - added,
            "the bias of the dense layer is missing": before + added - dense.bias,
        },
    )


def layer(cases: Cases, reference) -> None:
    x = torch.randn(2, 7, SMALL["hidden_size"])
    mask = torch.tensor([[0.0] * 7, [LOW, LOW, *[0.0] * 5]]).view(2, 1, 1, 7)
    full, unpadded = (LOW * hidden_by_hand(7, 7, mask, padding=p) for p in (True, False))
    real = mask.view(2, 7) == 0
    for number, block in enumerate(reference.transformer.h):

        def by_hand(norm1=block.ln_1, norm2=block.ln_2, bend=block.mlp.act, post=False, skip1=1,
                    skip2=1, seen=full, twice=False, from_x=False, block=block):  # fmt: skip
            attended = block.attn(x if post else norm1(x), attention_mask=seen)[0]
            a = skip1 * x + (block.attn.c_proj(attended) if twice else attended)
            a = norm1(a) if post else a
            widened = bend(block.mlp.c_fc(a if post else norm2(a)))
            b = skip2 * (x if from_x else a) + block.mlp.c_proj(widened)
            return (norm2(b) if post else b)[real]

        expected = block(x, attention_mask=full)
        expected = (expected[0] if isinstance(expected, tuple) else expected)[real]
        assert torch.allclose(by_hand(), expected, atol=1e-5)
        nothing = nn.Identity()
        cases.add(
            f"layer: {number}",
            {"x": x, "mask": mask, "real": real},
            expected,
            {
                "a block of GPT-2 normalizes before its parts, not after them": by_hand(post=True),
                "the two layer norms are exchanged": by_hand(block.ln_2, block.ln_1),
                "the first layer norm is missing": by_hand(norm1=nothing),
                "the second layer norm is missing": by_hand(norm2=nothing),
                "GPT-2 was trained with the tanh form of GELU": by_hand(bend=F.gelu),
                "the activation is missing": by_hand(bend=nothing),
                "the first residual connection is missing": by_hand(skip1=0),
                "the second residual connection is missing": by_hand(skip2=0),
                "the mask does not reach the attention": by_hand(seen=unpadded),
                "self.add applies attention_dense itself": by_hand(twice=True),
                "the second addition takes the result of the first": by_hand(from_x=True),
            },
        )


def embedding(cases: Cases, state: dict[str, Tensor]) -> None:
    ids = torch.randint(SMALL["vocab_size"], (3, 6))
    words, places = state["word_embedding.weight"], state["pos_embedding.weight"]
    token, right = words[ids], words[ids] + places[:6]
    cases.add(
        "embed",
        {"ids": ids},
        right,
        {
            "the positions are missing": token,
            "the tokens are missing": places[:6].expand(3, 6, -1),
            "the first position is 0": token + places[1:7],
            "the two embeddings are added, not multiplied": token * places[:6],
            "GPT-2 does not scale the embeddings": right * math.sqrt(SMALL["hidden_size"]),
            "positions count along a row, not along the batch": token + places[:3, None],
        },
    )
    positions = torch.randperm(18).view(3, 6)
    mistakes = {
        "each row has positions of its own": token + places[positions[:1]],
        "positions are taken as they are, from 0": token + places[positions + 1],
    }
    at_positions = token + places[positions]
    cases.add("embed: positions", {"positions": positions}, at_positions, mistakes, also=[right])
    for name, shape in (("3 dimensions", (2, 5)), ("2 dimensions", (2,))):
        hidden = torch.randn(*shape, SMALL["hidden_size"])
        norm = (state[f"final_layer_norm.{part}"] for part in ("weight", "bias"))
        logits = hidden @ words.T
        cases.add(
            f"hidden_state_to_token: {name}",
            {"hidden": hidden},
            logits,
            {
                "logits, not probabilities": logits.softmax(-1),
                "logits, not log-probabilities": logits.log_softmax(-1),
                "logits, not the most probable token": logits.argmax(-1),
                "the state has been normalized already": F.layer_norm(
                    hidden, hidden.shape[-1:], *norm
                )
                @ words.T,
            },
        )


def main() -> None:
    cases = all_cases()
    cases.save(CASES)
    print(f"wrote {CASES} ({CASES.stat().st_size / 1e3:.0f} kB, {len(cases.hints)} cases)")


if __name__ == "__main__":
    main()
