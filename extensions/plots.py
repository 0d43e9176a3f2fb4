"""Figures of the extended tasks: small matrices, lines, bars, the frontier of methods.

Each function returns the figure.
"""

import math
from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from experiments.plots.style import (
    BLUE,
    CHANCE,
    COLORS,
    GREY,
    annotate,
    finish,
    heat_map,
    intervals,
)
from experiments.statistics import wilson_interval


def plot_matrices(matrices: Mapping, digits: int = 2, note: str = "") -> Figure:
    """Draw small matrices side by side, darker where a number is larger, whatever its sign.

    A matrix is a tensor, or a table, whose index and columns are written beside it.
    """
    tables = {name: pd.DataFrame(matrix) for name, matrix in matrices.items()}
    labelled = any(isinstance(matrix, pd.DataFrame) for matrix in matrices.values())
    widths = [table.shape[1] for table in tables.values()]
    height = max(len(table) for table in tables.values())
    size = (0.62 * sum(widths) + (1.6 if labelled else 0.3) * len(tables), 0.45 * height + 0.9)
    fig, axes = plt.subplots(1, len(tables), figsize=size, width_ratios=widths, squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
        texts = (table.round(digits) + 0.0).map(f"{{:.{digits}f}}".format).to_numpy()  # no -0.0
        largest = max(table.abs().to_numpy().max(), 1e-30)
        heat_map(ax, table.abs(), texts, fontsize=9, cmap="Blues", vmin=0, vmax=largest)
        ax.set_title(name, fontsize=10)
        if not labelled:
            ax.set(xticks=[], yticks=[])
            ax.set_aspect(0.7, anchor="N")
    return finish(fig, note)


def plot_lines(
    table: pd.DataFrame, title: str, *, y: str, pairs: int = 0, log: bool = False, note: str = ""
) -> Figure:
    """Draw a line for each column over the index (`log`: powers of 2); accuracies of so many
    `pairs` with their 95 % interval, and chance."""
    fig, ax = plt.subplots(figsize=(5.9, 3.4))
    for (name, values), color in zip(table.items(), cycle(COLORS), strict=False):
        ax.plot(table.index, values, "o-", color=color, label=name)
        if pairs:
            bounds = [wilson_interval(round(value * pairs), pairs) for value in values]
            ax.fill_between(table.index, *zip(*bounds, strict=True), color=color, alpha=0.15)
    if pairs:
        ax.axhline(CHANCE, color=GREY, ls="--", lw=1)
        y = f"{y}, 95 % interval\n(dashed: chance)"
    ax.set(title=title, xlabel=table.index.name, ylabel=y)
    if log:
        ax.set_xscale("log", base=2)
    ax.set_xticks(table.index, table.index)
    if table.shape[1] > 1:
        ax.legend()
    return finish(fig, note)


def plot_bars(
    table: pd.DataFrame, title: str, *, x: str, log: bool = False, note: str = ""
) -> Figure:
    """Draw a group of bars for each row, a bar for each column."""
    fig, ax = plt.subplots(figsize=(6.4, 0.16 * table.size + 0.12 * len(table) + 1.4))
    width = 0.8 / table.shape[1]
    for i, ((name, values), color) in enumerate(zip(table.items(), cycle(COLORS), strict=False)):
        places = [row + (i + 0.5) * width - 0.4 for row in range(len(table))]
        ax.barh(places, values, width, color=color, label=name)
    ax.set_yticks(range(len(table)), table.index)
    ax.set(title=title, xlabel=x, xscale="log" if log else "linear", ylim=(len(table) - 0.5, -0.5))
    ax.set_ylabel(table.index.name or "")
    if table.shape[1] > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return finish(fig, note)


def plot_frontier(table: pd.DataFrame, cost: str = "trained", note: str = "") -> Figure:
    """Draw accuracy by method, the cheapest on top, with the standard deviation over seeds; those
    that none dominates are blue."""
    table = table.sort_values([cost, "accuracy"], ascending=[True, False])
    fig, ax = plt.subplots(figsize=(8, 0.28 * len(table) + 1.4))
    digits = "{:,.0f}" if table[cost].max() > 1000 else "{:,.2f}"
    for place, (_, row) in enumerate(table.iterrows()):
        color = GREY if row["dominated by"] else BLUE
        deviation = row.get("std", 0.0)
        ax.errorbar(row["accuracy"], place, xerr=deviation, fmt="o", color=color, capsize=2)
    labels = [f"{name}  ({digits.format(row[cost])})" for name, row in table.iterrows()]
    ax.set_yticks(range(len(table)), labels)
    ax.axvline(CHANCE, color=GREY, ls=":")
    label = {"trained": "trained parameters"}.get(cost, cost)
    ax.set(xlabel="test accuracy (dotted: chance)", ylim=(len(table) - 0.5, -0.5))
    ax.set_title(f"Accuracy by method ({label}); blue: none is as good and cheaper", fontsize=11)
    return finish(fig, note)


def plot_premiums(transfers: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """Draw each model's accuracy against its tokenizer's premium, a point a language, with 95 %
    intervals; `transfers` holds a transfer table for each model."""
    fig, ax = plt.subplots(figsize=(7.4, 4.6))
    for (model, table), color in zip(transfers.items(), cycle(COLORS), strict=False):
        intervals(ax, table, "accuracy", table["premium"], color=color, label=model)
        points = [
            (math.log(x), y) for x, y in zip(table["premium"], table["accuracy"], strict=True)
        ]
        for (lang, row), (x, y) in zip(table.iterrows(), points, strict=True):
            # Of two points beside each other the lower one has its label below.
            below = any(abs(x - a) < 0.07 and 0 < b - y < 0.03 for a, b in points)
            where = {"offset": (-5, -11), "ha": "right"} if below else {"offset": (5, 4)}
            annotate(ax, lang, (row["premium"], row["accuracy"]), color=color, **where)
    ax.axhline(CHANCE, color=GREY, ls="--", lw=1)
    ax.margins(y=0.08)
    ax.set(title="Accuracy and tokens", ylabel="test accuracy, 95 % interval\n(dashed: chance)")
    ax.set(xscale="log", xlabel="premium: tokens over those of the same text in English")
    ax.xaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
    ax.legend()
    return finish(fig, note)


def plot_tasks(scores: pd.DataFrame, premiums: pd.Series, note: str = "") -> Figure:
    """Draw a panel a task: the score in each language over the tokenizer's premium, a colour a
    setting, 95 % intervals; `scores` is of extensions.tasks.study."""
    groups = list(scores.groupby("task", sort=False))
    fig, axes = plt.subplots(1, len(groups), figsize=(4.2 * len(groups) + 1.6, 4), squeeze=False)
    styles = dict(zip(scores["setting"].unique(), cycle((GREY, *COLORS)), strict=False))
    for ax, (name, rows) in zip(axes.flat, groups, strict=True):
        rows = rows.assign(premium=rows["language"].map(premiums)).dropna()
        for setting, part in rows.groupby("setting", sort=False):
            style = {"color": styles[setting], "label": setting}
            intervals(ax, part, "score", part["premium"], **style)
        for lang, part in rows.groupby("language"):
            best = part.loc[part["score"].idxmax()]
            annotate(ax, lang, (best["premium"], best["high"]), (0, 3), ha="center", fontsize=8)
        ax.set(title=name, xscale="log", xlabel="premium", ylim=(0, 1.05))
        ax.xaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
    axes.flat[0].set_ylabel("test score, 95 % interval")
    shown = [zip(*ax.get_legend_handles_labels()[::-1], strict=True) for ax in axes.flat]
    of_label = {label: handle for pairs in shown for label, handle in pairs}
    place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    axes.flat[-1].legend(of_label.values(), of_label.keys(), **place)
    return finish(fig, note)
