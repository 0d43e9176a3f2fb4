"""Toy pretraining steps (handout section 3.4) on real text, four documents each.

Peers: the plain loop (every text padded to 128, every logit) and transformers on batches that are
as long as their longest text, with logits at real tokens only and torch's fused AdamW.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Subset

from benchmarks.contest import Contest
from benchmarks.finetuning import config_of, seeded
from benchmarks.options import Options
from benchmarks.peers import (
    PlainAdamW,
    hugging_face,
    plain_step,
    same_weights,
    transformers_step,
)
from config import TOY_PRETRAINING, GPT2Config
from gpt2.loss import IGNORED
from gpt2.text import TextDataset, text_loader
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from optim.adamw import AdamW

TOY = TOY_PRETRAINING
HYPER = {"lr": TOY.learning_rate, "weight_decay": TOY.weight_decay}


def contests(options: Options) -> Iterator[Contest]:
    config = GPT2Config(**TOY.model)
    dataset = TextDataset(options.text, load_tokenizer(), TOY.max_len)
    steps = 2 if options.quick else 50
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(TOY.seed))
    rows = steps * TOY.batch_size
    reference = hugging_face(config, options.device)

    def part(turn: int) -> Subset:
        """Other documents each turn, the same ones for all ways."""
        return Subset(dataset, order[(turn + 1) * rows : (turn + 2) * rows].tolist())

    model = same_weights(reference, GPT2Config(**config_of(config, "eager")))
    optimizer = PlainAdamW(model.parameters(), **HYPER)

    def plain(turn):
        for ids, mask in DataLoader(part(turn), TOY.batch_size):
            ids, mask = ids.to(options.device), mask.to(options.device)
            batch = {"input_ids": ids, "attention_mask": mask, "labels": ids}
            plain_step(model, optimizer, batch)

    theirs = hugging_face(config, options.device)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), **HYPER, eps=1e-6, fused=True)

    def peer(turn):
        for batch in text_loader(part(turn), TOY.batch_size):
            batch = {name: x.to(options.device) for name, x in batch.items()}
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
            transformers_step(theirs, their_optimizer, {**batch, "labels": labels})

    def ours(precision: str):
        model = same_weights(reference, config)
        optimizer = AdamW(model.parameters(), **HYPER)
        return lambda turn: train(
            model, text_loader(part(turn), TOY.batch_size), optimizer, precision=precision
        )

    ways = {"plain loop, float32": plain, "transformers, float32": peer}
    ways |= {f"ours, {precision}": ours(precision) for precision in options.precisions}
    compare = [
        ("ours, float32", "plain loop, float32"),
        ("ours, float32", "transformers, float32"),
    ]
    if "ours, bf16" in ways:
        compare.append(("ours, bf16", "plain loop, float32"))
    seeded_ways = {name: with_seed(way) for name, way in ways.items()}
    yield Contest("toy pretraining", "steps", steps, seeded_ways, compare)


def with_seed(way):
    return lambda turn: seeded(lambda: way(turn))(turn)
