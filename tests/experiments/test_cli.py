"""The command line runs what the notebook runs; its errors are one sentence."""

import pytest

from experiments.cli import main
from tests import ROOT, SAMPLE

COMMANDS = [
    "check",
    "pretrain",
    "finetune",
    "evaluate",
    "generate",
    "fertility",
    "languages",
]


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
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
    dev = ["--languages", "en", "sw", "--split", "dev"]
    main(["evaluate", "--weights", best, "--data", str(SAMPLE), *dev])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines] == ["en", "sw"] and "n = 60" in lines[1]


def test_pretrain_reads_a_text(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {n} cats see the {n} dogs." for n in range(20)))
    main(["pretrain", "--text", str(text), "--runs", str(tmp_path), "--settings.epochs", "1"])
    assert "held_out_loss" in capsys.readouterr().out
    assert list(tmp_path.glob("pretraining-*/model/model.safetensors"))


@pytest.fixture
def generate(weights, capsys):
    """Call the command with more arguments and get the text it printed."""

    def call(*arguments, prompt="The cat"):
        main(["generate", "--weights", weights, "--prompt", prompt, "--max-gen-length", "12",
              *arguments])  # fmt: skip
        return capsys.readouterr().out

    return call


def test_generate_is_greedy_by_default(generate):
    greedy = generate()
    assert greedy.startswith("The cat") and len(greedy) > len("The cat\n")
    assert generate() == greedy
    assert generate("--num-beams", "3").startswith("The cat")


@pytest.mark.parametrize(
    "option",
    [["--temperature", "1"], ["--top-k", "40000"], ["--top-k", "0"], ["--top-p", "0.99"],
     ["--top-p", "1"], ["--min-p", "0.01"], []],
)  # fmt: skip
def test_any_sampling_option_samples_by_the_seed(generate, option):
    one, two = generate(*option, "--seed", "7"), generate(*option, "--seed", "8")
    assert one == generate(*option, "--seed", "7")
    assert len({one, two, generate()}) == 3  # greedy is another text
    if option:
        assert generate(*option) == generate(*option, "--seed", "0") != generate()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--num-beams", "2", "--top-p", "0.5", "--seed", "7"],
            "num_beams > 1 and do_sample=True exclude each other",
        ),
        (["--top-p", "1.5"], "top_p must be in"),
        (["--temperature", "0"], "temperature must be above 0"),
    ],
)
def test_contradictions_are_one_sentence(generate, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stopped:
        generate(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and line.startswith(f"error: {sentence}")


def test_an_empty_prompt_is_one_sentence(generate, capsys):
    with pytest.raises(SystemExit):
        generate(prompt="")
    assert capsys.readouterr().err.startswith("error: every row needs a token")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["pretrain", "--text", "none.txt"], "none.txt"),
        (["finetune", "--weights", "none/dir/x", "--data", str(SAMPLE), "toy"], "none/dir/x"),
        (["evaluate", "--weights", "none/dir/x"], "none/dir/x"),
        (["generate", "--prompt", "a", "--weights", "none/dir/x"], "none/dir/x"),
        (["fertility", "--data", "none", "--languages", "de"], "none"),
        (["fertility", "--data", str(SAMPLE), "--languages", "xx"], "xx"),
        (["languages", "--weights", "none/dir/x", "--data", str(SAMPLE), "toy"], "none/dir/x"),
        (["languages", "--data", str(SAMPLE), "toy", "--settings.epochs", "0"], "epochs"),
    ],
)
def test_errors_are_one_line_that_names_what_is_wrong(arguments, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code in (1, 2) and named in error and "Traceback" not in error
    if stopped.value.code == 1:
        assert error.startswith("error: ") and error.count("\n") == 1


def test_check_exits_with_the_state_of_the_environment(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("experiments.environment.REQUIREMENTS", tmp_path / "none.txt")
    for name in ("GPT2_PROFILE", "GPT2_WEIGHTS", "PRETRAIN_TEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XNLI_DIR", str(SAMPLE))
    main(["check"])
    assert "[missing]" not in capsys.readouterr().out
    monkeypatch.setenv("XNLI_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        main(["check"])
    assert stopped.value.code == 1 and "fix: python -m data.download" in capsys.readouterr().out


def test_fertility_of_some_languages(capsys):
    main(["fertility", "--data", str(SAMPLE), "--languages", "de", "zh", "--max-samples", "50"])
    printed = capsys.readouterr().out
    assert "premium" in printed and "de" in printed and "zh" in printed
