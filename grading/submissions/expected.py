"""Make cases.safetensors: expected results, and those of the usual mistakes. For instructors.

    python -m grading.submissions.expected

The formulas of the handout are written out here once more, from the handout and from nothing of
ours; models are transformers'.
"""

import json
import math
from functools import cache

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from config import GPT2Config
from gpt2 import weights
from grading.checks.cases import CASES, SMALL
from grading.checks.findings import distance
from grading.checks.model import hugging_face_model
from grading.submissions.expected_exercises import accounting, finetuning
from grading.submissions.expected_training import adamw, generation, loss, steps
from utils import atomic_write

LOW = torch.finfo(torch.float32).min


class Cases:
    """Tensors by name, and the hints that go with mistakes."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self.hints: dict[str, list[str]] = {}

    def add(
        self, name: str, inputs: dict, expected, mistakes=None, *, also=(), apart: float = 1e-3
    ) -> None:
        """Add a case; AssertionError for a mistake whose result is nearly a right one.

        A mistake's result is a tensor, or a list of them: what it comes to in several programs.
        """
        pairs = [
            (hint, torch.as_tensor(wrong).detach())
            for hint, results in (mistakes or {}).items()
            for wrong in (results if isinstance(results, list) else [results])
        ]
        right = [torch.as_tensor(each).detach() for each in (expected, *also)]
        for hint, wrong in pairs:
            near = [distance(wrong, each) for each in right if each.shape == wrong.shape]
            assert not near or min(near) > apart, (name, hint)
        parts = {**inputs, "expected": expected}
        parts |= {f"also {i}": other for i, other in enumerate(also)}
        parts |= {f"mistake {i}": wrong for i, (_, wrong) in enumerate(pairs)}
        for key, value in parts.items():
            tensor = torch.as_tensor(value).detach()
            self.tensors[f"{name}|{key}"] = tensor.contiguous().clone()
        self.hints[name] = [hint for hint, _ in pairs]

    def without_answers(self) -> "Cases":
        """Return the inputs alone: zeros for what is expected, nothing else right, no mistakes."""
        bare = Cases()
        for name in self.hints:
            parts = {k: t for k, t in self.tensors.items() if k.startswith(f"{name}|")}
            answers = ("|mistake ", "|also ")
            bare.tensors |= {k: t for k, t in parts.items() if not any(a in k for a in answers)}
            bare.tensors[f"{name}|expected"] = torch.zeros_like(parts[f"{name}|expected"])
            bare.hints[name] = []
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
    pads = torch.tensor([[False] * 5, [True, True, False, False, False]]).view(2, 1, 1, 5)
    for name, T in (("square", 5), ("a cache", 2), ("pads", 3)):
        seen = torch.ones(T, 5, dtype=torch.bool)
        future = ~seen.tril(5 - T)
        mistakes = {
            "a position sees later ones": torch.zeros_like(future),
            "a position sees the one after it": ~seen.tril(5 - T + 1),
            "a position does not see itself": ~seen.tril(5 - T - 1),
            "0 and the smallest number are exchanged": seen.tril(5 - T),
            "rows are queries, columns the positions that they see": ~seen.triu(),
        }
        if T < 5:
            mistakes["the T queries are the last of the S positions, not the first"] = ~seen.tril()
        inputs = {"shape": torch.tensor([T, 5])}
        if name == "pads":
            inputs["padding_mask"] = LOW * pads
            mistakes = {text: wrong | pads for text, wrong in mistakes.items()}
            mistakes["the padding mask is missing"] = future.expand(2, 1, T, 5)
            mistakes["the causal mask is missing"] = pads.expand(2, 1, T, 5)
            future = future | pads
        results = {text: -wrong.float() for text, wrong in mistakes.items()}
        cases.add(f"causal mask: {name}", inputs, -future.float(), results)


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
    slips = {
        "divide the scores by the square root of a head's width": {"scale": 1.0},
        "the width in the denominator is a head's, not the whole state's": {
            "scale": 1 / math.sqrt(h * d)
        },
        "a position does not see itself": {"diagonal": -1},
    }
    later = {
        "a position sees later ones": {"causal": False},
        "a position sees the one after it": {"diagonal": 1},
    }
    mixed = {"the heads come out mixed: which axis belongs to them?": {"mixed": True}}
    with_pads = {
        "pads are seen": {"padding": False},
        "add the mask before the softmax, not after it": {"late": True},
        "add both masks to the scores": {"causal": False, "padding": False},
    }
    over_queries = {"the softmax is over the keys, not over the queries": {"axis": -2}}
    for name, (row, T, form) in forms.items():
        mask = torch.tensor([row, no_pads]).view(B, 1, 1, S)
        real, queries = (mask.view(B, S) == 0)[:, -T:], query[:, :, -T:]
        mistakes = {**slips, **(later | mixed if T > 1 else {})}
        mistakes |= with_pads if name == "pads on the left" else {}
        if T < S:
            mistakes["the queries are the last of the S positions, not the first"] = {
                "diagonal": T - S
            }
        inputs = {"key": key, "query": queries, "value": value, "real": real}
        if form == "both":
            inputs["mask"] = mask.masked_fill(~torch.ones(T, S).tril(S - T).bool(), LOW)
        elif form == "pads":
            inputs["mask"] = mask
        arguments = (queries, key, value, mask)
        cases.add(
            f"attention: {name}",
            inputs,
            attention_by_hand(*arguments)[real],
            {text: attention_by_hand(*arguments, **slip)[real] for text, slip in mistakes.items()},
        )
    mask = torch.tensor([left, no_pads]).view(B, 1, 1, S)
    real = mask.view(B, S) == 0
    slips |= later | with_pads | over_queries
    cases.add(
        "attention weights",
        {"key": key, "query": query, "mask": mask, "real": real},
        weights_by_hand(query, key, mask).transpose(1, 2)[real],
        {
            text: weights_by_hand(query, key, mask, **slip).transpose(1, 2)[real]
            for text, slip in slips.items()
        },
    )
    T = 8
    key, query = torch.randn(1, 1, T, T), torch.randn(1, 1, T, T)
    value, mask = torch.eye(T).view(1, 1, T, T), torch.zeros(1, 1, 1, T)
    cases.add(
        "attention: dropout",
        {"key": key, "query": query, "value": value, "mask": mask},
        attention_by_hand(query, key, value, mask),
    )


def weights_by_hand(
    query, key, mask, *, scale=None, causal=True, diagonal=0, padding=True, late=False, axis=-1
) -> Tensor:
    """Return softmax(QKᵀ/√d + masks), [B, h, T, S]; or with one of the usual mistakes."""
    T, S, d = query.size(-2), key.size(-2), query.size(-1)
    scores = query @ key.transpose(-1, -2) * (1 / math.sqrt(d) if scale is None else scale)
    hidden = torch.zeros(1, 1, T, S, dtype=torch.bool)
    if causal:
        hidden = hidden | ~torch.ones(T, S, dtype=torch.bool).tril(S - T + diagonal)
    if padding:
        hidden = hidden | (mask < 0)
    if late:
        return scores.softmax(dim=axis).masked_fill(hidden, 0.0)
    return scores.masked_fill(hidden, -1e30).softmax(dim=axis)


def attention_by_hand(query, key, value, mask, *, mixed=False, **slip) -> Tensor:
    """Return the weighted values, heads merged, [B, T, h·d]; or with one of the usual mistakes."""
    merged = weights_by_hand(query, key, mask, **slip) @ value
    return (merged if mixed else merged.transpose(1, 2)).reshape(len(query), query.size(2), -1)


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
    real = mask.view(2, 7) == 0
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    full = mask.expand(2, 1, 7, 7).masked_fill(future, LOW)
    unpadded = torch.zeros_like(full).masked_fill(future, LOW)
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
    cases.add(
        "embed",
        {"ids": ids},
        words[ids] + places[:6],
        {
            "the positions are missing": words[ids],
            "the tokens are missing": places[:6].expand(3, 6, -1),
            "the first position is 0": words[ids] + places[1:7],
            "the two embeddings are added, not multiplied": words[ids] * places[:6],
            "GPT-2 does not scale the embeddings": (words[ids] + places[:6])
            * math.sqrt(SMALL["hidden_size"]),
            "positions count along a row, not along the batch": words[ids] + places[:3, None],
        },
    )
    positions = torch.randperm(18).view(3, 6)
    cases.add(
        "embed: positions",
        {"positions": positions},
        words[ids] + places[positions],
        {
            "each row has positions of its own": words[ids] + places[positions[:1]],
            "positions are taken as they are, from 0": words[ids] + places[positions + 1],
        },
        also=[words[ids] + places[:6]],
    )
    for name, shape in (("3 dimensions", (2, 5)), ("2 dimensions", (2,))):
        hidden = torch.randn(*shape, SMALL["hidden_size"])
        logits = hidden @ words.T
        normed = F.layer_norm(
            hidden,
            hidden.shape[-1:],
            state["final_layer_norm.weight"],
            state["final_layer_norm.bias"],
        )
        cases.add(
            f"hidden_state_to_token: {name}",
            {"hidden": hidden},
            logits,
            {
                "logits, not probabilities": logits.softmax(-1),
                "logits, not log-probabilities": logits.log_softmax(-1),
                "logits, not the most probable token": logits.argmax(-1),
                "the state has been normalized already": normed @ words.T,
            },
        )


def main() -> None:
    cases = all_cases()
    cases.save(CASES)
    print(f"wrote {CASES} ({CASES.stat().st_size / 1e3:.0f} kB, {len(cases.hints)} cases)")


if __name__ == "__main__":
    main()
