"""A fine-tuning run: its files, its identity, its options, and that it survives kills."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from config import FINETUNE_ENGLISH, FINETUNE_FAST
from experiments.evaluation import Evaluation
from experiments.finetuning import finetune
from gpt2.evaluate import predict
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset
from tests import SAMPLE
from tests.small import save_small_gpt2, small_tokenizer
from utils import set_seed

QUICK = replace(FINETUNE_ENGLISH, subset=40.0, epochs=2, learning_rate=2e-3)


def save_tiny_model(folder, seed=0, dropout=0.1, positions=128):
    chosen = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return save_small_gpt2(folder, seed, max_position_embeddings=positions, **chosen)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def go(tiny, tmp_path):
    def call(settings=QUICK, **changes):
        arguments = {"weights": tiny, "data": SAMPLE, "runs": tmp_path, "progress": False}
        return finetune(settings, **{**arguments, **changes})

    return call


def steps_of(run):
    return pd.DataFrame(run.history())


def weights_of(run):
    return load_file(run.path / "best_model" / "model.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- What a run leaves -------------------------------------------------------------------------


def test_the_presets_are_the_handouts():
    s = FINETUNE_ENGLISH
    assert (s.batch_size, s.epochs, s.learning_rate, s.weight_decay) == (4, 1, 5e-5, 1e-2)
    assert s.correct_bias and s.schedule == "constant" and s.warmup == 0
    assert s.max_grad_norm is None and s.token_budget is None and s.precision == "float32"


def test_a_run_leaves_its_files(go):
    run = go()
    assert {path.name for path in run.path.iterdir()} >= {
        "settings.json",
        "metrics.jsonl",
        "best_model",
        "dev.json",
        "predictions",
        "result.json",
    }
    metrics, dev = steps_of(run), run.dev()
    assert metrics["step"].tolist() == list(range(1, 21)) and dev["step"].tolist() == [10, 20]
    assert (metrics["num_labels"] == 4).all() and (metrics["num_tokens"] > 40).all()
    assert metrics["loss"].iloc[-5:].mean() < metrics["loss"].iloc[:5].mean()
    best = dev.loc[dev["dev_accuracy"].idxmax()]
    assert run.result["dev_accuracy"] == best["dev_accuracy"]
    assert run.result["epoch"] == best["epoch"] and run.result["steps"] == 20
    low, high = run.result["dev_interval"]
    assert 0 <= low <= run.result["dev_accuracy"] <= high <= 1
    written = json.loads((run.path / "settings.json").read_text())
    assert written["settings"]["learning_rate"] == 2e-3
    assert run.result["computed_by"]["threads"] == torch.get_num_threads()
    # One copy of the weights, and no state of the optimizer.
    assert not list(run.path.glob("checkpoint-*"))
    weights = run.path / "best_model" / "model.safetensors"
    files = [file for file in run.path.rglob("*.*") if file.suffix != ".json"]
    assert [f for f in files if 2 * f.stat().st_size > weights.stat().st_size] == [weights]


def test_the_best_model_is_the_measured_one(go):
    run = go()
    model = GPT2Model.from_pretrained(run.path / "best_model")
    dev = XNLIDataset.in_folder(SAMPLE, "dev", tokenizer=small_tokenizer())
    again = Evaluation(predict(model, small_tokenizer(), dev, progress=False))
    assert again.accuracy == run.result["dev_accuracy"]
    assert again.loss == pytest.approx(run.result["dev_loss"], rel=1e-5)


def test_transformers_reads_the_best_model_with_its_tokenizer(go):
    folder = go(replace(QUICK, epochs=1)).path / "best_model"
    theirs = AutoTokenizer.from_pretrained(folder)
    ids = theirs("Premise: The cat sees.\n")["input_ids"]
    assert ids and ids == small_tokenizer()("Premise: The cat sees.\n")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == theirs.eos_token_id == len(theirs) - 1


def test_the_best_epoch_is_saved_not_the_last(go):
    """A rate at which the second epoch is no better; the first one's weights stay."""
    run = go(replace(QUICK, epochs=4, learning_rate=3e-2))
    accuracies = run.dev()["dev_accuracy"]
    assert run.result["epoch"] == accuracies.idxmax() + 1  # the first of equals
    assert run.result["epoch"] < 4


def test_only_the_label_is_learnt_from(go, tmp_path):
    """The first step's loss is that of the digits after their prompts, one prompt at a time."""
    weights = save_tiny_model(tmp_path / "undropped", dropout=0.0)
    model = GPT2Model.from_pretrained(weights)
    train = XNLIDataset.in_folder(SAMPLE, "train", tokenizer=small_tokenizer())
    losses = []
    for item in (train[i] for i in range(4)):
        last = model(item["input_ids"][None, :-1])["last_token"]
        log_probabilities = model.hidden_state_to_token(last).log_softmax(-1)
        losses.append(-log_probabilities[0, item["input_ids"][-1]].item())
    run = go(replace(QUICK, epochs=1, subset=4.0), weights=weights)
    assert steps_of(run)["loss"].tolist() == pytest.approx([sum(losses) / 4], rel=1e-5)


