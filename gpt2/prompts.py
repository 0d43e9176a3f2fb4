"""Pairs of sentences as prompts, and prompts as token ids (handout section 4.2)."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from gpt2.tokenizer import backend_of, cuts_at_spaces, prefix_ids, split_at_spaces, texts_whole

PROMPT = "Premise: {premise}\nHypothesis: {hypo}\nLabel:"
BY_WORD = re.compile(r"([^\s{}]+) \{premise\}\n([^\s{}]+) \{hypo\}\n([^\s{}]+)")
CHUNK = 1000  # texts that are tokenized at a time


def encode_pairs(
    premises: pd.Series, hypos: pd.Series, tokenizer, max_length: int
) -> dict[str, np.ndarray]:
    """Return every pair's prompt as ids, one after the other.

    `ids` [all tokens], `offsets` [N + 1] where each prompt starts and ends, and `truncated` [N],
    1 where text was cut.

    The ids are those that the tokenizer gives for the whole prompt: with the BOS token, if it adds
    one, and without a token after the text, since the label follows there. A special token that
    a sentence spells out is text. A prompt has at most `max_length` - 1 tokens, so that the
    label's digit fits behind it: premise and hypothesis lose their ends, the longer one first.

    Raises ValueError where `max_length` is too small for a prompt.
    """
    backend = backend_of(tokenizer)
    prefix = np.array(prefix_ids(tokenizer), dtype=np.int32)
    by_word = cuts_at_spaces(backend) and BY_WORD.fullmatch(PROMPT)
    encode = _by_word if by_word else _as_a_whole
    pieces, lengths = [prefix[:0]], np.zeros(len(premises), dtype=np.int64)
    truncated = np.zeros(len(premises), dtype=np.uint8)
    with texts_whole(backend):
        prompts = encode(premises, hypos, backend, max_length - 1 - len(prefix))
        for row, (prompt, truncated[row]) in enumerate(prompts):
            pieces += (prefix, *prompt)
            lengths[row] = len(prefix) + sum(map(len, prompt))
    ids = np.concatenate(pieces)
    return {
        "ids": ids.astype(np.uint16) if ids.max(initial=0) < 2**16 else ids,
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "truncated": truncated,
    }


def label_id(tokenizer, digit: str) -> int:
    """Return the token that follows a prompt for a label; ValueError where it is not just one."""
    prompt = PROMPT.format(premise="a", hypo="b")
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = tokenizer(prompt + digit, add_special_tokens=False)["input_ids"]
    if after[:-1] != before or tokenizer.decode(after[-1:]).strip() != digit:
        raise ValueError(
            f"the tokenizer makes {tokenizer.convert_ids_to_tokens(after)[-3:]} of "
            f"{prompt[-6:] + digit!r}; a label must be one token, so use another tokenizer"
        )
    return after[-1]


def _as_a_whole(
    premises: pd.Series, hypos: pd.Series, backend: Tokenizer, room: int
) -> Iterator[tuple[Sequence[np.ndarray], bool]]:
    """Yield each prompt's ids and whether it was cut to `room` tokens, for any tokenizer."""

    def encode(*pairs: tuple[str, str]) -> list[np.ndarray]:
        prompts = [PROMPT.format(premise=premise, hypo=hypo) for premise, hypo in pairs]
        encodings = backend.encode_batch_fast(prompts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def cut(premise: str, hypo: str) -> np.ndarray:
        """Return the ids of the longest shortened pair that fits; text is cut, not tokens."""

        def num_tokens(length: int) -> int:
            return len(encode(_shorten(premise, hypo, length))[0])

        length = bisect_right(range(len(premise) + len(hypo)), room, key=num_tokens) - 1
        if length < 1:
            raise _too_small(room, num_tokens(0))
        return encode(_shorten(premise, hypo, length))[0]

    all_pairs = list(zip(premises, hypos, strict=True))
    for start in range(0, len(all_pairs), CHUNK):
        pairs = all_pairs[start : start + CHUNK]
        for pair, ids in zip(pairs, encode(*pairs), strict=True):
            fits = len(ids) <= room
            yield [ids if fits else cut(*pair)], not fits


def _by_word(
    premises: pd.Series, hypos: pd.Series, backend: Tokenizer, room: int
) -> Iterator[tuple[Sequence[np.ndarray], bool]]:
    """Yield the same in less time, if the tokenizer `cuts_at_spaces` and the prompt has lines.

    Premise and hypothesis are encoded apart, and a premise that comes three times only once.
    """
    heads = BY_WORD.fullmatch(PROMPT).groups()
    newline, *starts = (
        np.array(backend.encode(text, add_special_tokens=False).ids, np.int32)
        for text in ("\n", *heads)
    )
    room -= 2 * len(newline) + len(starts[2])
    if room < 2 * max(map(len, starts)) + 2:
        raise _too_small(room, 2 * max(map(len, starts)) + 1)
    premise_of, distinct = pd.factorize(premises)
    distinct_premises = _ids(starts[0], distinct.tolist(), backend)
    for row, hypo in enumerate(_ids(starts[1], hypos.tolist(), backend)):
        premise = distinct_premises[premise_of[row]]
        fits = len(premise) + len(hypo) <= room
        if not fits:
            premise, hypo = _shorten(premise, hypo, room)
        yield (premise, newline, hypo, newline, starts[2]), not fits


def _ids(start: np.ndarray, texts: Sequence[str], backend: Tokenizer) -> list[np.ndarray]:
    """Return the ids of each text, after those in `start` and a space."""
    arrays: list[np.ndarray] = []
    known: dict[str, list[int]] = {}
    for first in range(0, len(texts), CHUNK):
        parts = [split_at_spaces(text) for text in texts[first : first + CHUNK]]
        if len(known) > 2**16:  # a text without spaces is one long word, which won't recur
            known.clear()
        new = list(set(chain.from_iterable(parts)).difference(known))
        encodings = backend.encode_batch_fast(
            [f" {part}" for part in new], add_special_tokens=False
        )
        known.update(zip(new, (encoding.ids for encoding in encodings), strict=True))
        arrays.extend(
            np.array([*start, *chain.from_iterable(map(known.__getitem__, text))], np.int32)
            for text in parts
        )
    return arrays


def _shorten(premise, hypo, room: int) -> tuple:
    """Return both sequences, cut at the end until they have `room` together, the longer first."""
    half = room // 2
    if len(hypo) <= half:
        return premise[: room - len(hypo)], hypo
    if len(premise) <= half:
        return premise, hypo[: room - len(premise)]
    return premise[: room - half], hypo[:half]


def _too_small(room: int, needed: int) -> ValueError:
    return ValueError(
        f"max_length is too small: the prompt without its sentences has {needed} tokens with this "
        f"tokenizer and there is room for {room}; choose max_length at least {needed - room} larger"
    )
