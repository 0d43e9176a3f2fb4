"""The shell does what the notebook does, and helps."""

import pytest

from experiments.cli import main
from tests import SAMPLE

TINY = ("--settings.model", "hidden_size", "16")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch

    from config import GPT2Config
    from gpt2.model import GPT2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    config = GPT2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=128
    )
    GPT2Model(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "command", ["pretrain", "finetune", "evaluate", "generate", "fertility", "study"]
)
def test_every_command_helps(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0 and command in capsys.readouterr().out


def test_finetune_takes_a_preset_and_what_to_change_in_it(weights, tmp_path, capsys):
    where = ["--weights", weights, "--data", str(SAMPLE), "--runs", str(tmp_path)]
    main(["finetune", *where, "english", "--settings.subset", "20", "--settings.batch-size", "5"])
    printed = capsys.readouterr().out
    assert "dev accuracy 0." in printed and "n = 120" in printed
    (run,) = tmp_path.glob("finetune-*")
    assert '"batch_size": 5' in (run / "settings.json").read_text()
    best = str(run / "best_model")
    main(["evaluate", "--weights", best, "--data", str(SAMPLE), "--languages", "en", "sw",
          "--split", "dev", "--out", str(tmp_path / "answers")])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines] == ["en", "sw"] and "n = 60" in lines[1]
    assert {p.name for p in (tmp_path / "answers").iterdir()} == {"dev.en.csv", "dev.sw.csv"}


def test_study_tables_every_combination(weights, tmp_path, capsys):
    where = ["--weights", weights, "--data", str(SAMPLE), "--runs", str(tmp_path)]
    main(["study", *where, "--rates", "1e-3", "1e-2", "--seeds", "0", "1",
          "english", "--settings.subset", "12"])  # fmt: skip
    printed = capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 4 and "learning_rate" in printed and "seed" in printed


def test_pretrain_reads_a_text(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {n} cats see the {n} dogs." for n in range(20)))
    main(["pretrain", "--text", str(text), "--runs", str(tmp_path), "--settings.epochs", "1"])
    assert "held_out_loss" in capsys.readouterr().out
    assert list(tmp_path.glob("pretraining-*/model/model.safetensors"))


def test_generate_goes_on_with_the_prompt(weights, capsys):
    main(["generate", "--weights", weights, "--prompt", "The cat", "--max-gen-length", "3"])
    greedy = capsys.readouterr().out
    assert greedy.startswith("The cat") and len(greedy) > len("The cat\n")
    drawn = []
    for seed in ("1", "1", "2"):
        main(["generate", "--weights", weights, "--prompt", "The cat", "--temperature", "1.0",
              "--seed", seed])  # fmt: skip
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]


def test_fertility_tables_the_languages_asked_for(tmp_path, capsys):
    main(["fertility", "--data", str(SAMPLE), "--languages", "de", "zh", "--max-samples", "50",
          "--out", str(tmp_path)])  # fmt: skip
    printed = capsys.readouterr().out
    assert "premium" in printed and "de" in printed and "zh" in printed
    assert {p.suffix for p in tmp_path.iterdir()} == {".csv", ".md", ".tex"}
