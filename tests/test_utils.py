"""Masks, sizes, devices and files."""

import errno
import fcntl
import os
import re
import struct
import sys
import termios

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from console import progress_bar
from tests.processes import together
from utils import (
    atomic_write,
    fingerprint,
    get_extended_attention_mask,
    get_parameter_dtype,
    get_position_ids,
    in_evaluation_mode,
    model_size_to_params,
    set_seed,
)


def test_the_four_published_sizes():
    assert model_size_to_params("gpt2") == {"d": 768, "l": 12, "num_heads": 12}
    assert model_size_to_params("gpt2-xl") == {"d": 1600, "l": 48, "num_heads": 25}
    with pytest.raises(ValueError, match="unknown model size 'gpt3'; choose from gpt2, "):
        model_size_to_params("gpt3")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_extended_mask_adds_nothing_to_tokens_and_the_minimum_to_pads(dtype):
    extended = get_extended_attention_mask(torch.tensor([[1, 1, 0], [0, 1, 1]]), dtype)
    low = torch.finfo(dtype).min
    assert extended.dtype == dtype
    assert extended.tolist() == [[[[0, 0, low]]], [[[low, 0, 0]]]]


def test_a_mask_with_other_than_two_dimensions_is_a_clear_error():
    with pytest.raises(ValueError, match=r"must be \[B, T\]"):
        get_extended_attention_mask(torch.ones(3), torch.float32)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=20))
def test_positions_count_tokens_and_not_columns(mask):
    positions = get_position_ids(torch.tensor([mask]))[0].tolist()
    real = [p for p, m in zip(positions, mask, strict=True) if m]
    assert real == list(range(sum(mask))) and min(positions) >= 0


def test_the_dtype_is_that_of_the_parameters():
    assert get_parameter_dtype(nn.Linear(2, 2).to(torch.bfloat16)) == torch.bfloat16
    assert get_parameter_dtype(nn.ReLU()) == torch.float32


def test_the_same_seed_draws_the_same_numbers():
    set_seed(7)
    first = torch.rand(3)
    set_seed(7)
    assert torch.equal(first, torch.rand(3))


def test_a_model_is_put_back_into_its_mode_after_an_error_too():
    model = nn.Dropout().train()

    @in_evaluation_mode
    def fail(model):
        assert not model.training
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(model)
    assert model.training


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    for error in (KeyError, RuntimeError("file write failed")):
        with pytest.raises((KeyError, OSError)) as caught, atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error
    assert f"{path}: cannot be written (file write failed); " in str(caught.value)
    assert path.read_text() == "old" and os.listdir(path.parent) == ["file"]


def test_a_fingerprint_follows_from_numbers_types_and_shapes():
    x = torch.arange(6.0)
    same = fingerprint(x, x.reshape(2, 3))
    assert same == fingerprint(x.clone(), x.reshape(3, 2).t().contiguous().t().reshape(2, 3))
    others = [(x, x), (x,), (x.reshape(2, 3), x), (x + 1, x.reshape(2, 3)), (x.double(), x)]
    assert len({same, *(fingerprint(*tensors) for tensors in others)}) == 6


def test_a_file_is_flushed_by_a_handle_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses to flush a file that is open for reading only."""
    flush = os.fsync

    def as_on_windows(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", as_on_windows)
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def count_with_a_bar(name=None):
    if name is not None:
        os.dup2(os.open(name, os.O_RDWR), sys.stderr.fileno())
    for _ in progress_bar(range(300), desc="a" * 30):
        pass


@pytest.mark.parametrize("columns", [50, 120])
def test_a_bar_fits_the_terminal(columns, tmp_path):
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    together(1, count_with_a_bar, os.ttyname(end), output=tmp_path / "printed")
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    widths = [len(state) for state in re.split(r"[\r\n]+", shown)]
    assert columns - 15 < max(widths) <= columns


def test_a_bar_in_a_log_file_is_plain_lines(tmp_path):
    done = together(1, count_with_a_bar, output=tmp_path / "printed")
    first, last = done.stderr.splitlines()
    assert "0/300" in first and "300/300" in last and "\r" not in done.stderr
