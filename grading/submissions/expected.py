"""Make cases.safetensors: expected results, and those of the usual mistakes. For instructors.

    python -m grading.submissions.expected

What is right comes from formulas.py, what is wrong from the same lines with the edits of
mistakes.toml.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from config import GPT2Config
from gpt2 import weights
from grading.checks.cases import CASES, SMALL, TRAINING
from grading.checks.findings import distance
from grading.checks.model import hugging_face_model
from grading.checks.optimizer import GROUPS, SETTINGS
from grading.submissions import formulas
from grading.submissions.formulas import LOW, PAD
from utils import atomic_write

MISTAKES = Path(__file__).parent / "mistakes.toml"


class Cases:
    """Tensors by name, and the hints that go with mistakes."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self.hints: dict[str, list[str]] = {}

    def add(
        self, name: str, formula: Callable, *mistakes: str, also=(), apart=1e-3, **arguments
    ) -> None:
        """Add a case that expects what a formula gives, with what it gives with mistakes in it.

        `mistakes` are tables of mistakes.toml; `also` changes arguments to other right results.
        Inputs are the arguments that are tensors or whole numbers. A mistake that makes no
        difference here is left out; AssertionError for one that makes hardly any.
        """
        right = [torch.as_tensor(formula(**arguments | changes)) for changes in ({}, *also)]
        parts = {key: v for key, v in arguments.items() if isinstance(v, Tensor | int)}
        parts |= {"expected": right[0]} | {f"also {i}": t for i, t in enumerate(right[1:])}
        self.hints[name] = hints = []
        for hint, module in wrong_formulas(*mistakes):
            wrong = torch.as_tensor(getattr(module, formula.__name__)(**arguments))
            nearest = min(distance(wrong, each) for each in right)
            if nearest > 0:
                assert nearest > apart, (name, hint)
                parts[f"mistake {len(hints)}"] = wrong
                hints.append(hint)
        for key, value in parts.items():
            self.tensors[f"{name}|{key}"] = torch.as_tensor(value).contiguous().clone()

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


def wrong_formulas(*tables: str) -> Iterator[tuple[str, ModuleType]]:
    """Return a hint and formulas.py with the mistake in it, for each way of each mistake."""
    mistakes = tomllib.loads(MISTAKES.read_text(encoding="utf-8"))
    for table in tables:
        for hint, ways in mistakes[table].items():
            for way in ways:
                yield hint, _edited_formulas(*way)


@cache
def _edited_formulas(*edits: str) -> ModuleType:
    source = Path(formulas.__file__).read_text(encoding="utf-8")
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        if source.count(old) != 1:
            raise ValueError(f"{MISTAKES.name}: {old!r} stands {source.count(old)} times in it")
        source = source.replace(old, new)
    module = ModuleType("formulas")
    exec(compile(source, formulas.__file__, "exec"), vars(module))
    return module


@cache
def fresh_cases(seed: int) -> Cases:
    """Return cases of this seed, or of the next in which no tie occurs and every mistake shows."""
    while True:
        try:
            return all_cases(seed)
        except AssertionError:
            seed += 1


@torch.no_grad()
def all_cases(seed: int = 0) -> Cases:
    """Return the cases of a seed; AssertionError where a mistake would not show."""
    cases, config = Cases(), GPT2Config(**SMALL)
    model = hugging_face_model(config, spread=0.4, seed=seed)
    state = weights.from_hugging_face(model.state_dict(), config)
    cases.tensors = {f"model|{name}": t.contiguous().clone() for name, t in state.items()}
    cases.tensors["model|expected"], cases.hints["model"] = torch.zeros(()), []
    generation(cases, model)  # first, since many models have no such texts
    attention(cases)
    parts_of_the_model(cases, model)
    adamw(cases)
    loss(cases, model)
    steps(cases, model)
    accounting(cases)
    return cases


def attention(cases: Cases) -> None:
    """Rows padded on the left, on the right, and not at all; 5 queries, or the last 2 or 1."""
    B, h, S, d = 3, 3, 5, 4
    query, key, value = 1.5 * torch.randn(3, B, h, S, d)
    left = [LOW, LOW, 0.0, 0.0, 0.0]
    pads = torch.tensor([left, left[::-1], [0.0] * S]).view(B, 1, 1, S)
    cases.add("causal mask", formulas.causal_mask, "masks", "causal mask", T=3, S=S, mask=pads)
    cases.add("mask of one query", formulas.causal_mask, T=1, S=S, mask=pads)
    inputs = {"query": query, "key": key, "mask": pads}
    cases.add("attention weights", formulas.weights_of_tokens, "masks", "weights", **inputs)
    for name, T, mask in (
        ("no mask", S, None),
        ("pads", S, pads),
        ("both masks", S, LOW * formulas.hidden(S, S, pads)),
        ("a cache", 2, pads),
        ("a cache without pads", 2, None),
        ("one query", 1, None),
        ("one query and pads", 1, pads),
    ):
        inputs = {"query": query[:, :, -T:], "key": key, "value": value, "mask": mask}
        cases.add(f"attention: {name}", formulas.attention, "masks", "weights", "heads", **inputs)
    query, key = torch.randn(2, 1, 1, 8, 16)
    value = torch.eye(8).repeat(1, 2)[None, None]
    inputs = {"query": query, "key": key, "value": value, "mask": None}
    cases.add("attention of the identity", formulas.attention, **inputs)


