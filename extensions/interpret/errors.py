"""On which phenomena are the errors, and where are there more of them?

A phenomenon is what one has to know to tell a pair's labels apart (data/miniature/world.py):
places, names, numbers and so on. Shares of errors have Wilson's interval. Where two evaluations of
the same pairs are compared, the interval is of a bootstrap that resamples premises, whose three
pairs belong together, and the p-value of a paired test.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data.miniature.files import phenomena
from experiments.evaluation import Evaluation
from experiments.statistics import paired_test, wilson_interval
from extensions.interpret.plots import plot_intervals
from extensions.interpret.study import Answer, Study, mean_interval

ALL = "all pairs"


def phenomenon_question(study: Study) -> Answer:
    """Group the errors by phenomenon in English and the languages above chance."""
    groups, parts = phenomenon_groups(study), {}
    for lang, evaluation in study.zero_shot.items():
        if lang == "en" or evaluation.interval[0] > 1 / 3:
            parts[lang] = error_table([evaluation], groups)
    errors = pd.concat(parts, names=["language"]).reset_index(0)
    english = parts["en"].set_index("group").drop(ALL)
    hardest, easiest = english["value"].idxmax(), english["value"].idxmin()
    transfer = errors[(errors["language"] != "en") & (errors["group"] != ALL)]
    mean = transfer.groupby("group")["value"].mean()
    cells = {name: english.loc[name] for name in (hardest, easiest)}
    said = [
        f"{name} ({row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}])"
        for name, row in cells.items()
    ]
    return Answer(
        "On which phenomena are the errors?",
        [
            f"In English most errors are on {said[0]}, fewest on {said[1]}; in the "
            f"{len(parts) - 1} other languages above chance most are on {mean.idxmax()} "
            f"({mean.max():.0%} on average), fewest on {mean.idxmin()} ({mean.min():.0%})."
        ],
        {"phenomena": errors.set_index(["language", "group"])},
        plot_intervals(
            errors.rename(columns={"language": "series"}),
            "Errors by phenomenon and language",
            x="share of errors",
        ),
    )


def phenomenon_groups(study: Study) -> dict[str, np.ndarray]:
    """Return which pairs of the test set belong to each phenomenon, and all."""
    known = phenomena("test")
    names = np.array([known[pair] for pair in study.rows().pair_ids])
    return {ALL: np.ones(len(names), bool)} | {name: names == name for name in sorted({*names})}


def wrong(evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Return the share of the evaluations in which each pair is wrong."""
    return 1 - np.mean([e.by_pair().to_numpy() for e in evaluations], axis=0)


def error_table(evaluations: Sequence[Evaluation], groups: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return the share of errors by group; the interval is of so many pairs, not of the sets."""
    shares, rows = wrong(evaluations), []
    for group, here in groups.items():
        low, high = wilson_interval(round(shares[here].sum()), int(here.sum()))
        rows.append((group, shares[here].mean(), low, high, int(here.sum())))
    return pd.DataFrame(rows, columns=["group", "value", "low", "high", "pairs"])


def more_errors(first, second, groups: dict[str, np.ndarray], study: Study) -> pd.DataFrame:
    """Return by group how many more errors the second evaluations have, and the paired test."""
    more, premises, rows = wrong(second) - wrong(first), study.rows().data["premise"], {}
    for group, here in groups.items():
        parts = [[Evaluation(e.predictions[here]) for e in side] for side in (first, second)]
        interval = mean_interval(more[here], premises[here])
        rows[group] = dict(zip(("more errors", "low", "high"), interval, strict=True))
        rows[group] |= {"pairs": int(here.sum()), "p": paired_test(*parts)}
    return pd.DataFrame.from_dict(rows, "index").rename_axis("phenomenon")


def confusion_shares(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Return the share of each label's pairs that got each prediction."""
    counts = sum(e.confusion() for e in evaluations)
    return counts.div(counts.sum(axis=1), axis=0)
