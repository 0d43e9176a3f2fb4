"""Every figure that a notebook or a results page shows. Each function returns the figure."""

# ruff: noqa: F401

from experiments.plots.task1 import (
    plot_attention,
    plot_decoding,
    plot_lengths,
    plot_loss_curve,
    plot_optimizer_paths,
    plot_tokens,
)
from experiments.plots.task2 import plot_accuracies, plot_confusion, plot_nli_data, plot_study
from experiments.plots.task3 import (
    plot_confusions,
    plot_fertility,
    plot_matrix,
    plot_settings,
    plot_transfer,
)
