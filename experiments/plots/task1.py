"""Figures of Task 1: tokens, optimizers, loss curves, decoding."""

from collections.abc import Callable, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from transformers.convert_slow_tokenizer import bytes_to_unicode

from experiments.plots.style import BLUE, COLORS, GREY, RED, annotate, finish, heat_map

WHOLE, FRAGMENT = "#CFE3F1", "#F7D5BF"  # tokens of whole characters, and with a piece of one


def plot_tokens(sentences: dict[str, str], tokenizer) -> Figure:
    """Draw one row of boxes a sentence, one box a token, as wide as it has bytes, below its counts.

    A token that is no valid UTF-8 by itself, because it holds a piece of a character, is orange.
    It shows its bytes in hexadecimal, as does one whose characters the font lacks.
    """
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    glyphs = FT2Font(findfont("DejaVu Sans")).get_charmap()
    widest = max(len(sentence.encode()) for sentence in sentences.values())
    fig, ax = plt.subplots(figsize=(9.3, 0.75 * len(sentences) + 0.8))
    for y, (name, sentence) in enumerate(sentences.items()):
        x, tokens = 0, tokenizer.tokenize(sentence)
        for token in tokens:
            piece = bytes(byte_of[character] for character in token)
            text = piece.decode("utf-8", "replace").replace(" ", "·")
            color = FRAGMENT if "\ufffd" in text else WHOLE
            ax.add_patch(Rectangle((x, y - 0.2), len(piece), 0.56, ec="white", lw=1.5, fc=color))
            label, size = text, 9.0
            if color == FRAGMENT or not {ord(c) for c in text} <= glyphs.keys():
                label, size = piece.hex(" "), 7.5
            if len(label) * size < 1100 * len(piece) / widest:  # else it is wider than its box
                middle = x + len(piece) / 2
                ax.text(middle, y + 0.08, label, ha="center", va="center", fontsize=size)
            x += len(piece)
        counts = f"{len(tokens)} tokens, {len(sentence)} characters, {len(sentence.split())} words"
        ax.text(0.2, y - 0.25, f"{name}: {counts}", va="bottom", fontsize=9)
    ax.set(xlim=(0, widest), ylim=(len(sentences) - 0.5, -0.7), yticks=[], xlabel="UTF-8 bytes")
    ax.set_title("One sentence, cut by GPT-2's tokenizer (orange: with a piece of a character)")
    return finish(fig)


def plot_attention(
    weights: torch.Tensor,
    tokens: Sequence[str],
    *,
    queries: Sequence[str] | None = None,
    titles: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """Draw attention weights, (T, S) or (h, T, S), as a heat map for each head.

    A row is a query, a column a key. `queries` names the rows where they are not the tokens. Up to
    eight tokens have their weights written in the cells.
    """
    heads = weights.detach().reshape(-1, *weights.shape[-2:]).numpy()
    queries = tokens if queries is None else queries
    labels = [[token.replace("\n", "\\n") for token in names] for names in (queries, tokens)]
    columns = min(2, len(heads))
    rows = -(-len(heads) // columns)
    few = len(tokens) <= 8
    cell = 0.6 if few else 0.23
    size = (columns * (cell * len(tokens) + 1), rows * (cell * 0.8 * len(queries) + 1.2))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat[len(heads) :]:
        ax.axis("off")
    for i, (ax, head) in enumerate(zip(axes.flat, heads, strict=False)):
        table = pd.DataFrame(head, *labels)
        texts = table.map(("{:.2f}" if few else "").format).to_numpy()
        heat_map(ax, table, texts, fontsize=9, cmap="Blues", vmin=0, vmax=1)
        ax.tick_params(axis="x", rotation=0 if few else 90)
        ax.set(title=titles[i] if titles else "", xlabel="key", ylabel="query")
    return finish(fig, note)


def plot_lengths(lengths: Sequence[float], note: str = "") -> Figure:
    """Draw the mean length of the vectors before the first block and after each."""
    fig, ax = plt.subplots(figsize=(5.5, 3))
    names = ["embedding", *(f"block {i}" for i in range(1, len(lengths)))]
    ax.plot(names, lengths, "o-", color=BLUE)
    ax.set(title="Length of the residual vectors", ylabel="mean length", ylim=(0, None))
    return finish(fig, note)


def plot_optimizer_paths(optimizers: dict[str, Callable], steps: int = 60) -> Figure:
    """Draw the paths of optimizers down the valley x²/2 + 60·y²/2, and the loss along them.

    `optimizers` maps a label to a function: parameters -> optimizer.
    """

    def valley(x, y):
        return 0.5 * x**2 + 30.0 * y**2

    xs, ys = np.meshgrid(np.linspace(-4.6, 1.6, 200), np.linspace(-2, 2, 200))
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.3, 3.5), width_ratios=(3, 2))
    left.contour(xs, ys, valley(xs, ys), levels=np.geomspace(0.05, 120, 14), colors="#CCCCCC")
    for (label, make), color in zip(optimizers.items(), cycle(COLORS), strict=False):
        point = torch.nn.Parameter(torch.tensor([-4.0, 1.6]))
        optimizer = make([point])
        path, losses = [point.detach().clone()], []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = valley(*point)
            loss.backward()
            optimizer.step()
            path.append(point.detach().clone())
            losses.append(loss.item())
        left.plot(*torch.stack(path).T, "o-", ms=3, lw=1.2, color=color, label=label)
        right.semilogy(losses, color=color, label=label)
    left.plot(0, 0, "k*", ms=12)
    left.set(xlabel="flat direction x", ylabel="steep direction y", ylim=(-2, 2))
    left.set_title(f"{steps} steps down a valley")
    left.legend()
    right.set(xlabel="step", ylabel="loss", title="Loss along the path", xlim=(0, steps))
    return finish(fig)


