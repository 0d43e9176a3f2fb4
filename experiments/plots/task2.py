"""Figures of Task 2: the NLI data, accuracies, confusions, the study of hyper-parameters."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.evaluation import Evaluation
from experiments.plots.style import (
    BLUE,
    CHANCE,
    COLORS,
    GREY,
    finish,
    heat_map,
    intervals,
)
from gpt2.xnli import XNLIDataset


def plot_nli_data(datasets: dict[str, XNLIDataset], note: str = "") -> Figure:
    """Draw the share of each label, and the lengths of the prompts in tokens, of each data set."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.3, 3.4), width_ratios=(1, 1))
    longest = max(int(rows.lengths.max()) for rows in datasets.values())
    shortest = min(int(rows.lengths.min()) for rows in datasets.values())
    step = max(1, -(-(longest + 1 - shortest) // 40))  # whole tokens, or some bins stay empty
    edges = np.arange(shortest, longest + 1 + step, step) - 0.5
    width, largest = 0.8 / len(datasets), 0.0
    for i, ((name, rows), color) in enumerate(zip(datasets.items(), cycle(COLORS), strict=False)):
        counts = np.bincount(rows.label_ids, minlength=len(rows.task.labels))
        largest = max(largest, counts.max() / counts.sum())
        places = np.arange(len(counts)) + (i - (len(datasets) - 1) / 2) * width
        left.bar(places, counts / counts.sum(), width, color=color, label=f"{name} ({len(rows):,})")
        weights = np.full(len(rows), 1 / len(rows))
        right.hist(rows.lengths, edges, weights=weights, histtype="step", color=color, lw=1.5)
        right.axvline(np.median(rows.lengths), color=color, ls="--", lw=1)
    left.axhline(CHANCE, color=GREY, ls="--", lw=1)
    left.set_xticks(range(len(rows.task.labels)), list(rows.task.labels))
    left.set(title="Labels", ylabel="share of pairs", ylim=(0, max(0.5, 1.2 * largest)))
    left.legend(loc="upper center", ncols=len(datasets), fontsize=9, handlelength=1)
    right.set(title="Lengths (dashed: medians)", ylabel="share of pairs")
    right.set_xlabel("tokens of the prompt")
    return finish(fig, note)


def plot_accuracies(
    accuracies: dict[str, tuple[float, float, float]], *, title: str = "Accuracy", note: str = ""
) -> Figure:
    """Draw a row each: accuracy and its interval, given as (accuracy, low, high), and chance."""
    fig, ax = plt.subplots(figsize=(5.9, 0.4 * len(accuracies) + 1.6))
    columns = ["accuracy", "low", "high"]
    table = pd.DataFrame.from_dict(accuracies, orient="index", columns=columns)
    intervals(ax, table, "accuracy", range(len(table)), across=True, color=BLUE)
    for y, (accuracy, low, high) in enumerate(accuracies.values()):
        text = f"{accuracy:.1%}  [{low:.1%}, {high:.1%}]"
        ax.text(1.02, y, text, va="center", transform=ax.get_yaxis_transform())
    ax.axvline(CHANCE, color=GREY, ls="--", lw=1)
    ax.set_yticks(range(len(table)), table.index)
    left, right = min(CHANCE, table["low"].min()) - 0.03, table["high"].max() + 0.03
    ax.set(ylim=(len(table) - 0.5, -0.5), xlim=(left, right), title=title)
    ax.set_xlabel("accuracy with 95 % interval (dashed: chance)")
    return finish(fig, note)


def plot_confusion(evaluation: Evaluation, title: str = "Predictions", note: str = "") -> Figure:
    """Draw the counts of gold labels by predictions."""
    counts = evaluation.confusion()
    fig, ax = plt.subplots(figsize=(5.5, 3.5))
    heat_map(ax, counts, counts.to_numpy(), cmap="Blues", vmin=0)
    ax.set(xlabel="prediction", ylabel="label", title=title)
    return finish(fig, note)


def _short(value) -> str:
    """Return a setting's value as text: "none" for one that is missing."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "none" if value != value else f"{value:g}"
    return "none" if value is None else str(value)


def plot_study(table: pd.DataFrame, x: str, line: str, note: str = "") -> Figure:
    """Draw dev accuracy of `experiments.study.study_table` over the setting `x`, a line for each
    value of the setting `line`."""
    fig, ax = plt.subplots(figsize=(5.5, 3.5))
    values = list(dict.fromkeys(table.sort_values(x)[x].map(_short)))
    names = list(dict.fromkeys(table.sort_values(line)[line].map(_short)))
    table = table.sort_values(x)
    groups = [(name, table[table[line].map(_short) == name]) for name in names]
    for i, ((name, rows), color) in enumerate(zip(groups, cycle(COLORS), strict=False)):
        shift = 0.06 * (i - (len(groups) - 1) / 2)  # so that intervals don't hide each other
        places = [values.index(value) + shift for value in rows[x].map(_short)]
        label = f"{line.replace('_', ' ')} {name}"
        intervals(ax, rows, "dev accuracy", places, fmt="o-", color=color, label=label)
    ax.axhline(CHANCE, color=GREY, ls="--", lw=1)
    ax.set_xticks(range(len(values)), values)
    ax.set(xlabel=x.replace("_", " "), ylabel="dev accuracy, 95 % interval\n(dashed: chance)")
    ax.set(title="Accuracy by hyper-parameters", xlim=(-0.4, len(values) - 0.6))
    ax.legend()
    return finish(fig, note)
