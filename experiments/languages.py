"""Task 3 as one pipeline: zero-shot transfer, fertility, selection of languages, training on them.

Handout sections 5.1 to 5.4. The notebook, `python -m gpt2 languages` and the pages under results/
all come from `LanguageStudy`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from config import FinetuningSettings
from experiments import plots
from experiments.environment import machine
from experiments.evaluation import Evaluation
from experiments.finetuning import FinetunedRun, finetune
from experiments.tables import export, markdown
from experiments.transfer import (
    Result,
    correlation,
    differences,
    readable,
    results_table,
    select_languages,
    transfer_table,
)
from gpt2.fertility import fertility_table
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from utils import atomic_write

FERTILITY_PAIRS = 3927  # of each language's training file: the handout's check (section 5.2)
ENGLISH, SINGLE, ALL = "English only (zero-shot)", "per language", "all together"
BUDGET = "all, same examples"


class LanguageStudy:
    """The 15-language study; each attribute is computed when it is first needed.

    `settings` is the recipe of every training; its `languages` and `seed` are replaced. `weights`,
    `data`, `runs` and `progress` are as in experiments.finetuning.finetune. `languages` are those
    to train on besides English: by default the rule's (`select_languages`), or, where the rule
    selects none, the two with the fewest tokens. Each training is a run in `runs`, so a killed
    study resumes and a finished one is only read.
    """

    def __init__(
        self,
        settings: FinetuningSettings,
        *,
        weights="gpt2",
        data=".",
        runs="runs",
        languages: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
        progress: bool = True,
    ):
        if not seeds:
            raise ValueError("no seeds to train with; give at least one")
        self.settings, self.data, self.seeds = settings, data, tuple(seeds)
        self.progress = progress
        self._given = None if languages is None else [lang for lang in languages if lang != "en"]
        self._where = {"weights": weights, "data": data, "runs": runs, "progress": progress}

    # ---- Zero-shot transfer, fertility, selection ------------------------------------------------

    @cached_property
    def english(self) -> FinetunedRun:
        """The run on English alone, of the first seed."""
        return self._train("english", ("en",), self.seeds[0])

    @cached_property
    def zero_shot(self) -> dict[str, Evaluation]:
        """The English model's test predictions in all languages."""
        return self.english.evaluations(LANGUAGES, progress=self.progress)

    @cached_property
    def fertility(self) -> pd.DataFrame:
        """A row a language: how finely the tokenizer cuts it (gpt2.fertility.fertility_table)."""
        return measure_fertility(self.data, LANGUAGES, FERTILITY_PAIRS)

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
        if self._given is not None:
            return self._given
        return self.by_rule or list(self.transfer["premium"].drop("en").nsmallest(2).index)

    # ---- Training --------------------------------------------------------------------------------

    @cached_property
    def runs(self) -> dict[int, dict[str, FinetunedRun]]:
        """By seed: a run a language, "all" on all of them, and "all-budget", which is on all of
        them but sees no more examples than a run on English alone."""
        everything = ("en", *self.languages)
        runs: dict[int, dict[str, FinetunedRun]] = {}
        for seed in self.seeds:
            first = seed == self.seeds[0]
            english = self.english if first else self._train("english", ("en",), seed)
            examples = english.result["examples"] // self.settings.epochs
            budget = {"examples": examples, "token_budget": None}  # which exclude each other
            runs[seed] = {
                "en": english,
                **{lang: self._train(lang, (lang,), seed) for lang in self.languages},
                "all": self._train("all", everything, seed),
                "all-budget": self._train("all-budget", everything, seed, **budget),
            }
        return runs

    def _train(self, name: str, languages: tuple[str, ...], seed: int, **changes) -> FinetunedRun:
        settings = replace(self.settings, languages=languages, seed=seed, **changes)
        return finetune(settings, name=name, **self._where)

    # ---- Comparison ------------------------------------------------------------------------------

    @cached_property
    def all_results(self) -> list[Result]:
        """The test results of each setting, language and seed."""
        everything, results = ("en", *self.languages), []
        for runs in self.runs.values():
            results += runs["en"].results(ENGLISH, everything, progress=self.progress)
            for lang in self.languages:
                results += runs[lang].results(SINGLE, (lang,), progress=self.progress)
            results += runs["all"].results(ALL, everything, progress=self.progress)
            results += runs["all-budget"].results(BUDGET, everything, progress=self.progress)
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
        everything, runs = ("en", *self.languages), self.runs[self.seeds[0]]
        rows = {
            name: runs[name].evaluations(everything, progress=self.progress)
            for name in (*everything, "all")
        }
        return pd.DataFrame(
            {name: {lang: e.accuracy for lang, e in row.items()} for name, row in rows.items()}
        ).T

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

    def figures(self, note: str = "") -> dict[str, Figure]:
        """Return every figure by name; `note` stands on each."""
        title = "Accuracy by training and test language"
        return {
            "results": plots.plot_settings(self.results, note=note),
            "train_by_test": plots.plot_matrix(self.matrix, title, note=note),
            "transfer": plots.plot_transfer(self.transfer, chosen=self.languages, note=note),
            "fertility": plots.plot_fertility(self.fertility, note=note),
            "confusions": plots.plot_confusions(self.zero_shot, note=note),
        }

    def summary(self) -> dict:
        """Return settings, languages, training times and the machine, as JSON values."""
        seconds = {
            seed: {name: run.result["seconds"] for name, run in runs.items()}
            for seed, runs in self.runs.items()
        }
        rho, p = correlation(self.transfer, "fertility")
        return {
            "settings": asdict(self.settings),
            "languages": ["en", *self.languages],
            "selected_by_the_rule": self.by_rule,
            "seeds": self.seeds,
            "training_seconds": seconds,
            "minutes_of_training": sum(sum(s.values()) for s in seconds.values()) / 60,
            "spearman_fertility_zero_shot": {"rho": rho, "p": p},
            "machine": machine(),
        }

    def save(self, folder, *, command: str = "", note: str = "") -> Path:
        """Write tables, figures, summary.json and a page that shows them; return the page."""
        folder, summary = Path(folder), {"command": command, "note": note, **self.summary()}
        page = [
            "# Task 3: zero-shot transfer, per language, all together",
            *([f"`{command}`"] if command else []),
            *([note] if note else []),
            f"{summary['minutes_of_training']:.0f} minutes of training in all. Intervals are 95 % "
            "(Wilson), or mean (standard deviation) where there are several seeds; differences, "
            "matrix and zero-shot table are of the first seed; p-values are exact McNemar, "
            "corrected after Holm.",
        ]
        figures = self.figures()
        for name, table in self.tables().items():
            export(table, folder, name)
            page += [f"## {name.replace('_', ' ').capitalize()}", markdown(table)]
            if name in figures:
                page.append(f"![{name}]({name}.png)")
        page.append("## Confusions\n\n![confusions](confusions.png)")
        for name, figure in figures.items():
            with atomic_write(folder / f"{name}.png") as path:
                figure.savefig(path, format="png", dpi=100)
        with atomic_write(folder / "summary.json") as path:
            path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        with atomic_write(folder / "README.md") as path:
            path.write_text("\n\n".join(page) + "\n", encoding="utf-8")
        return folder / "README.md"


def measure_fertility(data, languages: Sequence[str], max_samples: int | None) -> pd.DataFrame:
    """Return gpt2.fertility.fertility_table of the first training pairs of each language."""
    tokenizer = load_tokenizer("gpt2")
    common = {"tokenizer": tokenizer, "verbose": False}
    subset = 1.0 if max_samples is None else max_samples
    train, dev = (
        {
            lang: XNLIDataset.in_folder(data, split, lang, subset=subset, **common)
            for lang in dict.fromkeys([*languages, *extra])
        }
        for split, subset, extra in (("train", subset, ()), ("dev", 1.0, ("en",)))
    )
    return fertility_table(train, dev, tokenizer, max_samples)
