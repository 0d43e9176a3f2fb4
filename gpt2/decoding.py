"""What all ways of generating share: settings, the context that grows, and score processors."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.attention import KeyValueCache
from gpt2.fast.linear import fast_linears
from gpt2.shortcuts import OneToken
from utils import get_parameter_dtype

STEPS_BEFORE_SHORTCUT = 12  # copying the weights takes about what it then saves in so many steps


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen; the names are those of `transformers.generate`.

    By default the likeliest token (greedy). `do_sample` draws from the distribution after
    `temperature`, `top_k`, `top_p` (Holtzman et al. 2020) and `min_p` (Nguyen et al. 2024), with
    `generator` for reproducible draws. `num_beams` > 1 searches for the likeliest sequence, whose
    summed log-probability is divided by length ** `length_penalty`. `repetition_penalty` > 1
    (Keskar et al. 2019) makes every token that has occurred less likely.

    `draft_model` or `prompt_lookup` (how many tokens to look up) guess ahead and let the model
    check the guesses in one pass: the same text as greedy, sooner. `sliding_window` is how many
    tokens to keep when the model's positions run out; without it that is an error. `use_cache`
    keeps keys and values instead of computing them anew.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    generator: torch.Generator | None = None
    draft_model: Any = None
    prompt_lookup: int = 0
    sliding_window: int | None = None
    use_cache: bool = True

    def __post_init__(self):
        for name, good, needed in (
            ("temperature", self.temperature > 0, "above 0 (greedy is do_sample=False)"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("min_p", 0 <= self.min_p <= 1, "in [0, 1]"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("num_beams", self.num_beams >= 1, "at least 1"),
            ("prompt_lookup", self.prompt_lookup >= 0, "at least 0"),
        ):
            if not good:
                raise ValueError(f"{name} must be {needed}, got {getattr(self, name)}")
        shaping = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": 0.0}
        if not self.do_sample:
            for name, neutral in shaping.items():
                if getattr(self, name) != neutral:
                    raise ValueError(f"{name} has no effect without do_sample=True")
        if self.guesses_ahead and (
            self.do_sample or self.num_beams > 1 or self.repetition_penalty != 1.0
        ):
            raise ValueError("draft_model and prompt_lookup go with plain greedy decoding only")
        if self.num_beams > 1 and self.do_sample:
            raise ValueError("num_beams > 1 and do_sample=True exclude each other")
        if self.sliding_window is not None and (self.num_beams > 1 or self.guesses_ahead):
            raise ValueError("sliding_window goes with greedy decoding and sampling only")
        if self.draft_model is not None and self.prompt_lookup:
            raise ValueError("give draft_model or prompt_lookup, not both")

    @property
    def guesses_ahead(self) -> bool:
        return self.draft_model is not None or self.prompt_lookup > 0


class Context:
    """The tokens so far, [B, S], and the model's cache behind them.

    Rows may be padded on either side; they are moved so that all end in the last column.
    """

    def __init__(self, model, input_ids: Tensor, attention_mask: Tensor, capacity: int, decoding):
        self.model = model
        # Pads first, the order of tokens kept; columns that are padding everywhere go.
        order = attention_mask.long().argsort(dim=1, stable=True)
        first = input_ids.size(1) - int(attention_mask.sum(dim=1).max())
        self.ids = input_ids.gather(1, order)[:, first:]
        self.mask = attention_mask.gather(1, order)[:, first:].long()
        self.capacity = capacity
        self.window = decoding.sliding_window
        self.cache = self._new_cache() if decoding.use_cache else None
        self.steps, self.shortcut, self.may_shorten = 0, None, OneToken.takes(model)

    def read(self) -> Tensor:
        """Let the model read what it has not read yet: hidden states [B, unread, hidden]."""
        if self.window is not None and self.ids.size(1) > self._positions:
            self.ids, self.mask = self.ids[:, -self.window :], self.mask[:, -self.window :]
            if self.cache is not None:
                self.cache = self._new_cache()
        unread = self.ids[:, self.cache.length :] if self.cache is not None else self.ids
        if self._one_token(unread):
            return self.shortcut.hidden_state(unread, self.mask, self.cache)
        with fast_linears(self.model):
            return self.model(unread, self.mask, self.cache)["last_hidden_state"]

    def next_logits(self) -> Tensor:
        """Logits of the token that follows: [B, vocab]."""
        hidden = self.read()[:, -1]
        if self.shortcut is not None:
            return self.shortcut.logits(hidden).float()
        with fast_linears(self.model):
            return self.model.hidden_state_to_token(hidden).float()

    def _one_token(self, unread: Tensor) -> bool:
        """Whether to take the shortcut, which is made after so many steps as it may save."""
        if self.cache is None or unread.size(1) > 1 or not self.may_shorten:
            return False
        self.steps += 1
        if self.shortcut is None and self.steps >= STEPS_BEFORE_SHORTCUT:
            self.shortcut = OneToken(self.model, len(unread))
        return self.shortcut is not None

    def append(self, tokens: Tensor) -> None:
        """Add columns of tokens, [B, n]."""
        self.ids = torch.cat([self.ids, tokens], dim=1)
        self.mask = F.pad(self.mask, (0, tokens.size(1)), value=1)

    def truncate(self, length: int) -> None:
        """Take back all columns from `length` on."""
        self.ids, self.mask = self.ids[:, :length], self.mask[:, :length]
        if self.cache is not None:
            self.cache.truncate(min(length, self.cache.length))

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, which may repeat."""
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        if self.cache is not None:
            self.cache.select(rows)

    @property
    def _positions(self) -> int:
        return self.model.config.max_position_embeddings

    def _new_cache(self) -> KeyValueCache:
        dtype, device = get_parameter_dtype(self.model), self.ids.device
        if device.type == "cpu" and dtype == torch.bfloat16:
            dtype = torch.float32  # torch's attention of a single new token is 5 times as fast
        return KeyValueCache(
            self.model.config, len(self.ids), self.capacity, dtype=dtype, device=device
        )


def penalize_repetition(scores: Tensor, ids: Tensor, mask: Tensor, penalty: float) -> Tensor:
    """`scores` [B, vocab] with the tokens of `ids` [B, S], pads left out, made less likely:
    positive scores are divided by `penalty`, negative ones multiplied."""
    if penalty == 1.0:
        return scores
    occurred = torch.zeros_like(scores).scatter_add_(1, ids, mask.to(scores.dtype)) > 0
    return torch.where(
        occurred, torch.where(scores > 0, scores / penalty, scores * penalty), scores
    )


def restrict(logits: Tensor, decoding: Decoding) -> Tensor:
    """Logits [B, vocab] after temperature, top-k, top-p and min-p; -inf where excluded.

    The likeliest token always stays.
    """
    logits = logits / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < logits.size(-1):
        least = logits.topk(decoding.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if decoding.top_p < 1.0:
        # Rare tokens first: those go whose probability, summed up to them, is at most 1 - top_p.
        ordered, order = logits.sort(dim=-1)
        tail = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - decoding.top_p
        tail[:, -1] = False
        logits = logits.masked_fill(tail.scatter(1, order, tail), -math.inf)
    if decoding.min_p > 0.0:
        probabilities = logits.softmax(dim=-1)
        least = decoding.min_p * probabilities.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -math.inf)
    return logits
