"""The same NLI experiment with other models: python -m extensions.models --models gpt2 smollm2.

Handout section 6: is what Task 3 shows GPT-2's, or any model's? Each model is fine-tuned on English
with one recipe and tested in all languages, each with its own tokenizer. A GPT-2 that was
pretrained on one language alone ("de=goldfish-models/deu_latn_1000mb") is fine-tuned on that
language and stands beside GPT-2 fine-tuned on it: is it the model, or its English tokens?
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from config import FinetuningSettings
from experiments.fertility import measure_fertility
from experiments.files import check_folder
from experiments.finetuning import FinetunedRun, finetune
from experiments.languages import FERTILITY_PAIRS
from experiments.options import (
    HERE,
    NONE,
    Data,
    Options,
    Preset,
    Runs,
    Seeds,
    choose,
    command,
    run_command,
)
from experiments.pages import Page, measured_on
from experiments.plots import plot_settings
from experiments.profiles import find_data, find_weights
from experiments.runs import RUNS, check_seeds
from experiments.tables import export
from experiments.transfer import Result, correlation, readable, results_table, transfer_table
from extensions.backbones import load_backbone
from extensions.costs import trainable
from extensions.lora import attach
from extensions.plots import plot_premiums
from gpt2.xnli import XNLI, NLITask

Models = Annotated[tuple[str, ...], tyro.conf.arg(help="names, such as gpt2 smollm2 de=NAME")]


class ModelStudy:
    """Models by name, fine-tuned alike; `name` is what `load_backbone` loads, or lang=name."""

    def __init__(
        self,
        settings: FinetuningSettings,
        models: Sequence[str],
        *,
        data,
        runs,
        seeds: Sequence[int] = (0,),
        most: int | None = None,
        prepare: Callable | None = None,
        task: NLITask = XNLI,
    ):
        self.most = most  # rows that count in languages that a model was not trained on
        self.settings, self.seeds = settings, check_seeds(seeds)
        self.models = list(dict.fromkeys(models))
        self.where = {"data": data, "runs": runs, "load": load_backbone, "task": task}
        self.where["prepare"] = prepare  # as in `finetune`: LoRA, say
        self.data = data
        self.run = cache(self.run)  # it loads the model that it starts from

    def run(self, model: str, seed: int) -> FinetunedRun:
        """Return the run of a model, on English or on its own language."""
        lang, name = self.language(model), model.partition("=")[2] or model
        settings = replace(self.settings, languages=(lang,), seed=seed)
        folder = Path(name).name.replace(".", "_") + f"-{lang}"
        return finetune(
            settings, weights=find_weights(name, self.where["runs"]), name=folder, **self.where
        )

    def language(self, model: str) -> str:
        """Return the language that a model is fine-tuned on."""
        return model.partition("=")[0] if "=" in model else "en"

    def results(self) -> list[Result]:
        """Return the test predictions of every model and seed: of one that was fine-tuned on
        English in all languages, else in its own."""
        found = []
        for model in self.models:
            for seed in self.seeds:
                run, lang = self.run(model, seed), self.language(model)
                languages = run.task.languages if lang == "en" else (lang,)
                cost = (run.result["examples"], run.result["seconds"], seed)
                tests = run.evaluations(languages, subset=self.most or 1.0)
                for tested, evaluation in tests.items():
                    found.append(Result(model, tested, evaluation, *cost))
        return found

    def fertility(self, model: str) -> pd.DataFrame:
        """Return the fertility in each language of a model's own tokenizer."""
        run = self.run(model, self.seeds[0])
        return measure_fertility(self.data, run.task, FERTILITY_PAIRS, tokenizer=run.tokenizer)

    def transfers(self, results: Sequence[Result]) -> dict[str, pd.DataFrame]:
        """Return a transfer table of each model that was fine-tuned on English, first seed."""
        tables = {}
        for model in self.models:
            evaluations = {
                r.lang: r.evaluation
                for r in results
                if r.setting == model and r.seed == self.seeds[0]
            }
            if self.language(model) == "en":
                tables[model] = transfer_table(evaluations, self.fertility(model))
        return tables

    def costs(self) -> pd.DataFrame:
        """Return a row a model: parameters (those trained), dev accuracy, minutes a seed."""
        rows = {}
        for model in self.models:
            runs = [self.run(model, seed) for seed in self.seeds]
            tuned = runs[0].model()
            results = pd.DataFrame([run.result for run in runs])
            rows[model] = {
                "parameters": sum(p.numel() for p in tuned.parameters()),
                "trained": trainable(tuned),
                "dev accuracy": results["dev_accuracy"].mean(),
                "best epoch": results["epoch"].mean(),
                "minutes": results["seconds"].mean() / 60,
            }
        return pd.DataFrame.from_dict(rows, orient="index")


def relation_table(transfers: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return Spearman's rho of zero-shot accuracy with the premium and the fertility of each
    model's tokenizer, over the languages other than English, and p-values."""
    rows = {}
    for model, table in transfers.items():
        (rho, p), (rho_f, p_f) = (correlation(table, m) for m in ("premium", "fertility"))
        rows[model] = {"rho premium": rho, "p": p, "rho fertility": rho_f, "p (fertility)": p_f}
    return pd.DataFrame.from_dict(rows, orient="index")


def main(
    preset: Preset = "best",
    changes: Options = NONE,
    models: Models = ("smollm2",),
    data: Data = HERE,
    seeds: Seeds = (0,),
    most: int | None = None,
    lora: int | None = None,
    runs: Runs = RUNS,
    out: Path = Path("out/models"),
) -> None:
    """Fine-tune models on English NLI and test them in all languages.

    Args:
        most: how many test rows count in each language but the trained ones; by default all.
        lora: train low-rank changes of this rank alone, on all linear layers.
        out: a folder for the page, its tables and figures.
    """
    check_folder(out)
    where = {"data": find_data(data), "runs": runs}
    study = ModelStudy(
        choose(preset, changes, unused=("seed", "languages")),
        models,
        **where,
        seeds=seeds,
        most=most,
        prepare=partial(attach, rank=lora) if lora else None,
    )
    results = study.results()
    transfers, table = study.transfers(results), results_table(results)
    premiums = pd.DataFrame({model: t["premium"] for model, t in transfers.items()})
    page = Page(out, "Other models on the same NLI task", command("extensions.models"))
    page.add(
        f"Measured {measured_on()}. Test accuracy in per cent with 95 % intervals (Wilson), or "
        "mean (standard deviation) over seeds. Premium: the tokens of a model's own tokenizer for "
        "the same text over those in English."
    )
    export(table, out, "results")
    for model, each in transfers.items():
        export(each, out, f"transfer_{Path(model).name}")
    page.table("accuracy", readable(table))
    page.figure("accuracy", plot_settings(table))
    page.table("premium", premiums.reindex(table["language"].unique()))
    page.figure("premium", plot_premiums(transfers))
    page.table("relation", relation_table(transfers))
    page.table("costs", study.costs())
    print(f"page: {page.save()}")


if __name__ == "__main__":
    run_command(main)
