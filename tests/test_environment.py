"""The environment check names each gap and the command that mends it."""

from dataclasses import replace

import pytest

from config import SAMPLE, choose_profile
from gpt2 import environment
from gpt2.environment import check_environment


def test_everything_is_there_for_the_sample_profile(capsys):
    assert check_environment(SAMPLE)
    printed = capsys.readouterr().out
    assert "[missing]" not in printed
    for what in ("torch", "device", "precision", "pretraining text", "weights"):
        assert f"[OK]      {what}" in printed


def test_a_missing_text_and_missing_weights_come_with_their_commands(capsys):
    profile = replace(SAMPLE, pretrain_text="none.txt", weights="gpt2-large")
    assert not check_environment(profile)
    printed = capsys.readouterr().out
    assert "no none.txt   mend: set PRETRAIN_TEXT to a text file" in printed
    assert "gpt2-large is not cached" in printed
    assert "GPT2Model.from_pretrained('gpt2-large')" in printed


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
    assert check_environment(replace(SAMPLE, weights=str(tmp_path)))
    assert f"the folder {tmp_path}" in capsys.readouterr().out


def test_the_environment_chooses_the_profile(monkeypatch):
    monkeypatch.delenv("PRETRAIN_TEXT", raising=False)
    monkeypatch.delenv("GPT2_PROFILE", raising=False)
    assert choose_profile() == SAMPLE
    monkeypatch.setenv("GPT2_PROFILE", "full")
    assert choose_profile().weights == "gpt2"
    monkeypatch.setenv("PRETRAIN_TEXT", "mine.txt")
    assert choose_profile().pretrain_text == "mine.txt"
    assert choose_profile("sample").note == "sample run: toy model"
    assert choose_profile("full").note == ""
    assert SAMPLE.note == "sample run: embedded text, toy model"
    assert choose_profile("sample", pretrain_text="other.txt").pretrain_text == "other.txt"
    with pytest.raises(ValueError, match="unknown profile 'huge'; choose from sample, full"):
        choose_profile("huge")
