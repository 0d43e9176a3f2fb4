"""Pretrain GPT-2 in miniature on texts about the small world, and pack it for data/miniature.

    python -m data.miniature.pretrain                     # 36 minutes on one core
    python -m data.miniature.pretrain --stage languages   # then this: 26 minutes
    python -m data.miniature.pretrain --stage headers     # and this: 8 minutes

It reads GPT-2's tokens. Those that no text uses share one row of the
embedding while it trains, because they would all learn the same: to be improbable.
"""

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from config import GPT2Config
from console import errors_in_one_line
from data.miniature.files import PACKED, pack
from data.miniature.text import HEADERS, LATER_SHARES, SHARES, QuestionTexts, make_texts
from data.miniature.world import FORMS
from gpt2.model import GPT2Model
from gpt2.samplers import BatchesByLength
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from optim.adamw import AdamW
from utils import in_evaluation_mode, set_seed

MODEL = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.08,  # GPT-2's 0.02 is for six times the width
}
MAX_LEN = 64  # tokens; longer texts are left out
TOKEN_BUDGET, ACCUMULATE = 640, 4  # tokens of a batch, pads included, and batches a step
BETAS, WARMUP, MAX_GRAD_NORM = (0.9, 0.98), 200, 1.0


@dataclass(frozen=True)
class Stage:
    """A part of the training: how many texts, read how often, and what they are like."""

    name: str
    seed: int
    texts: int
    epochs: int = 1
    shares: dict = field(default_factory=dict)  # of languages but English, in per cent
    how: dict = field(default_factory=dict)  # arguments of make_text
    learning_rate: float = 2e-3
    decay: int = 12_600  # steps, over all stages, by which the rate has fallen to a tenth


STAGES = {
    # From few kinds of questions to all, and from English to twelve languages: started with all of
    # it, the model stays at guessing several times as long.
    "first": (
        Stage("places", 10, 48_000, how={"forms": FORMS[:1], "one_fact": 1.0, "most": 1}),
        Stage("English", 11, 300_000, epochs=2, how={"one_fact": 0.6, "most": 2}),
        Stage("all", 12, 300_000, epochs=2, shares=SHARES, how={"one_fact": 0.4, "most": 3}),
    ),
    "languages": (
        Stage(
            *("languages", 14, 300_000),
            epochs=2,
            shares=LATER_SHARES,
            how={"one_fact": 0.4, "most": 3},
            learning_rate=1.5e-3,
            decay=9_000,
        ),
    ),
    # Lines with headers and numbers for answers say nothing new of the world, but make the form
    # of an NLI prompt no surprise.
    "headers": (
        Stage(
            *("headers", 13, 180_000),
            shares=LATER_SHARES,
            how={"one_fact": 0.2, "most": 2, "lines": 0.8, "headed": 0.75},
            learning_rate=1e-3,
            decay=2_700,
        ),
    ),
}


class CompactGPT2(GPT2Model):
    """A GPT-2 whose last token stands for all tokens that no text uses."""

    def __init__(self, config: GPT2Config, num_unused: int):
        super().__init__(config)
        self.num_unused = num_unused

    def hidden_state_to_token(self, hidden_state: Tensor) -> Tensor:
        """Return logits whose softmax is the one over all tokens, the unused ones summed."""
        logits = super().hidden_state_to_token(hidden_state)
        summed = torch.zeros_like(logits[..., :1]) + math.log(self.num_unused)
        return logits + torch.cat([torch.zeros_like(logits[..., 1:]), summed], dim=-1)


def renumber(texts: QuestionTexts, used: Tensor) -> None:
    """Replace GPT-2's ids in the texts by places in `used`; leave out texts that are too long or
    have other tokens."""
    fits = [len(ids) <= MAX_LEN and bool(torch.isin(ids, used).all()) for ids in texts.ids]
    rows = zip(texts.ids, texts.labels, fits, strict=True)
    pairs = [
        (torch.searchsorted(used, ids), torch.searchsorted(used, labels).where(labels >= 0, labels))
        for ids, labels, fit in rows
        if fit
    ]
    texts.ids, texts.labels = map(list, zip(*pairs, strict=True))


@torch.no_grad()
@in_evaluation_mode
def share_right(model: GPT2Model, texts: QuestionTexts, verdicts: Tensor) -> float:
    """Return the share of answers whose first token, out of all tokens, is right."""
    right = total = 0
    for batch in DataLoader(texts, batch_size=100, collate_fn=texts.collate_fn):
        ids = batch["input_ids"]
        hidden = model(ids, batch["attention_mask"])["last_hidden_state"][:, :-1]
        is_verdict = torch.isin(ids[:, 1:], verdicts)
        predicted = model.hidden_state_to_token(hidden[is_verdict]).argmax(dim=-1)
        right += int((predicted == ids[:, 1:][is_verdict]).sum())
        total += len(predicted)
    return right / total


