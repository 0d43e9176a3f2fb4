"""Claims are computed again from what was handed in, and claims alone are not evidence."""

import csv
import json
import random
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Subset

from config import TOY_PRETRAINING
from data.miniature import nli_folder
from experiments.pretraining import pretrain
from gpt2.text import TextDataset
from gpt2.xnli import LANGUAGES
from grading.checks import results as graded
from grading.checks.results import SETTINGS
from grading.submissions import recompute as module
from grading.submissions.recompute import MISSING, SAMPLE, UNSEEN, recompute
from tests import ROOT
from tests.grading.test_results import NOTE, changed, row

ENGLISH, SINGLE, TOGETHER = SETTINGS


def add_run(root, name, languages, seed):
    """A run's folder as it is handed in; returns its test accuracies."""
    path, lot, shares = root / "runs" / name, random.Random(seed), {}
    (path / "predictions").mkdir(parents=True)
    (path / "settings.json").write_text(json.dumps({"settings": {"languages": languages}}))
    for lang in LANGUAGES:
        rows = module._rows(SAMPLE, "test", lang)
        answers = [lot.choice(["0", "1", "2", label]) for label in rows.labels]
        with open(path / "predictions" / f"test.{lang}.csv", "w", newline="") as file:
            pairs = zip(rows.pair_ids, answers, strict=True)
            csv.writer(file).writerows([("pair_id", "prediction"), *pairs])
        right = zip(rows.labels, answers, strict=True)
        shares[lang] = sum(label == answer for label, answer in right) / len(answers)
    return shares


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory):
    """Runs on English (two seeds), German, and both; and what is claimed of them."""
    root = tmp_path_factory.mktemp("handed-in")
    runs = {"english-1": ["en"], "english-2": ["en"], "de-1": ["de"], "all-1": ["en", "de"]}
    got = {name: add_run(root, name, on, i) for i, (name, on) in enumerate(runs.items())}
    fertility = module._fertility(SAMPLE)["fertility"]
    rows = [row(lang, got["english-1"][lang], 120) for lang in LANGUAGES]
    mean = (got["english-1"]["de"] + got["english-2"]["de"]) / 2
    return root, {
        "fifteen accuracies": {"note": NOTE, "run": "english-1", "rows": rows},
        "fertility": {
            "note": NOTE,
            "rows": [{"language": lang, "fertility": fertility[lang]} for lang in LANGUAGES],
        },
        "selection": {
            **{"note": NOTE, "chosen": ["de"], "by_rule": ["de", "sw", "fr", "es"]},
            "rows": [{**each, "fertility": fertility[each["language"]]} for each in rows],
        },
        "comparison": {
            "note": NOTE,
            "rows": [
                {**row("de", mean, 120, setting=ENGLISH, seeds=2), "accuracy": mean},
                row("de", got["de-1"]["de"], 120, setting=SINGLE, seeds=1),
                row("de", got["all-1"]["de"], 120, setting=TOGETHER, seeds=1),
            ],
        },
    }


def again(root, claims):
    rules = {"pairs": 0, "agree": 0.95, "accuracy": 1e-6}
    return recompute(SimpleNamespace(root=root), claims, [SAMPLE, nli_folder()], rules, None)


def said(found):
    return [(claim, flag.kind) for claim, flag in found.flags]


def test_claims_that_follow_from_the_runs_agree(handed_in):
    root, claims = handed_in
    found = again(root, claims)
    assert found.flags == [] and len(found.accuracy) == 15
    assert all(row["claimed"] == row["recomputed"] for row in found.accuracy.values())


WRONG = [  # claim, where in it, what stands there instead, what is said
    ("fifteen accuracies", ["rows", 3, "accuracy"], 0.9, "claims 0.9000 of 120 pairs; the predic"),
    ("fifteen accuracies", ["rows", 3, "n"], 100, "of 100 pairs"),
    ("fertility", ["rows", 2, "fertility"], 2.5, "claims 2.500 tokens a word of bg; our tokenizer"),
    ("selection", ["rows", 2, "fertility"], 2.5, "claims 2.500 tokens a word of bg"),
    ("selection", ["rows", 4, "accuracy"], 0.8, "claims 0.8000"),
    ("selection", ["by_rule"], ["zh", "ur", "th"], "from these predictions the rule selects"),
    ("comparison", ["rows", 0, "accuracy"], 0.8, "the predictions of english-"),
    ("comparison", ["rows", 1, "accuracy"], 0.8, "the predictions of de-1 and our labels make"),
    ("comparison", ["rows", 2, "accuracy"], 0.8, "the predictions of all-1"),
]


