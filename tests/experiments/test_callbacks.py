"""Callbacks: a bar that shows the training, and metrics that lose no step."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.callbacks import Metrics, ProgressBar
from gpt2.checkpoints import Progress


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


# ---- The bar -----------------------------------------------------------------------------------


def test_the_bar_shows_the_mean_loss_and_ends_full(capsys):
    bar = ProgressBar("toy")
    for step in range(1, 6):
        bar(progress(step, total=5))
    mean = sum(1 / step for step in range(1, 6)) / 5
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("toy: 100%") and "5/5" in last and f"mean {mean:.3f}" in last
    assert "lr 1.0e-03" in last and "step/s" in last


def test_the_bar_of_a_resumed_training_starts_at_its_step(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # as in a plain terminal
    bar = ProgressBar("toy", note=lambda: "dev 0.5")
    for step in range(3, 6):
        bar(progress(step, total=5))
    lines = capsys.readouterr().err.splitlines()
    assert "2/5" in lines[0] and "5/5" in lines[-1] and "dev 0.5" in lines[-1]


# ---- Metrics -----------------------------------------------------------------------------------


def test_a_resumed_run_has_every_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path)
    for step in range(1, 6):
        first(progress(step))
    first.write({"step": 5, "dev_accuracy": 0.5})
    again = Metrics(path)
    for step in range(3, 11):  # the last checkpoint was after step 3
        again(progress(step, seconds=100.0 + step))
    lines = again.read()
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert [line["seconds"] for line in lines[:4]] == [1, 2, 103, 104]


@settings(deadline=None)
@given(st.data())
def test_a_torn_file_costs_only_the_torn_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    metrics = Metrics(path)
    for step in range(1, 5):
        metrics(progress(step))
    raw = path.read_bytes()
    cut = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:cut])
    whole = raw[:cut].count(b"\n")
    assert [line["step"] for line in Metrics(path).read()][:whole] == list(range(1, whole + 1))
    Metrics(path)(progress(5))
    assert Metrics(path).read()[-1]["step"] == 5


@settings(deadline=None)
@given(st.data())
def test_a_damaged_line_is_named(tmp_path_factory, data):
    metrics = Metrics(tmp_path_factory.mktemp("m") / "metrics.jsonl")
    for step in range(1, 5):
        metrics(progress(step))
    raw = bytearray(metrics.path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 9))  # the last end of line aside
    raw[bit // 8] ^= 1 << bit % 8
    metrics.path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"metrics.jsonl, line \d: damaged .*delete .* and run"):
        metrics.read()
