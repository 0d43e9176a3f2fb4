"""A run's identity: changed code is another run, changed comments are not."""

import functools
import shutil
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch

import gpt2.evaluate
import gpt2.loss
import gpt2.model
import gpt2.xnli
from config import FINETUNE_ENGLISH, GPT2Config
from experiments.finetuning import finetune
from experiments.identity import _digest_source, changed_code, code_identity
from gpt2.layer import GPT2Layer
from gpt2.model import GPT2Model
from grading.edition.release import enter
from optim.adamw import AdamW
from tests import ROOT, SAMPLE
from tests.processes import together
from tests.small import save_small_gpt2


def finetune_in(folder):
    """Fine-tune a tiny model with the project in a folder, and print the run's name."""
    enter(folder)
    from config import FINETUNE_ENGLISH
    from experiments.finetuning import finetune

    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    GPT2Model(GPT2Config(max_position_embeddings=128, **shape)).save_pretrained("tiny")
    settings = replace(FINETUNE_ENGLISH, subset=8.0, learning_rate=1e-2)
    print(finetune(settings, weights="tiny", data=SAMPLE, progress=False).path.name)


@pytest.fixture
def project(tmp_path):
    """A copy of the project's code; call it to fine-tune there and get the lines it printed."""
    for name in ("gpt2", "optim", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("config.py", "console.py", "counting.py", "utils.py"):
        shutil.copy(ROOT / name, tmp_path)

    def run() -> list[str]:
        output = tmp_path / f"printed {next(times)}"
        finished = together(1, finetune_in, tmp_path, output=output)
        assert finished.returncode == 0, finished.stderr[-3000:]
        return finished.stdout.splitlines()

    times, run.root = count(), tmp_path
    return run


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.all
def test_an_edited_source_is_named_and_starts_a_new_run(project):
    (first,) = project()
    attention = project.root / "gpt2" / "attention.py"
    edit(project.root / "gpt2" / "layer.py", "\nclass ", "\n# a comment\n\n\nclass ")  # unnamed
    edit(attention, "softmax(dim=-1)", "softmax(dim=-1) * 2")
    said, second = project()
    assert second != first
    assert said == (
        f"{second}: a new run, because gpt2/attention.py changed since {first} with the same "
        "settings"
    )


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('"""Return ', '"""Give back ', False),
        ("import torch", "import torch  # the library", False),
        ("\n\n\ndef ", "\n\n\n\n\ndef ", False),
        ("-100", "-101", True),
        ("[:, 1:]", "[:, 2:]", True),
        ('"mean"', '"sum"', True),
    ],
)
def test_only_code_counts_in_a_source(old, new, changed):
    source = (ROOT / "gpt2" / "loss.py").read_text(encoding="utf-8")
    assert old in source
    assert (_digest_source(source.replace(old, new, 1)) != _digest_source(source)) == changed


def test_every_source_that_decides_numbers_counts():
    names = set(code_identity())
    assert {"gpt2/attention.py", "gpt2/fast/linear.py", "optim/adamw.py", "utils.py"} <= names
    assert "gpt2/generate.py" not in names


# ---- Replaced at run time ----------------------------------------------------------------------


def plain(self, hidden_states, attention_mask, *_, **__):
    return hidden_states


def other(self, hidden_states, attention_mask, *_, **__):
    return hidden_states * 2


def halved(factor):
    def forward(self, hidden_states, attention_mask, *_, **__):
        return hidden_states * factor

    return forward


class MyLayer(GPT2Layer):
    def forward(self, hidden_states, attention_mask, *_, **__):
        return hidden_states


@functools.wraps(GPT2Layer.forward)
def wrapped(*arguments, **keywords):
    return None


REPLACED = [
    (GPT2Layer, "forward", plain, "gpt2.layer.GPT2Layer.forward"),
    (GPT2Layer, "forward", other, "gpt2.layer.GPT2Layer.forward"),
    (GPT2Layer, "forward", halved(0.5), "gpt2.layer.GPT2Layer.forward"),
    (GPT2Layer, "forward", halved(0.25), "gpt2.layer.GPT2Layer.forward"),
    (GPT2Layer, "forward", wrapped, "gpt2.layer.GPT2Layer.forward"),
    (GPT2Layer, "forward", torch.nn.Module.forward, "gpt2.layer.GPT2Layer.forward"),
    (GPT2Layer, "__call__", plain, "gpt2.layer.GPT2Layer.__call__"),
    (GPT2Layer, "add", staticmethod(plain), "gpt2.layer.GPT2Layer.add"),
    (GPT2Layer, "add", GPT2Layer.forward, "gpt2.layer.GPT2Layer.add"),
    (AdamW, "step", plain, "optim.adamw.AdamW.step"),
    (gpt2.loss, "next_token_loss", partial(plain, None), "gpt2.loss.next_token_loss"),
    (gpt2.evaluate, "answer", lambda *_: None, "gpt2.evaluate.answer"),
    (gpt2.model, "GPT2Layer", MyLayer, "gpt2.model.GPT2Layer.forward"),
]


@pytest.mark.parametrize(("owner", "name", "value", "expected"), REPLACED)
def test_a_function_replaced_at_run_time_is_named(monkeypatch, owner, name, value, expected):
    before = code_identity()
    assert expected not in before
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value, raising=False)
        assert changed_code(before, code_identity()) == [expected]
        assert code_identity() == code_identity()
    assert code_identity() == before


def test_different_replacements_are_different_identities(monkeypatch):
    identities = []
    for value in (plain, other, halved(0.5), halved(0.25), wrapped):
        monkeypatch.setattr(GPT2Layer, "forward", value)
        identities.append(code_identity())
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])


def test_a_patched_block_gets_its_own_run_and_predictions(tmp_path, monkeypatch, capsys):
    save_small_gpt2(tmp_path / "tiny", initializer_range=0.5)
    settings = replace(FINETUNE_ENGLISH, subset=40.0, learning_rate=1e-2)
    where = {"weights": tmp_path / "tiny", "data": SAMPLE, "runs": tmp_path, "progress": False}
    run = finetune(settings, **where)
    before = run.evaluation("test", progress=False).predictions
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(GPT2Layer, "forward", plain)
        # the finished run's predictions are not those of the patched model
        assert not run.evaluation("test", progress=False).predictions.equals(before)
        patched = finetune(settings, **where)
        assert patched.path != run.path
        assert "because gpt2.layer.GPT2Layer.forward changed since" in capsys.readouterr().out
    assert run.evaluation("test", progress=False).predictions.equals(before)
    assert finetune(settings, **where).path == run.path
