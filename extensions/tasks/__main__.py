"""Other tasks beside NLI, in many languages: python -m extensions.tasks --weights miniature."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from config import FINETUNE_MINIATURE
from experiments.cli import Codes, Data, Preset, Runs
from experiments.environment import machine
from experiments.files import write_text
from experiments.languages import measure_fertility
from experiments.profiles import find_data, find_weights
from experiments.tables import export, markdown
from extensions.backbones import load_backbone
from extensions.plots import plot_tasks
from extensions.tasks.ner import NERTask
from extensions.tasks.qa import QATask
from extensions.tasks.sentiment import SentimentTask
from extensions.tasks.study import SETTINGS, TaskStudy, relation_table, score_table
from gpt2.xnli import XNLI
from utils import atomic_write, get_device

TASKS = {"nli": XNLI, "sentiment": SentimentTask(), "ner": NERTask(), "qa": QATask()}
EMBEDDED = Path(__file__).parents[2] / "data" / "tasks"
Names = Annotated[tuple[str, ...], tyro.conf.arg(help=f"some of {', '.join(TASKS)}")]


def main(
    settings: Preset = FINETUNE_MINIATURE,
    weights: str = "miniature",
    tasks: Names = ("sentiment", "ner", "qa"),
    languages: Codes = (),
    data: Path = EMBEDDED,
    xnli: Data = Path("miniature"),
    most: int | None = None,
    compare: Annotated[tuple[str, ...], tyro.conf.arg(help=f"of {', '.join(SETTINGS)}")] = SETTINGS,
    runs: Runs = Path("runs"),
    out: Path = Path("out/tasks"),
) -> None:
    """Train and test one model on several tasks: as it is, on English, per language, on all.

    Args:
        weights: miniature, smollm2, a name on the Hugging Face hub, or a folder.
        languages: those to train and test on, English among them; by default all of each task.
        data: the folder that holds sentiment/, ner/ and qa/; by default the embedded samples.
        most: how many test rows count in each language; by default all.
        out: a folder for the page, its tables and figure.
    """
    xnli, found = find_data(xnli), []
    where = {"weights": find_weights(weights), "runs": runs, "load": load_backbone, "most": most}
    for name in tasks:
        if name not in TASKS:
            raise SystemExit(f"error: no task {name!r}; there are {', '.join(TASKS)}")
        task = TASKS[name]
        chosen = [lang for lang in languages or task.languages if lang in task.languages]
        folder = xnli if name == "nli" else data
        study = TaskStudy(name, task, settings, data=folder, languages=chosen, **where)
        found.append(study.table(compare))
        print(score_table(found[-1]).to_string())
    scores = pd.concat(found, ignore_index=True)
    premiums = measure_fertility(xnli, tokenizer=study.tokenizer)["premium"]
    tables = {"scores": score_table(scores), "relation": relation_table(scores, premiums)}
    measures = ", ".join(f"{name}: {TASKS[name].measure}" for name in tasks)
    host = machine(get_device().type)
    page = [
        "# Other tasks in many languages",
        f"`{shlex.join(['python', '-m', 'extensions.tasks', *sys.argv[1:]])}`",
        f"{weights} on {host['processor']} ({host['device']}), torch {host['torch']}, commit "
        f"{host['commit']}. In per cent with 95 % intervals; {measures}. Relation: Spearman's rho "
        "of the score of training on English alone with the tokenizer's premium and fertility.",
    ]
    export(scores, out, "all")
    for name, table in tables.items():
        export(table, out, name)
        page += [f"## {name.capitalize()}", markdown(table)]
    with atomic_write(out / "tasks.png") as path:
        plot_tasks(scores, premiums).savefig(path, format="png", dpi=100)
    write_text(out / "README.md", "\n\n".join([*page, "![tasks](tasks.png)"]) + "\n")
    print(f"page: {out / 'README.md'}")


if __name__ == "__main__":
    tyro.cli(main)
