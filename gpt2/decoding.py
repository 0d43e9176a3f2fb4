"""What all ways of generating share: settings, the growing context, processors of logits."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.cache import KeyValueCache
from utils import check_numbers, get_parameter_dtype


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


class Context:
    """The tokens so far, ids and mask (B, S), and what the model's cache holds of them.

    Rows may be padded on either side; they are moved so that all end in the last column.
    """

    def __init__(self, model, input_ids: Tensor, attention_mask: Tensor, capacity: int, use_cache):
        self.model = model
        # Pads first, the order of tokens unchanged; columns with nothing but pads are dropped.
        order = attention_mask.long().argsort(dim=1, stable=True)
        first = input_ids.size(1) - int(attention_mask.sum(dim=1).max())
        self.ids = input_ids.gather(1, order)[:, first:]
        self.mask = attention_mask.gather(1, order)[:, first:].long()
        self.cache = None
        if use_cache:
            dtype = get_parameter_dtype(model)
            if self.ids.device.type == "cpu" and dtype in (torch.bfloat16, torch.float16):
                dtype = torch.float32  # attention of one new token is 5 times as fast on a CPU
            self.cache = KeyValueCache(capacity, dtype)

    def next_logits(self) -> Tensor:
        """Return the logits of the token that follows, (B, vocab), from the model's own forward."""
        read, cache = (0, ()) if self.cache is None else (self.cache.length, (self.cache,))
        state = self.model(self.ids[:, read:], self.mask, *cache)["last_hidden_state"][:, -1]
        return check_numbers(self.model.hidden_state_to_token(state).float())

    def penalize_repetition(self, scores: Tensor, penalty: float) -> Tensor:
        """Return `scores` (B, vocab) with the tokens so far, pads aside, made less likely.

        Positive scores are divided by `penalty`, negative ones multiplied.
        """
        if penalty == 1.0:
            return scores
        tokens = self.mask.to(scores.dtype)
        occurred = torch.zeros_like(scores).scatter_add_(1, self.ids, tokens) > 0
        penalized = torch.where(scores > 0, scores / penalty, scores * penalty)
        return torch.where(occurred, penalized, scores)

    def append(self, tokens: Tensor) -> None:
        """Add a column of tokens, (B, 1)."""
        self.ids = torch.cat([self.ids, tokens], dim=1)
        self.mask = F.pad(self.mask, (0, tokens.size(1)), value=1)

    def select(self, rows: Tensor) -> None:
        """Continue with these rows, which may repeat."""
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        if self.cache is not None:
            self.cache = self.cache.select(rows)


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
