"""Figures of Task 3: fertility, transfer, settings, training by test language, confusions."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from experiments.evaluation import Evaluation
from experiments.plots.style import (
    BLUE,
    CHANCE,
    COLORS,
    GREEN,
    GREY,
    ORANGE,
    annotate,
    finish,
    heat_map,
    intervals,
)


def plot_fertility(table: pd.DataFrame, note: str = "") -> Figure:
    """Draw a `fertility_table`: tokens per word, and the premium over English."""
    table = table.sort_values("premium")
    fig, axes = plt.subplots(1, 2, figsize=(9.3, 3.5), sharex=True)
    places = np.arange(len(table))
    axes[0].bar(places - 0.2, table["fertility"], 0.4, color=BLUE, label="per white-space word")
    axes[0].bar(places + 0.2, table["tokens per word"], 0.4, color=ORANGE, label="per word")
    highest = 3 * table["fertility"].max()  # leaves room for the legend
    axes[0].set(title="Fertility", ylabel="tokens", yscale="log", ylim=(1, highest))
    axes[0].yaxis.set_major_formatter(LogFormatter())
    axes[0].legend(loc="upper left")
    axes[1].bar(places, table["premium"], color=GREEN)
    axes[1].axhline(1, color=GREY, ls="--", lw=1)
    axes[1].set(title="Premium over English, same content", ylabel="times as many tokens")
    for ax in axes:
        ax.set_xticks(places, table.index)
    return finish(fig, note)


def plot_transfer(
    table: pd.DataFrame, measure: str = "premium", chosen: Sequence[str] = (), note: str = ""
) -> Figure:
    """Draw `experiments.transfer.transfer_table` without English: accuracy over a measure of the
    tokenizer, the chosen languages in green."""
    fig, ax = plt.subplots(figsize=(9, 4))
    others = table.drop(index="en", errors="ignore").sort_values(measure)
    for lang, row in others.iterrows():
        color = GREEN if lang in chosen else BLUE
        intervals(ax, others.loc[[lang]], "accuracy", [row[measure]], color=color)
        # Above the interval, or below it where the nearest neighbour is higher: names don't meet.
        nearest = (others[measure] - row[measure]).abs().nsmallest(2).index  # itself and another
        end, offset, side = (row["high"], 3, "bottom")
        if row["accuracy"] < others.loc[nearest, "accuracy"].max():
            end, offset, side = (row["low"], -4, "top")
        annotate(ax, str(lang), (row[measure], end), (0, offset), ha="center", va=side)
    ax.axhline(CHANCE, color=GREY, ls="--", lw=1)
    ax.margins(y=0.12)
    ax.set(xscale="log", xlabel=measure)
    ax.set_ylabel("zero-shot accuracy, 95 % interval\n(dashed: chance)")
    ax.xaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
    ax.set_title("Zero-shot accuracy and tokenizer, by language (green: chosen)")
    return finish(fig, note)


def plot_settings(results: pd.DataFrame, note: str = "") -> Figure:
    """Draw `experiments.transfer.results_table`: a row a language, a point with its interval a
    setting."""
    languages = list(dict.fromkeys(results["language"]))
    settings = results.groupby("setting", sort=False)
    fig, ax = plt.subplots(figsize=(9, 0.55 * len(languages) + 1.6))
    for i, ((setting, rows), color) in enumerate(zip(settings, cycle(COLORS), strict=False)):
        shift = 0.16 * (i - (len(settings) - 1) / 2)  # so that intervals don't hide each other
        places = [languages.index(lang) + shift for lang in rows["language"]]
        intervals(ax, rows, "accuracy", places, across=True, color=color, label=setting)
    ax.axvline(CHANCE, color=GREY, ls="--", lw=1)
    ax.set_yticks(range(len(languages)), languages)
    ax.set(ylim=(len(languages) - 0.5, -0.5), title="Accuracy by language and setting")
    ax.set_xlabel("test accuracy with 95 % interval (dashed: chance)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return finish(fig, note)


def plot_matrix(
    table: pd.DataFrame, title: str, *, x="tested on", y="trained on", note: str = ""
) -> Figure:
    """Draw accuracies as a heat map, by default a row a training set and a column a test set."""
    fig, ax = plt.subplots(figsize=(0.7 * table.shape[1] + 3, 0.5 * table.shape[0] + 1.8))
    texts = (100 * table).map("{:.0f}".format).to_numpy()
    image = heat_map(ax, table, texts, dark=True, cmap="viridis")
    ax.set(xlabel=x, ylabel=y, title=title)
    fig.colorbar(image, label="accuracy")
    return finish(fig, note)


def plot_confusions(evaluations: dict[str, Evaluation], note: str = "") -> Figure:
    """Draw a small confusion matrix for each language, as per cent of each gold label."""
    columns = min(5, len(evaluations))
    rows = -(-len(evaluations) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(1.85 * columns, 1.9 * rows), squeeze=False)
    for ax in axes.flat[len(evaluations) :]:
        ax.axis("off")
    short = ["ent", "con", "neu", "none"]
    for ax, (lang, evaluation) in zip(axes.flat, evaluations.items(), strict=False):
        counts = evaluation.confusion().set_axis(short, axis=1).set_axis(short[:3], axis=0)
        shares = counts.div(counts.sum(axis=1), axis=0)
        texts = (100 * shares).map("{:.0f}".format).to_numpy()
        heat_map(ax, shares, texts, fontsize=8, cmap="Blues", vmin=0, vmax=1)
        ax.set_title(lang, fontsize=10)
    fig.suptitle("Predictions by label (per cent of a row)")
    return finish(fig, note)
