"""Intervals and paired tests."""

from scipy.stats import binomtest


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion."""
    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first, second) -> float:
    """Exact two-sided p-value of the hypothesis that both are right equally often.

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
