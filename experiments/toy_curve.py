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
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, default_collate

from config import TOY_PRETRAINING, GPT2Config, PretrainingSettings
from experiments.callbacks import ProgressBar
from experiments.environment import save_measurement
from experiments.pretraining import pretrain
from gpt2.checkpoints import Progress
from gpt2.model import GPT2Model
from gpt2.text import TextDataset, unigram_entropy
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from optim.adamw import AdamW
from utils import set_seed


def curve(text: str, count_padding: bool, seed: int) -> dict:
    """Train for the three epochs; return the cumulative mean losses at their ends, and more."""
    settings = replace(TOY_PRETRAINING, seed=seed)
    dataset = TextDataset(text, load_tokenizer(), settings.max_len)
    result = {"seed": seed, "count_padding": count_padding}
    if count_padding:
        documents, history = dataset, train_on_padding(dataset, settings)
    else:
        documents, held_out = dataset.split(0.1, seed)
        run = pretrain(settings, documents, held_out)
        history, vocab_size = run.history(), GPT2Config(**settings.model).vocab_size
        result["held_out_documents"] = len(held_out)
        result["held_out_nats_per_token"] = run.held_out()["held_out_loss"].iloc[-1]
        result["unigram_nats_per_token"] = unigram_entropy(documents, held_out, vocab_size)
        result["uniform_nats_per_token"] = math.log(vocab_size)
    losses, epochs = [progress.loss for progress in history], settings.epochs
    ends = [len(losses) * epoch // epochs for epoch in range(1, epochs + 1)]
    return {
        **result,
        "documents": len(documents),
        "step_0": losses[0],
        "cumulative_mean_at_epoch_ends": [statistics.mean(losses[:end]) for end in ends],
        "seconds": history[-1].seconds,
    }


def train_on_padding(dataset: TextDataset, settings: PretrainingSettings) -> list[Progress]:
    """Train as the course does; return the steps."""
    set_seed(settings.seed)
    model = GPT2Model(GPT2Config(**settings.model))
    loader = DataLoader(
        dataset,
        settings.batch_size,
        shuffle=True,
        collate_fn=with_padding_as_labels,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    return train(
        model,
        loader,
        AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay),
        epochs=settings.epochs,
        callbacks=[ProgressBar("toy pretraining", every=100)],
    )


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
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--out", help="a JSON file for the result")
    args = parser.parse_args()
    result = curve(args.text, args.count_padding, args.seed)
    for name, value in result.items():
        print(f"{name}: {value}")
    if args.out:
        save_measurement(args.out, result)


if __name__ == "__main__":
    main()
