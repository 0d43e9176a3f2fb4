"""Smaller models of 124M's shapes on English test pairs: int8, fewer heads, fewer layers.

All have the same random weights, and are evaluated by `gpt2.evaluate.answer`. Peers: float32 and
bfloat16, torchao's int8 (activations by token, as ours) where it is installed, and on a CPU torch's
own `quantize_dynamic` (by batch). One pair at a time shows where int8 gains nothing.
"""

import copy
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch import nn

from benchmarks.contest import Contest
from benchmarks.evaluation import TINY
from benchmarks.options import Options
from config import GPT2Config
from extensions.quantization import quantize
from extensions.structured import remove_heads, remove_layers
from gpt2.evaluate import answer
from gpt2.model import GPT2Model
from utils import set_seed


def torchao(model: GPT2Model) -> GPT2Model:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model


def quantize_dynamic(model: GPT2Model) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of torchao
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)


def ours(model: GPT2Model, fused: bool = False) -> GPT2Model:
    quantize(model, fused=fused)
    return model


def half_the_heads(model: GPT2Model) -> GPT2Model:
    half = model.config.num_attention_heads // 2
    remove_heads(model, {i: range(half) for i in range(len(model.gpt_layers))})
    return model


def half_the_layers(model: GPT2Model) -> GPT2Model:
    remove_layers(model, range(1, len(model.gpt_layers), 2))
    return model


def contests(options: Options) -> Iterator[Contest]:
    set_seed(0)
    shape = TINY | {"num_hidden_layers": 2} if options.quick else {}
    model = GPT2Model(GPT2Config(**shape)).eval().to(options.device)
    rows = options.dataset("test", subset=16.0 if options.quick else 300.0)
    prompts = [rows[i]["input_ids"] for i in range(len(rows))]
    plain = {"ours, float32": model}
    if "bf16" in options.precisions:
        plain["ours, bf16"] = copy.deepcopy(model).to(torch.bfloat16)
    model_of = [*plain.values()][-1]  # between int8 layers, too, bfloat16 takes half the bytes
    int8 = {"ours, int8": ours(copy.deepcopy(model_of))}
    if not options.quick:  # torch.compile takes a quarter of a minute
        int8["ours, int8 fused"] = ours(copy.deepcopy(model_of), fused=True)
    peers = {"torchao, int8": torchao(copy.deepcopy(model_of))} if find_spec("torchao") else {}
    if options.device == "cpu" and hasattr(torch.ao.quantization, "quantize_dynamic"):
        peers["quantize_dynamic, int8"] = quantize_dynamic(model)
    compare = [(name, peer) for name in int8 for peer in plain | peers]
    every = plain | int8 | peers
    yield evaluation("int8 evaluation", every, prompts, compare)
    few = prompts[: 4 if options.quick else 30]
    yield evaluation("int8, one pair at a time", every, few, compare, size=1)
    fewer = {"ours, half the heads": half_the_heads, "ours, half the layers": half_the_layers}
    models = {name: change(copy.deepcopy(model)) for name, change in fewer.items()}
    compare = [(name, "ours, float32") for name in fewer]
    yield evaluation("fewer heads and layers", {"ours, float32": model} | models, prompts, compare)


def evaluation(name: str, models: dict, prompts: list, compare: list, size: int = 0) -> Contest:
    """Return the contest of evaluating all prompts at once, or `size` at a time."""
    parts = [prompts[i : i + size] for i in range(0, len(prompts), size)] if size else [prompts]

    def way(turn: int, model) -> torch.Tensor:
        return torch.cat([answer(model, part, [])[0] for part in parts])

    def agree(answers: dict[str, torch.Tensor]) -> dict[str, float]:
        truth = answers["ours, float32"]
        return {
            f"same answers as float32: {name}": (tokens == truth).float().mean().item()
            for name, tokens in answers.items()
            if tokens is not truth
        }

    ways = {name: partial(way, model=model) for name, model in models.items()}
    return Contest(name, "pairs", len(prompts), ways, compare, agree=agree)
