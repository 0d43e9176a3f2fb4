"""Figures of Task 2: the NLI data, accuracies, confusions, the study of hyper-parameters."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.evaluation import Evaluation
from experiments.plots.style import BLUE, CHANCE, COLORS, GREY, finish
from gpt2.xnli import LABEL2ID, XNLIDataset


def plot_nli_data(datasets: dict[str, XNLIDataset], note: str = "") -> Figure:
    """Draw the share of each label, and the lengths of the prompts in tokens, of each data set."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 3.6), width_ratios=(2, 3))
    longest = max(int(rows.lengths.max()) for rows in datasets.values())
    shortest = min(int(rows.lengths.min()) for rows in datasets.values())
    step = max(1, -(-(longest + 1 - shortest) // 40))  # whole tokens, or some bins stay empty
    edges = np.arange(shortest, longest + 1 + step, step) - 0.5
    width = 0.8 / len(datasets)
    for i, ((name, rows), color) in enumerate(zip(datasets.items(), COLORS, strict=False)):
        counts = np.array([rows.labels.count(str(label)) for label in LABEL2ID.values()])
        places = np.arange(3) + (i - (len(datasets) - 1) / 2) * width
        left.bar(places, counts / counts.sum(), width, color=color, label=f"{name} ({len(rows):,})")
        weights = np.full(len(rows), 1 / len(rows))
        right.hist(rows.lengths, edges, weights=weights, histtype="step", color=color, lw=1.5)
        right.axvline(np.median(rows.lengths), color=color, ls="--", lw=1)
    left.axhline(CHANCE, color=GREY, ls="--", lw=1)
    left.set_xticks(range(3), list(LABEL2ID))
    left.set(title="Labels", ylabel="share of pairs", ylim=(0, 0.5))
    left.legend(loc="upper center", ncols=len(datasets))
    right.set(title="Lengths (dashed: medians)", ylabel="share of pairs")
    right.set_xlabel("tokens of the prompt")
    return finish(fig, note)


def plot_accuracies(
    accuracies: dict[str, tuple[float, float, float]], *, title: str = "Accuracy", note: str = ""
) -> Figure:
    """Draw a row each: accuracy and its interval, given as (accuracy, low, high), and chance."""
    fig, ax = plt.subplots(figsize=(9, 0.5 * len(accuracies) + 1.6))
    for y, (accuracy, low, high) in enumerate(accuracies.values()):
        ax.plot([low, high], [y, y], color=BLUE, lw=2)
        ax.plot(accuracy, y, "o", color=BLUE)
        ax.text(high + 0.005, y, f"{accuracy:.1%}  [{low:.1%}, {high:.1%}]", va="center")
    ax.axvline(CHANCE, color=GREY, ls="--", lw=1)
    ax.text(CHANCE, -0.6, "chance", color=GREY, ha="center", va="bottom", fontsize=9)
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    right = max(high for *_, high in accuracies.values())
    left = min(CHANCE, *(low for _, low, _ in accuracies.values()))
    ax.set(
        ylim=(len(accuracies) - 0.5, -0.7),
        xlim=(left - 0.03, right + 0.35 * (right - left) + 0.08),
        xlabel="accuracy with 95 % interval",
        title=title,
    )
    ax.spines[["top", "right"]].set_visible(False)
    return finish(fig, note)


def plot_confusion(evaluation: Evaluation, title: str = "Predictions", note: str = "") -> Figure:
    """Draw the counts of gold labels by predictions."""
    counts = evaluation.confusion()
    fig, ax = plt.subplots(figsize=(6.5, 4))
    ax.imshow(counts, cmap="Blues", vmin=0)
    for row, column in np.ndindex(counts.shape):
        count = counts.iloc[row, column]
        dark = count > counts.to_numpy().max() / 2
        ax.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    ax.set_xticks(range(4), counts.columns)
    ax.set_yticks(range(3), counts.index)
    ax.set(xlabel="prediction", ylabel="label", title=title)
    return finish(fig, note)


def plot_study(table: pd.DataFrame, x: str, line: str, note: str = "") -> Figure:
    """Draw dev accuracy of `experiments.study.study_table` over the setting `x`, a line for each
    value of the setting `line`."""
    fig, ax = plt.subplots(figsize=(8, 4))
    places = {value: i for i, value in enumerate(sorted(table[x].unique()))}
    groups = list(table.sort_values(x).groupby(line))
    for i, ((value, rows), color) in enumerate(zip(groups, COLORS, strict=False)):
        shift = 0.06 * (i - (len(groups) - 1) / 2)  # so that intervals don't hide each other
        ax.errorbar(
            [places[v] + shift for v in rows[x]],
            rows["dev accuracy"],
            [rows["dev accuracy"] - rows["low"], rows["high"] - rows["dev accuracy"]],
            fmt="o-",
            capsize=3,
            color=color,
            label=f"{line.replace('_', ' ')} {value:g}",
        )
    ax.axhline(CHANCE, color=GREY, ls="--", lw=1)
    ax.text(len(places) - 1, CHANCE, "chance", color=GREY, ha="right", va="bottom", fontsize=9)
    ax.set_xticks(range(len(places)), [f"{value:g}" for value in places])
    ax.set(xlabel=x.replace("_", " "), ylabel="dev accuracy with 95 % interval")
    ax.set(title="Accuracy by hyper-parameters", xlim=(-0.4, len(places) - 0.6))
    ax.legend()
    return finish(fig, note)