def start() -> tuple[CompactGPT2, Tensor]:
    """Return a new model, and GPT-2's ids of the tokens that it knows by themselves."""
    texts = make_texts(60_000, seed=9, headed=0.0)
    used = torch.unique(torch.cat(QuestionTexts(texts, load_tokenizer("gpt2")).ids))
    config = GPT2Config(vocab_size=len(used) + 1, pad_token_id=0, **MODEL)
    return CompactGPT2(config, GPT2Config().vocab_size - len(used)), used


def resume(folder: Path) -> tuple[CompactGPT2, Tensor]:
    """Return a packed model; the tokens of headers and numbers get rows of their own."""
    state = load_file(folder / "weights.safetensors")
    known, rows = state.pop("used").long(), state.pop("word_embedding.weight").float()
    words = [f"{word}:" for word in HEADERS]
    words += [f"{space}{digit}" for digit in range(10) for space in ("", " ")]
    headers = load_tokenizer("gpt2")(words)["input_ids"]
    used = torch.unique(torch.cat([known, torch.tensor([i for ids in headers for i in ids])]))
    config = GPT2Config(vocab_size=len(used) + 1, pad_token_id=0, **MODEL)
    model = CompactGPT2(config, GPT2Config().vocab_size - len(used))
    embedding = rows[-1] + MODEL["initializer_range"] * torch.randn(len(used) + 1, rows.shape[1])
    embedding[torch.searchsorted(used, known)], embedding[-1] = rows[:-1], rows[-1]
    model.load_state_dict({**state, "word_embedding.weight": embedding})
    return model, used


def pretrain(model: CompactGPT2, used: Tensor, stages, steps: int | None = None) -> list[float]:
    """Train through the stages, or the first `steps` steps of them; return the losses."""
    tokenizer, optimizer = load_tokenizer("gpt2"), AdamW(model.parameters(), betas=BETAS)
    words = ("Yes", "No", "Maybe", " Yes", " No", " Maybe")
    verdicts = torch.searchsorted(used, torch.tensor([tokenizer(w)["input_ids"][0] for w in words]))
    losses: list[float] = []
    for stage in stages:
        texts = QuestionTexts(
            make_texts(stage.texts, seed=stage.seed, shares=stage.shares, **stage.how), tokenizer
        )
        held_out = QuestionTexts(make_texts(1000, seed=1, shares={}, **stage.how), tokenizer)
        renumber(texts, used)
        renumber(held_out, used)
        start = len(losses)

        def rate(step: int, start=start, decay=stage.decay) -> float:
            return min(1, (start + step + 1) / WARMUP) * (1 - 0.9 * (start + step) / decay)

        def report(progress, stage=stage, held_out=held_out) -> None:
            losses.append(progress.loss)
            if len(losses) % 100 == 0:
                where = f"{stage.name}, step {len(losses)}, {progress.seconds:.0f} s"
                print(f"{where}: loss {progress.loss:.3f}", flush=True)
            if len(losses) % 500 == 0:
                print(f"answers: {share_right(model, held_out, verdicts):.1%} right", flush=True)
            if len(losses) == steps:
                raise StopIteration

        for group in optimizer.param_groups:
            group.pop("initial_lr", None)  # a new schedule starts from the full rate
            group["lr"] = stage.learning_rate
        batches = BatchesByLength(texts.lengths, TOKEN_BUDGET, stage.seed - 10)
        try:
            train(
                model,
                DataLoader(texts, batch_sampler=batches, collate_fn=texts.collate_fn),
                optimizer,
                epochs=stage.epochs,
                accumulate=ACCUMULATE,
                max_grad_norm=MAX_GRAD_NORM,
                scheduler=LambdaLR(optimizer, rate),
                callbacks=[report],
            )
        except StopIteration:
            break
    return losses


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=STAGES, default="first", help="the later from --out")
    parser.add_argument("--out", type=Path, default=PACKED, help="default: data/miniature/model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="stop after so many, and save nothing")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    set_seed(0)
    model, used = start() if args.stage == "first" else resume(args.out)
    losses = pretrain(model, used, STAGES[args.stage], args.steps)
    if args.steps is None:
        pack(model, used, args.out)
    print(f"loss {losses[-1]:.3f} after {len(losses):,} steps")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