def parts_of_the_model(cases: Cases, model) -> None:
    shapes = {"input": (2, 40, 6), "output": (2, 40, 8), "weight": (6, 8), "bias": (6,)}
    inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
    cases.add("add", formulas.add, "add", **inputs)
    x = torch.randn(2, 7, SMALL["hidden_size"])
    mask = torch.tensor([[0.0] * 7, [LOW, LOW, *[0.0] * 5]]).view(2, 1, 1, 7)
    block = model.transformer.h[-1]
    inputs = {"block": block, "x": x, "mask": mask}
    cases.add("layer", formulas.layer, "layer forward", **inputs)
    cases.add("layer: first half", formulas.layer, **inputs, feed_forward=False)
    cases.add("layer: gradient", formulas.layer_gradient, **inputs)
    ids, in_order = torch.randint(SMALL["vocab_size"], (3, 6)), torch.arange(6).expand(3, 6)
    cases.add("embed", formulas.embed, "embed", model=model, ids=ids, positions=in_order)
    inputs = {"ids": ids, "positions": torch.randperm(18).view(3, 6)}
    also = [{"positions": in_order}]
    cases.add("embed: positions", formulas.embed, "positions", also=also, model=model, **inputs)
    for name, shape in (("3 dimensions", (2, 5)), ("2 dimensions", (2,))):
        hidden = torch.randn(*shape, SMALL["hidden_size"])
        name, formula = f"hidden_state_to_token: {name}", formulas.hidden_state_to_token
        cases.add(name, formula, "hidden_state_to_token", model=model, hidden_state=hidden)


def adamw(cases: Cases) -> None:
    gradients = torch.randn(12, 3, 2).double() * torch.logspace(-2, 1, 12).view(-1, 1, 1)
    forms = [{"eps_corrected": False}, {"decays_updated": False}]
    settings = {"gradients": gradients, "also": [*forms, forms[0] | forms[1]], "apart": 2e-5}
    for name, hyper in SETTINGS.items():
        cases.add(f"AdamW: {name}", formulas.adamw, "AdamW.step", **settings, **hyper)
    settings["gradients"] = torch.stack([1.0 + torch.rand(2), torch.zeros(2)]).double()
    for place, hyper in enumerate(GROUPS):
        cases.add(f"group {place}", formulas.adamw, **settings, **hyper)


