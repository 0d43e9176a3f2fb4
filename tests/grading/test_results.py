"""The checks of results: what the package makes passes, what is wrong is named, nothing raises."""

import copy
import json
import math
from dataclasses import replace
from itertools import product

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import FINETUNE_ENGLISH, TOY_PRETRAINING
from experiments import transfer
from experiments.evaluation import Evaluation
from experiments.fertility import measure_fertility
from experiments.finetuning import finetune
from experiments.pretraining import pretrain
from experiments.profiles import SAMPLE as PROFILE
from experiments.statistics import wilson_interval
from experiments.transfer import results_table, select_languages, transfer_table
from gpt2.text import TextDataset, unigram_entropy
from gpt2.xnli import LANGUAGES
from grading.checks import results as graded
from grading.checks.results import MIME, RESULTS, SETTINGS, Result, check_claim
from grading.edition.release import NOTEBOOK
from tests import ROOT, SAMPLE

NOTE = "sample run: embedded text, toy model, embedded NLI set"


CELLS = {cell.id: cell for cell in nbformat.read(ROOT / NOTEBOOK, as_version=4).cells}
SHOWN = {name: CELLS[f"result-{name.replace(' ', '-')}"].outputs[0].data for name in RESULTS}
CLAIMS = {name: data[MIME]["claim"] for name, data in SHOWN.items()}  # of the committed notebook
DEV, FIFTEEN = CLAIMS["dev accuracy"], CLAIMS["fifteen accuracies"]


def row(language, accuracy, n, **more):
    correct = round(accuracy * n)
    low, high = wilson_interval(correct, n)
    return {"language": language, "accuracy": correct / n, "low": low, "high": high, "n": n, **more}


def changed(claim, where, value):
    """Return the claim with another value somewhere in it."""
    claim = copy.deepcopy(claim)
    place = claim
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    return claim


@pytest.mark.parametrize("name", RESULTS)
def test_what_the_committed_notebook_shows_is_what_the_check_says(name):
    result = Result(name, CLAIMS[name], check_claim(name, CLAIMS[name]))
    assert result.findings.state == "passed" and result._repr_mimebundle_() == SHOWN[name]