@pytest.mark.parametrize(("name", "where", "value", "text"), WRONG)
def test_a_claim_that_its_evidence_contradicts_is_wrong(name, where, value, text, handed_in):
    root, claims = handed_in
    found = again(root, {name: changed(claims[name], where, value)})
    assert said(found)[0] == (name, "accuracy") and text in found.flags[0][1].text


def test_nothing_but_a_notebook_is_no_evidence(handed_in, tmp_path):
    """Fertility alone follows from the data that everybody has."""
    root, claims = handed_in
    curve = {"run": "toy_pretraining-1", "note": NOTE, "train_loss": [5.0], "held_out_loss": [4.0]}
    curve |= {"first_loss": 10.8, "unigram": 6.5}
    names = {*claims, "toy curve"} - {"fertility"}
    assert {*said(again(tmp_path, {**claims, "toy curve": curve}))} == {(n, MISSING) for n in names}

    outside = changed(claims["fifteen accuracies"], ["run"], "../../etc")
    assert said(again(root, {"fifteen accuracies": outside})) == [("fifteen accuracies", MISSING)]
    unknown = again(root, {"fertility": {**claims["fertility"], "note": ""}})  # data of others
    assert said(unknown) == [("fertility", MISSING)] and "--data" in unknown.flags[0][1].text
    root = shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(root / "runs" / "english-2")  # one seed of two
    assert said(again(root, {"comparison": claims["comparison"]})) == [("comparison", MISSING)]


# ---- The toy curve -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """A toy model that has read 60 lines, and its claim."""
    root = tmp_path_factory.mktemp("toy")
    model = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = replace(TOY_PRETRAINING, epochs=2, learning_rate=1e-2, model=model)
    (root / "few.txt").write_text("\n".join((ROOT / "pretrain.txt").read_text().split("\n")[:60]))
    few = TextDataset(root / "few.txt", tokenizer, settings.max_len)
    held_out, unigram = module._held_out()
    held_out = Subset(held_out, range(40))
    run = pretrain(settings, few, held_out, runs=root / "runs", name="toy", progress=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_held_out", lambda: (held_out, unigram))
        yield root, graded.toy_curve(run, {"unigram": unigram}, NOTE).claim


@pytest.fixture
def toy(trained, tmp_path):
    """A copy that a test may tamper with: its folder, its run's folder, and its claim."""
    root, claim = trained
    shutil.copytree(root / "runs", tmp_path / "runs")
    return tmp_path, tmp_path / "runs" / claim["run"], claim


def test_a_curve_follows_from_its_metrics_and_weights(toy):
    root, _, claim = toy
    found = again(root, {"toy curve": claim})
    assert found.flags == []
    assert found.held_out_loss == pytest.approx(claim["held_out_loss"][-1], rel=1e-4)
    for losses in ([3.0, 2.0], [3.0]):
        found = again(root, {"toy curve": {**claim, "train_loss": losses}})
        assert said(found) == [("toy curve", "accuracy")] and "its train_loss" in str(found.flags)


def test_a_loss_that_is_too_small_is_not_what_the_weights_give(toy):
    """As of a mean that ignores accumulation: the metrics have the small loss, too."""
    root, run, claim = toy
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if "held_out_loss" in line:
            line["held_out_loss"] /= 2
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    small = {"toy curve": {**claim, "held_out_loss": [x / 2 for x in claim["held_out_loss"]]}}
    found = again(root, small)
    assert said(found) == [("toy curve", "curve")] and "its weights" in found.flags[0][1].text
    weights = run / "model" / "model.safetensors"
    huge = {name: torch.full_like(each, 1e38) for name, each in load_file(weights).items()}
    save_file(huge, weights, {"format": "pt"})  # whose loss is no number
    assert said(again(root, small)) == [("toy curve", "curve")]
    weights.unlink()
    assert said(again(root, small)) == [("toy curve", UNSEEN)]


DAMAGED = ['{"n_layer": 1000000000}', '{"n_layer": 1, "n_embd": 10000000}', "{}", "[" * 10**5]


@pytest.mark.parametrize("config", DAMAGED)
def test_a_toy_with_a_damaged_configuration_is_wrong(config, toy):
    root, run, claim = toy
    (run / "model" / "config.json").write_text(config)
    assert said(again(root, {"toy curve": claim})) == [("toy curve", "accuracy")]


@pytest.mark.parametrize("limit", ["LARGEST", "LARGEST_WEIGHTS", "LONGEST"])
def test_what_is_larger_than_a_toy_is_not_run(limit, toy, monkeypatch):
    root, _, claim = toy
    monkeypatch.setattr(module, limit, 0)
    assert said(again(root, {"toy curve": claim})) == [("toy curve", "accuracy")]
