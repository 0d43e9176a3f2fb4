"""Does what NLI shows hold on other tasks? One model, several tasks, each in its languages.

For every task: the pretrained model as it is, trained on English alone (zero-shot in the others),
trained on each language, trained on all together; beside them the baselines that need no model.
All are runs of experiments.finetuning.finetune, so that a killed study resumes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pandas as pd
from scipy.stats import spearmanr

from config import FinetuningSettings
from experiments.evaluation import Evaluation
from experiments.finetuning import FinetunedRun, finetune
from experiments.runs import load_gpt2
from extensions.tasks import FileTask
from extensions.tasks.baselines import BASELINES
from gpt2.fertility import count_tokens
from gpt2.tasks import PromptDataset, Task
from utils import get_device

UNTRAINED, ENGLISH, SINGLE, ALL = "pretrained", "English only", "per language", "all together"
SETTINGS = (UNTRAINED, ENGLISH, SINGLE, ALL)


class TaskStudy:
    """The settings of one task: who is trained on what, tested in each language.

    `settings`, `weights`, `data`, `runs` and `load` are as in experiments.finetuning.finetune;
    `languages` are some of the task's, English first; `most` is how many test rows count in each
    language (None: all).
    """

    def __init__(
        self,
        name: str,
        task: Task,
        settings: FinetuningSettings,
        *,
        weights,
        data,
        runs,
        languages: Sequence[str] | None = None,
        load: Callable = load_gpt2,
        most: int | None = None,
    ):
        self.name, self.task, self.settings, self.data, self.most = name, task, settings, data, most
        self.languages = tuple(dict.fromkeys(languages or task.languages))
        if unknown := sorted(set(self.languages) - set(task.languages)):
            raise ValueError(
                f"{name} has no {', '.join(unknown)}, only {', '.join(task.languages)}"
            )
        self.where = {"weights": weights, "data": data, "runs": runs, "load": load, "task": task}
        self.model, self.tokenizer = load(weights)
        self.run = cache(self.run)  # it loads the model that it starts from

    def run(self, languages: tuple[str, ...]) -> FinetunedRun:
        """Return the run that is trained on these languages."""
        settings = replace(self.settings, languages=languages)
        name = f"{self.name}-{languages[0] if len(languages) == 1 else 'all'}"
        return finetune(settings, name=name, **self.where)

    def rows(self, split: str, lang: str) -> PromptDataset:
        """Return the test rows that count, or those of another split."""
        length = min(self.settings.max_length, self.model.config.max_position_embeddings)
        settings = {"tokenizer": self.tokenizer, "max_length": length, "verbose": False}
        return self.task.dataset(self.data, split, lang, subset=self.most or 1.0, **settings)

    def evaluations(self, setting: str) -> dict[str, Evaluation]:
        """Return the test predictions of a setting or a baseline in each language."""
        if setting in self.baselines():
            baseline = self.baselines()[setting]
            tables = {lang: baseline(self.task, self.data, lang) for lang in self.languages}
            return {lang: Evaluation(t[: self.most], self.task) for lang, t in tables.items()}
        if setting == UNTRAINED:
            model = self.model.to(get_device())
            return {lang: self._evaluate(model, self.rows("test", lang)) for lang in self.languages}
        trained_on = {ENGLISH: ("en",), ALL: self.languages}
        found = {}
        for lang in self.languages:
            run = self.run(trained_on.get(setting, (lang,)))
            found[lang] = run.evaluation("test", lang, subset=self.most or 1.0, progress=False)
        return found

    def _evaluate(self, model, rows: PromptDataset) -> Evaluation:
        return Evaluation(self.task.predict(model, self.tokenizer, rows), self.task)

    def baselines(self) -> Mapping[str, Callable]:
        """Return the baselines of the task by name."""
        functions = BASELINES.get(type(self.task), ()) if isinstance(self.task, FileTask) else ()
        return {function.__name__.replace("_", " "): function for function in functions}

    def table(self, settings: Sequence[str] = SETTINGS) -> pd.DataFrame:
        """Return a row a language and setting, baselines first: score, 95 % interval, n."""
        rows = []
        for setting in (*self.baselines(), *settings):
            for lang, evaluation in self.evaluations(setting).items():
                score, n = evaluation.score, len(evaluation.predictions)
                rows.append((self.name, lang, setting, score, *evaluation.interval, n))
        columns = ["task", "language", "setting", "score", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns).join(self.fertility(), on="language")

    def fertility(self) -> pd.DataFrame:
        """Return the tokens per word and per character of each language's test prompts."""
        found = {}
        for lang in self.languages:
            rows = self.rows("test", lang)
            texts = [text for name in self.task.fields for text in rows.data[name]]
            tokens = sum(count_tokens(texts, self.tokenizer))
            words = sum(len(text.split()) for text in texts)
            found[lang] = (tokens / words, tokens / sum(map(len, texts)), rows.num_truncated)
        columns = ["fertility", "tokens per character", "truncated"]
        return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def score_table(tables: pd.DataFrame) -> pd.DataFrame:
    """Return a row a task and language and a column a setting, in per cent with intervals."""
    percent = 100 * tables[["score", "low", "high"]]
    texts = [f"{s:.1f} [{low:.1f}, {high:.1f}]" for s, low, high in percent.itertuples(index=False)]
    wide = tables.assign(text=texts).pivot(
        index=["task", "language"], columns="setting", values="text"
    )
    order = tables[["task", "language"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.reindex(list(order))[tables["setting"].unique()].fillna("")


def relation_table(tables: pd.DataFrame, premiums: pd.Series, setting: str = ENGLISH):
    """Return for each task Spearman's rho of a setting's score with the premium and the fertility,
    over the languages other than English; `shared`: over those that all tasks have."""
    chosen = tables[(tables["setting"] == setting) & (tables["language"] != "en")]
    chosen = chosen.assign(premium=chosen["language"].map(premiums))
    groups = {name: rows.set_index("language") for name, rows in chosen.groupby("task", sort=False)}
    shared = set.intersection(*(set(rows.dropna().index) for rows in groups.values()))
    found = {}
    for name, rows in groups.items():
        for which, part in (("all", rows.dropna()), ("shared", rows.loc[sorted(shared)])):
            for measure in ("premium", "fertility"):
                rho, p = spearmanr(part["score"], part[measure]) if len(part) > 2 else (None, None)
                found[name, which, measure] = (rho, p, len(part))
    table = pd.DataFrame.from_dict(found, orient="index", columns=["rho", "p", "languages"])
    table.index = pd.MultiIndex.from_tuples(table.index, names=["task", "over", "measure"])
    return table
