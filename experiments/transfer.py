"""Compare Task 3's settings: which languages English transfers to, and what training on them adds.

Handout sections 5.1 to 5.4. Everything here works on saved predictions; no model is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
import scipy

from experiments.evaluation import Evaluation
from experiments.statistics import holm, mcnemar, wilson_interval

CHANCE = 1 / 3


def transfer_table(evaluations: dict[str, Evaluation], fertility: pd.DataFrame) -> pd.DataFrame:
    """Return a row a language, best first: accuracy with 95 % interval, n, the one-sided exact
    p-value of "no better than chance", the same corrected (Holm) for the languages other than
    English, and the columns of `fertility` (see experiments.fertility)."""
    rows = {}
    for lang, evaluation in evaluations.items():
        (low, high), n = evaluation.interval, len(evaluation.predictions)
        p = scipy.stats.binomtest(
            round(evaluation.accuracy * n), n, CHANCE, alternative="greater"
        ).pvalue
        rows[lang] = {"accuracy": evaluation.accuracy, "low": low, "high": high, "n": n, "p": p}
    table = pd.DataFrame.from_dict(rows, orient="index")
    others = [lang for lang in table.index if lang != "en"]
    table["p corrected"] = table["p"]
    table.loc[others, "p corrected"] = holm(table.loc[others, "p"].tolist())
    return table.join(fertility).sort_values("accuracy", ascending=False)


def correlation(table: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Return Spearman's rho of zero-shot accuracy and a measure over the languages other than
    English, and its p-value; NaN where all are equally accurate."""
    others = table.drop(index="en", errors="ignore")
    if others["accuracy"].nunique() < 2:
        return float("nan"), float("nan")
    result = scipy.stats.spearmanr(others["accuracy"], others[measure])
    return float(result.statistic), float(result.pvalue)


def select_languages(
    table: pd.DataFrame, *, threshold: float = 2.0, alpha: float = 0.05
) -> list[str]:
    """Return the languages of a `transfer_table` that GPT-2 supports, best first, without English.

    The rule: zero-shot accuracy above chance at level `alpha` after correction, and a premium of at
    most `threshold` (twice the tokens of English for the same content).
    """
    selected = (table["p corrected"] < alpha) & (table["premium"] <= threshold)
    return [lang for lang in table.index[selected] if lang != "en"]


@dataclass(frozen=True)
class Result:
    """The predictions of one trained model in one language, and the cost of its training."""

    setting: str  # such as "zero-shot"
    lang: str
    evaluation: Evaluation
    train_rows: int  # examples seen, over all epochs
    seconds: float  # of training
    seed: int = 0


def results_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row for every language and setting: mean accuracy over the seeds with its standard
    deviation, the 95 % interval of the mean for n pairs (not for the seeds), and the cost."""
    each = pd.DataFrame([vars(result) for result in results])
    each = each.rename(columns={"lang": "language", "train_rows": "train rows"})
    each["accuracy"] = [evaluation.accuracy for evaluation in each["evaluation"]]
    each["n"] = [len(evaluation.predictions) for evaluation in each["evaluation"]]
    groups = each.groupby(["language", "setting"], sort=False)
    table = groups[["accuracy", "n", "train rows", "seconds"]].mean()
    table = table.astype({"n": int, "train rows": int})
    pairs = zip(table["accuracy"], table["n"], strict=True)
    table[["low", "high"]] = [wilson_interval(round(accuracy * n), n) for accuracy, n in pairs]
    table["std"], table["seeds"] = groups["accuracy"].std(), groups.size()  # NaN for one seed
    return table.reset_index()


def readable(results: pd.DataFrame) -> pd.DataFrame:
    """Return a `results_table` with a row a language and a column a setting, in per cent: as
    "57.9 [56.5, 59.3]", or as "57.9 (0.5)", mean (standard deviation), for several seeds."""

    def cell(row: pd.Series) -> str:
        percent = 100 * row[["accuracy", "low", "high", "std"]].astype(float)
        if row["seeds"] > 1:
            return "{accuracy:.1f} ({std:.1f})".format(**percent)
        return "{accuracy:.1f} [{low:.1f}, {high:.1f}]".format(**percent)

    texts = results.assign(text=results.apply(cell, axis=1))
    wide = texts.pivot(index="language", columns="setting", values="text").fillna("")
    return wide.loc[results["language"].unique(), results["setting"].unique()]


def differences(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row for every two settings of a language: second minus first accuracy, the exact
    McNemar p-value on their common pairs, and the same corrected (Holm) for all rows.

    Of several seeds the first result's is compared.
    """
    seed, rows = results[0].seed, []
    first = [result for result in results if result.seed == seed]
    for lang in dict.fromkeys(result.lang for result in first):
        for a, b in combinations([result for result in first if result.lang == lang], 2):
            difference = b.evaluation.accuracy - a.evaluation.accuracy
            p = mcnemar(a.evaluation, b.evaluation)
            rows.append((lang, a.setting, b.setting, difference, p))
    table = pd.DataFrame(rows, columns=["language", "first", "second", "difference", "p"])
    return table.assign(**{"p corrected": holm(table["p"].tolist())})
