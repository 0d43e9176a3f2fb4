"""Optional kernels: the same results in less time, in contexts that leave nothing behind.

`faster(model)` swaps the kernels under a model's plain linear layers, which then leave out pads,
`in_chunks` bounds the memory of a large projection, `count_gpt2_tokens` counts on every processor.
None of them knows a formula of the model. `GPT2_FAST=0` in the environment turns this package off.
"""

import ctypes
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt2.fast.linear import fast_linears
from gpt2.tokenizer import VOCABULARY, load_tokenizer

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt, as in malloc.h
DYNAMIC_LIMIT = 2**25  # what glibc's own mmap threshold grows to in a process with large buffers
CHUNK = 4096  # rows of a projection at a time: 0.8 GB of float32 logits of GPT-2's vocabulary
MANY = 2000  # texts from which tiktoken is faster, although it is compared and set up first
LONGEST = 2**17  # characters: its regular expressions overflow at a million spaces
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's
_is_gpt2s: WeakKeyDictionary = WeakKeyDictionary()  # tokenizer: what it was, whether GPT-2's


def is_on() -> bool:
    """Return whether GPT2_FAST allows this package (by default it does)."""
    return os.environ.get("GPT2_FAST", "1") != "0"


def faster(model: nn.Module) -> AbstractContextManager:
    """Return a context in which `model` runs faster kernels."""
    return fast_linears(model) if is_on() else nullcontext()


def in_chunks(function: Callable[..., Tensor], *rows: Tensor, size: int = CHUNK) -> Tensor:
    """Return `function(*rows)`, (N,), computed for `size` of the N rows at a time.

    With several chunks, what `function` computes in between is not stored but computed again for
    the gradient, so that the memory of one chunk suffices.
    """
    if len(rows[0]) <= size or not is_on():
        return function(*rows)
    chunks = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return torch.cat([checkpoint(function, *chunk, use_reentrant=False) for chunk in chunks])


@contextmanager
def memory_reused(device: torch.device) -> Iterator[None]:
    """Reuse freed memory inside the context instead of giving it back, for a CPU.

    A step of training frees and takes the same large buffers again and again. Given back to the
    system each time, they return as fresh pages, whose faults can cost a third of the step.
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc" or not is_on():
        yield
        return
    library = ctypes.CDLL(None)
    mallopt, trim = library.mallopt, library.malloc_trim
    trim(0)  # what was freed before would otherwise stay beside what is kept now
    mallopt(MMAP_THRESHOLD, 2**30)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(MMAP_THRESHOLD, DYNAMIC_LIMIT)
        mallopt(TRIM_THRESHOLD, 2 * DYNAMIC_LIMIT)
        trim(0)


def count_gpt2_tokens(texts: Sequence[str], tokenizer) -> list[int] | None:
    """Return how many tokens each text has, counted in threads.

    None where there is no `gpt2_encoding`, too few texts to gain by it, or one too long for it.
    """
    if len(texts) < MANY or max(map(len, texts)) > LONGEST:
        return None
    if (encoding := gpt2_encoding(tokenizer)) is None:
        return None
    chunks = [texts[i : i + 256] for i in range(0, len(texts), 256)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        ids = threads.map(lambda chunk: list(map(encoding.encode_ordinary, chunk)), chunks)
        return [len(text) for chunk in ids for text in chunk]


def gpt2_encoding(tokenizer):
    """Return tiktoken's GPT-2 (`encode_ordinary`) where a tokenizer cuts as that does, else None.

    It gives the same ids in a quarter of the time, for texts of at most LONGEST characters. None
    also where tiktoken, OpenAI's own, is not installed.
    """
    encoding = _tiktoken() if is_on() else None
    return encoding if encoding is not None and _cuts_like_gpt2s(tokenizer) else None


@cache
def _tiktoken():
    try:
        from tiktoken import Encoding
        from tiktoken.load import data_gym_to_mergeable_bpe_ranks as read_ranks
    except ImportError:
        return None
    folder = Path(__file__).parents[1] / "vocabulary"
    encoder, merges = (str(folder / file) for file in VOCABULARY)
    ranks = read_ranks(merges, encoder)
    return Encoding("gpt2", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})


def _cuts_like_gpt2s(tokenizer) -> bool:
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        return False
    parts = (tokenizer.added_tokens_decoder, rust.normalizer, rust.pre_tokenizer)
    now = (rust, getattr(rust.model, "dropout", None), *map(str, parts))
    if _is_gpt2s.get(tokenizer, [None])[0] != now:  # reading both whole takes 0.2 s
        _is_gpt2s[tokenizer] = now, _what_cuts(tokenizer) == _what_cuts(load_tokenizer())
    return _is_gpt2s[tokenizer][1]


def _what_cuts(tokenizer) -> list:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    return [parts[name] for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")]
