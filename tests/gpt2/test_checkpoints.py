"""Checkpoints: the newest complete state is loaded, whatever is damaged or full."""

import random
import resource
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.checkpoints import (
    Checkpoints,
    Progress,
    TrainingState,
    get_random_state,
    set_random_state,
)
from tests.processes import together
from utils import set_seed


def progress(step, total=10, **changes):
    values = {
        "step": step,
        "total_steps": total,
        "epoch": 1,
        "loss": 1.0 / step,
        "num_labels": 4,
        "num_tokens": 40,
        "learning_rate": 1e-3,
        "seconds": float(step),
        "ends_epoch": step == total,
    }
    return Progress(**{**values, **changes})


def state(step):
    return {"model": {"w": torch.full((1000,), float(step))}, "history": [{"step": step}]}


def step_of(checkpoints):
    loaded = checkpoints.load()
    return loaded and loaded["history"][0]["step"]


def test_the_last_two_are_saved_and_the_last_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for step in (1, 2, 30):
        checkpoints.save(progress(step, total=30), state(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000002.pt", "checkpoint-00000030.pt"]
    loaded = Checkpoints(tmp_path).load()
    assert torch.equal(loaded["model"]["w"], torch.full((1000,), 30.0))


def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == "truncated":
        raw = raw[: len(raw) // 2]
    elif how == "empty":
        raw = b""
    elif how == "one bit":  # inside the tensor's bytes
        at = raw.index(torch.full((2,), 2.0).numpy().tobytes()) + 1001
        raw[at] ^= 1
    elif how == "marked as a folder":  # the tensor, in the attributes of the directory's entry
        raw[raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"/data/0")) + 38] ^= 0x10
    else:
        raw = b"\x00" * len(raw)
    path.write_bytes(raw)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_errors_other_than_damage_cost_no_checkpoint(tmp_path, monkeypatch, error):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(progress(1), state(1))

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", fail)
        with pytest.raises(type(error)):
            checkpoints.load()
    assert step_of(checkpoints) == 1


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit", "marked as a folder", "zeros"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(progress(step), state(step))
    damage(tmp_path / "checkpoint-00000002.pt", how)
    with pytest.warns(UserWarning, match="checkpoint-00000002.pt: damaged"):
        assert step_of(checkpoints) == 1
    damage(tmp_path / "checkpoint-00000001.pt", "empty")
    with pytest.warns(UserWarning, match="checkpoint-00000001.pt: damaged"):
        assert checkpoints.load() is None


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_is_detected_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("c")
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(progress(step), state(step))
    last = folder / "checkpoint-00000002.pt"
    raw = bytearray(last.read_bytes())
    # Directory and headers lie at the end, and are few bytes: half of the flips go there.
    at = data.draw(st.one_of(st.integers(0, len(raw) - 1), st.integers(-1200, -1)))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    last.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = checkpoints.load()
    step = loaded["history"][0]["step"]
    assert torch.equal(loaded["model"]["w"], torch.full((1000,), float(step))) and step in (1, 2)


def test_missing_memory_costs_no_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(progress(1), state(1))

    def no_memory(*_, **__):
        raise RuntimeError("can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", no_memory)
        with pytest.raises(RuntimeError, match="can't allocate"):
            checkpoints.load()
    assert step_of(checkpoints) == 1


def test_one_is_due_by_time_and_after_every_epoch(tmp_path):
    assert Checkpoints(tmp_path, every_seconds=0.0).due(progress(1))
    rarely = Checkpoints(tmp_path, every_seconds=1000.0)
    assert [s for s in range(1, 11) if rarely.due(progress(s))] == [10]


def save_on_a_full_disk(folder):
    checkpoints = Checkpoints(folder)
    checkpoints.save(progress(1), state(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    large = {"model": torch.zeros(100_000)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoints.save(progress(2), large)
    print(caught[0].message)
    try:
        checkpoints.save(progress(10), large)
    except OSError as error:
        print(error)


@pytest.mark.all
def test_a_full_disk_stops_only_the_last_save(tmp_path):
    """Files of this process can't grow beyond 20 kB, as on a disk with no more room."""
    folder = tmp_path / "checkpoints"
    run = together(1, save_on_a_full_disk, folder, output=tmp_path / "printed")
    lines = run.stdout.splitlines()
    assert len(lines) == 2, run.stderr
    assert "no checkpoint at step 2, training continues" in lines[0]
    assert "make room if the disk is full" in lines[1]
    assert {path.name for path in folder.iterdir()} == {"checkpoint-00000001.pt"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step_of(Checkpoints(folder)) == 1


def test_more_processes_than_were_saved_draw_dropout_of_their_own():
    saved, drawn = [], []
    for seed in (1, 2):
        set_seed(seed)
        saved.append(get_random_state())
    for index in (0, 1, 2, 3, 2):
        state = TrainingState(None, SimpleNamespace(process_index=index, unwrap_model=id), 0, 0, 0)
        state._set_random_state(saved)
        drawn.append(float(torch.rand(())))
    for seed, value in ((1, drawn[0]), (2, drawn[1])):
        set_seed(seed)
        assert value == float(torch.rand(()))
    assert len(set(drawn)) == 4 and drawn[4] == drawn[2]


def test_random_states_are_restored_also_through_a_file(tmp_path):
    set_seed(3)
    torch.save(get_random_state(), tmp_path / "state.pt")

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item(), torch.randn(1).item()

    drawn = draw()
    assert draw() != drawn
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == drawn
