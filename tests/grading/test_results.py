"""The checks of results: what the package makes passes, what is wrong is named, nothing raises."""

import copy
import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import FINETUNE_ENGLISH, TOY_PRETRAINING
from experiments import transfer
from experiments.evaluation import Evaluation
from experiments.finetuning import finetune
from experiments.pretraining import pretrain
from experiments.profiles import SAMPLE as PROFILE
from experiments.statistics import wilson_interval
from experiments.transfer import results_table, select_languages, transfer_table
from gpt2.fertility import fertility_table
from gpt2.text import TextDataset, unigram_entropy
from gpt2.xnli import LANGUAGES, XNLIDataset
from grading.checks import results as graded
from grading.checks.results import MIME, RESULTS, SETTINGS, Result, check_claim
from tests import ROOT, SAMPLE

NOTE = "sample run: embedded text, toy model, embedded NLI set"


# ---- Claims ------------------------------------------------------------------------------------


def row(language, accuracy, n=5010, **more):
    correct = round(accuracy * n)
    low, high = wilson_interval(correct, n)
    return {"language": language, "accuracy": correct / n, "low": low, "high": high, "n": n, **more}


def zero_shot(language):  # as published for the official GPT-2
    return {"en": 0.78, "es": 0.459, "fr": 0.413, "de": 0.404, "th": 0.342}.get(language, 0.355)


def claims_of_a_full_run():
    run, text = {"run": "english-0b90e8c9", "note": ""}, {"note": "sample run: embedded text"}
    compared = [row(lang, 0.6, setting=s, seeds=1) for lang in ("es", "fr") for s in SETTINGS]
    zero = [row(lang, zero_shot(lang)) for lang in LANGUAGES]
    return {
        "toy curve": {
            "run": "toy_pretraining-34547e73",
            **text,
            "first_loss": 10.83,
            "train_loss": [5.33, 3.60, 2.75],
            "held_out_loss": [4.10, 3.00, 2.38],
            "unigram": 6.56,
        },
        "dev accuracy": {**run, **row("en", 0.794, 2490)},
        "fifteen accuracies": {**run, **text, "rows": zero},
        "fertility": {
            "note": "",
            "rows": [
                {"language": lang, "fertility": 1.1 + 3 * (lang != "en")} for lang in LANGUAGES
            ],
        },
        "selection": {
            "note": "",
            "chosen": ["es", "fr"],
            "by_rule": ["es"],
            "rows": [{**each, "fertility": 2.0} for each in zero],
        },
        "comparison": {"note": "", "rows": [row("en", 0.78, setting="x", seeds=3), *compared]},
    }


FULL = claims_of_a_full_run()


@pytest.mark.parametrize("name", RESULTS)
def test_the_claims_of_a_full_run_pass(name):
    findings = check_claim(name, FULL[name])
    assert findings.state == "passed" and not findings.problem, findings.found


