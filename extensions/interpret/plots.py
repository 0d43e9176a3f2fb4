"""Figures of what is inside a model. Each function returns the figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font
from torch import Tensor

from experiments.plots.style import BLUE, CHANCE, COLORS, GREY, annotate, finish, intervals

SCRIPTS = ("Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans CJK SC", "Noto Sans CJK JP")


def plot_attention_lines(
    weights: Tensor,
    labels: Sequence[str],
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    titles: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """Draw attention as lines from query tokens, on the right, to key tokens: thicker and darker
    for more. `weights` are one head's, (T, T), or several heads', (n, T, T)."""
    heads = weights.detach().reshape(-1, *weights.shape[-2:]).cpu().numpy()
    rows = max(len(queries), len(keys))
    size = (2.7 * len(heads) + 0.4, 0.24 * rows + 0.9)
    fig, axes = plt.subplots(1, len(heads), figsize=size, squeeze=False)
    family, known = _fonts()
    for i, (ax, head) in enumerate(zip(axes.flat, heads, strict=True)):
        color = COLORS[i % len(COLORS)]
        places = {
            side: dict(zip(tokens, np.linspace(0, rows - 1, len(tokens)), strict=True))
            for side, tokens in (("keys", keys), ("queries", queries))
        }
        for side, x, align in (("keys", -0.04, "right"), ("queries", 1.04, "left")):
            for token, y in places[side].items():
                text = _drawable(labels[token], known)
                ax.text(x, y, text, ha=align, va="center", fontsize=9, family=family)
        for query, y in places["queries"].items():
            for key, target in places["keys"].items():
                weight = float(head[query, key])
                ax.plot([1, 0], [y, target], color=color, alpha=min(weight, 1), lw=3 * weight)
        ax.set(xlim=(-0.7, 1.7), ylim=(rows - 0.5, -0.5))
        ax.set_title(titles[i] if titles else "", fontsize=10)
        ax.axis("off")
    return finish(fig, note)


def plot_intervals(
    table: pd.DataFrame, title: str, *, x: str, line: float | None = None, note: str = ""
) -> Figure:
    """Draw a row a group, a point with its interval a series. The table has columns group, series,
    value, low and high; `line` is drawn for comparison."""
    groups, series = (list(dict.fromkeys(table[name])) for name in ("group", "series"))
    height = (0.16 * len(series) + 0.22) * len(groups) + 1.3
    fig, ax = plt.subplots(figsize=(8, height))
    for i, name in enumerate(series):
        rows = table[table["series"] == name]
        shift = 0.7 / len(series) * (i - (len(series) - 1) / 2)
        places = [groups.index(group) + shift for group in rows["group"]]
        intervals(ax, rows, "value", places, across=True, color=COLORS[i % len(COLORS)], label=name)
    if line is not None:
        ax.axvline(line, color=GREY, ls="--", lw=1)
    ax.set_yticks(range(len(groups)), groups)
    ax.set(ylim=(len(groups) - 0.5, -0.5), title=title, xlabel=x)
    if len(series) > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return finish(fig, note)


def plot_by_state(
    panels: dict[str, pd.DataFrame], *, y: str, chance: float | None = CHANCE, note: str = ""
) -> Figure:
    """Draw a panel a table, with a line a series over the states. A table has columns series, state
    and value, low and high for intervals, control for a dashed line."""
    fig, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels) + 0.6, 3.5), squeeze=False)
    for ax, (title, table) in zip(axes.flat, panels.items(), strict=True):
        for i, (name, rows) in enumerate(table.groupby("series", sort=False)):
            color = COLORS[i % len(COLORS)]
            ax.plot(rows["state"], rows["value"], "o-", ms=4, color=color, label=name)
            if "low" in rows:
                ax.fill_between(rows["state"], rows["low"], rows["high"], color=color, alpha=0.15)
            if "control" in rows:
                ax.plot(rows["state"], rows["control"], "--", lw=1, color=color)
        if chance is not None:
            ax.axhline(chance, color=GREY, ls=":", lw=1)
        ax.set(title=title, xlabel="state (0: embedding)", ylabel=y, ylim=(-0.02, 1.02))
        ax.set_xticks(sorted(set(table["state"])))
        ax.legend(fontsize=8, loc="best")
    return finish(fig, note)


def plot_against(
    table: pd.DataFrame, measures: Sequence[str], titles: Sequence[str], note: str = ""
) -> Figure:
    """Draw accuracy with its interval over each measure, a point a language; languages above chance
    are green."""
    columns = min(3, len(measures))
    rows = -(-len(measures) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(3.5 * columns, 3.2 * rows), squeeze=False)
    for ax in axes.flat[len(measures) :]:
        ax.axis("off")
    for ax, measure, title in zip(axes.flat, measures, titles, strict=False):
        for lang, row in table.iterrows():
            color = COLORS[2] if row["low"] > CHANCE else BLUE
            intervals(ax, table.loc[[lang]], "accuracy", [row[measure]], color=color, ms=4)
            annotate(ax, str(lang), (row[measure], row["accuracy"]), (4, 3), fontsize=8)
        ax.axhline(CHANCE, color=GREY, ls=":", lw=1)
        ax.margins(0.12)
        ax.set_title(title, fontsize=10)
        ax.set(xlabel=measure, ylabel="zero-shot accuracy")
    return finish(fig, note)


def plot_attributions(
    values: Sequence[float], labels: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Draw what each token adds: a bar a token, grey for what speaks against."""
    family, known = _fonts()
    fig, ax = plt.subplots(figsize=(0.36 * len(labels) + 1.2, 2.9))
    ax.bar(range(len(labels)), values, color=[GREY if v < 0 else BLUE for v in values])
    ax.axhline(0, color=GREY, lw=0.6)
    shown = [_drawable(label, known) for label in labels]
    ax.set_xticks(range(len(labels)), shown, rotation=90, family=family)
    ax.set(title=title, ylabel="added to the score")
    return finish(fig, note)


def _fonts() -> tuple[list[str], set[int]]:
    """Return the font families for labels, and the characters that they have."""
    installed = {font.name for font in fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in SCRIPTS if name in installed)]
    return family, {c for name in family for c in FT2Font(findfont(name)).get_charmap()}


def _drawable(label: str, known: set[int]) -> str:
    """Return the label, with the numbers of characters for which there is no glyph."""
    return "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in label)
