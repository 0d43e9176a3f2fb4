"""Figures show the numbers that they were given."""

import pytest
import torch
from matplotlib.figure import Figure

from gpt2 import plots
from gpt2.train import Progress
from optim.adamw import AdamW


def history(steps=100, per_epoch=50):
    return [
        Progress(
            step=i,
            total_steps=steps,
            epoch=1 + (i - 1) // per_epoch,
            loss=10 - i / 20,
            num_labels=4,
            learning_rate=1e-3,
            seconds=float(i),
            ends_epoch=i % per_epoch == 0,
        )
        for i in range(1, steps + 1)
    ]


def texts(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def test_tokens_are_boxes_as_wide_as_their_bytes(tokenizer):
    fig = plots.plot_tokens({"English": "The cat", "Thai": "แมว"}, tokenizer)
    (ax,) = fig.axes
    for row, text in enumerate(["The cat", "แมว"]):
        boxes = [p for p in ax.patches if round(p.get_y() + 0.36) == row]
        assert len(boxes) == len(tokenizer(text)["input_ids"])
        assert sum(p.get_width() for p in boxes) == len(text.encode())
    assert any("2 tokens, 7 characters, 2 words" in label for label in texts(fig))


def test_a_token_that_holds_part_of_a_character_is_marked(tokenizer):
    whole, part = (
        plots.plot_tokens({"x": text}, tokenizer).axes[0].patches[0].get_facecolor()
        for text in ("cat", "แ")
    )
    assert whole != part


def test_optimizer_paths_start_together_and_run_down():
    fig = plots.plot_optimizer_paths(
        {"AdamW": lambda p: AdamW(p, lr=0.3), "SGD": lambda p: torch.optim.SGD(p, lr=0.03)},
        steps=30,
    )
    valley, losses = fig.axes
    paths = [line.get_xydata() for line in valley.lines if len(line.get_xydata()) == 31]
    assert len(paths) == 2 and (paths[0][0] == paths[1][0]).all()
    assert all(line.get_ydata()[-1] < line.get_ydata()[0] for line in losses.lines)


def test_the_loss_curve_shows_raw_smoothed_held_out_and_baselines():
    fig = plots.plot_loss_curve(
        history(), held_out={50: 7.0, 100: 5.5}, baselines={"unigram": 6.5}, note="a sample"
    )
    (ax,) = fig.axes
    raw, smooth, held_out, *_ = ax.lines
    assert raw.get_ydata()[0] == history()[0].loss and len(raw.get_ydata()) == 100
    assert smooth.get_ydata()[0] == pytest.approx((history()[0].loss + history()[1].loss) / 2)
    assert held_out.get_ydata().tolist() == [7.0, 5.5]
    assert "unigram 6.50" in texts(fig) and "5.50" in texts(fig)
    assert [text.get_text() for text in fig.texts] == ["a sample"]


def test_a_short_history_is_drawn_too():
    assert isinstance(plots.plot_loss_curve(history(steps=1)), Figure)