def test_evaluations_are_computed_once_and_saved(go, monkeypatch):
    run = go()
    first = run.evaluation("test", progress=False)
    assert len(first.predictions) == 120 and (run.path / "predictions" / "test.en.csv").is_file()
    monkeypatch.setattr("gpt2.tasks.predict", None)
    again = run.evaluation("test", progress=False)
    assert again.predictions.equals(first.predictions) and again.interval == first.interval
    dev = run.evaluation("dev", progress=False)  # as the run has left it
    assert dev.accuracy == run.result["dev_accuracy"]


@pytest.mark.parametrize("damage", ["a row less", "cut", "edited", "empty", "binary", "no seal"])
def test_changed_predictions_are_computed_again(go, damage):
    run = go()
    first = run.evaluation("test", progress=False)
    path = run.path / "predictions" / "test.en.csv"
    raw = path.read_bytes()
    if damage == "a row less":
        lines = raw.splitlines(keepends=True)
        path.write_bytes(b"".join([lines[0], *lines[2:]]))
    elif damage == "no seal":
        path.with_suffix(".seal").write_bytes(b"\xff")
    else:
        changed = {"cut": raw[:-8], "edited": raw.replace(b",1,", b",0,", 1), "empty": b""}
        path.write_bytes(changed.get(damage, b"\x00\xff"))
    assert run.evaluation("test", progress=False).predictions.equals(first.predictions)


def test_predictions_for_other_sentences_are_not_used(go, tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "data")
    run = go(data=tmp_path / "data")
    first = run.evaluation("test", progress=False)
    file = tmp_path / "data" / "XNLI-1.0" / "xnli.test.tsv"
    file.write_text(file.read_text(encoding="utf-8").replace("The ", "A "), encoding="utf-8")
    again = run.evaluation("test", progress=False)
    assert not again.predictions.equals(first.predictions)


def test_infinite_weights_are_never_the_best_model(go):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        go(replace(QUICK, batch_size=1000, epochs=1, learning_rate=1e9, weight_decay=1.0))


# ---- What is never mixed up --------------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(go, monkeypatch):
    run = go()
    monkeypatch.setattr("experiments.finetuning.train", None)
    again = go()
    assert again.path == run.path and again.result == run.result


@pytest.mark.all
def test_other_settings_weights_or_data_are_other_runs(go, tmp_path):
    paths = {go(QUICK).path}
    for changes in ({"learning_rate": 1e-3}, {"seed": 1}, {"batch_size": 8}, {"subset": 41.0}):
        paths.add(go(replace(QUICK, **changes)).path)
    paths.add(go(weights=save_tiny_model(tmp_path / "other", seed=1)).path)
    paths.add(go(weights=save_tiny_model(tmp_path / "undropped", dropout=0.0)).path)
    shutil.copytree(SAMPLE, tmp_path / "data")
    file = tmp_path / "data" / "XNLI-MT-1.0" / "multinli" / "multinli.train.en.tsv"
    lines = file.read_text(encoding="utf-8").split("\n")
    lines[1], lines[2] = lines[2], lines[1]
    file.write_text("\n".join(lines), encoding="utf-8")
    paths.add(go(data=tmp_path / "data").path)
    assert len(paths) == 8


def test_the_same_settings_give_the_same_bits(go, tmp_path):
    a, b = go(), go(runs=tmp_path / "again")
    assert equal(weights_of(a), weights_of(b)) and a.path.name == b.path.name


@pytest.mark.all
def test_the_order_of_two_runs_makes_no_difference(go, tmp_path):
    torch.manual_seed(1234)
    other = replace(QUICK, seed=1)
    go(), go(other)
    later = tmp_path / "later"
    go(other, runs=later), go(runs=later)
    for folder in tmp_path.glob("finetune-*"):
        pair = (folder, later / folder.name)
        ours, theirs = ((path / "best_model/model.safetensors").read_bytes() for path in pair)
        assert ours == theirs


# ---- Options -----------------------------------------------------------------------------------


def test_the_fast_preset_runs_on_a_cpu_too(go):
    fast = replace(FINETUNE_FAST, subset=100.0, precision="bf16", epochs=2, token_budget=300)
    run = go(fast)
    metrics = steps_of(run)
    assert metrics["num_labels"].nunique() > 1 and (metrics["num_tokens"] <= 300).all()
    rates = metrics["learning_rate"]
    assert rates.iloc[0] == 0 and rates.max() == pytest.approx(5e-5, rel=0.2)
    assert rates.iloc[-1] < 0.1 * rates.max()


