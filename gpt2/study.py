"""Experiments as data: a list of settings, what came out as a table."""

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from config import FinetuningSettings
from gpt2.finetune import FinetunedRun, finetune


def run_study(variants: Sequence[FinetuningSettings], **arguments) -> list[FinetunedRun]:
    """The finished run of each of the settings, in order; `arguments` are those of `finetune`.

    Each starts from the same weights in a model of its own, and what is done already is not done
    again.
    """
    if not variants:
        raise ValueError("no settings to study; give a list of FinetuningSettings")
    return [finetune(settings, **arguments) for settings in variants]


def study_table(runs: Sequence[FinetunedRun]) -> pd.DataFrame:
    """A row a run, best first: the settings in which they differ, dev accuracy with its 95 %
    interval, dev loss, mean training loss of the last epoch, minutes and folder."""
    names = [field.name for field in fields(runs[0].settings)]
    values = {name: [getattr(run.settings, name) for run in runs] for name in names}
    table = pd.DataFrame({name: v for name, v in values.items() if len(set(v)) > 1})
    results = [run.result for run in runs]
    table["dev accuracy"] = [result["dev_accuracy"] for result in results]
    table["low"], table["high"] = zip(*(result["dev_interval"] for result in results), strict=True)
    table["dev loss"] = [result["dev_loss"] for result in results]
    table["train loss"] = [_last_epoch_loss(run) for run in runs]
    table["minutes"] = [result["seconds"] / 60 for result in results]
    table["folder"] = [run.path.name for run in runs]
    return table.sort_values("dev accuracy", ascending=False, ignore_index=True)


def _last_epoch_loss(run: FinetunedRun) -> float:
    steps = pd.DataFrame(run.history())
    last = steps[steps["epoch"] == steps["epoch"].max()]
    return float((last["loss"] * last["num_labels"]).sum() / last["num_labels"].sum())