WRONG = [  # name, where in the claim, what stands there instead, which finding fails
    ("toy curve", ["note"], "sample run: no time", "note"),
    ("toy curve", ["first_loss"], 2.9, "first step"),
    ("toy curve", ["train_loss"], [5.33, 5.40, 2.75], "training loss"),
    ("toy curve", ["train_loss"], [5.33], "losses"),
    ("toy curve", ["train_loss"], [], "losses"),
    ("toy curve", ["train_loss", 2], None, "claim.train_loss[2]"),
    ("toy curve", ["held_out_loss"], [9.0, 8.0, 7.0], "held-out loss"),
    ("toy curve", ["unigram"], 12.0, "held-out loss"),
    ("toy curve", ["held_out_loss"], [0.34, 0.25, 0.2], "held-out loss"),  # over 12 batches
    ("toy curve", ["held_out_loss"], [0.02, 0.02, 2.38], "held-out loss"),
    ("toy curve", ["unigram"], math.nan, "claim.unigram"),
    ("dev accuracy", ["accuracy"], 0.794, "accuracies"),
    ("dev accuracy", ["low"], 0.8, "accuracies"),
    ("dev accuracy", ["n"], 2000, "pairs"),
    ("dev accuracy", ["n"], 2490.0, "claim.n"),
    ("dev accuracy", ["n"], True, "claim.n"),
    ("dev accuracy", ["n"], 10**400, "claim.n"),
    ("dev accuracy", ["language"], "fr", "language"),
    ("dev accuracy", ["note"], "sample run: toy model, embedded NLI set", "pairs"),
    ("fifteen accuracies", ["rows", 3, "language"], "es", "languages"),
    ("fifteen accuracies", ["rows", 3, "n"], 5009, "pairs"),
    ("fifteen accuracies", ["rows", 3, "accuracy"], 1.5, "accuracies"),
    ("fifteen accuracies", ["rows", 0], row("en", 0.33), "English above chance"),
    ("fifteen accuracies", ["rows"], [FULL["dev accuracy"]] * 1001, "claim.rows"),
    ("fifteen accuracies", ["rows"], {}, "claim.rows"),
    ("fertility", ["rows", 1, "fertility"], 1.05, "lowest fertility"),
    ("fertility", ["rows", 0, "fertility"], 0.4, "lowest fertility"),
    ("fertility", ["rows"], [], "languages"),
    ("selection", ["chosen"], [], "chosen"),
    ("selection", ["chosen"], ["en", "es"], "chosen"),
    ("selection", ["chosen"], ["es", "es"], "chosen"),
    ("selection", ["chosen"], ["it"], "chosen"),
    ("selection", ["by_rule"], ["en"], "chosen"),
    ("selection", ["rows"], [], "zero-shot accuracies"),
    ("selection", ["rows", 0, "language"], "es", "zero-shot accuracies"),
    ("selection", ["chosen"], ["th"], "one or more above chance"),
    ("comparison", ["rows"], [], "languages"),
    ("comparison", ["rows", 1, "language"], "it", "languages"),
    ("comparison", ["rows", 1, "setting"], "per language", "settings"),
    ("comparison", ["rows", 1, "n"], 120, "pairs"),
    ("comparison", ["rows", 1, "high"], 0.5, "accuracies"),
    ("comparison", ["rows", 1, "seeds"], 0, "accuracies"),
]


@pytest.mark.parametrize(("name", "where", "value", "what"), WRONG)
def test_what_is_wrong_is_named_beside_what_was_expected(name, where, value, what):
    claim = copy.deepcopy(FULL[name])
    place = claim
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    findings = check_claim(name, claim)
    assert findings.state == "failed" and findings.first_failure.what == what, findings.found
    assert findings.first_failure.got and findings.first_failure.expected


def test_chance_fails_the_official_model_and_not_a_toy():
    chance = {"run": "english-0b90e8c9", **row("en", 0.35, 60)}
    sample = check_claim("dev accuracy", {**chance, "note": NOTE})
    assert sample.state == "passed"
    expected = "not expected of a sample run (toy model, embedded NLI set)"
    assert sample.found[-1].expected.endswith(expected)
    official = {"run": "english-0b90e8c9", **row("en", 0.35, 2490)}
    notes = {"": official, "sample run: embedded text": official}  # the text is Task 1's alone
    notes[PROFILE.note] = {"run": "english-0b90e8c9", **row("en", 0.35, 300)}
    for note, claim in notes.items():
        found = check_claim("dev accuracy", {**claim, "note": note})
        assert found.first_failure.what == "above chance" and found.first_failure.hint


def test_a_mean_over_seeds_is_a_whole_count_over_all_seeds():
    rows = copy.deepcopy(FULL["comparison"]["rows"])
    accuracy = (3900 + 3901 + 3903) / 3 / 5010
    rows[0] = {**row("en", accuracy, setting="x", seeds=3), "accuracy": accuracy}
    assert check_claim("comparison", {"note": "", "rows": rows}).state == "passed"
    rows[0]["seeds"] = 2
    assert check_claim("comparison", {"note": "", "rows": rows}).state == "failed"


# ---- Claims that anybody may have written ------------------------------------------------------

numbers = st.floats() | st.integers() | st.sampled_from([10**400, -1, 0, True])
texts = st.text() | st.sampled_from(["en", "fr", "sample run: toy model", "\ud800", "9" * 1001])
anything = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


