"""Intervals, paired tests and corrections, against numbers computed by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from experiments.evaluation import Evaluation
from experiments.statistics import holm, mcnemar, p_text, paired_test, wilson_interval


def test_wilsons_interval_covers_as_often_as_it_says():
    low, high = wilson_interval(10, 40)
    assert (low, high) == pytest.approx((0.1419, 0.4019), abs=5e-4)  # Wilson 1927, by hand
    for p in (0.34, 0.6, 0.8):
        n = 500
        inside = [
            k for k in range(n + 1) if wilson_interval(k, n)[0] <= p <= wilson_interval(k, n)[1]
        ]
        assert binom.pmf(inside, n, p).sum() == pytest.approx(0.95, abs=0.012)


def predicted(predictions, ids=None):
    """An Evaluation of pairs whose label is "0"."""
    ids = range(len(predictions)) if ids is None else ids
    columns = {"pair_id": ids, "label": ["0"] * len(predictions), "prediction": list(predictions)}
    return Evaluation(pd.DataFrame(columns))


def test_mcnemar_counts_only_pairs_on_which_the_two_differ():
    first = predicted("0" * 18 + "11")
    second = predicted("0" * 10 + "1" * 8 + "00")
    # 8 against 2 among 10: P(X ≥ 8) = 56/1024, twice
    assert mcnemar(first, second) == pytest.approx(2 * 56 / 1024)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0
    assert list(map(p_text, (1.0, 0.0123, 0.0))) == ["p = 1", "p = 0.012", "p < 1e-300"]
    shuffled = Evaluation(second.predictions.sample(frac=1.0, random_state=0))
    assert mcnemar(first, shuffled) == mcnemar(first, second)
    with pytest.raises(ValueError, match="same pairs"):
        mcnemar(first, predicted("0" * 20, ids=range(1, 21)))


def test_a_paired_test_over_seeds_agrees_with_mcnemar_where_seeds_agree():
    first, second = predicted("0" * 18 + "11"), predicted("0" * 10 + "1" * 8 + "00")
    exact = mcnemar(first, second)
    assert paired_test([first], [second]) == exact
    assert paired_test([first] * 3, [second] * 3) == pytest.approx(exact, abs=0.01)
    assert paired_test([first] * 2, [second]) == pytest.approx(exact, abs=0.01)
    assert paired_test([first, second], [second, first]) == 1.0
    with pytest.raises(ValueError, match="same pairs"):
        paired_test([first] * 2, [second, predicted("0" * 20, ids=range(1, 21))])


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_paired_test_rejects_true_hypotheses_as_rarely_as_it_says(seeds):
    generator, p = np.random.default_rng(1), []
    for _ in range(100):
        hard = generator.random(60)  # the same pairs are hard for both
        draws = generator.random((2, seeds, 60)) < hard
        sides = [[predicted("".join("01"[int(x)] for x in row)) for row in side] for side in draws]
        p.append(paired_test(*sides))
    assert np.mean(np.array(p) < 0.05) < 0.09


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_holm_is_between_p_and_bonferroni_in_the_same_order(p):
    corrected = holm(p)
    for before, after in zip(p, corrected, strict=True):
        assert before <= after <= min(1.0, before * len(p)) + 1e-12
    ranked = [c for _, c in sorted(zip(p, corrected, strict=True))]
    assert ranked == sorted(ranked)


def test_holm_rejects_true_hypotheses_as_rarely_as_it_says():
    generator = np.random.default_rng(0)
    errors = sum(min(holm(generator.random(14).tolist())) < 0.05 for _ in range(4000))
    assert errors / 4000 == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_pair_that_differs_tells_nothing(seeds):
    first, second = predicted("0" * 30), predicted("0" * 29 + "1")
    assert paired_test([first] * seeds, [first] * (seeds - 1) + [second]) == 1.0


def test_a_repeated_pair_is_named():
    twice = predicted("0110", ids=[1, 2, 1, 3])
    with pytest.raises(ValueError, match="needs each pair once; pair 1 is repeated"):
        mcnemar(twice, twice)
