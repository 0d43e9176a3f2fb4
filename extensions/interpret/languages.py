"""Which numbers inside the model go with zero-shot accuracy, over the languages?

For every language but English: how well its sentences are aligned with their translations (CKA and
retrieval, mean over the states after the blocks), how spread its attention is (entropy, mean over
the heads), its token premium, and its share of the pretraining text, beside zero-shot accuracy.
Spearman's ρ compares the orders; its interval is of a bootstrap over languages, p of random
permutations.

    accuracy ▲        • es          ρ = 1: the same order; with few points ρ is uncertain, and
             │    • fr    • de      points of related languages count less than their number says
             │ •  •  •              (Galton's problem)
             └──────────▶ alignment
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from data.miniature.pretrain import STAGES
from experiments.statistics import holm
from extensions.interpret.heads import head_summaries
from extensions.interpret.plots import plot_against
from extensions.interpret.similarity import alignment
from extensions.interpret.study import Answer, Study, prompts
from gpt2.fertility import count_tokens

MEASURES = ("retrieval", "CKA", "entropy", "premium", "pretraining share")
RESAMPLES = 9999
ATTENTION_PAIRS = 150  # of each language


def language_question(study: Study) -> Answer:
    """Relate alignment, entropy and token premium to zero-shot accuracy."""
    aligned = alignment(study.sentence_states)
    table = language_table(study, aligned).drop(index="en")
    found = pd.DataFrame({m: spearman(table[m], table["accuracy"]) for m in MEASURES}).T
    found = found.rename_axis("measure")
    found["p corrected"] = holm(found["p"].tolist())
    titles = [
        f"ρ = {row['ρ']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for _, row in found.iterrows()
    ]
    return Answer(
        "What goes with zero-shot accuracy over the languages?",
        [_found(found), _bearing(table, found)],
        {
            "languages": table,
            "languages_correlations": found,
            "languages_alignment": aligned.set_index(["language", "state"]),
        },
        plot_against(table, MEASURES, titles),
    )


def language_table(study: Study, aligned: pd.DataFrame) -> pd.DataFrame:
    """Return a row a language: zero-shot accuracy with its interval, the share of predictions that
    are a label, and the measures."""
    after_blocks = aligned[aligned["state"] > 0].groupby("language")[["retrieval", "CKA"]].mean()
    english = _tokens(study, "en")
    last_stages = STAGES["headers"][-1].shares
    rows = {}
    for lang, evaluation in study.zero_shot.items():
        low, high = evaluation.interval
        ids = prompts(study.some(lang))[:ATTENTION_PAIRS]
        heads = head_summaries(study.model, study.tokenizer, ids)
        rows[lang] = {
            "accuracy": evaluation.accuracy,
            "low": low,
            "high": high,
            "answered": 1 - evaluation.share_without_label,
            "entropy": heads["entropy"].mean(),
            "premium": _tokens(study, lang) / english,
            "pretraining share": last_stages.get(lang, 0) / 100,
        }
    table = pd.DataFrame.from_dict(rows, "index").join(after_blocks)
    return table.sort_values("accuracy", ascending=False).rename_axis("language")


def spearman(x: pd.Series, y: pd.Series, seed: int = 0) -> dict[str, float]:
    """Return Spearman's ρ, its 95 % percentile bootstrap interval, and the two-sided p-value of
    "no relation" by random permutations."""
    rng, x, y = np.random.default_rng(seed), x.to_numpy(float), y.to_numpy(float)
    rho = float(rank_correlation(x[None], y[None])[0])
    chosen = rng.integers(len(x), size=(RESAMPLES, len(x)))
    resampled = rank_correlation(x[chosen], y[chosen])
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    shuffled = rng.permuted(np.tile(y, (RESAMPLES, 1)), axis=1)
    as_large = np.abs(rank_correlation(np.tile(x, (RESAMPLES, 1)), shuffled)) >= abs(rho) - 1e-12
    p = (as_large.sum() + 1) / (RESAMPLES + 1)
    return {"ρ": rho, "low": float(low), "high": float(high), "p": float(p)}


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's ρ of each row of (n, points) with the same row; NaN without variance."""
    x, y = (rankdata(each, axis=1) for each in (x, y))
    x, y = (each - each.mean(axis=1, keepdims=True) for each in (x, y))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), scale, out=np.full(len(x), np.nan), where=scale > 0)


def least_rho(points: int, level: float = 0.05, seed: int = 0) -> float:
    """Return the |ρ| that so many points exceed with probability `level` without any relation."""
    rng, ranks = np.random.default_rng(seed), np.arange(points, dtype=float)
    ranks = np.tile(ranks, (RESAMPLES, 1))
    return float(
        np.quantile(np.abs(rank_correlation(ranks, rng.permuted(ranks, axis=1))), 1 - level)
    )


def _tokens(study: Study, lang: str) -> int:
    data = study.rows("dev", lang).data
    return sum(count_tokens([*data["premise"], *data["hypo"]], study.tokenizer))


def _found(found: pd.DataFrame) -> str:
    parts = [
        f"{measure} {row['ρ']:.2f} [{row['low']:.2f}, {row['high']:.2f}] "
        f"(p corrected {row['p corrected']:.2g})"
        for measure, row in found.iterrows()
    ]
    return f"Spearman's ρ with zero-shot accuracy: {', '.join(parts)}."


def _bearing(table: pd.DataFrame, found: pd.DataFrame) -> str:
    n, level = len(table), 0.05
    above = int((table["low"] > 1 / 3).sum())
    signs = found.index[found["p corrected"] < level]
    width = (found["high"] - found["low"]).mean()
    return (
        f"What {n} points can bear: without any relation |ρ| exceeds {least_rho(n):.2f} in one of "
        f"20 samples (for {len(found)} measures together: {least_rho(n, level / len(found)):.2f}); "
        f"the intervals are {width:.2f} wide on average. That bears a sign for "
        f"{', '.join(signs) or 'none of the measures'}, but no ranking of the measures, which go "
        f"together, and no cause. Only {above} of the {n} languages are above chance; the order of "
        f"the other {n - above} says how often they answer with a digit at all."
    )
