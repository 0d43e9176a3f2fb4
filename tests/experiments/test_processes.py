"""Under a launcher: the same curve, each row predicted once by one process, one that prints."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise

import pandas as pd
import pytest
import torch

from config import GPT2Config
from data.documents import open_source
from data.packing import pack
from experiments.callbacks import Metrics
from experiments.cli import main
from experiments.processes import Block
from gpt2.evaluate import predict
from gpt2.model import GPT2Model
from gpt2.xnli import XNLI
from tests import ROOT, SAMPLE


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = tmp_path_factory.mktemp("weights")
    GPT2Model(GPT2Config(**shape, max_position_embeddings=128)).save_pretrained(folder)
    return folder


def launch(processes: int, *arguments) -> subprocess.CompletedProcess:
    """Run the command of README's section on several processes, without a GPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "gpt2", *map(str, arguments)]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment = {k: v for k, v in os.environ.items() if k != "ACCELERATE_USE_CPU"} | hidden
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_blocks_of_rows_are_predicted_as_all_of_them(tiny_weights, tokenizer):
    model = GPT2Model.from_pretrained(tiny_weights).eval()
    rows = XNLI.dataset(SAMPLE, "dev", "de", tokenizer=tokenizer, max_length=128, verbose=False)
    whole = predict(model, tokenizer, rows, progress=False)
    ends = (0, 7, 8, len(rows))
    parts = [
        predict(model, tokenizer, Block(rows, *block), progress=False) for block in pairwise(ends)
    ]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


@pytest.mark.all
def test_the_launched_command_predicts_and_prints_each_row_once(tiny_weights, tokenizer, tmp_path):
    settings = ("--rows", 24, "--epochs", 1, "--batch-size", 4, "--lr", 1e-3, "--max-length", 128)
    where = ("--weights", tiny_weights, "--data", SAMPLE, "--runs", tmp_path)
    done = launch(2, "finetune", *where, *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith(("dev", "en"))]
    assert [line.split()[0] for line in lines] == ["dev", "en"] and "n = 120" in lines[1]
    (run,) = tmp_path.glob("finetune-*")
    model = GPT2Model.from_pretrained(run / "best_model").eval()
    for split in ("dev", "test"):
        saved = pd.read_csv(run / "predictions" / f"{split}.en.csv", dtype={"pair_id": str})
        rows = XNLI.dataset(SAMPLE, split, "en", tokenizer=tokenizer, max_length=128, verbose=False)
        expected = predict(model, tokenizer, rows, progress=False)
        assert saved["pair_id"].tolist() == [str(pair) for pair in rows.pair_ids]
        assert saved["prediction"].astype(str).tolist() == expected["prediction"].tolist()


STILL = ("--hidden-dropout-prob", 0, "--attention-probs-dropout-prob", 0)
SHAPE = ("--hidden-size", 16, "--num-hidden-layers", 1, "--num-attention-heads", 2)
STEP = ("--batch-size", 2, "--accumulate", 4, "--epochs", 2, "--max-len", 16, "--lr", 3e-3)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    lines = [f"The {n} cats see the {n + 1} dogs and the sea." for n in range(60)]
    (folder / "text.txt").write_text("\n".join(lines))
    pack(open_source([str(folder / "text.txt")]), folder / "shards", length=16)
    return folder / "shards"


def curve(runs) -> pd.DataFrame:
    (run,) = runs.glob("toy_pretraining-*")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


@pytest.mark.all
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_has_the_same_curve(packed, tmp_path, processes):
    """Also where the first epoch was trained by one process, and the second by several."""
    command = ("pretrain", "--text", packed, *STILL, *SHAPE, *STEP, "--runs")
    alone, together, resumed = (tmp_path / name for name in ("alone", "together", "resumed"))
    main([*map(str, command), str(alone)])
    with stopped_at_epoch(1), pytest.raises(SystemExit):
        main([*map(str, command), str(resumed)])
    assert curve(resumed)["epoch"].max() == 1
    for runs in (together, resumed):
        done = launch(processes, *command, runs)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("bits_per_byte") == 1
    expected = curve(alone)
    assert expected["loss"].nunique() == 10 and expected["held_out_loss"].nunique() == 2
    for runs in (together, resumed):
        for column in ("loss", "held_out_loss", "num_labels", "learning_rate"):
            difference = (curve(runs)[column] - expected[column]).abs()
            assert difference.max() < 1e-5, column
            assert curve(runs)[column].isna().equals(expected[column].isna())


@contextmanager
def stopped_at_epoch(epoch: int):
    """Press Ctrl-C when this epoch has ended."""
    write = Metrics.__call__

    def stop(metrics, progress):
        write(metrics, progress)
        if progress.ends_epoch and progress.epoch == epoch:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Metrics, "__call__", stop)
        yield


@pytest.mark.all
def test_a_step_that_can_not_be_shared_out_is_refused(packed, tmp_path):
    done = launch(3, "pretrain", "--text", packed, *SHAPE, *STEP, "--runs", tmp_path)
    assert done.returncode != 0
    assert "accumulate=4 batches of a step can't be shared out to 3 processes" in done.stderr
