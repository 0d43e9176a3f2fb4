"""Pairs of sentences as prompts, and prompts as token ids (handout section 4.2)."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from gpt2.tokenizer import cuts_at_spaces, split_at_spaces, texts_whole

PROMPT = "Premise: {premise}\nHypothesis: {hypo}\nLabel:"


def encode_pairs(
    premises: pd.Series, hypos: pd.Series, tokenizer, max_length: int
) -> dict[str, np.ndarray]:
    """The ids of every pair's prompt, one after the other: `ids` [all tokens], `offsets` [N + 1]
    where each begins and ends, and `truncated` [N], 1 where text was cut.

    A prompt has at most `max_length` - 1 tokens, so that the label's digit fits behind it.
    """
    # Newlines are tokens of their own here, whatever stands around them, so that premise and
    # hypothesis can be encoded apart, and a premise that comes three times only once.
    (newline,) = tokenizer("\n")["input_ids"]
    backend = tokenizer.backend_tokenizer
    premise, hypothesis, label = (line.split(" ")[0] for line in PROMPT.split("\n"))
    tail = tokenizer(label, add_special_tokens=False)["input_ids"]
    tail = np.array([newline, *tail], dtype=np.int32)
    premise_of, distinct = pd.factorize(premises)
    premises = _ids(premise, distinct.tolist(), backend)
    hypotheses = _ids(hypothesis, hypos.tolist(), backend)
    room = max_length - 1 - len(tail) - 1  # the digit, the tail, a newline
    newline = np.array([newline], dtype=np.int32)
    pieces, lengths = [], np.zeros(len(hypotheses), dtype=np.int64)
    truncated = np.zeros(len(hypotheses), dtype=np.uint8)
    for row, hypo in enumerate(hypotheses):
        premise = premises[premise_of[row]]
        if len(premise) + len(hypo) > room:
            premise, hypo = _shorten(premise, hypo, room)
            truncated[row] = 1
        pieces += (premise, newline, hypo, tail)
        lengths[row] = len(premise) + 1 + len(hypo) + len(tail)
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    return {
        "ids": np.concatenate([tail[:0], *pieces]).astype(dtype),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "truncated": truncated,
    }


def _ids(head: str, texts: Sequence[str], backend: Tokenizer) -> list[np.ndarray]:
    """The ids of `head` and each text, a space between them."""
    by_word = cuts_at_spaces(backend)
    arrays: list[np.ndarray] = []
    known: dict[str, list[int]] = {}
    with texts_whole(backend):
        start = backend.encode(head, add_special_tokens=False).ids if by_word else []
        for first in range(0, len(texts), 1000):
            chunk = texts[first : first + 1000]
            parts = [split_at_spaces(text) if by_word else [text] for text in chunk]
            if len(known) > 2**16:  # a text without spaces is one long word, which won't recur
                known.clear()
            new = list(set(chain.from_iterable(parts)).difference(known))
            encodings = backend.encode_batch_fast(
                [f"{'' if by_word else head} {part}" for part in new], add_special_tokens=False
            )
            known.update(zip(new, (encoding.ids for encoding in encodings), strict=True))
            arrays.extend(
                np.array([*start, *chain.from_iterable(map(known.__getitem__, text))], np.int32)
                for text in parts
            )
    return arrays


def _shorten(premise: np.ndarray, hypo: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Both cut at the end until they fit, the longer one first."""
    keep = room // 2
    if len(hypo) <= keep:
        return premise[: room - len(hypo)], hypo
    if len(premise) <= keep:
        return premise, hypo[: room - len(premise)]
    return premise[: room - keep], hypo[:keep]
