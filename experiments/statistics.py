"""Intervals, paired tests, and the correction for many of them."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion."""
    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first, second) -> float:
    """Return the exact two-sided p-value of "both evaluations are right equally often".

    The evaluations must be of the same pairs, in any order; else ValueError.
    """
    a, b = (
        (e.predictions.set_index("pair_id").pipe(lambda t: t["prediction"] == t["label"]))
        for e in (first, second)
    )
    if not a.index.is_unique or set(a.index) != set(b.index):
        raise ValueError("a paired test needs the same pairs in both evaluations")
    b = b.loc[a.index]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979), in the same order."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()
