"""Toy pretraining (handout section 3.4) on a real text: how fast beside the plain loop, how good.

    python -m benchmarks.toy_pretraining speed --text pretrain.txt
    python -m benchmarks.toy_pretraining curve --text pretrain.txt
    python -m benchmarks.toy_pretraining curve --text pretrain.txt --count-padding

`speed` trains the same batches by both loops in turn and prints the ratio. `curve` runs the three
epochs and prints the loss: with --count-padding as the course does (every text padded to 128,
pads in the loss, all lines), else per real token, with a tenth of the lines held out.
"""

import argparse
import math
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader, Subset, default_collate

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


# ---- The peer: the loop as one writes it down from the handout ---------------------------------


class PlainAdamW(torch.optim.Optimizer):
    """The handout's formulas one after the other, each making a new tensor."""

    def __init__(self, params, lr, weight_decay, betas=(0.9, 0.999), eps=1e-6):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, betas=betas, eps=eps))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                m = state["m"] = beta1 * state["m"] + (1 - beta1) * p.grad
                v = state["v"] = beta2 * state["v"] + (1 - beta2) * p.grad**2
                m_hat = m / (1 - beta1 ** state["t"])
                v_hat = v / (1 - beta2 ** state["t"])
                p -= group["lr"] * m_hat / (v_hat.sqrt() + group["eps"])
                p -= group["lr"] * group["weight_decay"] * p


def plain_steps(model, optimizer, loader) -> None:
    """Fixed length, the logits of every position, their shifted cross-entropy, pads included."""
    model.train()
    for input_ids, attention_mask in loader:
        optimizer.zero_grad()
        hidden = model(input_ids, attention_mask)["last_hidden_state"]
        logits = model.hidden_state_to_token(hidden)
        shifted = logits[:, :-1].contiguous().view(-1, logits.size(-1))
        loss = F.cross_entropy(shifted, input_ids[:, 1:].contiguous().view(-1))
        loss.backward()
        optimizer.step()
        loss.item()


# ---- Speed -------------------------------------------------------------------------------------


def speed(text: str, documents: int | None, chunk: int = 50) -> dict:
    """Seconds a step of both loops over the same batches, in turns of `chunk` steps."""
    dataset = TextDataset(text, load_tokenizer(), TOY.max_len)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(TOY.seed))
    order = order[:documents].tolist()
    rows = chunk * TOY.batch_size
    set_seed(TOY.seed)
    plain = GPT2Model(GPT2Config(**TOY.model, attn_implementation="eager"))
    ours = GPT2Model(GPT2Config(**TOY.model))
    hyper = {"lr": TOY.learning_rate, "weight_decay": TOY.weight_decay}
    plain_optimizer = PlainAdamW(plain.parameters(), **hyper)
    our_optimizer = AdamW(ours.parameters(), **hyper)
    accelerator = Accelerator(cpu=True)
    turns = []
    for start in range(0, len(order), rows):
        part = Subset(dataset, order[start : start + rows])
        began = time.perf_counter()
        plain_steps(plain, plain_optimizer, DataLoader(part, TOY.batch_size))
        middle = time.perf_counter()
        train(ours, text_loader(part, TOY.batch_size), our_optimizer, accelerator=accelerator)
        ended = time.perf_counter()
        steps = math.ceil(len(part) / TOY.batch_size)
        turns.append(
            {
                "steps": steps,
                "plain_s": middle - began,
                "ours_s": ended - middle,
                "ratio": (middle - began) / (ended - middle),
            }
        )
        print(
            f"{start + len(part):5d} documents   plain {turns[-1]['plain_s'] / steps:.3f} s/step"
            f"   ours {turns[-1]['ours_s'] / steps:.3f} s/step   ratio {turns[-1]['ratio']:.2f}",
            flush=True,
        )
    seconds = {name: sum(turn[name] for turn in turns) for name in ("plain_s", "ours_s")}
    ratios = [turn["ratio"] for turn in turns]
    print(
        f"{len(order)} documents: plain {seconds['plain_s']:.1f} s, ours {seconds['ours_s']:.1f} s,"
        f" ratio {seconds['plain_s'] / seconds['ours_s']:.2f}"
        f" (turn by turn: median {statistics.median(ratios):.2f},"
        f" {min(ratios):.2f} to {max(ratios):.2f})"
    )
    return {
        "documents": len(order),
        "steps": sum(turn["steps"] for turn in turns),
        **seconds,
        "ratio": seconds["plain_s"] / seconds["ours_s"],
        "median_ratio": statistics.median(ratios),
        "turns": turns,
    }


# ---- Loss --------------------------------------------------------------------------------------


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
    parser.add_argument("what", choices=["speed", "curve"])
    parser.add_argument("--text", default="pretrain.txt", help="a text file, one document a line")
    parser.add_argument("--documents", type=int, help="speed: only so many (default: all)")
    parser.add_argument("--count-padding", action="store_true", help="curve: as the course does")
    parser.add_argument("--seed", type=int, default=TOY.seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "speed":
        result = speed(args.text, args.documents)
    else:
        result = curve(args.text, args.count_padding, args.seed)
    if args.name:
        print(f"wrote {report.save(args.name, result)}")


if __name__ == "__main__":
    main()