def test_languages_are_trained_together_with_equal_weights(go):
    run = go(replace(QUICK, languages=("en", "sw"), subset=15.0, epochs=1))
    assert steps_of(run)["num_labels"].sum() == 30
    accuracies = run.result["dev_by_language"]
    assert set(accuracies) == {"en", "sw"}
    assert run.result["dev_accuracy"] == pytest.approx(sum(accuracies.values()) / 2)


def test_a_budget_of_examples_is_shared_among_the_languages(go):
    two = replace(QUICK, languages=("en", "de"), subset=30.0, examples=20)
    assert steps_of(go(two)).groupby("epoch")["num_labels"].sum().tolist() == [20, 20]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
        ({"learning_rate": "1e-5"}, "learning_rate must be a number above 0, got '1e-5'"),
        ({"batch_size": 4.0}, "batch_size must be a whole number of at least 1, got 4.0"),
        ({"epochs": True}, "epochs must be a whole number of at least 1, got True"),
        ({"subset": 0}, "subset must be a number above 0, got 0"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1, got 0"),
        ({"token_budget": 0}, "token_budget must be a whole number of at least 1"),
        ({"max_grad_norm": 0}, "max_grad_norm must be a number above 0, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"languages": "en"}, r"languages must be a tuple such as \(\"en\",\), got 'en'"),
        ({"languages": ()}, "languages must be a tuple"),
        (
            {"schedule": "cos"},
            'schedule must be one of "constant", "linear", "cosine"; got \'cos\'',
        ),
        ({"warmup": 1.5}, r"warmup must be a number in \[0, 1\), got 1.5"),
        ({"examples": 0}, "examples must be a whole number of at least 1"),
        ({"examples": 9, "token_budget": 300}, "leave out examples"),
        ({"precision": "fp16"}, 'precision must be one of "float32", "bf16", "auto"; got \'fp16\''),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
    ],
)
def test_settings_out_of_range_are_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(FINETUNE_ENGLISH, **changes)


def test_pairs_are_cut_to_the_positions_that_the_model_has(go, tmp_path, capsys):
    short = save_tiny_model(tmp_path / "short", positions=24)
    run = go(replace(QUICK, epochs=1), weights=short, progress=True)
    assert run.settings.max_length == 24
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "dev" in line[:40]]
    assert "60 truncated" in line
    assert len(run.evaluation("test", progress=False).predictions) == 120


def test_equal_settings_are_one_run_however_they_are_written(go):
    a = replace(QUICK, subset=40, languages=["en"], weight_decay=0)
    b = replace(QUICK, subset=40.0, languages=("en",), weight_decay=0.0)
    assert a == b and go(a).path == go(b).path


def test_missing_data_is_named_with_the_command(go, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m data\.download"):
        go(data=tmp_path)
    assert not list(tmp_path.iterdir())


# ---- Prepared models ---------------------------------------------------------------------------


def only_norms(model, layers=2):
    """Train the layer norms of the first `layers` layers, and new values in the last one."""
    model.requires_grad_(False)
    for layer in model.gpt_layers[:layers]:
        layer.out_layer_norm.requires_grad_(True)
    model.final_layer_norm.bias = torch.nn.Parameter(torch.randn_like(model.final_layer_norm.bias))


def test_of_a_prepared_model_only_what_is_trained_changes_and_is_saved(go):
    prepare = partial(only_norms, layers=1)
    run = go(QUICK, prepare=prepare)
    saved = load_file(run.model_folder / "trained.safetensors")
    trained = {"gpt_layers.0.out_layer_norm.weight", "gpt_layers.0.out_layer_norm.bias"}
    assert set(saved) == {*trained, "final_layer_norm.bias"}
    set_seed(QUICK.seed)
    start = GPT2Model.from_pretrained(run.weights)
    prepare(start)
    before, after = start.state_dict(), run.model().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(saved)
    predictions = run.evaluation("dev", "en", progress=False)
    assert predictions.loss == pytest.approx(run.result["dev_loss"], rel=1e-4)


def test_another_preparation_or_loss_is_another_run(go):
    def halved_loss(model, batch, reduction="mean"):
        return next_token_loss(model, batch, reduction) / 2

    paths = {
        go(QUICK, **how).path
        for how in (
            {},
            {"prepare": only_norms},
            {"prepare": partial(only_norms, layers=1)},
            {"loss_fn": halved_loss},
            {"loss_fn": next_token_loss, "prepare": None},
        )
    }
    assert len(paths) == 4


def test_a_run_that_lost_its_model_says_so_before_it_trains(go):
    run = go()
    shutil.rmtree(run.path / "best_model")
    for result in (run.path / "result.json", None):
        with pytest.raises(FileNotFoundError, match="its best_model is gone; delete the folder"):
            go()
        if result is not None:
            result.unlink()
