"""Colours, and what every figure shares."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
COLORS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#000000")  # cycle for more
CHANCE = 1 / 3


def finish(fig: Figure, note: str = "") -> Figure:
    """Add the note, lay the figure out, and return it."""
    if note:
        fig.text(0.995, 0.005, note, ha="right", va="bottom", fontsize=8, color=GREY)
    bottom = 0.08 / fig.get_figheight() if note else 0  # room for the note
    fig.tight_layout(rect=(0, bottom, 1, 1))
    plt.close(fig)  # a notebook shows what a cell returns, once
    return fig


def annotate(ax, text: str, point: tuple[float, float], offset: tuple[float, float], **style):
    """Write a text beside a point, `offset` in printer's points."""
    ax.annotate(text, point, xytext=offset, textcoords="offset points", **style)


def intervals(ax, rows: pd.DataFrame, measure: str, places, *, across=False, **style):
    """Draw a column with its interval (columns low and high) at the places, as errorbar does."""
    values = rows[measure]
    error = [values - rows["low"], rows["high"] - values]
    style = {"fmt": "o", "capsize": 2, "lw": 1, **style}
    if across:
        ax.errorbar(values, places, xerr=error, **style)
    else:
        ax.errorbar(places, values, yerr=error, **style)


def heat_map(ax, table: pd.DataFrame, texts: Sequence, *, dark=False, fontsize=10, **style):
    """Draw a table as a heat map with a text in each cell, white where the cell is dark: where the
    value is above the middle of the scale, or below it if low values are `dark`."""
    image = ax.imshow(table, aspect="auto", **style)
    middle = (image.norm.vmin + image.norm.vmax) / 2
    for row, column in np.ndindex(table.shape):
        white = (table.iloc[row, column] > middle) != dark
        color = "white" if white else "black"
        position = {"ha": "center", "va": "center", "fontsize": fontsize}
        ax.text(column, row, texts[row][column], color=color, **position)
    ax.set_xticks(range(table.shape[1]), table.columns, fontsize=fontsize)
    ax.set_yticks(range(table.shape[0]), table.index, fontsize=fontsize)
    return image
