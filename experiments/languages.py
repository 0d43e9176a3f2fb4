"""Task 3 as one pipeline: zero-shot transfer, fertility, selection of languages, training on them.

Handout sections 5.1 to 5.4. The notebook, `python -m gpt2 languages` and the pages under results/
all come from `LanguageStudy`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from config import FinetuningSettings
from experiments.evaluation import Evaluation
from experiments.fertility import measure_fertility
from experiments.finetuning import FinetunedRun, finetune
from experiments.pages import Page, measured_on
from experiments.runs import RUNS, check_seeds, load_gpt2
from experiments.statistics import p_text
from experiments.transfer import (
    Result,
    correlation,
    differences,
    readable,
    results_table,
    select_languages,
    transfer_table,
)
from gpt2.xnli import XNLI, NLITask

FERTILITY_PAIRS = 3927  # of each language's training file: the handout's check (section 5.2)
ENGLISH, SINGLE, ALL = "English only (zero-shot)", "per language", "all together"
BUDGET = "all, same examples"


class LanguageStudy:
    """The 15-language study; each attribute is computed when it is first needed.

    `settings` is the recipe of every training; its `languages` and `seed` are replaced. `weights`,
    `data`, `runs`, `load` and `task` are as in experiments.finetuning.finetune. `languages` are
    those to train on besides English: by default the rule's (`select_languages`), or, where the
    rule selects none, the two with the fewest tokens. Each training is a run, so a killed study
    resumes.
    """

    def __init__(
        self,
        settings: FinetuningSettings,
        *,
        weights="gpt2",
        data=".",
        runs=RUNS,
        languages: Sequence[str] | None = None,
        most: int | None = None,  # of the rule's languages, the best ones
        seeds: Sequence[int] = (0,),
        load: Callable = load_gpt2,
        task: NLITask = XNLI,
    ):
        self.settings, self.data, self.seeds = settings, data, check_seeds(seeds)
        self.most, self.given = most, None
        if languages is not None:
            self.given = [lang for lang in dict.fromkeys(languages) if lang != "en"]
        self.task = task
        self.where = {"weights": weights, "data": data, "runs": runs, "load": load, "task": task}

    def train(self, name: str, languages: Sequence[str], seed: int, **changes) -> FinetunedRun:
        """Return the run `name` on these languages."""
        settings = replace(self.settings, languages=tuple(languages), seed=seed, **changes)
        return finetune(settings, name=name, **self.where)

    @cached_property
    def english(self) -> FinetunedRun:
        """The run on English alone, of the first seed."""
        return self.train("english", ("en",), self.seeds[0])

    @cached_property
    def zero_shot(self) -> dict[str, Evaluation]:
        """The English model's test predictions in all languages."""
        return self.english.evaluations()

    @cached_property
    def fertility(self) -> pd.DataFrame:
        """A row a language: how finely the tokenizer cuts it (experiments.fertility)."""
        tokenizer = self.english.tokenizer
        return measure_fertility(self.data, self.task, FERTILITY_PAIRS, tokenizer=tokenizer)

    @cached_property
    def transfer(self) -> pd.DataFrame:
        """A row a language, best first: zero-shot accuracy, its tests, and the fertility."""
        return transfer_table(self.zero_shot, self.fertility)

    @cached_property
    def by_rule(self) -> list[str]:
        """The languages that the rule selects; may be none."""
        return select_languages(self.transfer)

    @cached_property
    def languages(self) -> list[str]:
        """The languages to train on besides English."""
        if self.given is not None:
            return self.given
        return self.by_rule[: self.most] or list(
            self.transfer["premium"].drop("en").nsmallest(2).index
        )

    @cached_property
    def runs(self) -> dict[int, dict[str, FinetunedRun]]:
        """By seed: a run a language, "all" on all of them, and "all-budget", on all of them with
        no more examples than English alone."""
        everything = ("en", *self.languages)
        runs = {}
        for seed in self.seeds:
            english = self.train("english", ["en"], seed)
            examples = english.result["examples"] // self.settings.epochs
            budget = {"examples": examples, "token_budget": None}  # which exclude each other
            runs[seed] = {
                "en": english,
                **{lang: self.train(lang, [lang], seed) for lang in self.languages},
                "all": self.train("all", everything, seed),
                "all-budget": self.train("all-budget", everything, seed, **budget),
            }
        return runs

    @cached_property
    def all_results(self) -> list[Result]:
        """The test results of each setting, language and seed."""
        everything = ("en", *self.languages)
        tested = [(ENGLISH, "en", everything)]
        tested += [(SINGLE, lang, [lang]) for lang in self.languages]
        tested += [(ALL, "all", everything), (BUDGET, "all-budget", everything)]
        results = []
        for seed, runs in self.runs.items():
            for setting, name, languages in tested:
                cost = runs[name].result["examples"], runs[name].result["seconds"], seed
                found = runs[name].evaluations(languages)
                results += [Result(setting, lang, e, *cost) for lang, e in found.items()]
        return results

    @cached_property
    def results(self) -> pd.DataFrame:
        """A row for every language and setting (experiments.transfer.results_table)."""
        return results_table(self.all_results)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Paired tests between the settings of each language (experiments.transfer.differences)."""
        return differences(self.all_results)

    @cached_property
    def matrix(self) -> pd.DataFrame:
        """Test accuracy by training language (rows) and test language, of the first seed."""
        everything, accuracies = ("en", *self.languages), {}
        for name in (*everything, "all"):
            evaluations = self.runs[self.seeds[0]][name].evaluations(everything)
            accuracies[name] = {lang: e.accuracy for lang, e in evaluations.items()}
        return pd.DataFrame.from_dict(accuracies, orient="index")

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every table by name."""
        return {
            "results": self.results.set_index(["language", "setting"]),
            "readable": readable(self.results),
            "differences": self.differences.set_index(["language", "first", "second"]),
            "train_by_test": self.matrix,
            "transfer": self.transfer,
            "fertility": self.fertility,
        }

    def save(self, folder, command: str) -> Path:
        """Write tables, figures and a page that shows them; return the page."""
        from experiments import plots  # matplotlib takes a second

        rho, p = correlation(self.transfer, "fertility")
        trained = [run for runs in self.runs.values() for run in runs.values()]
        minutes = sum(run.result["seconds"] for run in trained) / 60
        page = Page(folder, "Task 3: zero-shot transfer, per language, all together", command)
        page.add(
            f"{minutes:.0f} minutes of training in all, {measured_on()}.",
            f"The rule selects {', '.join(self.by_rule) or 'no language'}. Spearman correlation of "
            f"zero-shot accuracy and fertility: {rho:.2f} ({p_text(p)}).",
            "Intervals are 95 % (Wilson), or mean (standard deviation) where there are several "
            "seeds; differences, matrix and zero-shot table are of the first seed; p-values are "
            "exact McNemar, corrected after Holm.",
        )
        for name, table in self.tables().items():
            page.table(name, table)
        page.add("## Figures")
        train_by_test = plots.plot_matrix(self.matrix, "Accuracy by train and test language")
        page.figure("results", plots.plot_settings(self.results))
        page.figure("train_by_test", train_by_test)
        page.figure("transfer", plots.plot_transfer(self.transfer, chosen=self.languages))
        page.figure("fertility", plots.plot_fertility(self.fertility))
        page.figure("confusions", plots.plot_confusions(self.zero_shot))
        return page.save()
