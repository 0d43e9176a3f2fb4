"""Fine-tuning steps of a 124M model with dropout, 16 real English pairs each.

All ways get the same batches, about half of each pads, as unsorted rows have. Peers: the plain
loop, and transformers with logits at label rows only and torch's fused AdamW. Ours is
`gpt2.train.train` as it is, whose first steps of each call ask the system for memory.
"""

from collections.abc import Iterator

import torch

from benchmarks.contest import Contest
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

SIZE = 16
HYPER = {"lr": FINETUNE_ENGLISH.learning_rate, "weight_decay": FINETUNE_ENGLISH.weight_decay}


def contests(options: Options) -> Iterator[Contest]:
    config = GPT2Config(**(TINY if options.quick else {}))
    batches = options.batches(SIZE, 2 if options.quick else 8)
    reference = hugging_face(config, options.device)

    def plain():
        model = same_weights(reference, GPT2Config(**config_of(config, "eager")))
        optimizer = PlainAdamW(model.parameters(), **HYPER)
        return lambda: [plain_step(model, optimizer, batch) for batch in batches]

    def theirs(precision):
        model = hugging_face(config, options.device)
        optimizer = torch.optim.AdamW(model.parameters(), **HYPER, eps=1e-6, fused=True)
        return lambda: [transformers_step(model, optimizer, b, precision) for b in batches]

    def ours(precision):
        model = same_weights(reference, config)
        optimizer = AdamW(model.parameters(), **HYPER)
        return lambda: [p.loss for p in train(model, batches, optimizer, precision=precision)]

    ways = {"plain loop, float32": seeded(plain())}
    compare = [("ours, float32", "plain loop, float32")]
    for precision in options.precisions:
        ways[f"transformers, {precision}"] = seeded(theirs(precision))
        ways[f"ours, {precision}"] = seeded(ours(precision))
        compare.append((f"ours, {precision}", f"transformers, {precision}"))
    if "ours, bf16" in ways:
        compare.append(("ours, bf16", "plain loop, float32"))
    lengths = torch.cat([batch["attention_mask"].sum(dim=1) for batch in batches]).tolist()
    flop = 3 * forward_flop(config, lengths, len(lengths))  # a backward pass is two forward ones
    yield Contest(
        "fine-tuning", "steps", len(batches), ways, compare, flop=flop,
        agree=lambda losses: {f"last loss: {way}": loss[-1] for way, loss in losses.items()},
    )  # fmt: skip


def config_of(config: GPT2Config, attention: str) -> dict:
    return {**vars(config), "attn_implementation": attention}


def seeded(step):
    def way(turn: int):
        dropout_seed(turn)
        return step()

    return way
