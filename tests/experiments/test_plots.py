"""Figures show the numbers in their tables."""

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from experiments import plots
from experiments.evaluation import Evaluation
from gpt2.checkpoints import Progress
from gpt2.xnli import XNLIDataset
from optim.adamw import AdamW
from tests import SAMPLE


def history(steps=100, per_epoch=50):
    return [
        Progress(
            step=i,
            total_steps=steps,
            epoch=1 + (i - 1) // per_epoch,
            loss=10 - i / 20,
            num_labels=4,
            num_tokens=100,
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


def test_the_loss_curve_shows_losses_and_baselines():
    fig = plots.plot_loss_curve(
        history(), held_out={50: 7.0, 100: 5.5}, baselines={"unigram": 6.5}, note="a sample"
    )
    (ax,) = fig.axes
    raw, smooth, held_out, *_ = ax.lines
    assert raw.get_ydata()[0] == history()[0].loss and len(raw.get_ydata()) == 100
    assert smooth.get_ydata()[1] == pytest.approx((history()[0].loss + history()[1].loss) / 2)
    assert held_out.get_ydata().tolist() == [7.0, 5.5]
    assert "unigram 6.50" in texts(fig) and "5.50" in texts(fig)
    assert [text.get_text() for text in fig.texts] == ["a sample"]


def test_a_short_history_is_drawn_too():
    assert isinstance(plots.plot_loss_curve(history(steps=1)), Figure)


def test_nli_data_are_shown_as_shares_of_labels_and_lengths(tokenizer):
    folder = SAMPLE
    sets = {split: XNLIDataset.in_folder(folder, split) for split in ("train", "test")}
    left, right = plots.plot_nli_data(sets, note="a sample").axes
    assert [bar.get_height() for bar in left.patches] == pytest.approx([1 / 3] * 6)
    assert [t.get_text() for t in left.get_legend().get_texts()] == ["train (600)", "test (120)"]
    medians = [line.get_xdata()[0] for line in right.lines]
    assert medians == [float(pd.Series(rows.lengths).median()) for rows in sets.values()]


def test_accuracies_stand_with_their_intervals_and_chance():
    fig = plots.plot_accuracies({"model": (0.6, 0.55, 0.65), "baseline": (0.5, 0.45, 0.55)})
    assert "60.0%  [55.0%, 65.0%]" in texts(fig)
    assert [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_ls() == "--"] == [1 / 3]
    assert fig.axes[0].get_xlim()[0] < 1 / 3 and fig.axes[0].get_xlim()[1] > 0.65


def test_the_confusion_figure_holds_every_count():
    table = pd.DataFrame({"label": list("0012"), "prediction": ["0", "1", "the", "2"]})
    fig = plots.plot_confusion(Evaluation(table.assign(pair_id=list("abcd"))))
    assert texts(fig) == [*"1100", *"0001", *"0010"]


def test_a_study_has_a_line_for_each_value_of_the_second_setting():
    table = pd.DataFrame(
        {
            "learning_rate": [1e-3, 1e-4, 1e-3, 1e-4],
            "batch_size": [4, 4, 8, 8],
            "dev accuracy": [0.5, 0.4, 0.45, 0.42],
            "low": [0.4, 0.3, 0.35, 0.32],
            "high": [0.6, 0.5, 0.55, 0.52],
        }
    )
    (ax,) = plots.plot_study(table, "learning_rate", "batch_size").axes
    lines = [container.lines[0] for container in ax.containers]
    assert [line.get_ydata().tolist() for line in lines] == [[0.4, 0.5], [0.42, 0.45]]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.0001", "0.001"]


def test_decoding_strategies_are_points_with_names():
    table = pd.DataFrame(
        {"nats per token": [1.0, 3.0], "distinct tokens": [0.2, 0.9]}, index=["greedy", "top-p"]
    )
    fig = plots.plot_decoding(table)
    assert fig.axes[0].collections[0].get_offsets().tolist() == [[1.0, 0.2], [3.0, 0.9]]
    assert texts(fig) == ["greedy", "top-p"]


def evaluation_of_zeros(n=30):
    labels = [str(i % 3) for i in range(n)]
    table = {"pair_id": map(str, range(n)), "label": labels, "prediction": ["0"] * n}
    return Evaluation(pd.DataFrame(table))


def test_confusions_are_shares_of_each_label():
    fig = plots.plot_confusions(
        {"en": evaluation_of_zeros(), "sw": evaluation_of_zeros()}, note="a sample"
    )
    assert [ax.get_title() for ax in fig.axes] == ["en", "sw"]
    assert [t.get_text() for t in fig.axes[0].texts] == ["100", "0", "0", "0"] * 3


def test_languages_lie_at_their_measure_and_english_is_left_out():
    table = pd.DataFrame(
        {
            "accuracy": [0.8, 0.45, 0.34],
            "low": [0.78, 0.43, 0.32],
            "high": [0.82, 0.47, 0.36],
            "premium": [1.0, 1.5, 6.0],
        },
        index=["en", "es", "th"],
    )
    fig = plots.plot_transfer(table, "premium", chosen=["es"])
    points = [tuple(bar.lines[0].get_xydata()[0]) for bar in fig.axes[0].containers]
    assert points == [(1.5, 0.45), (6.0, 0.34)]
    names = {t.get_text(): t.xy for t in fig.axes[0].texts}  # above or below the interval
    assert names == {"es": (1.5, 0.47), "th": (6.0, 0.32)}


def test_fertility_has_a_bar_a_language_in_order_of_premium():
    table = pd.DataFrame(
        {"fertility": [2.0, 1.1], "tokens per word": [2.0, 1.1], "premium": [1.6, 1.0]},
        index=["de", "en"],
    )
    left, right = plots.plot_fertility(table).axes
    assert [t.get_text() for t in right.get_xticklabels()] == ["en", "de"]
    assert [bar.get_height() for bar in right.patches] == [1.0, 1.6]
    assert [bar.get_height() for bar in left.patches] == [1.1, 2.0, 1.1, 2.0]


def test_settings_have_a_point_with_interval_for_every_language():
    rows = [("fr", "zero-shot", 0.4), ("fr", "per language", 0.6), ("de", "zero-shot", 0.38)]
    results = pd.DataFrame(rows, columns=["language", "setting", "accuracy"])
    results = results.assign(low=results["accuracy"] - 0.02, high=results["accuracy"] + 0.02)
    (ax,) = plots.plot_settings(results).axes
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert drawn == {"zero-shot": [0.4, 0.38], "per language": [0.6]}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["fr", "de"]


def test_the_heat_map_holds_every_accuracy_in_per_cent():
    table = pd.DataFrame([[0.8, 0.4], [0.5, 0.6]], index=["en", "all"], columns=["en", "fr"])
    fig = plots.plot_matrix(table, "Accuracy")
    assert [t.get_text() for t in fig.axes[0].texts] == ["80", "40", "50", "60"]


def test_attention_has_a_panel_a_head_and_weights_in_few_cells():
    weights = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    fig = plots.plot_attention(torch.stack([weights, weights]), ["a", "b"], titles=["x", "y"])
    assert [ax.get_title() for ax in fig.axes] == ["x", "y"]
    assert [text.get_text() for text in fig.axes[0].texts] == ["1.00", "0.00", "0.25", "0.75"]
    many = plots.plot_attention(torch.eye(9), [*"abcdefghi"])
    assert {text.get_text() for text in many.axes[0].texts} == {""}


def test_lengths_are_a_point_a_block():
    line = plots.plot_lengths([1.0, 2.0, 4.0]).axes[0].lines[0]
    assert line.get_ydata().tolist() == [1.0, 2.0, 4.0]


def study_of(name, values):
    columns = {"learning_rate": 1e-3, name: values, "dev accuracy": 0.5, "low": 0.4, "high": 0.6}
    return plots.plot_study(pd.DataFrame(columns), "learning_rate", name).axes[0]


def test_a_study_shows_every_value_whatever_it_is():
    ax = study_of("batch_size", [2**i for i in range(1, 10)])
    assert len(ax.containers) == 9 == len({c.get_label() for c in ax.containers})
    assert [c.get_label() for c in study_of("token_budget", [4096, None]).containers] == [
        *("token budget 4096", "token budget none")
    ]
    labels = [c.get_label() for c in study_of("schedule", ["linear", "constant"]).containers]
    assert labels == ["schedule constant", "schedule linear"]


def test_shares_of_one_label_alone_are_shown_whole(tmp_path, tokenizer):
    (tmp_path / "one.tsv").write_text("premise\thypo\tlabel\na\tb\tneutral\nc\td\tneutral\n")
    rows = XNLIDataset("train", "en", tmp_path / "one.tsv", tokenizer=tokenizer, verbose=False)
    assert plots.plot_nli_data({"train": rows}).axes[0].get_ylim()[1] > 1
