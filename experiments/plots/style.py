"""Colours, and what every figure shares."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
COLORS = (BLUE, ORANGE, GREEN, RED)
CHANCE = 1 / 3


def finish(fig: Figure, note: str = "") -> Figure:
    """Add the note, lay the figure out, and return it."""
    if note:
        fig.text(0.995, 0.005, note, ha="right", va="bottom", fontsize=8, color=GREY)
    fig.tight_layout()
    plt.close(fig)  # a notebook shows what a cell returns, once
    return fig


def annotate(ax, text: str, point: tuple[float, float], offset: tuple[float, float], **style):
    """Write a text beside a point, `offset` in printer's points."""
    ax.annotate(text, point, xytext=offset, textcoords="offset points", **style)
