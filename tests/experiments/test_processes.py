"""Under a launcher every row is predicted once, by one of the processes, and printed once."""

import os
import subprocess
import sys
from itertools import pairwise

import pandas as pd
import pytest
import torch

from config import GPT2Config
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
