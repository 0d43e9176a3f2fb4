"""Every figure that a notebook shows. Each function returns the figure."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from experiments.evaluation import Evaluation
from gpt2.xnli import LABEL2ID, XNLIDataset

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
COLORS = (BLUE, ORANGE, GREEN, RED)
WHOLE, FRAGMENT = "#CFE3F1", "#F7D5BF"  # tokens of whole characters, and with a piece of one


def plot_tokens(sentences: dict[str, str], tokenizer) -> Figure:
    """One row of boxes a sentence, one box a token, as wide as it has bytes.

    A token that is no valid UTF-8 by itself, because it holds a piece of a character, is orange.
    It shows its bytes in hexadecimal, as does one whose characters the font lacks.
    """
    glyphs = FT2Font(findfont("DejaVu Sans")).get_charmap()
    rows = {name: _token_bytes(sentence, tokenizer) for name, sentence in sentences.items()}
    widest = max(sum(map(len, pieces)) for pieces in rows.values())
    fig, ax = plt.subplots(figsize=(12, 0.62 * len(rows) + 0.8))
    for y, (name, pieces) in enumerate(rows.items()):
        x = 0
        for piece in pieces:
            text = _decode(piece)
            ax.add_patch(
                Rectangle(
                    (x, y - 0.36),
                    len(piece),
                    0.72,
                    ec="white",
                    lw=1.5,
                    fc=FRAGMENT if text is None else WHOLE,
                )
            )
            if text is None or any(ord(c) not in glyphs for c in text):
                label, size = piece.hex(" "), 5.5
            else:
                label, size = text.replace(" ", "·"), 8
            if len(label) * size < 13 * 600 * len(piece) / widest / 7:
                ax.text(x + len(piece) / 2, y, label, ha="center", va="center", fontsize=size)
            x += len(piece)
        words, characters = len(sentences[name].split()), len(sentences[name])
        ax.text(
            widest * 1.01,
            y,
            f"{len(pieces)} tokens, {characters} characters, {words} words",
            va="center",
            fontsize=9,
        )
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlim=(0, widest * 1.32), ylim=(len(rows) - 0.4, -0.6), xlabel="UTF-8 bytes")
    ax.set_title("One sentence, cut by GPT-2's tokenizer (orange: with a piece of a character)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(left=False)
    return _finished(fig)


def plot_optimizer_paths(
    optimizers: dict[str, Callable], steps: int = 60, start: tuple[float, float] = (-4.0, 1.6)
) -> Figure:
    """The paths of optimizers down the valley x²/2 + 60·y²/2, and the loss along them.

    `optimizers` maps a label to a function: parameters -> optimizer.
    """

    def valley(x, y):
        return 0.5 * x**2 + 30.0 * y**2

    xs, ys = np.meshgrid(np.linspace(-4.6, 1.6, 200), np.linspace(-2, 2, 200))
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4), width_ratios=(3, 2))
    left.contour(xs, ys, valley(xs, ys), levels=np.geomspace(0.05, 120, 14), colors="#CCCCCC")
    for (label, make), color in zip(optimizers.items(), COLORS, strict=False):
        point = torch.nn.Parameter(torch.tensor(start))
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
    left.set(
        xlabel="flat direction x",
        ylabel="steep direction y",
        ylim=(-2, 2),
        title="Sixty steps down a valley" if steps == 60 else f"{steps} steps down a valley",
    )
    left.legend()
    right.set(xlabel="step", ylabel="loss", title="Loss along the path", xlim=(0, steps))
    return _finished(fig)


def plot_loss_curve(
    history: Sequence,
    *,
    held_out: dict[int, float] | None = None,
    held_out_name: str = "held-out text",
    baselines: dict[str, float] | None = None,
    title: str = "Loss",
    ylabel: str = "nats per token",
    yscale: str = "linear",
    note: str = "",
) -> Figure:
    """Training loss by step, raw and smoothed, with held-out loss and baselines marked.

    `history` holds Progress; `held_out` maps a step to the loss there; `baselines` maps a name to
    a constant.
    """
    steps = np.array([progress.step for progress in history])
    losses = np.array([progress.loss for progress in history])
    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    fig, ax = plt.subplots(figsize=(10, 4.5))
    ax.plot(steps, losses, color=BLUE, alpha=0.25, lw=0.7, label="each step")
    ax.plot(steps[window - 1 :], smooth, color=BLUE, label=f"mean of {window} steps")
    if held_out:
        ax.plot(list(held_out), list(held_out.values()), "o-", color=RED, label=held_out_name)
        last = max(held_out)
        ax.annotate(
            f"{held_out[last]:.2f}",
            (last, held_out[last]),
            color=RED,
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    for name, value in (baselines or {}).items():
        ax.axhline(value, color=GREY, ls="--", lw=1)
        ax.text(steps[-1], value, f"{name} {value:.2f}", ha="right", va="bottom", color=GREY)
    for progress, following in pairwise(history):
        if following.epoch != progress.epoch:
            ax.axvline(progress.step, color="#DDDDDD", lw=1, zorder=0)
    ax.set(xlabel="step (grey lines: ends of epochs)", ylabel=ylabel, yscale=yscale, title=title)
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.9))
    return _finished(fig, note)


def plot_nli_data(datasets: dict[str, XNLIDataset], note: str = "") -> Figure:
    """The share of each label, and the lengths of the prompts in tokens, of each data set."""
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
    left.axhline(1 / 3, color=GREY, ls="--", lw=1)
    left.set_xticks(range(3), list(LABEL2ID))
    left.set(title="Labels", ylabel="share of pairs", ylim=(0, 0.5))
    left.legend(loc="upper center", ncols=len(datasets))
    right.set(
        title="Lengths (dashed: medians)", xlabel="tokens of the prompt", ylabel="share of pairs"
    )
    return _finished(fig, note)


def plot_decoding(table: pd.DataFrame, note: str = "") -> Figure:
    """Strategies of `experiments.study.decoding_table`: how likely their texts are, how varied."""
    fig, ax = plt.subplots(figsize=(8, 4))
    ax.scatter(table["nats per token"], table["distinct tokens"], color=BLUE)
    for name, row in table.iterrows():
        ax.annotate(
            str(name),
            (row["nats per token"], row["distinct tokens"]),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=9,
        )
    ax.set(
        xlabel="nats per token under the model (left: what it finds likeliest)",
        ylabel="share of distinct tokens",
        title="Likely texts repeat themselves",
    )
    ax.margins(x=0.25, y=0.15)
    return _finished(fig, note)


def plot_accuracies(
    accuracies: dict[str, tuple[float, float, float]],
    *,
    title: str = "Accuracy",
    note: str = "",
) -> Figure:
    """A row each: accuracy and its interval, given as (accuracy, low, high); chance is marked."""
    fig, ax = plt.subplots(figsize=(9, 0.5 * len(accuracies) + 1.6))
    for y, (accuracy, low, high) in enumerate(accuracies.values()):
        ax.plot([low, high], [y, y], color=BLUE, lw=2)
        ax.plot(accuracy, y, "o", color=BLUE)
        ax.text(high + 0.005, y, f"{accuracy:.1%}  [{low:.1%}, {high:.1%}]", va="center")
    ax.axvline(1 / 3, color=GREY, ls="--", lw=1)
    ax.text(1 / 3, -0.6, "chance", color=GREY, ha="center", va="bottom", fontsize=9)
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    right = max(high for *_, high in accuracies.values())
    left = min(1 / 3, *(low for _, low, _ in accuracies.values()))
    ax.set(
        ylim=(len(accuracies) - 0.5, -0.7),
        xlim=(left - 0.03, right + 0.35 * (right - left) + 0.08),
        xlabel="accuracy with 95 % interval",
        title=title,
    )
    ax.spines[["top", "right"]].set_visible(False)
    return _finished(fig, note)


def plot_confusion(evaluation: Evaluation, title: str = "Answers", note: str = "") -> Figure:
    """Gold labels by answers, as counts."""
    counts = evaluation.confusion()
    fig, ax = plt.subplots(figsize=(6.5, 4))
    ax.imshow(counts, cmap="Blues", vmin=0)
    for row, column in np.ndindex(counts.shape):
        count = counts.iloc[row, column]
        dark = count > counts.to_numpy().max() / 2
        ax.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    ax.set_xticks(range(4), counts.columns)
    ax.set_yticks(range(3), counts.index)
    ax.set(xlabel="answer", ylabel="label", title=title)
    return _finished(fig, note)


def plot_study(table: pd.DataFrame, x: str, line: str, note: str = "") -> Figure:
    """Dev accuracy of `experiments.study.study_table` over the setting `x`, a line for each `line`."""
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
    ax.axhline(1 / 3, color=GREY, ls="--", lw=1)
    ax.text(len(places) - 1, 1 / 3, "chance", color=GREY, ha="right", va="bottom", fontsize=9)
    ax.set_xticks(range(len(places)), [f"{value:g}" for value in places])
    ax.set(
        xlabel=x.replace("_", " "),
        ylabel="dev accuracy with 95 % interval",
        title="What the hyper-parameters change",
        xlim=(-0.4, len(places) - 0.6),
    )
    ax.legend()
    return _finished(fig, note)


def plot_fertility(table: pd.DataFrame, note: str = "") -> Figure:
    """`gpt2.fertility.fertility_table`: tokens per word, and the premium over English."""
    table = table.sort_values("premium")
    fig, axes = plt.subplots(1, 2, figsize=(12, 4), sharex=True)
    places = np.arange(len(table))
    axes[0].bar(places - 0.2, table["fertility"], 0.4, color=BLUE, label="per white-space word")
    axes[0].bar(places + 0.2, table["tokens per word"], 0.4, color=ORANGE, label="per word")
    axes[0].set(title="Fertility", ylabel="tokens", yscale="log")
    axes[0].legend()
    axes[1].bar(places, table["premium"], color=GREEN)
    axes[1].axhline(1, color=GREY, ls="--", lw=1)
    axes[1].set(title="Premium over English, same content", ylabel="times as many tokens")
    for ax in axes:
        ax.set_xticks(places, table.index)
    return _finished(fig, note)


def plot_transfer(
    table: pd.DataFrame, measure: str = "premium", chosen: Sequence[str] = (), note: str = ""
) -> Figure:
    """`experiments.transfer.transfer_table` without English: accuracy over a measure of the tokenizer,
    the chosen languages marked."""
    fig, ax = plt.subplots(figsize=(9, 4.5))
    others = table.drop(index="en", errors="ignore").sort_values(measure)
    for i, (lang, row) in enumerate(others.iterrows()):
        color = GREEN if lang in chosen else BLUE
        error = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
        ax.errorbar(row[measure], row["accuracy"], error, fmt="o", color=color, capsize=2, lw=1)
        # In turns above and below the interval, so that neighbours' names don't meet.
        end, offset, side = ((row["high"], 3, "bottom"), (row["low"], -4, "top"))[i % 2]
        ax.annotate(
            str(lang),
            (row[measure], end),
            xytext=(0, offset),
            textcoords="offset points",
            ha="center",
            va=side,
        )
    ax.axhline(1 / 3, color=GREY, ls="--", lw=1)
    ax.margins(y=0.12)
    ax.set(
        xlabel=measure,
        ylabel="zero-shot accuracy, 95 % interval (dashed: chance)",
        title="Which languages English carries over to (green: chosen)",
    )
    return _finished(fig, note)


def plot_settings(results: pd.DataFrame, note: str = "") -> Figure:
    """`experiments.transfer.results_table`: a row a language, a point with its interval a setting."""
    languages = list(dict.fromkeys(results["language"]))
    settings = list(dict.fromkeys(results["setting"]))
    fig, ax = plt.subplots(figsize=(9, 0.55 * len(languages) + 1.6))
    for i, setting in enumerate(settings):
        rows = results[results["setting"] == setting]
        places = [languages.index(lang) for lang in rows["language"]]
        shift = 0.16 * (i - (len(settings) - 1) / 2)
        error = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]]
        color = COLORS[i % len(COLORS)]
        ax.errorbar(
            rows["accuracy"],
            np.array(places) + shift,
            xerr=error,
            fmt="o",
            capsize=2,
            lw=1,
            color=color,
            label=setting,
        )
    ax.axvline(1 / 3, color=GREY, ls="--", lw=1)
    ax.set_yticks(range(len(languages)), languages)
    ax.set(
        ylim=(len(languages) - 0.5, -0.5),
        xlabel="test accuracy with 95 % interval (dashed: chance)",
        title="Accuracy by language and setting",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return _finished(fig, note)


def plot_matrix(table: pd.DataFrame, title: str, note: str = "") -> Figure:
    """Accuracies as a heat map: a row for what was trained on, a column for what is tested."""
    fig, ax = plt.subplots(figsize=(0.7 * table.shape[1] + 3, 0.5 * table.shape[0] + 1.8))
    image = ax.imshow(table, cmap="viridis", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for row, column in np.ndindex(table.shape):
        value = table.iloc[row, column]
        color = "white" if value < middle else "black"
        ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=color)
    ax.set_xticks(range(table.shape[1]), table.columns)
    ax.set_yticks(range(table.shape[0]), table.index)
    ax.set(xlabel="tested on", ylabel="trained on", title=title)
    fig.colorbar(image, label="accuracy")
    return _finished(fig, note)


def plot_confusions(evaluations: dict[str, Evaluation], note: str = "") -> Figure:
    """A small confusion matrix for each language: gold labels by answers, as shares of a label."""
    columns = min(5, len(evaluations))
    rows = -(-len(evaluations) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.1 * rows), squeeze=False)
    for ax in axes.flat[len(evaluations) :]:
        ax.axis("off")
    short = ["ent", "con", "neu", "none"]
    for ax, (lang, evaluation) in zip(axes.flat, evaluations.items(), strict=False):
        counts = evaluation.confusion()
        shares = counts.div(counts.sum(axis=1), axis=0)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(shares.shape):
            value = shares.iloc[row, column]
            color = "white" if value > 0.5 else "black"
            ax.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", color=color, fontsize=8
            )
        ax.set_xticks(range(4), short, fontsize=7)
        ax.set_yticks(range(3), short[:3], fontsize=7)
        ax.set_title(lang, fontsize=10)
    fig.suptitle("Answers by label (per cent of a row)")
    return _finished(fig, note)


def _token_bytes(text: str, tokenizer) -> list[bytes]:
    """The UTF-8 bytes behind each token of a byte-level BPE."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    return [bytes(byte_of[character] for character in token) for token in tokens]


def _decode(piece: bytes) -> str | None:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _finished(fig: Figure, note: str = "") -> Figure:
    if note:
        fig.text(0.995, 0.005, note, ha="right", va="bottom", fontsize=8, color=GREY)
    fig.tight_layout()
    plt.close(fig)  # a notebook shows what a cell returns, once
    return fig
