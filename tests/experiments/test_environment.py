"""The environment check names each gap and its fix; profiles choose weights and data."""

import json
import os
from dataclasses import replace

import pytest
import torch

from config import FINETUNE_ENGLISH, FINETUNE_FAST, FINETUNE_TOY
from experiments import environment
from experiments.environment import check_environment
from experiments.profiles import FULL, SAMPLE, choose_profile, find_weights
from tests import ROOT


def test_the_sample_profile_needs_only_what_is_embedded(monkeypatch, capsys):
    monkeypatch.setattr(environment, "REQUIREMENTS", ROOT / "none.txt")  # whatever is installed
    assert check_environment(SAMPLE)
    printed = capsys.readouterr().out
    assert "[missing]" not in printed
    for name in ("Python", "device", "precision", "pretraining text", "NLI data", "weights"):
        assert f"[OK]      {name}" in printed


def test_missing_text_and_weights_come_with_their_fixes(capsys):
    profile = replace(SAMPLE, pretrain_text="none.txt", weights="gpt2-large")
    assert not check_environment(profile)
    printed = capsys.readouterr().out
    assert "no file none.txt   fix: set PRETRAIN_TEXT to a text file" in printed
    assert "gpt2-large is not cached" in printed
    assert "GPT2Model.from_pretrained('gpt2-large')" in printed


def test_missing_nli_data_come_with_the_command(tmp_path, capsys):
    assert not check_environment(replace(SAMPLE, data=str(tmp_path)))
    printed = capsys.readouterr().out
    assert f"no XNLI-1.0 and XNLI-MT-1.0 in {tmp_path}" in printed
    assert f"fix: python -m data.download --folder {tmp_path}" in printed


@pytest.mark.parametrize("name", ["/none/dir", "", "~/x"])
def test_weights_of_no_folder_and_no_hub_name_are_missing(name, capsys):
    assert not check_environment(replace(SAMPLE, weights=name))
    assert "set GPT2_WEIGHTS to a hub name or a folder" in capsys.readouterr().out


def test_a_package_that_is_missing_or_too_old_is_named(tmp_path, monkeypatch, capsys):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# a comment\nno-such-package>=1.0\ntorch>=99.0\nnumpy>=1.0  # fine\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    assert not check_environment(SAMPLE)
    printed = capsys.readouterr().out
    assert "[missing] no-such-package" in printed and 'pip install "torch>=99.0"' in printed
    assert "[OK]      numpy" in printed


def test_weights_in_a_folder_are_found(tiny_model, tmp_path, capsys):
    tiny_model.save_pretrained(tmp_path)
    check_environment(replace(SAMPLE, weights=str(tmp_path)))
    assert f"the folder {tmp_path}" in capsys.readouterr().out


@pytest.fixture
def no_variables(monkeypatch):
    for name in ("GPT2_PROFILE", "GPT2_WEIGHTS", "PRETRAIN_TEXT", "XNLI_DIR", "TRAIN_ROWS"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_chooses_the_profile(no_variables, monkeypatch):
    assert choose_profile() == SAMPLE
    monkeypatch.setenv("GPT2_PROFILE", "full")
    assert choose_profile() == FULL
    variables = {
        "GPT2_WEIGHTS": "gpt2-medium",
        "PRETRAIN_TEXT": "mine.txt",
        "XNLI_DIR": "xnli",
        "TRAIN_ROWS": "2000",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    chosen = choose_profile()
    assert (chosen.weights, chosen.pretrain_text, chosen.data) == (
        "gpt2-medium",
        "mine.txt",
        "xnli",
    )
    assert chosen.finetuning == replace(FINETUNE_ENGLISH, subset=2000.0)
    assert choose_profile(data="other").data == "other"  # what is given counts
    monkeypatch.setenv("TRAIN_ROWS", "many")
    with pytest.raises(ValueError, match=r"TRAIN_ROWS must be a whole number .*, got 'many'"):
        choose_profile()
    with pytest.raises(ValueError, match="unknown profile 'huge'; choose from sample, full"):
        choose_profile("huge")
    with pytest.raises(ValueError, match="TRAIN_ROWS must be a whole number of at least 2, got 1"):
        choose_profile(train_rows=1)


def test_a_sample_says_in_what_it_is_one(no_variables):
    expected = "sample run: embedded text, miniature model, miniature world, 600 train rows"
    assert SAMPLE.note == expected
    assert FULL.note == "sample run: embedded text"
    whole = choose_profile("full", pretrain_text="mine.txt")
    assert whole.note == ""
    assert replace(whole, train_rows=2000).note == "sample run: 2,000 train rows"


def test_the_machine_is_described_for_measurements():
    described = environment.machine()
    assert described["cores"] >= 1 and described["device"] == "cpu"
    assert described["torch"] == torch.__version__ and json.dumps(described)


def test_missing_inputs_end_the_notebook_in_its_first_cell(
    no_variables, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"pretraining text: .*NLI data: .*data.download"):
        check_environment(choose_profile("full", weights="toy"), needed=True)
    assert "[missing] NLI data" in capsys.readouterr().out


def test_the_full_profile_has_the_fast_recipe_on_a_gpu(no_variables, monkeypatch):
    monkeypatch.setattr("experiments.profiles.get_device", lambda: torch.device("cuda"))
    assert choose_profile("full").recipe == FINETUNE_FAST
    assert choose_profile("sample") == SAMPLE
    assert choose_profile("full", recipe=FINETUNE_TOY).recipe == FINETUNE_TOY


def test_toy_means_the_newest_model_of_task_1(tmp_path):
    with pytest.raises(FileNotFoundError, match="train it first: python -m gpt2 pretrain"):
        find_weights("toy", tmp_path)
    for age, name in ((1, "toy_pretraining-1a"), (2, "toy_pretraining-2b"), (3, "finetune-3c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").touch()
        os.utime(tmp_path / name, (age, age))
    assert find_weights("toy", tmp_path) == tmp_path / "toy_pretraining-2b" / "model"
