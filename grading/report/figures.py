"""The figures of the instructors' pages. Each function takes clean data and returns the figure.

Drawn without pyplot, so that nothing is left open however many students there are. What comes
from a submission is never read as mathematics (`$`), and no figure says anything by color alone.
"""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5F6368"
CHANCE = 1 / 3


def data_uri(figure: Figure) -> str:
    """The figure as an SVG in a data URI: sharp on screen and paper, the same bytes every time."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "grading"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font lacks
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def curve_figure(claim: Mapping) -> Figure:
    """The losses of a toy curve's claim, an epoch each, and the unigram's."""
    fig, ax = _axes(6.4, 3.2)
    ax.plot(0, claim["first_loss"], "^", color=GREY, label="first step")
    styles = (("training", "train_loss", "o-", BLUE), ("held out", "held_out_loss", "s--", ORANGE))
    for name, key, style, color in styles:
        losses = claim[key]
        size = 5 if len(losses) <= 30 else 0
        ax.plot(range(1, len(losses) + 1), losses, style, ms=size, color=color, label=name)
    ax.axhline(claim["unigram"], color=GREY, lw=1, ls=":", label="unigram entropy")
    ax.margins(y=0.1)
    ax.set(xlabel="epoch", ylabel="nats a token")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False, fontsize=9)
    return fig


def accuracies_figure(rows: Sequence) -> Figure:
    """Claimed accuracies with their intervals, what was recomputed as crosses, and chance."""
    fig, ax = _axes(max(4.5, 0.48 * len(rows) + 1.2), 3.2)
    for place, row in enumerate(rows):
        if row.low is not None:
            ax.plot([place, place], [row.low, row.high], color=BLUE, lw=1.6)
        if row.claimed is not None:
            ax.plot(place, row.claimed, "o", ms=6, color=BLUE, mfc="white", mew=1.5)
        if row.recomputed is not None:
            ax.plot(place, row.recomputed, "x", ms=6, color=ORANGE, mew=1.5)
    ax.plot([], [], "o", ms=6, color=BLUE, mfc="white", mew=1.5, label="claimed, 95 % interval")
    ax.plot([], [], "x", ms=6, color=ORANGE, mew=1.5, label="recomputed")
    ax.axhline(CHANCE, color=GREY, lw=1, ls="--", label="chance")
    ax.set_xticks(range(len(rows)), [row.name for row in rows], parse_math=False)
    if len(rows) > 8:
        ax.tick_params(axis="x", rotation=60)
    ax.set(xlim=(-0.6, len(rows) - 0.4), ylabel="accuracy")
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1))
    return fig


def histogram_figure(points: Sequence[float], max_points: float) -> Figure:
    """How many students have how many points."""
    fig, ax = _axes(5, 3)
    top = max([max_points, 1.0, *points])
    counts, edges = np.histogram(points, np.linspace(min([0.0, *points]), top, 11))
    bars = ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, ec="white")
    ax.bar_label(bars, [str(count) if count else "" for count in counts], fontsize=8.5)
    ax.axvline(np.median(points), color=ORANGE, ls="--", lw=1.5, label="median")
    ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.02, 1))
    ax.set(xlabel=f"points of {max_points:g}", ylabel="students")
    ax.yaxis.get_major_locator().set_params(integer=True)
    return fig


def _axes(width: float, height: float):
    fig = Figure(figsize=(width, height), layout="constrained")
    ax = fig.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return fig, ax
