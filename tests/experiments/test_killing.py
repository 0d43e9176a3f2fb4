"""A run that is killed, anywhere and again and again, ends at the same bits."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from accelerate import Accelerator

from experiments.callbacks import Metrics
from experiments.finetuning import finetune
from experiments.processes import launched
from tests import SAMPLE
from tests.experiments.test_finetuning import QUICK, save_tiny_model
from tests.processes import kill_until_finished, processes, together


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def train_here(weights, runs, epochs=2):
    """What the killed process runs; with a checkpoint every step there is much to hit."""
    torch.set_num_threads(1)
    finetune(
        replace(QUICK, subset=24.0, epochs=epochs),
        weights=weights,
        data=SAMPLE,
        runs=runs,
        checkpoints={"every_seconds": 0},
        progress=False,
    )


@pytest.mark.all
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_anywhere_ends_at_the_same_bits(tiny, tmp_path, kills):
    def whole():
        started = time.monotonic()
        assert kill_until_finished(train_here, (tiny, tmp_path / "whole"), lambda: None) == 0
        return time.monotonic() - started

    whole()  # which starts the server of processes, too
    shutil.rmtree(tmp_path / "whole")
    seconds = whole()
    (expected,) = (tmp_path / "whole").glob("finetune-*")
    random = Random(kills)
    done = trial = 0
    while done < kills:
        runs = tmp_path / f"killed-{trial}"
        done += kill_until_finished(
            train_here, (tiny, runs), lambda: random.uniform(0.05, 1.3 * seconds)
        )
        trial += 1
        folder = runs / expected.name
        for name in ("best_model/model.safetensors", "predictions/dev.en.csv"):
            assert (folder / name).read_bytes() == (expected / name).read_bytes()
        steps, whole_steps = (Metrics(path / "metrics.jsonl").read() for path in (folder, expected))
        losses = [line["loss"] for line in whole_steps if "loss" in line]
        assert [line["loss"] for line in steps if "loss" in line] == losses
        assert [line["step"] for line in steps if "loss" in line] == list(range(1, 13))
        assert len([line for line in steps if "dev_loss" in line]) == 2
        assert not list(folder.rglob(".*.pt.*"))  # no half-written file


FILE_OPERATIONS = ((Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (os, "fsync"))


def train_until(weights, runs, operation, after):
    """Train, and end without a word before or after a file operation of that number."""
    count = 0

    def counted(function):
        def call(*arguments, **settings):
            nonlocal count
            count += 1
            here = count == operation
            if here and not after:
                os._exit(9)
            result = function(*arguments, **settings)
            if here:
                os._exit(9)
            return result

        return call

    for place, name in FILE_OPERATIONS:
        setattr(place, name, counted(getattr(place, name)))
    train_here(weights, runs)


def leaves(folder):
    """Return what a finished run leaves, without the time that it took."""
    files = ("best_model/model.safetensors", "predictions/dev.en.csv", "settings.toml")
    lines = Metrics(folder / "metrics.jsonl").read()
    metrics = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return [(folder / name).read_bytes() for name in files], metrics


@pytest.mark.all
@pytest.mark.parametrize("share", [0.04, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_run_killed_at_a_file_operation_ends_at_the_same_bits(tiny, tmp_path, share):
    """At a share of all operations, before and after each."""
    assert kill_until_finished(train_here, (tiny, tmp_path / "whole"), lambda: None) == 0
    (expected,) = (tmp_path / "whole").glob("finetune-*")
    random, kills, operation, ends = Random(0), 0, 0, False
    while not ends:
        operation += 1
        if random.random() > share:
            continue
        runs = tmp_path / f"at-{operation}"
        arguments = (tiny, runs, operation, bool(operation % 2))
        process = processes().Process(target=train_until, args=arguments)
        process.start()
        process.join()
        ends = process.exitcode == 0  # there are no more operations
        kills += not ends
        kill_until_finished(train_here, (tiny, runs), lambda: None)
        assert leaves(runs / expected.name) == leaves(expected), operation
        assert not list((runs / expected.name).rglob(".*.*.????????"))
        shutil.rmtree(runs)
    assert kills >= (100 if share == 1 else 1)


@pytest.mark.all
def test_two_processes_on_one_run_do_not_mix(tiny, tmp_path):
    first = processes().Process(target=train_here, args=(tiny, tmp_path, 1000))
    first.start()
    try:
        while not list(tmp_path.glob("*/metrics.jsonl")):
            time.sleep(0.02)
            assert first.exitcode is None
        with pytest.raises(RuntimeError, match="another process works in this folder"):
            train_here(tiny, tmp_path, 1000)
        assert first.exitcode is None
    finally:
        first.kill()
        first.join()


def train_in_two(weights, runs, stop):
    """What each of two processes runs; it ends without a word after a step of that number."""
    torch.set_num_threads(1)
    write = Metrics.__call__

    def stopping(metrics, progress):
        write(metrics, progress)
        if progress.step == stop:
            os._exit(9)

    Metrics.__call__ = stopping
    with launched():
        assert Accelerator().num_processes == 2
        settings = {"checkpoints": {"every_seconds": 0}, "progress": False}
        finetune(replace(QUICK, subset=18.0), weights=weights, data=SAMPLE, runs=runs, **settings)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@pytest.mark.all
def test_two_processes_train_together_and_resume(tiny, tmp_path):
    """Launched as on two GPUs; a stopped launch ends at the same bits."""

    def launch(runs, stop=0):
        return together(2, train_in_two, tiny, tmp_path / runs, stop, output=tmp_path / "printed")

    whole = launch("whole")
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert launch("stopped", stop=6).returncode == 9
    again = launch("stopped")
    assert again.returncode == 0, again.stderr[-3000:]
    (a,), (b,) = ((tmp_path / name).glob("finetune-*") for name in ("whole", "stopped"))
    one, two = ((path / "best_model/model.safetensors").read_bytes() for path in (a, b))
    assert one == two
    lines = [json.loads(line) for line in (b / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 11))