WRONG = [  # name, where in the claim, what stands there instead, which finding fails
    ("toy curve", ["note"], "sample run: no time", "note"),
    ("toy curve", ["first_loss"], 2.9, "first step"),
    ("toy curve", ["train_loss"], [5.33, 5.40, 2.75], "training loss"),
    ("toy curve", ["train_loss"], [5.33], "losses"),
    ("toy curve", ["train_loss", 2], None, "claim.train_loss[2]"),
    ("toy curve", ["held_out_loss"], [9.0, 8.0, 7.0], "held-out loss"),
    ("toy curve", ["unigram"], 12.0, "held-out loss"),
    ("toy curve", ["held_out_loss"], [0.34, 0.25, 0.2], "held-out loss"),  # over 12 batches
    ("toy curve", ["held_out_loss"], [0.02, 0.02, 2.38], "held-out loss"),
    ("toy curve", ["unigram"], math.nan, "claim.unigram"),
    ("dev accuracy", ["accuracy"], 0.981, "accuracies"),
    ("dev accuracy", ["low"], 0.985, "accuracies"),
    ("dev accuracy", ["n"], 2000, "pairs"),
    ("dev accuracy", ["n"], True, "claim.n"),
    ("dev accuracy", ["n"], 10**400, "claim.n"),
    ("dev accuracy", ["language"], "fr", "language"),
    ("dev accuracy", ["note"], NOTE, "pairs"),
    ("fifteen accuracies", ["rows", 3, "language"], "es", "languages"),
    ("fifteen accuracies", ["rows"], [*FIFTEEN["rows"], row("it", 0.4, 1800)], "languages"),
    ("fifteen accuracies", ["rows", 3, "n"], 5009, "pairs"),
    ("fifteen accuracies", ["rows", 3, "accuracy"], 1.5, "accuracies"),
    ("fifteen accuracies", ["rows", 0], row("en", 0.33, 1800), "English above chance"),
    ("fifteen accuracies", ["rows"], [DEV] * 1001, "claim.rows"),
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
    ("selection", ["rows", 0, "language"], "de", "zero-shot accuracies"),
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
    findings = check_claim(name, changed(CLAIMS[name], where, value))
    assert findings.state == "failed" and findings.first_failure.what == what, findings.found
    assert findings.first_failure.got and findings.first_failure.expected


@pytest.mark.parametrize(
    ("note", "dev", "test", "learns"),
    [
        ("", 2490, 5010, True),
        ("sample run: embedded text", 2490, 5010, True),  # which is Task 1's alone
        (PROFILE.note, 300, 1800, True),
        (NOTE, 60, 120, False),
    ],
)
def test_pairs_and_chance_are_those_of_the_notes_data(note, dev, test, learns):
    rows = [row(lang, 0.7, test) for lang in LANGUAGES]
    fifteen = check_claim("fifteen accuracies", {**FIFTEEN, "note": note, "rows": rows})
    good = check_claim("dev accuracy", {**DEV, "note": note, **row("en", 0.7, dev)})
    assert fifteen.state == good.state == "passed"
    chance = check_claim("dev accuracy", {**DEV, "note": note, **row("en", 0.35, dev)})
    if learns:
        assert chance.first_failure.what == "above chance" and chance.first_failure.hint
    else:
        expected = "not expected of a sample run (toy model, embedded NLI set)"
        assert chance.state == "passed" and chance.found[-1].expected.endswith(expected)


def test_a_mean_over_seeds_is_a_whole_count_over_all_seeds():
    mean = row("en", 0.78, 1800, setting="x")
    mean["accuracy"] = (1400 + 1401 + 1403) / 3 / 1800
    for seeds, state in ((3, "passed"), (2, "failed")):
        claim = changed(CLAIMS["comparison"], ["rows", 0], {**mean, "seeds": seeds})
        assert check_claim("comparison", claim).state == state


# ---- Claims that anybody may have written ------------------------------------------------------

numbers = st.floats() | st.integers() | st.sampled_from([10**400, -1, 0, True])
texts = st.text() | st.sampled_from(["en", "fr", "sample run: toy model", "\ud800", "9" * 1001])


def anything(texts):
    """Any value that JSON has."""
    return st.recursive(
        st.none() | numbers | texts,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
        max_leaves=20,
    )


def mutated(draw, value, texts):
    """The value with something put in the place of a part of it, or a part taken out."""
    if not (isinstance(value, dict | list) and value and draw(st.integers(0, 6))):
        return draw(anything(texts))
    value = copy.copy(value)
    key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    if draw(st.integers(0, 9)):
        value[key] = mutated(draw, value[key], texts)
    else:
        del value[key]
    return value


def nested(depth=100_000):
    """A list in a list, and so on."""
    deep = []
    for _ in range(depth):
        deep = [deep]
    return deep


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
    claim = CLAIMS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        claim = mutated(data.draw, claim, texts)
    is_readable(check_claim(name, claim))


def test_nested_lists_without_end_are_a_finding():
    for claim in (nested(), {"note": nested(), "rows": nested()}):
        is_readable(check_claim("fertility", claim))


# ---- Claims of real runs -----------------------------------------------------------------------


def random_predictions(seed):
    """Return the Evaluation of guesses on a test set of the sample's size."""
    labels, guesses = np.random.default_rng(seed).integers(3, size=(2, 120)).astype(str)
    table = {"pair_id": map(str, range(120)), "label": labels, "prediction": guesses}
    return Evaluation(pd.DataFrame(table))


def test_results_of_real_runs_pass(tokenizer, tmp_path):
    """Of what Tasks 1 and 2 leave, from a text of 80 lines, 12 pairs and models of width 16."""
    lines = (ROOT / "pretrain.txt").read_text().split("\n")[:80]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    model = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = replace(TOY_PRETRAINING, epochs=2, learning_rate=1e-2, max_len=24, model=model)
    parts = TextDataset(tmp_path / "text.txt", tokenizer, settings.max_len).split(0.1, seed=0)
    toy = pretrain(settings, *parts, runs=tmp_path, progress=False)
    baselines = {"unigram": unigram_entropy(*map(list, parts), 50257)}
    where = {"weights": toy.path / "model", "data": SAMPLE, "runs": tmp_path}
    english = finetune(replace(FINETUNE_ENGLISH, subset=12.0), **where, progress=False)
    evaluations = {lang: random_predictions(seed) for seed, lang in enumerate(LANGUAGES)}
    transferred = transfer_table(evaluations, measure_fertility(SAMPLE, max_samples=20))
    results = [
        transfer.Result(setting, lang, random_predictions(seed), train_rows=12, seconds=1.0)
        for seed, (lang, setting) in enumerate(product(("es", "de"), SETTINGS))
    ]
    shown = [
        graded.toy_curve(toy, baselines, note=NOTE),
        graded.dev_accuracy(english, note=NOTE),
        graded.fifteen_accuracies(evaluations, english, note=NOTE),
        graded.fertility(transferred, note=NOTE),
        graded.selection(("es", "de"), transferred, select_languages(transferred), note=NOTE),
        graded.comparison(results_table(results), note=NOTE),
    ]
    assert [result.name for result in shown] == list(RESULTS)
    for result in shown:
        assert result.findings.state == "passed", str(result)
        saved = json.loads(json.dumps(result._repr_mimebundle_()[MIME], allow_nan=False))
        assert saved["claim"] == result.claim
    assert shown[0].claim["run"] == toy.path.name
    assert shown[1].claim["accuracy"] == english.result["dev_accuracy"]
    assert [shown[1].claim["low"], shown[1].claim["high"]] == english.result["dev_interval"]


@pytest.mark.parametrize("column", ["other", "fertility"])
def test_what_is_no_number_or_not_there_is_a_finding(column):
    result = graded.fertility(pd.DataFrame({column: np.float32(["nan"])}, index=["en"]))
    what = "claim.rows[0].fertility: got None, expected a finite number"
    assert str(result).startswith(f"[FAIL] fertility: {what}")
    json.dumps(result._repr_mimebundle_(), allow_nan=False)
