"""The comparison of methods: rates chosen on dev, a result for every run, one row a method."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from config import FINETUNE_ENGLISH
from extensions import bitfit, claims, costs, lora
from extensions.comparison import (
    compression_table,
    dominated,
    finetuning_table,
    language_table,
    measure,
    time_models,
)
from extensions.frontier import Frontier
from extensions.methods import COMPRESSIONS, FULL, METHODS, Method, students
from extensions.models import ModelStudy
from extensions.plots import plot_frontier
from gpt2.text import TextDataset, text_loader
from tests import ROOT, SAMPLE, few_pairs
from tests.small import save_small_gpt2, small_tokenizer

pytestmark = pytest.mark.all
QUICK = replace(FINETUNE_ENGLISH, subset=24.0, epochs=1, learning_rate=2e-3)
FEW = {
    FULL: Method(None, (0.1, 1)),
    "LoRA": Method(partial(lora.attach, rank=2), (1, 5)),
    "BitFit": Method(bitfit.attach, (1,)),
}
STUDENTS = {
    name: replace(students(2)[name], rates=(1,))
    for name in ("student, teacher", "student, labels alone")
}
SMALLER = {name: COMPRESSIONS[name] for name in ("int8", "2 bits, nearest", "2 bits, GPTQ")}


@pytest.fixture(scope="module")
def frontier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frontier")
    _, text = TextDataset(ROOT / "pretrain.txt", small_tokenizer(), 32).split(0.002)
    where = {
        "weights": save_small_gpt2(folder / "weights", hidden_size=64, num_hidden_layers=2),
        "data": few_pairs(folder / "data", 12),
        "runs": folder / "runs",
    }
    frontier = Frontier(QUICK, **where, text=text_loader(text, 8), seeds=(0, 1), languages=["de"])
    frontier.methods, frontier.compressions = FEW | STUDENTS, SMALLER
    return frontier


@pytest.fixture(scope="module")
def results(frontier):
    names = (*frontier.methods, *frontier.compressions)
    times = time_models(frontier, names, turns=1)
    return [measure(frontier, name, seed) | times[name] for name in names for seed in (0, 1)]


def test_the_rate_is_the_best_on_dev(frontier, capsys):
    for method, rates in ((FULL, (0.1, 1)), ("LoRA", (1, 5))):
        dev = {rate: frontier.run(method, rate, 0).result["dev_accuracy"] for rate in rates}
        assert dev[frontier.rate(method)] == max(dev.values())
    assert "LoRA: dev accuracy by learning rate: 2.0e-03" in capsys.readouterr().out


def test_every_run_is_measured_and_every_method_has_a_row(frontier, results):
    runs = {(result["method"], result["seed"]): result for result in results}
    assert len(runs) == len(results) == 2 * (len(FEW | STUDENTS) + len(SMALLER))
    table = finetuning_table(frontier, [r for r in results if r["method"] in FEW])
    assert table.index.tolist() == list(FEW) and table.loc[FULL, "p"] == 1
    for method in FEW:
        accuracies = [runs[method, seed]["accuracy"]["en"] for seed in (0, 1)]
        assert table.loc[method, "accuracy"] == pytest.approx(sum(accuracies) / 2)
    full, low_rank = runs[FULL, 0], runs["LoRA", 0]
    for cost in ("trained", "bytes", "training_bytes"):
        assert low_rank[cost] < full[cost]
    assert full["trained"] == costs.trainable(frontier.run(FULL, 1, 0).model())
    labels = [label.get_text() for label in plot_frontier(table).axes[0].get_yticklabels()]
    assert len(labels) == 3 and labels[-1] == f"{FULL}  ({full['trained']:,})"


def test_smaller_models_are_changed_after_training(frontier, results):
    smaller = [r for r in results if r["method"] not in ("LoRA", "BitFit")]
    table = compression_table(frontier, smaller)
    assert table.index.tolist() == [FULL, *STUDENTS, *SMALLER]
    assert (table.loc[[*SMALLER], "MB"] < table.loc[FULL, "MB"]).all()
    assert (table.loc[[*STUDENTS], "MFLOPs a pair"] < table.loc[FULL, "MFLOPs a pair"]).all()
    taught, alone = (
        frontier.trained(name, 0) for name in ("student, teacher", "student, labels alone")
    )
    assert taught.path != alone.path and len(taught.model().gpt_layers) == 1
    languages = language_table(results)
    assert list(languages) == ["en", "de"] and len(languages) == len(results) / 2


def test_claims_compare_the_same_pairs_with_every_seed(frontier):
    table = claims.claims_table(frontier)
    texts = {claim.text: claim for claim in (claims.AS_GOOD, claims.FEW, *claims.SMALLER)}
    there = {*FEW, *STUDENTS, *SMALLER}
    known = [t for t, c in texts.items() if c in claims.SMALLER and {c.first, c.second} <= there]
    assert table.index.tolist() == [claims.AS_GOOD.text, claims.FEW.text, *known]
    assert (table["second"] - table["first"] - table["difference"]).abs().max() < 1e-12
    low = texts["GPTQ has a lower loss, 2 bits"]
    losses = [frontier.evaluations(low.second, seed)["en"].loss for seed in (0, 1)]
    assert table.loc[low.text, "second"] == pytest.approx(sum(losses) / 2)
    assert claims.sweep(frontier, "layers").index.tolist() == [1, 2]


def test_what_is_more_accurate_and_cheaper_dominates():
    table = pd.DataFrame(
        {"accuracy": [0.9, 0.8, 0.9, 0.7], "MB": [4, 4, 2, 1]}, index=["a", "b", "c", "d"]
    )
    assert dominated(table, "MB") == ["c", "a", "", ""]
    assert dominated(table.iloc[[0, 0]], "MB") == ["", ""]  # equal ones do not


def test_a_comparison_of_a_seed_with_itself_is_refused(tmp_path):
    where = {"data": tmp_path, "seeds": (1, 0, 1)}
    for study in (
        lambda: Frontier(QUICK, weights=tmp_path, text=None, **where),
        lambda: ModelStudy(QUICK, ["gpt2"], runs=tmp_path, **where),
    ):
        with pytest.raises(ValueError, match=r"seeds must differ .*, got \(1, 0, 1\)"):
            study()


def test_a_comparison_needs_full_finetuning(tmp_path):
    where = {"weights": tmp_path, "data": SAMPLE, "text": None}
    with pytest.raises(ValueError, match="methods must have 'full'"):
        Frontier(QUICK, **where, methods={"LoRA": FEW["LoRA"]})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prepares_a_model_and_has_rates_to_choose_from(method, tiny_model):
    assert len(METHODS[method].rates) >= 3
    before = costs.trainable(tiny_model)
    if METHODS[method].prepare is not None:
        METHODS[method].prepare(tiny_model)
        assert 0 < costs.trainable(tiny_model) < before
