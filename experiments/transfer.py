"""Task 3's comparisons: which languages English carries over to, and what training on them adds.

Handout sections 5.1 to 5.4. Everything here works on kept answers; no model is needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from experiments.evaluation import Evaluation
from experiments.statistics import mcnemar, wilson_interval
from utils import atomic_write

CHANCE = 1 / 3


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979), in the same order."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()


# ---- Zero-shot transfer and the choice of languages --------------------------------------------


def transfer_table(evaluations: dict[str, Evaluation], fertility: pd.DataFrame) -> pd.DataFrame:
    """A row a language, best first: accuracy with 95 % interval, n, the one-sided exact p-value
    of doing no better than chance, corrected (Holm) for the languages other than English, and
    the columns of `fertility` (see gpt2.fertility.fertility_table)."""
    rows = {}
    for lang, evaluation in evaluations.items():
        low, high = evaluation.interval
        n = len(evaluation.predictions)
        correct = round(evaluation.accuracy * n)
        p = binomtest(correct, n, CHANCE, alternative="greater").pvalue
        rows[lang] = {"accuracy": evaluation.accuracy, "low": low, "high": high, "n": n, "p": p}
    table = pd.DataFrame.from_dict(rows, orient="index")
    others = [lang for lang in table.index if lang != "en"]
    table["p corrected"] = table["p"]
    table.loc[others, "p corrected"] = holm(table.loc[others, "p"].tolist())
    table = table.join(fertility)
    return table.sort_values("accuracy", ascending=False)


def correlation(table: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Spearman's rho of zero-shot accuracy and a measure over the languages other than English,
    and its p-value; not a number where all are equally accurate."""
    others = table.drop(index="en", errors="ignore")
    if others["accuracy"].nunique() < 2:
        return float("nan"), float("nan")
    found = spearmanr(others["accuracy"], others[measure])
    return float(found.statistic), float(found.pvalue)


def select_languages(
    table: pd.DataFrame,
    *,
    measure: str = "premium",
    threshold: float = 2.0,
    alpha: float = 0.05,
) -> list[str]:
    """The languages that GPT-2 can be expected to carry, of a `transfer_table`, best first.

    The rule: zero-shot accuracy above chance at level `alpha` after correction, and a tokenizer
    `measure` of at most `threshold` (twice the tokens of English for the same content). English
    is not among them.
    """
    chosen = (table["p corrected"] < alpha) & (table[measure] <= threshold)
    return [lang for lang in table.index[chosen] if lang != "en"]


# ---- Settings compared -------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What one trained model answers in one language, and what its training took."""

    setting: str  # such as "zero-shot"
    lang: str
    evaluation: Evaluation
    train_rows: int  # examples seen, over all epochs
    seconds: float  # of training
    seed: int = 0


def results_table(answers: Sequence[Answers]) -> pd.DataFrame:
    """A row for every language and setting: accuracy with 95 % interval, n, train rows, seconds.

    Of several seeds: their mean accuracy, its standard deviation in `std`, and the interval that
    as many pairs give at the mean (the pairs' chance, not the seeds').
    """
    rows = []
    for (lang, setting), group in _by(answers).items():
        accuracies = [a.evaluation.accuracy for a in group]
        accuracy, n = float(np.mean(accuracies)), len(group[0].evaluation.predictions)
        low, high = wilson_interval(round(accuracy * n), n)
        rows.append(
            {
                "language": lang,
                "setting": setting,
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "std": float(np.std(accuracies, ddof=1)) if len(group) > 1 else np.nan,
                "seeds": len(group),
                "n": n,
                "train rows": group[0].train_rows,
                "seconds": float(np.mean([a.seconds for a in group])),
            }
        )
    return pd.DataFrame(rows)


def readable(results: pd.DataFrame) -> pd.DataFrame:
    """A `results_table` with a row a language and a column a setting, as "57.9 [56.5, 59.3]", or
    as "57.9 (0.5)", mean (standard deviation), where there are several seeds. In per cent."""

    def cell(row: pd.Series) -> str:
        accuracy = f"{100 * row['accuracy']:.1f}"
        if row["seeds"] > 1:
            return f"{accuracy} ({100 * row['std']:.1f})"
        return f"{accuracy} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"

    texts = results.assign(text=results.apply(cell, axis=1))
    wide = texts.pivot(index="language", columns="setting", values="text")
    in_order = {name: list(dict.fromkeys(results[name])) for name in ("language", "setting")}
    return wide.loc[in_order["language"], in_order["setting"]].fillna("")


def differences(answers: Sequence[Answers]) -> pd.DataFrame:
    """A row for every two settings of a language: second minus first accuracy, the exact McNemar
    p-value on their common pairs, and the same corrected (Holm) for all rows.

    Of several seeds the first is compared.
    """
    first = {key: group[0] for key, group in _by(answers).items()}
    rows = []
    for lang in dict.fromkeys(a.lang for a in answers):
        settings = [setting for other, setting in first if other == lang]
        for a, b in combinations(settings, 2):
            one, two = first[lang, a].evaluation, first[lang, b].evaluation
            rows.append(
                {
                    "language": lang,
                    "first": a,
                    "second": b,
                    "difference": two.accuracy - one.accuracy,
                    "p": mcnemar(one, two),
                }
            )
    table = pd.DataFrame(rows, columns=["language", "first", "second", "difference", "p"])
    return table.assign(**{"p corrected": holm(table["p"].tolist())})


def export(table: pd.DataFrame, folder, name: str, *, caption: str = "") -> list[Path]:
    """Write `<folder>/<name>.csv`, with every digit, and `.md` and `.tex` (booktabs, as in ACL
    papers), with three; p-values below 0.001 are said to be that."""
    short = _short(table)
    latex = short.to_latex(
        index=False, escape=True, caption=caption or None, label=f"tab:{name}", position="t"
    )
    markdown = short.to_markdown(index=False, disable_numparse=True)
    texts = {
        "csv": table.to_csv(),
        "md": (f"{caption}\n\n" if caption else "") + markdown + "\n",
        "tex": latex,
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(Path(folder) / f"{name}.{suffix}")
        with atomic_write(paths[-1]) as path:
            path.write_text(text, encoding="utf-8")
    return paths


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell, those of the index too, as the text that a reader wants."""

    def text(column: str, value) -> str:
        if not isinstance(value, float):
            return str(value)
        if math.isnan(value):
            return ""
        if column.split(" ")[0] == "p" and value < 0.001:
            return "<0.001"
        return f"{value:.1f}" if column == "seconds" else f"{value:.3f}"

    names = [name or "" for name in table.index.names]
    flat = table.reset_index(names=names)
    return pd.DataFrame({str(c): [text(str(c), v) for v in flat[c].tolist()] for c in flat})


def _by(answers: Sequence[Answers]) -> dict[tuple[str, str], list[Answers]]:
    """Those of a language and setting together, by seed; in the order in which they came."""
    groups: dict[tuple[str, str], list[Answers]] = {}
    for each in answers:
        groups.setdefault((each.lang, each.setting), []).append(each)
    for (lang, setting), group in groups.items():
        group.sort(key=lambda a: a.seed)
        if len({a.seed for a in group}) < len(group):
            raise ValueError(f"{lang}, {setting}: two answers with the same seed")
    return groups
