"""Intervals, paired tests, and the correction for many of them."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion."""
    interval = scipy.stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(score: Callable, rows: pd.DataFrame, count: int = 300) -> tuple:
    """Return the 95 % percentile interval of `score` over resampled rows, of a fixed seed."""
    rng = np.random.default_rng(0)
    samples = (rows.iloc[rng.integers(len(rows), size=len(rows))] for _ in range(count))
    low, high = np.percentile([score(sample) for sample in samples], [2.5, 97.5])
    return float(low), float(high)


def mcnemar(first, second) -> float:
    """Return the exact two-sided p-value of "both evaluations are right equally often".

    The evaluations must be of the same pairs, in any order; else ValueError.
    """
    a, b = _same_pairs([first], [second], "accuracy")
    differ = int((a != b).sum())
    return float(scipy.stats.binomtest(int((a > b).sum()), differ).pvalue) if differ else 1.0


def p_text(p: float) -> str:
    """Return a p-value as text: "p = 0.012", or "p < 1e-300" where a float holds no less."""
    return f"p = {p:.2g}" if p > 1e-300 else "p < 1e-300"


def paired_test(first: Sequence, second: Sequence, measure: str = "accuracy") -> float:
    """Return the two-sided p-value of "both are equally good on the same pairs", over seeds.

    `first` and `second` hold an evaluation for each seed, `measure` is "accuracy" or "loss". Each
    pair's mean over the seeds is compared: the signs of the differences are changed at random,
    9,999 times. (For the accuracy of one seed each, `mcnemar` is the exact form of this test.) It
    generalizes to other pairs and not to other seeds, whose spread stands beside it.
    """
    if measure == "accuracy" and len(first) == len(second) == 1:
        return mcnemar(first[0], second[0])
    a, b = _same_pairs(first, second, measure)
    differences = (b - a)[a != b].to_numpy()
    if len(differences) < 2:
        return 1.0  # of one, both signs are as likely
    settings = {"permutation_type": "samples", "batch": 1000, "random_state": 0}
    return float(scipy.stats.permutation_test((differences,), np.mean, **settings).pvalue)


def _same_pairs(first: Sequence, second: Sequence, measure: str) -> tuple[pd.Series, pd.Series]:
    """Return each pair's mean value over the evaluations of either side, in the same order."""
    values = [evaluation.by_pair(measure) for evaluation in (*first, *second)]
    for each in values:
        if repeated := each.index[each.index.duplicated()].tolist():
            raise ValueError(f"a paired test needs each pair once; pair {repeated[0]} is repeated")
    pairs = set(values[0].index)
    if not all(set(each.index) == pairs for each in values):
        raise ValueError("a paired test needs the same pairs in all evaluations")
    table = pd.concat(values, axis=1).sort_index()
    return table.iloc[:, : len(first)].mean(axis=1), table.iloc[:, len(first) :].mean(axis=1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979), in the same order."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()
