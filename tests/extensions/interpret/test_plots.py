"""Figures show the numbers that they are given, without scripts."""

import io

import pandas as pd
import pytest
import torch

from extensions.interpret import plots

LABELS = ["Anna", "·is", "न₁₂", "ส", "·Leo", "↵"]
WEIGHTS = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0)).tril()


def test_attention_is_a_line_for_every_query_and_key():
    fig = plots.plot_attention_lines(WEIGHTS, LABELS, [4, 5], [0, 1, 2], titles=["a", "b"])
    assert len(fig.axes) == 2
    for ax, head in zip(fig.axes, WEIGHTS, strict=True):
        assert len(ax.lines) == 6
        widths = sorted(line.get_linewidth() for line in ax.lines)
        expected = sorted((3 * head[4:, :3]).flatten().tolist())
        assert widths == pytest.approx(expected)
        shown = [text.get_text() for text in ax.texts]
        assert shown[:2] == ["Anna", "·is"] and shown[3:] == ["·Leo", "↵"]
        assert shown[2].endswith("₁₂") and shown[2][0] in "नU"


def test_the_picture_is_a_static_svg():
    file = io.BytesIO()
    plots.plot_attention_lines(WEIGHTS[0], LABELS, [4, 5], [0, 1]).savefig(file, format="svg")
    text = file.getvalue().decode()
    assert "<svg" in text and "<script" not in text and "http" not in text.split("<defs")[-1]


def test_intervals_have_a_point_for_every_row():
    table = pd.DataFrame(
        [("x", "a", 0.5, 0.4, 0.6), ("x", "b", 0.7, 0.6, 0.8), ("y", "a", 0.1, 0.0, 0.3)],
        columns=["group", "series", "value", "low", "high"],
    )
    (ax,) = plots.plot_intervals(table, "T", x="share", line=1 / 3).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.containers[0].lines[0].get_xdata().tolist() == [0.5, 0.1]


def test_states_are_lines_with_their_control():
    table = pd.DataFrame({"series": ["a"] * 3, "state": [0, 1, 2], "value": [0.3, 0.5, 0.9]})
    table["control"] = 0.4
    left, right = plots.plot_by_state({"l": table, "r": table.drop(columns="control")}, y="p").axes
    assert left.lines[0].get_ydata().tolist() == [0.3, 0.5, 0.9]
    assert len(left.lines) == len(right.lines) + 1


def test_measures_and_attributions_are_drawn():
    table = pd.DataFrame(
        {"accuracy": [0.9, 0.3], "low": [0.8, 0.2], "high": [0.95, 0.4]}, ["es", "th"]
    )
    (ax,) = plots.plot_against(table.assign(premium=[1.2, 5.0]), ["premium"], ["ρ = 1"]).axes
    assert {text.get_text() for text in ax.texts} == {"es", "th"} and ax.get_title() == "ρ = 1"
    (ax,) = plots.plot_attributions([0.5, -0.2], ["a", "·b"], "T").axes
    assert [bar.get_height() for bar in ax.patches] == [0.5, -0.2]
