"""Other tasks beside NLI, in many languages: python -m extensions.tasks --weights miniature."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from experiments.fertility import measure_fertility
from experiments.files import check_folder
from experiments.options import (
    NONE,
    SMALL_DATA,
    SMALL_START,
    Codes,
    Data,
    Options,
    Preset,
    Runs,
    Weights,
    choose,
    command,
    run_command,
)
from experiments.pages import Page, measured_on
from experiments.profiles import find_data, find_weights
from experiments.runs import RUNS
from experiments.tables import export
from extensions.backbones import load_backbone
from extensions.plots import plot_tasks
from extensions.tasks.ner import NERTask
from extensions.tasks.qa import QATask
from extensions.tasks.sentiment import SentimentTask
from extensions.tasks.study import SETTINGS, TaskStudy, relation_table, score_table
from gpt2.xnli import XNLI

TASKS = {"nli": XNLI, "sentiment": SentimentTask(), "ner": NERTask(), "qa": QATask()}
EMBEDDED = Path(__file__).parents[2] / "data" / "tasks"
Names = Annotated[tuple[str, ...], tyro.conf.arg(help=f"some of {', '.join(TASKS)}")]


def main(
    preset: Preset = "miniature",
    changes: Options = NONE,
    weights: Weights = SMALL_START,
    tasks: Names = ("sentiment", "ner", "qa"),
    only: Codes = (),
    data: Path = EMBEDDED,
    xnli: Data = SMALL_DATA,
    most: int | None = None,
    compare: Annotated[tuple[str, ...], tyro.conf.arg(help=f"of {', '.join(SETTINGS)}")] = SETTINGS,
    runs: Runs = RUNS,
    out: Path = Path("out/tasks"),
) -> None:
    """Train and test one model on several tasks: as it is, on English, per language, on all.

    Args:
        only: languages to train and test on, English among them; by default all of each task.
        data: the folder that holds sentiment/, ner/ and qa/; by default the embedded samples.
        most: how many test rows count in each language; by default all.
        out: a folder for the page, its tables and figure.
    """
    check_folder(out)
    settings, xnli, found = choose(preset, changes, unused=("languages",)), find_data(xnli), []
    where = {
        "weights": find_weights(weights, runs),
        "runs": runs,
        "load": load_backbone,
        "most": most,
    }
    for name in tasks:
        if name not in TASKS:
            raise ValueError(f"no task {name!r}; there are {', '.join(TASKS)}")
        task = TASKS[name]
        chosen = [lang for lang in only or task.languages if lang in task.languages]
        folder = xnli if name == "nli" else data
        study = TaskStudy(name, task, settings, data=folder, languages=chosen, **where)
        found.append(study.table(compare))
        print(score_table(found[-1]).to_string())
    scores = pd.concat(found, ignore_index=True)
    premiums = measure_fertility(xnli, tokenizer=study.tokenizer)["premium"]
    measures = ", ".join(f"{name}: {TASKS[name].measure}" for name in tasks)
    page = Page(out, "Other tasks in many languages", command("extensions.tasks"))
    page.add(
        f"{weights} {measured_on()}. In per cent with 95 % intervals; {measures}. Relation: "
        "Spearman's rho of the score of training on English alone with the tokenizer's premium "
        "and fertility."
    )
    export(scores, out, "all")
    export(premiums.to_frame(), out, "premiums")
    page.table("scores", score_table(scores))
    page.figure("tasks", plot_tasks(scores, premiums))
    page.table("relation", relation_table(scores, premiums))
    print(f"page: {page.save()}")


if __name__ == "__main__":
    run_command(main)
