"""What all ways of generating share: settings, aligned rows, processors of logits."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decoding:
    """Settings of generation, under the names of `transformers.generate`.

    By default the most probable token is chosen (greedy). `do_sample` draws from the distribution
    after `temperature`, `top_k`, `top_p` (Holtzman et al. 2020) and `min_p` (Nguyen et al. 2024),
    with `generator` for reproducible draws; None, and 0 for `top_k`, turns one off. `num_beams` > 1
    searches for the most probable sequence, whose summed log-probability is divided by
    length ** `length_penalty`. `repetition_penalty` > 1 (Keskar et al. 2019) makes every token that
    has occurred less likely. `use_cache` stores keys and values instead of computing them again.
    """

    do_sample: bool = False
    temperature: float | None = 1.0
    top_k: int | None = 0
    top_p: float | None = 1.0
    min_p: float | None = 0.0
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    generator: torch.Generator | None = None
    use_cache: bool = True

    def __post_init__(self):
        off = {setting.name: setting.default for setting in fields(self)}
        for name, value in off.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, good, needed in (
            ("temperature", self.temperature > 0, "above 0 (greedy is do_sample=False)"),
            ("top_k", self.top_k >= 0, "at least 1, or 0 or None for all tokens"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("min_p", 0 <= self.min_p <= 1, "in [0, 1]"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("num_beams", self.num_beams >= 1, "at least 1"),
        ):
            if not good:
                raise ValueError(f"{name} must be {needed}, got {getattr(self, name)}")
        if not self.do_sample:
            for name in ("temperature", "top_k", "top_p", "min_p"):
                if getattr(self, name) != off[name]:
                    raise ValueError(f"{name} has no effect without do_sample=True")
        if self.num_beams > 1 and self.do_sample:
            raise ValueError("num_beams > 1 and do_sample=True exclude each other")


def aligned(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids and mask with the pads of every row first, without columns of nothing else."""
    order = attention_mask.long().argsort(dim=1, stable=True)
    first = input_ids.size(1) - int(attention_mask.sum(dim=1).max())
    return input_ids.gather(1, order)[:, first:], attention_mask.gather(1, order)[:, first:].long()


def next_token(settings: Decoding, logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the token that follows each row, (B, 1): drawn, or the most probable one."""
    logits = penalize_repetition(logits, ids, mask, settings.repetition_penalty)
    if settings.do_sample:
        return draw(restrict(logits, settings).softmax(dim=-1), settings.generator)
    return logits.argmax(dim=-1, keepdim=True)


def penalize_repetition(scores: Tensor, ids: Tensor, mask: Tensor, penalty: float) -> Tensor:
    """Return `scores` (B, vocab) with the tokens in `ids` (B, S), pads aside, made less likely.

    Positive scores are divided by `penalty`, negative ones multiplied.
    """
    if penalty == 1.0:
        return scores
    occurred = torch.zeros_like(scores).scatter_add_(1, ids, mask.to(scores.dtype)) > 0
    penalized = torch.where(scores > 0, scores / penalty, scores * penalty)
    return torch.where(occurred, penalized, scores)


def draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a token a row (B, 1), drawn on the generator's device, which may be another one."""
    here = probabilities.device
    on = here if generator is None else generator.device
    return torch.multinomial(probabilities.to(on), 1, generator=generator).to(here)


def restrict(logits: Tensor, decoding: Decoding) -> Tensor:
    """Return logits (B, vocab) after temperature, top-k, top-p and min-p; -inf where excluded.

    The most probable token always stays.
    """
    logits = logits / decoding.temperature
    if 0 < decoding.top_k < logits.size(-1):
        least = logits.topk(decoding.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if decoding.top_p < 1.0:
        # From the rarest token on: excluded while the probabilities sum to at most 1 - top_p.
        ordered, order = logits.sort(dim=-1)
        tail = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - decoding.top_p
        tail[:, -1] = False
        logits = logits.masked_fill(tail.scatter(1, order, tail), -math.inf)
    if decoding.min_p > 0.0:
        probabilities = logits.softmax(dim=-1)
        least = decoding.min_p * probabilities.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -math.inf)
    return logits
