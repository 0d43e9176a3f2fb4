"""Look inside the fine-tuned miniature: python -m extensions.interpret --out results/interpret."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from config import FINETUNE_MINIATURE
from data.miniature import model_folder, nli_folder
from experiments.files import check_folder
from experiments.finetuning import finetune
from experiments.options import Runs, command, run_command
from experiments.pages import Page, measured_on
from experiments.runs import RUNS
from extensions.interpret.errors import phenomenon_question
from extensions.interpret.head_ablation import head_question
from extensions.interpret.language_neurons import neuron_question
from extensions.interpret.languages import language_question
from extensions.interpret.layers import layer_question
from extensions.interpret.study import Study

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
    runs: Runs = RUNS,
    pairs: Annotated[int, tyro.conf.arg(help="test pairs of each language for what is slow")] = 600,
    questions: Sequence[str] = tuple(QUESTIONS),
) -> None:
    """Answer questions about the miniature, fine-tuned on English pairs: a page with tables and
    figures.

    Args:
        out: a folder for the page, its tables and figures.
        questions: which to answer.
    """
    check_folder(out)
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
    page = Page(out, "What the inside says about the outside", command("extensions.interpret"))
    page.add(
        f"{minutes:.0f} minutes, {measured_on()}. The model is GPT-2 in "
        f"miniature, fine-tuned on {ROWS} English pairs, one seed. Intervals are 95 %; each file "
        "of extensions/interpret/ says what it computes."
    )
    for name, answer in answers.items():
        page.add(f"## {answer.question}", *answer.sentences)
        page.figure(name, answer.figure)
        for table_name, table in answer.tables.items():
            page.table(table_name, table, heading="###")
    print(f"page: {page.save()}")


if __name__ == "__main__":
    run_command(main)
