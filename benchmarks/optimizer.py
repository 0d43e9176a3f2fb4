"""An AdamW step over the parameters of a 124M model, beside torch's and the plain formulas."""

from collections.abc import Iterator

import torch

from benchmarks.contest import Contest
from benchmarks.evaluation import TINY
from benchmarks.options import Options
from benchmarks.peers import PlainAdamW
from config import GPT2Config
from gpt2.model import GPT2Model
from optim.adamw import AdamW

HYPER = {"lr": 1e-5, "weight_decay": 1e-2}
STEPS = 3


def contests(options: Options) -> Iterator[Contest]:
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(**(TINY if options.quick else {}))).to(options.device)
    makers = {
        "plain formulas": lambda p: PlainAdamW(p, **HYPER),
        "torch foreach": lambda p: torch.optim.AdamW(p, **HYPER, eps=1e-6, foreach=True),
        "torch fused": lambda p: torch.optim.AdamW(p, **HYPER, eps=1e-6, fused=True),
        "ours": lambda p: AdamW(p, **HYPER),
    }
    ways, gradients = {}, [torch.randn_like(p) for p in model.parameters()]
    for name, make in makers.items():
        # Every way updates tensors of its own; they share the gradients.
        parameters = [torch.nn.Parameter(p.detach().clone()) for p in model.parameters()]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer = make(parameters)
        ways[name] = lambda turn, o=optimizer: [o.step() for _ in range(STEPS)] and None
    count = sum(gradient.numel() for gradient in gradients)
    # Weights, gradients and both moments are read, all but the gradients written.
    traffic = dict.fromkeys(ways, float(STEPS * 7 * 4 * count))
    compare = [("ours", "torch fused"), ("ours", "plain formulas")]
    yield Contest("AdamW", "steps", STEPS, ways, compare, traffic=traffic)
