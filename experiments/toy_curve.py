"""Toy pretraining (handout section 3.4) on a real text: how good.

    python -m experiments.toy_curve --text pretrain.txt
    python -m experiments.toy_curve --text pretrain.txt --count-padding

Runs the three epochs and prints the loss: with --count-padding as the course does (every text
padded to 128, pads in the loss, all lines), else per real token, with a tenth of the lines held
out. How fast it is: `python -m benchmarks pretraining`.
"""

import argparse
import math
import statistics
from functools import partial

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, default_collate

from benchmarks import report
from config import TOY_PRETRAINING, GPT2Config
from gpt2.loss import count_labels, mean_loss, next_token_loss
from gpt2.model import GPT2Model
from gpt2.text import TextDataset, text_loader, unigram_entropy
from gpt2.tokenizer import load_tokenizer
from gpt2.train import ProgressBar, train
from optim.adamw import AdamW
from utils import set_seed

TOY = TOY_PRETRAINING


def curve(text: str, count_padding: bool, seed: int) -> dict:
    """The three epochs; the losses at their ends, cumulative as in the published table."""
    dataset = TextDataset(text, load_tokenizer(), TOY.max_len)
    set_seed(seed)
    model = GPT2Model(GPT2Config(**TOY.model))
    optimizer = AdamW(model.parameters(), lr=TOY.learning_rate, weight_decay=TOY.weight_decay)
    documents, held_out = (dataset, None) if count_padding else dataset.split(0.1, seed)
    loader = text_loader(documents, TOY.batch_size, shuffle=True, seed=seed)
    if count_padding:
        loader = DataLoader(
            dataset,
            TOY.batch_size,
            shuffle=True,
            collate_fn=padded_to_the_end,
            generator=torch.Generator().manual_seed(seed),
        )
    counting = {"count_padding": count_padding}
    history = train(
        model,
        loader,
        optimizer,
        epochs=TOY.epochs,
        loss_fn=partial(next_token_loss, **counting),
        count_fn=partial(count_labels, **counting),
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
        result["held_out_documents"] = len(held_out)
        result["held_out_nats_per_token"] = mean_loss(model, text_loader(held_out, 32))
        result["unigram_nats_per_token"] = unigram_entropy(
            documents, held_out, model.config.vocab_size
        )
        result["uniform_nats_per_token"] = math.log(model.config.vocab_size)
    for name, value in result.items():
        print(f"{name}: {value}")
    return result


def padded_to_the_end(items) -> dict:
    """The course's batch: every text as long as `max_len`."""
    input_ids, attention_mask = default_collate(items)
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default="pretrain.txt", help="a text file, one document a line")
    parser.add_argument("--count-padding", action="store_true", help="as the course does")
    parser.add_argument("--seed", type=int, default=TOY.seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = curve(args.text, args.count_padding, args.seed)
    if args.name:
        print(f"wrote {report.save(args.name, result)}")


if __name__ == "__main__":
    main()
