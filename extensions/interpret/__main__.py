"""Look inside the fine-tuned miniature: python -m extensions.interpret --out results/interpret."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from config import FINETUNE_MINIATURE
from data.miniature import model_folder, nli_folder
from experiments.cli import Runs
from experiments.environment import machine
from experiments.files import write_text
from experiments.finetuning import finetune
from experiments.tables import export, markdown
from extensions.interpret.errors import phenomenon_question
from extensions.interpret.head_ablation import head_question
from extensions.interpret.language_neurons import neuron_question
from extensions.interpret.languages import language_question
from extensions.interpret.layers import layer_question
from extensions.interpret.study import Answer, Study
from utils import atomic_write, get_device

QUESTIONS = {
    "heads": head_question,
    "languages": language_question,
    "neurons": neuron_question,
    "phenomena": phenomenon_question,
    "layers": layer_question,
}
ROWS = 600  # of the English training pairs, as in the default run


def main(
    out: Path = Path("out/interpret"),
    runs: Runs = Path("runs"),
    pairs: Annotated[int, tyro.conf.arg(help="test pairs of each language for what is slow")] = 600,
    questions: Sequence[str] = tuple(QUESTIONS),
) -> None:
    """Answer questions about the miniature, fine-tuned on English pairs: a page with tables and
    figures.

    Args:
        out: a folder for the page, its tables and figures.
        questions: which to answer.
    """
    if unknown := {*questions} - {*QUESTIONS}:
        raise ValueError(f"unknown question {min(unknown)!r}; choose from {', '.join(QUESTIONS)}")
    settings = replace(FINETUNE_MINIATURE, subset=float(ROWS))
    where = {"weights": model_folder(), "data": nli_folder(), "runs": runs}
    study = Study(finetune(settings, name="english", **where), pairs=pairs)
    started, answers = time.perf_counter(), {}
    for name in questions:
        answers[name] = QUESTIONS[name](study)
        minutes = (time.perf_counter() - started) / 60
        print(f"{name}, after {minutes:.1f} minutes: {' '.join(answers[name].sentences)}")
    command = shlex.join(["python", "-m", "extensions.interpret", *sys.argv[1:]])
    save(out, answers, f"`{command}`", minutes)
    print(f"page: {out / 'README.md'}")


def save(out: Path, answers: dict[str, Answer], command: str, minutes: float) -> None:
    """Write tables and figures, and the page that shows them."""
    host = machine(get_device().type)
    page = [
        "# What the inside says about the outside",
        command,
        f"{minutes:.0f} minutes, on {host['processor']} ({host['device']}, {host['threads']} "
        f"threads), torch {host['torch']}, commit {host['commit']}. The model is GPT-2 in "
        f"miniature, fine-tuned on {ROWS} English pairs, one seed. Intervals are 95 %; each file "
        "of extensions/interpret/ says what it computes.",
    ]
    for name, answer in answers.items():
        page += [f"## {answer.question}", *answer.sentences]
        with atomic_write(out / f"{name}.png") as path:
            answer.figure.savefig(path, format="png", dpi=100)
        page.append(f"![{name}]({name}.png)")
        for table_name, table in answer.tables.items():
            export(table, out, table_name)
            page += [f"### {table_name.replace('_', ', ').capitalize()}", markdown(table)]
    write_text(out / "README.md", "\n\n".join(page) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
