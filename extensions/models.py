"""The same NLI experiment with other models: python -m extensions.models --models gpt2 smollm2.

Handout section 6: is what Task 3 shows GPT-2's, or any model's? Each model is fine-tuned on English
with one recipe and tested in all languages, each with its own tokenizer. A GPT-2 that was
pretrained on one language alone ("de=goldfish-models/deu_latn_1000mb") is fine-tuned on that
language and stands beside GPT-2 fine-tuned on it: is it the model, or its English tokens?
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from config import FINETUNE_BEST, FinetuningSettings
from experiments.cli import Data, Preset, Runs, Seeds
from experiments.environment import machine
from experiments.files import write_text
from experiments.finetuning import FinetunedRun, finetune
from experiments.languages import FERTILITY_PAIRS, measure_fertility
from experiments.plots import plot_settings
from experiments.profiles import find_data, find_weights
from experiments.tables import export, markdown
from experiments.transfer import Result, correlation, readable, results_table, transfer_table
from extensions.backbones import load_backbone
from extensions.plots import plot_premiums
from gpt2.xnli import XNLI, NLITask
from utils import atomic_write, get_device

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
        task: NLITask = XNLI,
    ):
        self.settings, self.models, self.seeds = settings, list(models), tuple(seeds)
        self.where = {"data": data, "runs": runs, "load": load_backbone, "task": task}
        self.data = data
        self.run = cache(self.run)  # it loads the model that it starts from

    def run(self, model: str, seed: int) -> FinetunedRun:
        """Return the run of a model, on English or on its own language."""
        lang, name = self.language(model), model.partition("=")[2] or model
        settings = replace(self.settings, languages=(lang,), seed=seed)
        folder = Path(name).name.replace(".", "_") + f"-{lang}"
        return finetune(settings, weights=find_weights(name), name=folder, **self.where)

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
                for tested, evaluation in run.evaluations(languages).items():
                    found.append(Result(model, tested, evaluation, *cost))
        return found

    def fertility(self, model: str) -> pd.DataFrame:
        """Return gpt2.fertility.fertility_table of a model's own tokenizer."""
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
        """Return a row a model: parameters, dev accuracy, minutes of training a seed."""
        rows = {}
        for model in self.models:
            runs = [self.run(model, seed) for seed in self.seeds]
            parameters = sum(p.numel() for p in runs[0].model().parameters())
            results = pd.DataFrame([run.result for run in runs])
            rows[model] = {
                "parameters": parameters,
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
    settings: Preset = FINETUNE_BEST,
    models: Models = ("smollm2",),
    data: Data = Path("."),
    seeds: Seeds = (0,),
    runs: Runs = Path("runs"),
    out: Path = Path("out/models"),
) -> None:
    """Fine-tune models on English NLI and test them in all languages.

    Args:
        out: a folder for the page, its tables and figures.
    """
    study = ModelStudy(settings, models, data=find_data(data), runs=runs, seeds=seeds)
    results = study.results()
    transfers, table = study.transfers(results), results_table(results)
    premiums = pd.DataFrame({model: t["premium"] for model, t in transfers.items()})
    tables = {
        "accuracy": readable(table),
        "premium": premiums.reindex(table["language"].unique()),
        "relation": relation_table(transfers),
        "costs": study.costs(),
    }
    figures = {"accuracy": plot_settings(table), "premium": plot_premiums(transfers)}
    host = machine(get_device().type)
    page = [
        "# Other models on the same NLI task",
        f"`{shlex.join(['python', '-m', 'extensions.models', *sys.argv[1:]])}`",
        f"On {host['processor']} ({host['device']}), torch {host['torch']}, commit "
        f"{host['commit']}. Test accuracy in per cent with 95 % intervals (Wilson), or mean "
        "(standard deviation) over seeds. Premium: the tokens of a model's own tokenizer for the "
        "same text over those in English.",
    ]
    for name, each in tables.items():
        export(each, out, name)
        page += [f"## {name.capitalize()}", markdown(each)]
        if name in figures:
            with atomic_write(out / f"{name}.png") as path:
                figures[name].savefig(path, format="png", dpi=100)
            page.append(f"![{name}]({name}.png)")
    write_text(out / "README.md", "\n\n".join(page) + "\n")
    print(f"page: {out / 'README.md'}")


if __name__ == "__main__":
    tyro.cli(main)
