"""The command line runs what the notebook runs; its errors are one sentence."""

import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import asdict

import pytest

from config import FINETUNE_ENGLISH
from experiments.cli import main
from experiments.files import write_toml
from experiments.options import Changes, choose, preset_first
from grading.edition.release import enter
from tests import ROOT, SAMPLE
from tests.processes import together

COMMANDS = [
    "check",
    "pretrain",
    "finetune",
    "evaluate",
    "generate",
    "fertility",
    "languages",
]


SMALL = ["--hidden-size", "16", "--num-hidden-layers", "1", "--num-attention-heads", "2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from tests.small import save_small_gpt2

    return str(save_small_gpt2(tmp_path_factory.mktemp("small")))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0 and command in capsys.readouterr().out


def test_finetune_takes_a_preset_and_what_to_change_in_it(weights, tmp_path, capsys):
    where = ["--weights", weights, "--data", str(SAMPLE), "--runs", str(tmp_path)]
    main(["finetune", "english", *where, "--rows", "20", "--batch-size", "5", "--lr", "1e-3"])
    printed = capsys.readouterr().out
    assert "dev accuracy 0." in printed and "n = 120" in printed
    (run,) = tmp_path.glob("finetune-*")
    written = (run / "settings.toml").read_text()
    assert "batch_size = 5\n" in written and "learning_rate = 0.001\n" in written
    main(["finetune", *where, "--config", str(run / "settings.toml")])  # the finished run
    assert capsys.readouterr().out.endswith(printed[printed.index("dev accuracy") :])
    assert len(list(tmp_path.glob("finetune-*"))) == 1
    best = str(run / "best_model")
    dev = ["--languages", "en", "sw", "--split", "dev"]
    main(["evaluate", "--weights", best, "--data", str(SAMPLE), *dev])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines] == ["en", "sw"] and "n = 60" in lines[1]


@pytest.mark.parametrize(
    "words",
    ["--seeds 0 1 toy --lr 1e-3", "--languages en de toy", "toy --seeds 0", "--weights toy --lr 1",
     "--data miniature toy"],
)  # fmt: skip
def test_a_preset_may_follow_an_option_of_several_values(words):
    given = ["finetune", *words.split()]
    front = preset_first(given, position=1)
    assert sorted(front) == sorted(given) and front[0] == "finetune"
    several = words.startswith(("--seeds", "--languages"))
    assert (front[1] == "toy") == (several or words.startswith("toy"))
    assert several or front == given


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["languages", "--languages", "de", "fr"], "--languages has no effect here"),
        (["languages", "--seed", "3"], "--seed has no effect here"),
        (["finetune", "--seed", "3", "--seeds", "0", "1"], "--seed has no effect here"),
    ],
)
def test_an_option_without_an_effect_is_refused(arguments, named, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--data", str(SAMPLE), "--weights", "miniature"])
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("rows", ["1", "0.5", "many", "-3"])
def test_train_rows_that_are_no_count_are_named(rows, monkeypatch):
    monkeypatch.setenv("TRAIN_ROWS", rows)
    with pytest.raises(ValueError, match="TRAIN_ROWS must be a whole number of at least 2"):
        choose("english")


def test_a_settings_file_may_take_back_what_a_preset_has(tmp_path):
    write_toml(tmp_path / "my.toml", asdict(FINETUNE_ENGLISH))
    assert choose("fast", Changes(config=tmp_path / "my.toml")) == FINETUNE_ENGLISH


@pytest.mark.parametrize("order", [0, 1, 2])
def test_options_stand_before_or_after_the_preset(order, weights, tmp_path, capsys):
    parts = [["toy"], ["--weights", weights, "--data", str(SAMPLE)], ["--epochs", "1"]]
    where = ["--rows", "9", "--runs", str(tmp_path)]
    ordered = [word for part in parts[order:] + parts[:order] for word in part]
    main(["finetune", *ordered, *where])
    assert "dev accuracy" in capsys.readouterr().out


def test_several_seeds_give_mean_and_standard_deviation(weights, tmp_path, capsys):
    where = ["--weights", weights, "--data", str(SAMPLE), "--runs", str(tmp_path)]
    main(["finetune", "toy", *where, "--rows", "9", "--epochs", "1", "--seeds", "0", "1"])
    lines = capsys.readouterr().out.splitlines()
    accuracies = [float(line.split()[1]) for line in lines if "n = 120" in line]
    assert len(accuracies) == 2
    mean, std = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert lines[-1] == f"en  {mean:.4f} ({std:.4f}) on test, 2 seeds"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 'two'", "epochs must be a whole number of at least 1, got 'two'"),
        ("speed = 3", "no setting speed; there are accumulate, batch_size"),
        ("epochs = = 2", r"not TOML .*line 1"),
        ("languages = 'en'", "languages must be a tuple"),
    ],
)
def test_a_wrong_settings_file_is_one_sentence(text, message, tmp_path, capsys):
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", "--config", str(tmp_path / "my.toml"), "--data", str(SAMPLE)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert "my.toml: " in error and re.search(message, error)


def finetune_in(environment):
    """Import the project with these variables, and fine-tune."""
    os.environ |= environment
    enter(ROOT)
    from experiments.cli import main

    main(["finetune", "--epochs", "1"])


