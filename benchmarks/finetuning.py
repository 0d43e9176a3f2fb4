"""Fine-tuning steps of a 124M model with dropout, 16 real English pairs each.

All ways get the same batches, about half of each pads, as unsorted rows have. Peers: the plain
loop, and transformers with logits at label rows only and torch's fused AdamW. Ours is
`gpt2.train.train` as it is. The first steps of each turn, which ask the system for memory, are not
timed: an epoch has thousands.
"""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter as now

import torch

from benchmarks.contest import Contest, Timed, wait
from benchmarks.evaluation import TINY
from benchmarks.options import Options
from benchmarks.peers import (
    PlainAdamW,
    dropout_seed,
    hugging_face,
    plain_step,
    same_weights,
    transformers_step,
)
from config import FINETUNE_ENGLISH, GPT2Config
from experiments.plan import forward_flop
from gpt2.train import train
from optim.adamw import AdamW

SIZE, NOT_TIMED = 16, 2  # rows; steps
HYPER = {"lr": FINETUNE_ENGLISH.learning_rate, "weight_decay": FINETUNE_ENGLISH.weight_decay}


def contests(options: Options) -> Iterator[Contest]:
    config = GPT2Config(**(TINY if options.quick else {}))
    batches = options.batches(SIZE, NOT_TIMED + (1 if options.quick else 4))
    reference = hugging_face(config, options.device)

    def plain():
        model = same_weights(reference, GPT2Config(**config_of(config, "eager")))
        optimizer = PlainAdamW(model.parameters(), **HYPER)
        return lambda: [(plain_step(model, optimizer, b), now()) for b in batches]

    def theirs(precision):
        model = hugging_face(config, options.device)
        optimizer = torch.optim.AdamW(model.parameters(), **HYPER, eps=1e-6, fused=True)
        step = partial(transformers_step, model, optimizer, precision=precision)
        return lambda: [(step(batch), now()) for batch in batches]

    def ours(precision):
        model = same_weights(reference, config)
        optimizer = AdamW(model.parameters(), **HYPER)
        return lambda: our_steps(model, batches, optimizer, precision=precision)

    def timed(steps: Callable[[], list[tuple[float, float]]]):
        def way(turn: int) -> Timed:
            dropout_seed(turn)
            losses, ends = zip(*steps(), strict=True)
            wait(options.device)
            return Timed(now() - ends[NOT_TIMED - 1], losses)

        return way

    ways = {"plain loop, float32": timed(plain())}
    compare = [("ours, float32", "plain loop, float32")]
    for precision in options.precisions:
        ways[f"transformers, {precision}"] = timed(theirs(precision))
        ways[f"ours, {precision}"] = timed(ours(precision))
        compare.append((f"ours, {precision}", f"transformers, {precision}"))
    if "ours, bf16" in ways:
        compare.append(("ours, bf16", "plain loop, float32"))
    counted = [batch["attention_mask"].sum(dim=1) for batch in batches[NOT_TIMED:]]
    lengths = torch.cat(counted).tolist()
    flop = 3 * forward_flop(config, lengths, len(lengths))  # a backward pass is two forward ones
    yield Contest(
        "fine-tuning", "steps", len(counted), ways, compare, flop=flop,
        agree=lambda losses: {f"last loss: {way}": loss[-1] for way, loss in losses.items()},
    )  # fmt: skip


def our_steps(model, batches, optimizer, **settings) -> list[tuple[float, float]]:
    """The loss of each step of our loop, and when it ended."""
    ends: list[float] = []
    history = train(model, batches, optimizer, **settings, callbacks=[lambda _: ends.append(now())])
    return [(progress.loss, end) for progress, end in zip(history, ends, strict=True)]


def config_of(config: GPT2Config, attention: str) -> dict:
    return {**vars(config), "attn_implementation": attention}


def seeded(step):
    def way(turn: int):
        dropout_seed(turn)
        return step()

    return way
