"""Tokens of GPT-2's own tokenizer by tiktoken, OpenAI's, which is an optional library.

Any other tokenizer, and any that was changed, is left to itself. `GPT2_FAST=0` in the environment
turns tiktoken off.
"""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

VOCABULARY = Path(__file__).parent / "gpt2" / "vocabulary"
MANY = 2000  # texts from which tiktoken is faster, although it is compared and set up first
LONGEST = 2**17  # characters: its regular expressions overflow at a million spaces
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's
_is_gpt2s: WeakKeyDictionary = WeakKeyDictionary()  # tokenizer: what it was, whether GPT-2's


def count_gpt2_tokens(texts: Sequence[str], tokenizer, load_gpt2s) -> list[int] | None:
    """Return how many tokens each text has, counted in threads.

    None where there is no `gpt2_encoding`, too few texts to gain by it, or one too long for it.
    """
    if len(texts) < MANY or max(map(len, texts)) > LONGEST:
        return None
    if (encoding := gpt2_encoding(tokenizer, load_gpt2s)) is None:
        return None
    chunks = [texts[i : i + 256] for i in range(0, len(texts), 256)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        ids = threads.map(lambda chunk: list(map(encoding.encode_ordinary, chunk)), chunks)
        return [len(text) for chunk in ids for text in chunk]


def gpt2_encoding(tokenizer, load_gpt2s: Callable):
    """Return tiktoken's GPT-2 (`encode_ordinary`) where a tokenizer cuts as that does, else None.

    It gives the same ids in a quarter of the time, for texts of at most LONGEST characters.
    `load_gpt2s` returns GPT-2's own tokenizer. None also where tiktoken is not installed.
    """
    encoding = _tiktoken() if os.environ.get("GPT2_FAST", "1") != "0" else None
    return encoding if encoding is not None and _cuts_like(load_gpt2s, tokenizer) else None


@cache
def _tiktoken():
    try:
        from tiktoken import Encoding
        from tiktoken.load import data_gym_to_mergeable_bpe_ranks as read_ranks
    except ImportError:
        return None
    ranks = read_ranks(*(str(VOCABULARY / name) for name in ("vocab.bpe", "encoder.json")))
    return Encoding("gpt2", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})


def _cuts_like(load_gpt2s: Callable, tokenizer) -> bool:
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        return False
    parts = (tokenizer.added_tokens_decoder, rust.normalizer, rust.pre_tokenizer)
    now = (rust, getattr(rust.model, "dropout", None), *map(str, parts))
    if _is_gpt2s.get(tokenizer, [None])[0] != now:  # reading both whole takes 0.2 s
        _is_gpt2s[tokenizer] = now, _what_cuts(tokenizer) == _what_cuts(load_gpt2s())
    return _is_gpt2s[tokenizer][1]


def _what_cuts(tokenizer) -> list:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    return [parts[name] for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")]