@pytest.mark.all
def test_the_environment_means_what_it_means_in_the_notebook(weights, tmp_path):
    """XNLI_DIR, GPT2_WEIGHTS, TRAIN_ROWS and GPT2_RUNS; in a log file a bar has lines."""
    settings = {"XNLI_DIR": str(SAMPLE), "GPT2_WEIGHTS": weights, "TRAIN_ROWS": "8",
                "GPT2_RUNS": str(tmp_path / "here")}  # fmt: skip
    done = together(1, finetune_in, settings, output=tmp_path / "printed")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "here").glob("finetune-*")
    assert "subset = 8.0\n" in (run / "settings.toml").read_text()
    assert "\r" not in done.stderr and "2/2" in done.stderr
    command = [sys.executable, "-m", "gpt2", "generate", "--max-gen-length", "3"]
    command += ["--prompt", "猫 Ġ"]
    environment = {**os.environ, **settings, "PYTHONIOENCODING": "cp1252"}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert said.returncode == 0 and said.stdout.startswith(b"? ?")


def test_pretrain_reads_a_text(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {n} cats see the {n} dogs." for n in range(20)))
    main(["pretrain", "--text", str(text), "--runs", str(tmp_path), "--epochs", "1", *SMALL])
    printed = capsys.readouterr().out
    assert "held_out_loss" in printed and "bits_per_byte" in printed
    assert list(tmp_path.glob("toy_pretraining-*/model/model.safetensors"))


def test_pretrain_takes_a_recipe_and_what_to_change_in_it(tmp_path, capsys):
    text, french = tmp_path / "text.txt", tmp_path / "french.txt"
    text.write_text("\n".join(f"The {n} cats see the {n} dogs." for n in range(20)))
    french.write_text("Le chat voit la mer.\nLa mer voit le chat.", encoding="utf-8")
    sizes = {"hidden-size": 16, "num-hidden-layers": 1, "num-attention-heads": 2, "max-len": 16}
    options = sizes | {"batch-size": 3, "accumulate": 2, "optimizer": "muon", "price": 2.5}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    where = ["--text", str(text), "--also", str(french), "--runs", str(tmp_path)]
    main(["pretrain", "gpt2", *where, *words])
    printed = capsys.readouterr().out
    assert "3 steps of 96 tokens: minutes on this" in printed and "at 2.5 an hour" in printed
    table = printed[printed.index("text ") :].splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["all", "french"]
    (run,) = tmp_path.glob("gpt2_pretraining-*")
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["intermediate_size"] == 64 and config["hidden_dropout_prob"] == 0
    main(["pretrain", "gpt2", *where, "--config", str(run / "settings.toml")])  # the finished run
    assert [*tmp_path.glob("gpt2_pretraining-*")] == [run]


def test_several_texts_are_joined_and_measured_each(tmp_path, capsys):
    for lang, line in {"en": "The {} cats see the {} dogs.", "fr": "Les {} chats et {}."}.items():
        lines = [line.format(n, n + 1) for n in range(20)]
        (tmp_path / f"{lang}.txt").write_text("\n".join(lines), encoding="utf-8")
    texts = ["--text", str(tmp_path / "en.txt"), str(tmp_path / "fr.txt")]
    main(["pretrain", "--epochs", "1", *SMALL, "--runs", str(tmp_path), *texts, "toy"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-4:-1]] == ["all", "en", "fr"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "en.txt").write_text("A cat.")
    with pytest.raises(SystemExit):
        main(["pretrain", *texts, "--also", str(tmp_path / "b" / "en.txt")])
    assert 'b/en.txt: another text is called "en"' in capsys.readouterr().err


def test_a_bad_setting_of_pretraining_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--optimizer", "sgd", "--runs", str(tmp_path)])
    assert 'optimizer must be one of "adamw", "muon"; got' in capsys.readouterr().err


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
    assert stopped.value.code == 2 and line.startswith(f"error: {sentence}")


def test_an_empty_prompt_is_one_sentence(generate, capsys):
    with pytest.raises(SystemExit):
        generate(prompt="")
    assert capsys.readouterr().err.startswith("error: --prompt is empty")


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
        (["languages", "--data", str(SAMPLE), "toy", "--epochs", "0"], "epochs"),
        (["finetune", "--data", str(SAMPLE), "--config", "none.toml"], "none.toml"),
        (["finetune", "--weights", "toy", "--runs", "none"], "python -m gpt2 pretrain"),
    ],
)
def test_errors_are_one_line_that_names_what_is_wrong(arguments, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and named in error
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
    assert stopped.value.code == 2 and "fix: python -m data.download" in capsys.readouterr().out


def test_fertility_of_some_languages(capsys):
    main(["fertility", "--data", str(SAMPLE), "--languages", "de", "zh", "--max-samples", "50"])
    printed = capsys.readouterr().out
    assert "premium" in printed and "de" in printed and "zh" in printed


def test_a_seed_or_a_language_given_twice_is_refused(weights, tmp_path, capsys):
    where = ["finetune", "--weights", weights, "--data", str(SAMPLE), "--runs", str(tmp_path)]
    for option in ("seeds", "languages"):
        value = {"seeds": "0", "languages": "en"}[option]
        with pytest.raises(SystemExit):
            main([*where, f"--{option}", value, value])
        assert f"{option} must differ from each other" in capsys.readouterr().err
