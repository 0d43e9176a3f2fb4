"""Measure the loss of toy pretraining (handout section 3.4) on a text.

    python -m experiments.toy_curve --text pretrain.txt
    python -m experiments.toy_curve --text pretrain.txt --count-padding

Runs the three epochs and prints the loss: with --count-padding as the course does (every text
padded to 128 tokens, pads in the loss, all lines), else per real token, with a tenth of the lines
held out. How fast it is: `python -m benchmarks pretraining`.
"""

import argparse
import math
import statistics

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, default_collate

from config import TOY_PRETRAINING as TOY
from config import GPT2Config
from experiments.callbacks import ProgressBar
from experiments.environment import save_measurement
from gpt2.loss import mean_loss
from gpt2.model import GPT2Model
from gpt2.text import TextDataset, text_loader, unigram_entropy
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from optim.adamw import AdamW
from utils import set_seed


def curve(text: str, count_padding: bool, seed: int) -> dict:
    """Train for the three epochs; return the cumulative mean losses at their ends, and more."""
    dataset = TextDataset(text, load_tokenizer(), TOY.max_len)
    set_seed(seed)
    model = GPT2Model(GPT2Config(**TOY.model))
    optimizer = AdamW(model.parameters(), lr=TOY.learning_rate, weight_decay=TOY.weight_decay)
    if count_padding:
        documents, held_out = dataset, None
        loader = DataLoader(
            dataset,
            TOY.batch_size,
            shuffle=True,
            collate_fn=with_padding_as_labels,
            generator=torch.Generator().manual_seed(seed),
        )
    else:
        documents, held_out = dataset.split(0.1, seed)
        loader = text_loader(documents, TOY.batch_size, shuffle=True, seed=seed)
    history = train(
        model,
        loader,
        optimizer,
        epochs=TOY.epochs,
        callbacks=[ProgressBar("toy pretraining", every=100)],
        accelerator=Accelerator(cpu=True),
    )
    ends = [len(history) * epoch // TOY.epochs for epoch in range(1, TOY.epochs + 1)]
    losses = [progress.loss for progress in history]
    result = {
        "seed": seed,
        "count_padding": count_padding,
        "documents": len(documents),
        "step_0": losses[0],
        "cumulative_mean_at_epoch_ends": [statistics.mean(losses[:end]) for end in ends],
        "seconds": history[-1].seconds,
    }
    if held_out is not None:
        vocab_size = model.config.vocab_size
        result["held_out_documents"] = len(held_out)
        result["held_out_nats_per_token"] = mean_loss(model, text_loader(held_out, 32))
        result["unigram_nats_per_token"] = unigram_entropy(documents, held_out, vocab_size)
        result["uniform_nats_per_token"] = math.log(vocab_size)
    return result


def with_padding_as_labels(items) -> dict:
    """Return the course's batch: every text as long as `max_len`, and every position a label."""
    input_ids, attention_mask = default_collate(items)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": input_ids}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default="pretrain.txt", help="a text file, one document a line")
    parser.add_argument("--count-padding", action="store_true", help="as the course does")
    parser.add_argument("--seed", type=int, default=TOY.seed, help="random seed")
    parser.add_argument("--out", help="a JSON file for the result")
    args = parser.parse_args()
    result = curve(args.text, args.count_padding, args.seed)
    for name, value in result.items():
        print(f"{name}: {value}")
    if args.out:
        save_measurement(args.out, result)


if __name__ == "__main__":
    main()
