"""Intervals, paired tests, and the correction for many of them."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion."""
    interval = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first, second) -> float:
    """Return the exact two-sided p-value of "both evaluations are right equally often".

    The evaluations must be of the same pairs, in any order; else ValueError.
    """
    tables = (evaluation.predictions.set_index("pair_id") for evaluation in (first, second))
    a, b = (table["prediction"] == table["label"] for table in tables)
    if not a.index.is_unique or set(a.index) != set(b.index):
        raise ValueError("a paired test needs the same pairs in both evaluations")
    only_a = int((a & ~b.loc[a.index]).sum())
    differ = int((a != b.loc[a.index]).sum())
    return float(binomtest(only_a, differ).pvalue) if differ else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979), in the same order."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()
