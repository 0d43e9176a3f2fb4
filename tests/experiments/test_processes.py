"""Under a launcher: the same curve, each row predicted once by one process, one that prints."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
import torch

from config import TOY_PRETRAINING
from data.documents import open_source
from data.packing import pack
from experiments.callbacks import Metrics
from experiments.cli import main
from experiments.pretraining import share_of_step
from experiments.processes import Block
from gpt2.evaluate import predict
from gpt2.model import GPT2Model
from gpt2.xnli import XNLI
from tests import ROOT, SAMPLE
from tests.processes import together
from tests.small import save_small_gpt2, small_tokenizer
from utils import load_tensors


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    return save_small_gpt2(tmp_path_factory.mktemp("weights"))


def launch(processes: int, *arguments, output) -> subprocess.CompletedProcess:
    """Run a command of the project in several processes."""
    return together(processes, main, [*map(str, arguments)], output=output)


def torchrun(processes: int, *arguments) -> subprocess.CompletedProcess:
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
        done = launch(processes, *command, runs, output=tmp_path / runs.name)
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


FINETUNING = ("--rows", 21, "--epochs", 2, "--batch-size", 8, "--accumulate", 2, "--lr", 3e-3)


@pytest.fixture(scope="module")
def still_weights(tmp_path_factory):
    """A model without dropout, which each process draws for itself."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return save_small_gpt2(tmp_path_factory.mktemp("still"), num_hidden_layers=2, **still)


def finetuned(runs) -> tuple[pd.DataFrame, dict]:
    (run,) = runs.glob("finetune-*")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return pd.DataFrame([json.loads(line) for line in lines]), load_tensors(
        run / "best_model" / "model.safetensors"
    )


@pytest.mark.all
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "batches", [pytest.param((), marks=pytest.mark.slow), ("--token-budget", 150)]
)
def test_fine_tuning_has_the_same_curve_too(still_weights, tokenizer, tmp_path, processes, batches):
    """Batches of a budget may have fewer rows than there are processes. Each row is predicted by
    one process, and one of them prints."""
    where = ("finetune", "--weights", still_weights, "--data", SAMPLE)
    command = (*where, *FINETUNING, *batches, "--runs")
    alone, together, resumed = (tmp_path / name for name in ("alone", "together", "resumed"))
    main([*map(str, command), str(alone)])
    with stopped_at_epoch(1), pytest.raises(SystemExit):
        main([*map(str, command), str(resumed)])
    for runs in (together, resumed):
        done = launch(processes, *command, runs, output=tmp_path / runs.name)
        assert done.returncode == 0, done.stderr[-3000:]
    assert_same_training(finetuned(alone), finetuned(together))
    assert_same_training(finetuned(alone), finetuned(resumed))
    assert_predicted_and_printed_once(together, done.stdout, tokenizer)


def assert_predicted_and_printed_once(runs, printed: str, tokenizer) -> None:
    lines = [line for line in printed.splitlines() if line.startswith(("dev", "en"))]
    assert [line.split()[0] for line in lines] == ["dev", "en"] and "n = 120" in lines[1]
    (run,) = runs.glob("finetune-*")
    model = GPT2Model.from_pretrained(run / "best_model").eval()
    for split in ("dev", "test"):
        saved = pd.read_csv(run / "predictions" / f"{split}.en.csv", dtype={"pair_id": str})
        rows = XNLI.dataset(SAMPLE, split, "en", tokenizer=tokenizer, max_length=128, verbose=False)
        expected = predict(model, tokenizer, rows, progress=False)
        assert saved["pair_id"].tolist() == [str(pair) for pair in rows.pair_ids]
        assert saved["prediction"].astype(str).tolist() == expected["prediction"].tolist()


def assert_same_training(expected, got) -> None:
    (curve, weights), (other, others) = expected, got
    for column in ("loss", "dev_loss", "dev_accuracy", "num_labels", "learning_rate"):
        assert (other[column] - curve[column]).abs().max() < 1e-5, column
        assert other[column].isna().equals(curve[column].isna())
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        # AdamW divides gradients by their size: the last bits of small ones weigh more.
        torch.testing.assert_close(others[name], tensor, atol=1e-4, rtol=0)


@pytest.mark.all
def test_a_sharded_fine_tuning_is_that_of_one_process(still_weights, tmp_path):
    """One process trains the first epoch, two that hold a half each the second."""
    command = ("finetune", "--weights", still_weights, "--data", SAMPLE, *FINETUNING, "--runs")
    alone, sharded = tmp_path / "alone", tmp_path / "sharded"
    main([*map(str, command), str(alone)])
    with stopped_at_epoch(1), pytest.raises(SystemExit):
        main([*map(str, command), str(sharded)])
    done = torchrun(2, *command, sharded, "--sharded")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_training(finetuned(alone), finetuned(sharded))


@pytest.mark.all
def test_a_sharded_pretraining_is_that_of_one_process(packed, tmp_path):
    clipped = ("--max-grad-norm", 0.5)
    command = ("pretrain", "--text", packed, *STILL, *SHAPE, *STEP, *clipped, "--runs")
    alone, sharded = tmp_path / "alone", tmp_path / "sharded"
    main([*map(str, command), str(alone)])
    done = launch(2, *command, sharded, "--sharded", output=tmp_path / "printed")
    assert done.returncode == 0, done.stderr[-3000:]
    own, whole = re.search(r"holds ([\d,]+) of ([\d,]+) weights", done.stdout).groups()
    assert 0.49 < int(own.replace(",", "")) / int(whole.replace(",", "")) < 0.51
    expected, got = curve(alone), curve(sharded)
    for column in ("loss", "held_out_loss", "num_labels", "learning_rate"):
        assert (got[column] - expected[column]).abs().max() < 1e-5, column


@pytest.mark.all
def test_one_process_alone_shards_nothing(packed, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*map(str, ("pretrain", "--text", packed, "--runs", tmp_path)), "--sharded"])
    assert "start several with torchrun" in capsys.readouterr().err


def test_a_step_that_can_not_be_shared_out_is_refused():
    settings = replace(TOY_PRETRAINING, accumulate=4)
    assert [share_of_step(settings, processes) for processes in (1, 2, 4)] == [4, 2, 1]
    with pytest.raises(ValueError, match=r"accumulate=4 batches .* can't be shared out to 3 proc"):
        share_of_step(settings, 3)