def changed(draw, value):
    """The value with something put in the place of a part of it."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        value = copy.copy(value)
        if draw(st.integers(0, 9)):
            value[key] = changed(draw, value[key])
        else:
            del value[key]
        return value
    return draw(anything)


def is_readable(findings):
    assert findings.state in ("passed", "failed") and findings.found and not findings.problem
    for each in findings.found:
        assert len(each.what + each.got + each.expected + each.hint) < 500
        json.dumps([each.got, each.what], allow_nan=False).encode()
        each.got.encode()
    result = Result(findings.exercise, {}, findings)
    assert str(result) and "<table>" in result._repr_mimebundle_()["text/html"]


@settings(max_examples=300)
@given(st.data())
def test_any_claim_is_judged_without_an_exception(data):
    name = data.draw(st.sampled_from(list(RESULTS)))
    claim = FULL[name]
    for _ in range(data.draw(st.integers(1, 3))):
        claim = changed(data.draw, claim)
    is_readable(check_claim(name, claim))


def test_nested_lists_without_end_are_a_finding():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    is_readable(check_claim("fertility", deep))
    is_readable(check_claim("fertility", {"note": deep, "rows": deep}))


# ---- Claims of real runs -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tokenizer, tmp_path_factory):
    """What Tasks 1 and 2 leave, from a text of 80 lines, 12 pairs and models of width 16."""
    folder = tmp_path_factory.mktemp("runs")
    model = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    lines = (ROOT / "pretrain.txt").read_text().split("\n")[:80]
    (folder / "text.txt").write_text("\n".join(lines))
    settings = replace(TOY_PRETRAINING, epochs=2, learning_rate=1e-2, max_len=24, model=model)
    texts = TextDataset(folder / "text.txt", tokenizer, settings.max_len)
    parts = texts.split(0.1, seed=0)
    toy = pretrain(settings, *parts, runs=folder, progress=False)
    recipe = replace(FINETUNE_ENGLISH, subset=12.0)
    where = {"weights": toy.path / "model", "data": SAMPLE, "runs": folder}
    return {"toy": toy, "parts": parts, "english": finetune(recipe, **where, progress=False)}


def random_predictions(seed):
    """Return the Evaluation of guesses on a test set of the sample's size."""
    labels, guesses = np.random.default_rng(seed).integers(3, size=(2, 120)).astype(str)
    table = {"pair_id": map(str, range(120)), "label": labels, "prediction": guesses}
    return Evaluation(pd.DataFrame(table))


def test_the_notebooks_own_results_pass(runs, tokenizer):
    english = runs["english"]
    languages = {
        lang: XNLIDataset.in_folder(SAMPLE, "dev", lang, tokenizer=tokenizer, verbose=False)
        for lang in LANGUAGES
    }
    evaluations = {lang: random_predictions(seed) for seed, lang in enumerate(LANGUAGES)}
    fertility = fertility_table(languages, languages, tokenizer, max_samples=20)
    transferred = transfer_table(evaluations, fertility)
    results = [
        transfer.Result(setting, lang, random_predictions(seed), train_rows=12, seconds=1.0)
        for seed, (lang, setting) in enumerate(product(("es", "de"), SETTINGS))
    ]
    baselines = {"unigram": unigram_entropy(*map(list, runs["parts"]), 50257)}
    shown = [
        graded.toy_curve(runs["toy"], baselines, note=NOTE),
        graded.dev_accuracy(english, note=NOTE),
        graded.fifteen_accuracies(evaluations, english, note=NOTE),
        graded.fertility(fertility, note=NOTE),
        graded.selection(("es", "de"), transferred, select_languages(transferred), note=NOTE),
        graded.comparison(results_table(results), note=NOTE),
    ]
    assert [result.name for result in shown] == list(RESULTS)
    for result in shown:
        assert result.findings.state == "passed", str(result)
        bundle = result._repr_mimebundle_()
        assert bundle.keys() == {"text/plain", "text/html", MIME}
        kept = json.loads(json.dumps(bundle[MIME], allow_nan=False))
        assert kept == bundle[MIME] and kept["kind"] == "result" and kept["state"] == "passed"
        assert check_claim(kept["name"], kept["claim"]).found == result.findings.found
        count = len(result.findings.found)
        assert str(result) == f"[OK  ] {result.name}: {count} of {count} as expected"
    assert shown[0].claim["run"] == runs["toy"].path.name
    assert shown[1].claim["accuracy"] == english.result["dev_accuracy"]
    assert [shown[1].claim["low"], shown[1].claim["high"]] == english.result["dev_interval"]


def test_a_loss_that_is_not_a_number_fails_and_is_kept_as_json(runs):
    result = graded.toy_curve(runs["toy"], {"unigram": np.float32("nan")}, note=NOTE)
    assert result.claim["unigram"] is None and result.findings.state == "failed"
    assert "[FAIL] toy curve: claim.unigram: got None, expected a finite" in str(result)
    json.dumps(result._repr_mimebundle_(), allow_nan=False)


def test_a_table_without_a_column_is_a_finding():
    table = pd.DataFrame({"other": [1.0]}, index=["en"])
    failure = graded.fertility(table).findings.first_failure
    assert failure.what == "claim.rows[0].fertility" and failure.expected == "a finite number"