def batch(lengths: Sequence[int], width: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return ids and mask (B, width) of texts with 0 as the third token and PAD as two others."""
    ids, mask = torch.full((len(lengths), width), PAD), torch.zeros(len(lengths), width).long()
    for row, length in enumerate(lengths):
        place = slice(width - length, None) if left else slice(length)
        ids[row, place], mask[row, place] = torch.randint(PAD, (length,)), 1
        ids[row, place][2:3], ids[row, place][[1, -1]] = 0, PAD
    return ids, mask


def last_three(labels: Tensor, mask: Tensor) -> Tensor:
    """Return labels for fine-tuning: those among the last three tokens of each row, (..., T)."""
    return labels.masked_fill(mask <= F.pad(mask[..., 3:], (0, 3)), -100)


def loss(cases: Cases, model) -> None:
    for name in ("right", "left", "full length", "labels", "sum", "none"):
        ids, mask = batch((8, 5, 3), 40 if name == "full length" else 8, left=name == "left")
        labels = ids.masked_fill(mask * F.pad(mask[:, :-1], (1, 0)) == 0, -100)
        labels = last_three(labels, mask) if name == "labels" else labels
        reduction = name if name in ("sum", "none") else "mean"
        # Positions may count from a row's first column.
        also = [{"from_column": True}] if name == "left" else []
        settings = {"model": model, "reduction": reduction, "also": also}
        settings |= {"ids": ids, "mask": mask, "labels": labels}
        more = {"mean": ["mean of losses"], "none": ["none of losses"]}.get(reduction, [])
        cases.add(f"loss: {name}", formulas.loss, "loss", *more, **settings)
        if name == "labels":
            cases.add("gradient of the loss", formulas.loss_gradient, **settings)


def steps(cases: Cases, model) -> None:
    """Steps of gradient descent on seven uneven batches, and three with few labels."""
    pairs = zip(batch((9, 7, 2), 9), batch((4, 3, 3), 9), strict=True)
    ids, masks = (torch.stack(both * 4)[:7] for both in pairs)  # again, with a lower loss
    settings = {"model": model, "ids": ids, "masks": masks, "apart": 2e-3}
    labels = ids.masked_fill(masks == 0, -100)
    labels[..., 0] = -100
    for name, accumulate in (("1 batch", 1), ("2 batches", 2), ("3 batches", 3)):
        more = {"labels": labels, "accumulate": accumulate}
        cases.add(f"steps: {name}", formulas.train, "step", "pretraining step", **settings, **more)
    more = {"labels": labels, "accumulate": 2, **TRAINING}
    cases.add("all settings", formulas.train, **settings, **more)
    settings |= {"ids": ids[:3], "masks": masks[:3], "labels": last_three(labels, masks)[:3]}
    settings["accumulate"] = 1
    tables = ("step", "fine-tuning step")
    cases.add("fine-tuning step", formulas.train, *tables, **settings)
    ids, masks = (both[None] for both in batch((4, 3, 9), 9, left=True))
    labels = last_three(ids.masked_fill(masks * F.pad(masks[..., :-1], (1, 0)) == 0, -100), masks)
    settings |= {"ids": ids, "masks": masks, "labels": labels, "also": [{"from_column": True}]}
    cases.add("fine-tuning step: pads on the left", formulas.train, **settings)


def generation(cases: Cases, model) -> None:
    """Greedy continuations of three prompts, alone and together."""
    # The padding token is inside a text, too, as end-of-text may be.
    together = torch.tensor([[11, 12, PAD, 14, 15], [PAD, PAD, 21, PAD, 22], [PAD] * 4 + [31]])
    masks = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    first, last, ones = together[:1], together[2:, 4:], masks[:1]
    text = formulas.greedy(model, first, ones, new=12, end=PAD)
    assert text.size(1) == 4 + 12, "it ends early"
    last_word = ending(text[0, 4:].tolist())
    prompt = ends_with_pad(model)
    for name, ids, mask, new, end, *tables in (
        ("12 tokens after 5", first, ones, 12, PAD, "generation", "mask of generation"),
        ("12 tokens after 1", last, ones[:, :1], 12, PAD, "generation"),
        ("1 token after 1", last, ones[:, :1], 1, PAD, "generation"),
        ("end-of-text", first, ones, 12, last_word),
        ("the padding token as end-of-text", prompt, ones[:, :1], 12, PAD),
        ("after end-of-text", first[:, :3], ones[:, :3], 6, PAD),
        ("a padded batch", together, masks, 12, last_word, "mask of generation"),
        ("a batch upside down", together.flip(0), masks.flip(0), 12, last_word),
    ):
        settings = {"model": model, "ids": ids, "mask": mask}
        settings |= {"new": new, "end": end, "also": [{"from_column": True}]}
        cases.add(f"generation: {name}", formulas.greedy, *tables, **settings)
    settings = {"model": model, "ids": first, "mask": ones}
    cases.add("penalty", formulas.greedy, **settings, new=12, end=PAD, penalty=3)
    cases.add("probabilities", formulas.probabilities, **settings)


def ending(tokens: list[int]) -> int:
    """Return a token, neither the first nor one of the last, that is not there before and is
    followed by another one."""
    pairs = enumerate(pairwise(tokens[:-2]))
    found = [one for i, (one, after) in pairs if i and one not in tokens[:i] and after != one]
    assert found, "no token to end with"
    return found[0]


def ends_with_pad(model) -> Tensor:
    """Return a prompt of one token (1, 1) whose continuation has PAD among its 12 tokens."""
    for token in range(PAD):
        prompt = torch.tensor([[token]])
        with suppress(AssertionError):
            text = formulas.greedy(model, prompt, torch.ones_like(prompt), new=12, end=PAD)
            if 2 < text.size(1) < 12:
                return prompt
    raise AssertionError("no text has the padding token")


def accounting(cases: Cases) -> None:
    """The four sizes of GPT-2, and one that nobody has published."""
    sizes = [(50257, 1024, d, L, 4 * d) for d, L in ((768, 12), (1024, 24), (1280, 36), (1600, 48))]
    more = int(torch.randint(30, 90, ()))
    for V, P, d, L, f in (*sizes, (90 + more, more, 40, 3, more + 7)):
        shape, name = {"V": V, "P": P, "d": d, "L": L, "f": f}, f"{L} layers"
        formula, tables = formulas.parameter_count, ["parameter count"]
        cases.add(f"parameter count: {name}", formula, *tables, **shape)
        costs = {"parameters": formula(**shape) + 1000 * (L == 3), "T": P - 5}
        formula, tables = formulas.training_costs, ["training costs"]
        cases.add(f"training costs: {name}", formula, *tables, **shape, **costs)


def main() -> None:
    cases = all_cases()
    cases.save(CASES)
    print(f"wrote {CASES} ({CASES.stat().st_size / 1e3:.0f} kB, {len(cases.hints)} cases)")


if __name__ == "__main__":
    main()
