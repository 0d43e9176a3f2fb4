"""Optional kernels: the same results in less time, in contexts that leave nothing behind.

`faster(model)` swaps the kernels under a model's plain linear layers, which then leave out pads,
`in_chunks` bounds the memory of a large projection. Neither knows a formula of the model.
`GPT2_FAST=0` in the environment turns all of this package off.
"""

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt2.fast.linear import fast_linears

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt, as in malloc.h
DYNAMIC_LIMIT = 2**25  # what glibc's own mmap threshold grows to in a process with large buffers
CHUNK = 4096  # rows of a projection at a time: 0.8 GB of float32 logits of GPT-2's vocabulary


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