def plot_loss_curve(
    history: Sequence,
    *,
    held_out: dict[int, float] | None = None,
    held_out_name: str = "held-out text",
    baselines: dict[str, float] | None = None,
    title: str = "Loss",
    ylabel: str = "nats per token",
    note: str = "",
) -> Figure:
    """Draw the training loss by step, raw and smoothed, with held-out loss and baselines marked.

    `history` holds Progress; `held_out` maps a step to the loss there; `baselines` maps a name to
    a constant.
    """
    table = pd.DataFrame(history).set_index("step")
    window = max(1, len(table) // 50)
    smooth = table["loss"].rolling(window).mean()
    fig, ax = plt.subplots(figsize=(9, 4))
    ax.plot(table["loss"], color=BLUE, alpha=0.25, lw=0.7, label="each step")
    ax.plot(smooth, color=BLUE, label=f"mean of {window} steps")
    if held_out:
        ax.plot(list(held_out), list(held_out.values()), "o-", color=RED, label=held_out_name)
        last, value = max(held_out.items())
        annotate(ax, f"{value:.2f}", (last, value), (6, 0), color=RED, va="center")
    for name, value in (baselines or {}).items():
        ax.axhline(value, color=GREY, ls="--", lw=1)
        ax.text(table.index[-1], value, f"{name} {value:.2f}", ha="right", va="bottom", color=GREY)
    for step in table.index[table["ends_epoch"]]:
        ax.axvline(step, color="#DDDDDD", lw=1, zorder=0)
    ax.set(xlabel="step (grey lines: ends of epochs)", ylabel=ylabel, title=title)
    ax.margins(x=0.07, y=0.1)
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.9))
    return finish(fig, note)


def plot_decoding(table: pd.DataFrame, note: str = "") -> Figure:
    """Draw `experiments.study.decoding_table`: how probable the texts are, and how varied."""
    fig, ax = plt.subplots(figsize=(5.8, 3.5))
    ax.scatter(table["nats per token"], table["distinct tokens"], color=BLUE)
    for point, rows in table.groupby(["nats per token", "distinct tokens"]):  # equal texts
        annotate(ax, "\n".join(rows.index), point, (6, 0), fontsize=9, va="center")
    ax.set(
        xlabel="nats per token under the model (left: more probable)",
        ylabel="share of distinct tokens",
        title="Probability and variety of the texts",
    )
    ax.margins(x=0.5, y=0.15)
    return finish(fig, note)
