"""Every command's worst input is one line on stderr, and exit status 2."""

import subprocess
import sys
from importlib import import_module

import pytest

from console import errors_in_one_line
from tests import ROOT, SAMPLE

SAMPLES, MINIATURE = str(SAMPLE), ["--weights", "miniature"]


@pytest.mark.parametrize(
    ("module", "arguments", "named"),
    [
        ("experiments.cli", ["finetune", "--weights", "none/x", "--data", SAMPLES], "none/x"),
        ("experiments.cli", ["finetune", "--lr", "-1", "--data", SAMPLES], "learning_rate"),
        ("experiments.cli", ["finetune", "--lr", "nan", "--data", SAMPLES], "learning_rate"),
        ("experiments.cli", ["finetune", "--languages", "xx", *MINIATURE, "--data", SAMPLES], "xx"),
        ("experiments.cli", ["pretrain", "--text", SAMPLES], "sample"),
        ("experiments.cli", ["generate", "--prompt", "a", "--weights", SAMPLES], "config.json"),
        ("experiments.cli", ["evaluate", "--weights", "miniature", "--data", "none"], "none"),
        ("extensions.__main__", ["--weights", "none/x", "--data", SAMPLES], "none/x"),
        ("extensions.__main__", [*MINIATURE, "--data", SAMPLES], "pretrain.txt"),
        ("extensions.models", ["--models", "none/x", "--data", SAMPLES], "none/x"),
        ("extensions.models", ["--models", "de=none/x", "--data", SAMPLES], "none/x"),
        ("extensions.tasks.__main__", ["--tasks", "poetry"], "poetry"),
        ("extensions.tasks.__main__", ["--data", "none"], "none"),
        ("experiments.cli", ["languages", "--out", __file__], "--out"),
        ("experiments.cli", ["languages", "--out", f"{__file__}/new"], "--out"),
        ("extensions.__main__", ["--out", __file__], "--out"),
        ("extensions.averaging", ["a", "b", "--out", __file__], "--out"),
        ("extensions.interpret.__main__", ["--out", __file__], "--out"),
        ("extensions.models", ["--out", __file__], "--out"),
        ("extensions.tasks.__main__", ["--out", __file__], "--out"),
        ("extensions.harness", ["--weights", "none/x", "--data", SAMPLES], "none/x"),
        ("extensions.interpret.__main__", ["--questions", "why"], "why"),
        ("grading.__main__", ["grade", "none.zip"], "none.zip"),
        ("grading.__main__", ["release", SAMPLES], "sample"),
    ],
)
def test_the_worst_input_is_one_line(module, arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = import_module(module)
    with pytest.raises(SystemExit) as stopped:
        if hasattr(command, "run_command") and module != "experiments.cli":
            command.run_command(command.main, args=arguments)
        else:
            command.main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and named in error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert list(tmp_path.rglob("*.csv")) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("not enough memory: lower batch_size"), "not enough memory: lower batch_size"),
        (KeyError("name"), "'name'"),
        (ValueError("two\nlines"), "two lines"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_of_any_kind_is_one_line(error, line, capsys):
    with pytest.raises(SystemExit), errors_in_one_line():
        raise error
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_mistake_of_the_code_keeps_its_traceback():
    with pytest.raises(AssertionError), errors_in_one_line():
        raise AssertionError


def test_an_old_transformers_is_named_before_anything_else():
    program = (
        "from importlib import metadata\n"
        "version = metadata.version\n"
        "metadata.version = lambda n: '4.57.1' if n == 'transformers' else version(n)\n"
        "import gpt2\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: transformers 5.0 or newer is needed, found 4.57.1; "
        "pip install 'transformers>=5.0'"
    )
