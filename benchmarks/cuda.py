"""What only a GPU does: an epoch of fine-tuning, 15 test sets, long texts in bfloat16.

Lengths are those of the given English training pairs, repeated to the number of rows.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import ConcatDataset, DataLoader

from benchmarks.contest import Contest
from benchmarks.evaluation import TINY
from benchmarks.options import Options
from benchmarks.report import GPU_WORK
from config import FINETUNE_ENGLISH, FINETUNE_FAST, GPT2Config
from experiments.evaluation import Evaluation
from experiments.plan import forward_flop
from gpt2.evaluate import predict
from gpt2.model import GPT2Model
from gpt2.samplers import BatchesByLength
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from gpt2.xnli import LANGUAGES, XNLIDataset
from optim.adamw import AdamW

PAIRS = 13_000
FAST_EPOCH, HANDOUT_STEPS, TEST_SETS, LONG_TEXTS = GPU_WORK  # the contests' names


def contests(options: Options) -> Iterator[Contest]:
    config = GPT2Config(**(TINY if options.quick else {}))
    yield finetuning_epoch(options, config)
    yield handout_steps(options, config)
    yield test_sets(options, config)
    yield long_texts(options, config)


def model_and_optimizer(options: Options, config: GPT2Config, hyper) -> tuple:
    torch.manual_seed(0)
    model = GPT2Model(config).to(options.device)
    return model, AdamW(model.parameters(), lr=hyper.learning_rate, weight_decay=hyper.weight_decay)


def finetuning_epoch(options: Options, config: GPT2Config) -> Contest:
    rows = options.dataset("train")
    copies = 1 if options.quick else -(-PAIRS // len(rows))
    pairs = ConcatDataset([rows] * copies)
    lengths = (rows.lengths + 1).tolist() * copies
    batches = BatchesByLength(
        lengths, FINETUNE_FAST.token_budget, batch_size=FINETUNE_FAST.batch_size
    )
    loader = DataLoader(pairs, batch_sampler=batches, collate_fn=XNLIDataset.collate_fn)
    model, optimizer = model_and_optimizer(options, config, FINETUNE_FAST)
    settings = {"max_grad_norm": FINETUNE_FAST.max_grad_norm, "precision": "bf16"}
    return Contest(
        FAST_EPOCH,
        "pairs",
        len(pairs),
        {"ours, bf16": lambda turn: train(model, loader, optimizer, **settings) and None},
        rates=["ours, bf16"],
        flop=3 * forward_flop(config, lengths, len(pairs)),
    )


def handout_steps(options: Options, config: GPT2Config) -> Contest:
    batches = options.batches(FINETUNE_ENGLISH.batch_size, 2 if options.quick else 100)
    model, optimizer = model_and_optimizer(options, config, FINETUNE_ENGLISH)
    return Contest(
        HANDOUT_STEPS,
        "steps",
        len(batches),
        {"ours, float32": lambda turn: train(model, batches, optimizer) and None},
        rates=["ours, float32"],
    )


def test_sets(options: Options, config: GPT2Config) -> Contest:
    """From the text file to predictions: links to it in a new folder each turn, without a cache."""
    languages = ("en", "zh") if options.quick else LANGUAGES
    torch.manual_seed(0)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = GPT2Model(config).to(options.device, dtype).eval()
    tokenizer = load_tokenizer()
    count = len(options.dataset("test")) * len(languages)

    def way(turn):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "XNLI-1.0").mkdir()
            for file in (options.xnli / "XNLI-1.0").glob("*.tsv"):
                (Path(folder) / "XNLI-1.0" / file.name).symlink_to(file.resolve())
            fresh = replace(options, xnli=Path(folder))
            return [
                Evaluation(
                    predict(model, tokenizer, fresh.dataset("test", lang), progress=False)
                ).accuracy
                for lang in languages
            ]

    name = "ours, bf16" if dtype == torch.bfloat16 else "ours, float32"
    return Contest(
        TEST_SETS,
        "pairs",
        count,
        {name: way},
        rates=[name],
    )


def long_texts(options: Options, config: GPT2Config) -> Contest:
    size, length, count = (2, 64, 2) if options.quick else (16, 1024, 8)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        ids = torch.randint(config.vocab_size, (size, length), generator=generator)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        batches.append({key: x.to(options.device) for key, x in batch.items()})
    model, optimizer = model_and_optimizer(options, config, FINETUNE_FAST)
    return Contest(
        LONG_TEXTS,
        "tokens",
        size * length * count,
        {"ours, bf16": lambda turn: train(model, batches, optimizer, precision="bf16") and None},
        rates=["ours, bf16"],
        flop=3 * forward_flop(config, [length] * size * count, size * (length - 1) * count),
    )
