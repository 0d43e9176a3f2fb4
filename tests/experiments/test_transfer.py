"""Task 3's comparisons, against scipy and tables computed by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, spearmanr

from experiments.evaluation import Evaluation
from experiments.statistics import holm
from experiments.transfer import (
    Result,
    correlation,
    differences,
    readable,
    results_table,
    select_languages,
    transfer_table,
)


def evaluation_with(correct, n=300, seed=None):
    """An Evaluation with this many right predictions: the first, or random ones by `seed`."""
    right = np.arange(n) < correct
    if seed is not None:
        right = np.random.default_rng(seed).permutation(right)
    labels = np.arange(n) % 3
    given = np.where(right, labels, (labels + 1) % 3)
    table = pd.DataFrame({"pair_id": map(str, range(n)), "label": labels, "prediction": given})
    return Evaluation(table.astype(str))


@pytest.fixture
def table():
    evaluations = {"en": 240, "fr": 130, "de": 125, "ur": 110, "th": 90}
    fertility = pd.DataFrame(
        {"premium": [1.0, 1.5, 1.8, 5.0, 8.0]}, index=["en", "fr", "de", "ur", "th"]
    )
    return transfer_table({k: evaluation_with(v) for k, v in evaluations.items()}, fertility)


def test_chance_is_tested_exactly_and_corrected(table):
    assert list(table.index) == ["en", "fr", "de", "ur", "th"] and (table["n"] == 300).all()
    p = [binomtest(c, 300, 1 / 3, alternative="greater").pvalue for c in (130, 125, 110, 90)]
    assert table["p"].tolist()[1:] == pytest.approx(p)
    assert table["p corrected"].tolist()[1:] == pytest.approx(holm(p))
    assert table.loc["en", "p corrected"] == table.loc["en", "p"]


def test_languages_are_chosen_by_both_parts_of_the_rule(table):
    assert select_languages(table) == ["fr", "de"]
    assert select_languages(table, threshold=1.6) == ["fr"]
    assert select_languages(table, threshold=10.0, alpha=1e-4) == []
    assert "th" not in select_languages(table, threshold=10.0)  # no better than chance


def test_the_correlation_is_scipys_over_the_other_languages(table):
    others = table.drop(index="en")
    expected = spearmanr(others["accuracy"], others["premium"])
    assert correlation(table, "premium") == pytest.approx((expected.statistic, expected.pvalue))
    assert correlation(table, "premium")[0] == pytest.approx(-1)


@pytest.fixture
def results():
    return [
        Result("zero-shot", "fr", evaluation_with(120), 900, 10.0),
        Result("per language", "fr", evaluation_with(150), 300, 20.0),
        Result("per language", "fr", evaluation_with(160, seed=1), 300, 30.0, seed=1),
        Result("zero-shot", "de", evaluation_with(120), 900, 10.0),
        Result("per language", "de", evaluation_with(121), 300, 20.0),
    ]


def test_results_have_intervals_or_mean_and_deviation_over_seeds(results):
    table = results_table(results)
    assert len(table) == 4
    fr = table[(table["language"] == "fr") & (table["setting"] == "per language")].iloc[0]
    assert fr["accuracy"] == pytest.approx((150 + 160) / 600) and fr["seeds"] == 2
    assert fr["std"] == pytest.approx(np.std([0.5, 160 / 300], ddof=1)) and fr["seconds"] == 25
    wide = readable(table)
    assert list(wide.index) == ["fr", "de"] and list(wide.columns) == ["zero-shot", "per language"]
    assert wide.loc["fr", "per language"] == "51.7 (2.4)"
    assert wide.loc["de", "zero-shot"] == "40.0 [34.6, 45.6]"


def test_differences_are_paired_and_corrected(results):
    table = differences(results)
    assert table["language"].tolist() == ["fr", "de"]
    assert table["difference"].tolist() == pytest.approx([0.1, 1 / 300])
    # all 120 of the first are among the 150 of the second: 30 pairs differ, one way
    assert table["p"].tolist() == pytest.approx([2 * 0.5**30, 1.0])
    assert table["p corrected"].tolist() == holm(table["p"].tolist())


def test_differences_are_of_the_first_seed_given():
    rows = [("zero-shot", 100, 3), ("all", 90, 3), ("zero-shot", 80, 1), ("all", 120, 1)]
    results = [Result(s, "fr", evaluation_with(n), 1, 1.0, seed=seed) for s, n, seed in rows]
    assert differences(results)["difference"].tolist() == [pytest.approx(-10 / 300)]
