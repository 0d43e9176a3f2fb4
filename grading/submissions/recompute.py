"""Compute again what a submission claims, from what it has handed in beside the notebook.

The toy curve follows from its run's metrics, and its last loss from the weights, our model and our
text; accuracies from saved predictions and our labels, and a sample of the predictions from weights
and the submission's own model; fertility from our tokenizer and data; the selection from both.
No file is trusted. A claim that nothing stands behind is "not evidenced".
"""

import csv
import io
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean

import pandas as pd

from config import TOY_PRETRAINING
from data.miniature import nli_folder
from experiments.evaluation import Evaluation
from experiments.fertility import measure_fertility
from experiments.languages import BUDGET, FERTILITY_PAIRS
from experiments.transfer import select_languages, transfer_table
from gpt2.loss import mean_loss
from gpt2.model import GPT2Model
from gpt2.text import TextDataset, text_loader, unigram_entropy
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from grading.checks.results import SETTINGS
from grading.edition.release import ROOT
from grading.submissions.notebook import Flag
from grading.submissions.observe import Copy, is_inside
from grading.submissions.sandbox import Limits

SAMPLE = ROOT / "data" / "sample"
LARGEST, SMALL = 2**22, 2**16  # bytes of a file of predictions or metrics; of settings
LONGEST = 1000  # characters of a line of metrics
LARGEST_WEIGHTS = 2**27  # bytes of a toy model, and its numbers at most
TOY = {"n_layer": 48, "n_embd": 1024, "n_inner": 8192, "vocab_size": 60_000, "n_positions": 4096}
MOST_RUNS, MOST_GROUPS = 200, 5000  # groups of runs whose mean could be a claimed one
CLOSE = 0.01  # share by which a fertility or a loss may differ
SHOWN = ("dev accuracy", "fifteen accuracies")  # whose recomputed values the pages show

# Kinds of flags: a claim does not agree with what stands behind it; nothing stands behind it;
# something could not be looked at, which costs nothing.
WRONG, MISSING, UNSEEN = ("accuracy", "predictions", "curve"), "evidence", "recomputed"


class Doubt(Exception):
    """A kind of flag, and its text."""


@dataclass
class Recomputed:
    """`accuracy` by split and language: claimed, recomputed and n; `predictions`: compared, agree,
    split; `held_out_loss`; and flags, each with the claim that it is about."""

    accuracy: dict[str, dict] = field(default_factory=dict)
    predictions: dict = field(default_factory=dict)
    held_out_loss: float | None = None
    flags: list[tuple[str, Flag]] = field(default_factory=list)

    @contextmanager
    def flagged(self, claims: Iterable[str], where: str) -> Iterator[None]:
        """Flag these claims for an exception inside; a claim has one flag of a kind, the first."""
        try:
            yield
            return
        except Doubt as error:
            kind, text = error.args
        except FileNotFoundError as error:
            kind, text = MISSING, str(error)
        except (OSError, MemoryError):  # the grader's own fault, and no claim's
            raise
        except Exception as error:  # any, since anybody may have written the files that are read
            kind, text = "accuracy", str(error) or type(error).__name__
        flag = Flag(kind, where[:100], text[:300])
        seen = {(claim, flag.kind) for claim, flag in self.flags}
        self.flags += [(claim, flag) for claim in claims if (claim, kind) not in seen]


def recompute(
    copy: Copy, claims: Mapping[str, dict], data: Sequence[Path], rules: Mapping, limits: Limits,
    seed: int = 0,
) -> Recomputed:  # fmt: skip
    """Compute again what these claims say; only claims that their checks understood are given."""
    work = _Work(copy, data, rules)
    others = {"toy curve": work.curve, "fertility": work.fertility, "selection": work.selection}
    for name, claim in claims.items():
        with work.results.flagged([name], name):
            others.get(name, partial(work.accuracies, name))(claim)
    if rules["pairs"]:
        shown = {run for name, run, *_ in work.behind if name in SHOWN}
        rest = sorted({run for _, run, *_ in work.behind} - shown)
        for run in sorted(shown) + random.Random(seed).sample(rest, min(1, len(rest))):
            names = sorted({name for name, other, *_ in work.behind if other == run})
            with work.results.flagged(names, run):
                work.answer_again(run, limits, seed)
    return work.results


class _Work:
    """What was handed in, and what came out so far.

    `trained` has the languages that each run was trained on, and `behind` what a claim follows
    from: claim, run, language, and the run's predictions.
    """

    def __init__(self, copy: Copy, data: Sequence[Path], rules: Mapping):
        self.copy, self.data, self.rules, self.results = copy, data, rules, Recomputed()
        self.behind: list[tuple[str, str, str, Evaluation]] = []
        self.trained: dict[str, list] = {}
        self.evaluation = cache(self.evaluation)
        for path in sorted(copy.root.glob("runs/*/settings.json"))[:MOST_RUNS]:
            run = path.parent.name
            with suppress(Exception):  # a file that anybody may have written
                settings = json.loads(self.text(run, path.name))["settings"]
                self.trained[run] = list(settings["languages"])

    # ---- Claims ----------------------------------------------------------------------------------

    def curve(self, claim: dict) -> None:
        """Compare with the run's metrics and, of the embedded text, with what its weights give."""
        run, claimed = claim["run"], claim["held_out_loss"][-1]
        lines = self.text(run, "metrics.jsonl").splitlines()
        if any(len(line) > LONGEST for line in lines):
            raise ValueError(f"runs/{run}/metrics.jsonl has lines that are no steps")
        columns = ["epoch", "loss", "held_out_loss"]
        steps = pd.DataFrame([json.loads(line) for line in lines], columns=columns)
        ours = {
            "train_loss": steps.groupby("epoch")["loss"].mean().dropna(),
            "held_out_loss": steps["held_out_loss"].dropna(),
        }
        for name, losses in ours.items():
            if len(losses) != len(claim[name]) or math.dist(losses, claim[name]) > 1e-6:
                raise ValueError(f"its {name} is not that of runs/{run}/metrics.jsonl")
        if "embedded text" not in claim["note"]:
            raise Doubt(UNSEEN, "it has read another text; only its own metrics were compared")
        if not self.has(run, "model/model.safetensors"):
            raise Doubt(UNSEEN, f"no weights in runs/{run}/model; only its metrics were compared")
        weights = self.file(run, "model/model.safetensors", LARGEST_WEIGHTS)
        texts, unigram = _held_out()
        if abs(unigram - claim["unigram"]) > CLOSE:
            raise ValueError(f"the text's unigram entropy is {unigram:.3f}")
        if any(self.config(run, "model", key) > most for key, most in TOY.items()):
            raise ValueError("its model is no toy")
        loss = mean_loss(GPT2Model.from_pretrained(weights.parent), text_loader(texts, 32))
        self.results.held_out_loss = loss if math.isfinite(loss) else None
        if not claimed >= (1 - CLOSE) * loss:  # of weights that are no numbers, too
            text = f"claims a held-out loss of {claimed:.3f}; its weights in our model make"
            raise Doubt("curve", f"{text} {loss:.3f}")

    def fertility(self, claim: dict) -> pd.DataFrame:
        """Compare with our tokenizer on our data; return our table of all languages."""
        known = {"miniature world": nli_folder(), "embedded NLI set": SAMPLE}
        named = [folder for name, folder in known.items() if name in claim["note"]]
        others = [folder for folder in self.data if folder not in known.values()]
        folders = named or [folder for folder in others if (folder / "XNLI-MT-1.0").is_dir()]
        if not folders:
            raise FileNotFoundError("the grader has no training files of XNLI (see --data)")
        ours = _fertility(folders[0])
        for row in claim["rows"]:
            value = ours["fertility"][row["language"]]
            if abs(row["fertility"] - value) > CLOSE * value:
                text = f"claims {row['fertility']:.3f} tokens a word of {row['language']}; "
                raise ValueError(f"{text}our tokenizer and data make {value:.3f}")
        return ours

    def selection(self, claim: dict) -> None:
        """Compare its rows and, where they are of all languages, what the rule selects."""
        fertility = self.fertility(claim)
        self.accuracies("selection", claim)
        evaluations = {
            lang: evaluation for name, _, lang, evaluation in self.behind if name == "selection"
        }
        if evaluations.keys() == {*LANGUAGES}:
            ours = select_languages(transfer_table(evaluations, fertility))
            if sorted(ours) != sorted(claim["by_rule"]):
                languages = ", ".join(ours) or "none"
                raise ValueError(f"from these predictions the rule selects {languages}")

    def accuracies(self, name: str, claim: dict) -> None:
        """Compare each accuracy with the predictions of the runs that it may be of."""
        split = "dev" if name == "dev accuracy" else "test"
        for row in claim.get("rows", [claim]):
            runs = [claim["run"]] if "run" in claim else self.candidates(row)
            with self.results.flagged([name], f"{split}, {row['language']}"):
                self.accuracy(name, row, split, runs)

    def candidates(self, row: dict) -> list[str]:
        """Return the runs that a row can be of, by the languages that they were trained on."""
        english, single, together = SETTINGS
        setting = row.get("setting", english)
        if setting in (together, BUDGET):
            return [run for run, on in self.trained.items() if len(on) > 1]
        only = {english: ["en"], single: [row["language"]]}
        if setting in only:
            return [run for run, on in self.trained.items() if on == only[setting]]
        return list(self.trained)

    def accuracy(self, name: str, row: dict, split: str, runs: list[str]) -> None:
        """Compare with the run, or the mean of as many as the row has seeds, that comes closest."""
        lang, claimed, seeds = row["language"], row["accuracy"], row.get("seeds", 1)
        file = f"predictions/{split}.{lang}.csv"
        there = {run: self.evaluation(run, split, lang) for run in runs if self.has(run, file)}
        if len(there) < seeds:
            found = f"{len(there)} of {seeds} runs of this setting have it"
            raise FileNotFoundError(f"{file} was not handed in: {found}")
        shares = {run: evaluation.accuracy for run, evaluation in there.items()}
        groups = islice(combinations(shares, seeds), MOST_GROUPS)
        means = {group: fmean(shares[run] for run in group) for group in groups}
        best = min(means, key=lambda group: abs(means[group] - claimed))
        n = len(there[best[0]].predictions)
        self.behind += [(name, run, lang, there[run]) for run in best]
        if name in SHOWN:
            values = {"claimed": claimed, "recomputed": means[best], "n": n}
            self.results.accuracy[f"{split}.{lang}"] = values
        if abs(means[best] - claimed) > self.rules["accuracy"] or n != row["n"]:
            raise ValueError(
                f"{lang}: claims {claimed:.4f} of {row['n']:,} pairs; the predictions of "
                f"{', '.join(best)} and our labels make {means[best]:.4f} of {n:,}"
            )

    # ---- Predictions -----------------------------------------------------------------------------

    def evaluation(self, run: str, split: str, lang: str) -> Evaluation:
        """Return the run's predictions beside our labels, and with where our pairs are from.

        ValueError if a row of the file is missing or belongs to no pair of ours.
        """
        name = f"predictions/{split}.{lang}.csv"
        answers = {
            row.get("pair_id"): (row.get("prediction") or "").strip()
            for row in csv.DictReader(io.StringIO(self.text(run, name)))
        }
        for folder in self.data:
            with suppress(FileNotFoundError):  # of the grader's, which may be a part of XNLI
                rows = _rows(folder, split, lang)
                if answers.keys() == {*rows.pair_ids}:
                    table = pd.DataFrame({"pair_id": rows.pair_ids, "label": rows.labels})
                    table["prediction"] = table["pair_id"].map(answers)
                    return Evaluation(table.assign(data=folder, split=split, lang=lang))
        what = f"runs/{run}/{name}: {len(answers):,} pairs"
        raise ValueError(f"{what}, which are not the pairs of any data of the grader's")

    def answer_again(self, run: str, limits: Limits, seed: int) -> None:
        """Compare a sample of the run's predictions with what its weights give."""
        if not self.has(run, "best_model/model.safetensors"):
            raise Doubt(UNSEEN, f"no weights in runs/{run}/best_model to predict with")
        positions = min(max(self.config(run, "best_model", "n_positions"), 16), 1024)
        tables = [rows.predictions for _, other, _, rows in self.behind if other == run]
        pairs = pd.concat(tables).drop_duplicates(["split", "lang", "pair_id"])
        sample = pairs.sample(min(self.rules["pairs"], len(pairs)), random_state=seed)
        prompts = []
        for pair in sample.itertuples():
            rows = _rows(pair.data, pair.split, pair.lang, positions)
            prompts.append(rows[rows.pair_ids.index(pair.pair_id)]["input_ids"])
        tokens, why = self.copy.answers(f"runs/{run}/best_model", prompts, limits)
        if not tokens:
            raise Doubt("predictions", f"its model gives no predictions: {why}")
        tokenizer = load_tokenizer()
        last = len(tokenizer) - 1  # the end of text, for what is no token
        known = [[token if 0 <= token < last else last] for token in tokens]
        texts = tokenizer.batch_decode(known, skip_special_tokens=True)
        agree = int((sample["prediction"] == [text.strip().lower() for text in texts]).sum())
        names = ", ".join(sorted({*(sample["split"] + "." + sample["lang"])}))
        counts = {"compared": len(sample), "agree": agree, "split": names}
        self.results.predictions = self.results.predictions or counts
        if agree < math.ceil(self.rules["agree"] * len(sample)):
            text = f"its weights give the saved prediction for {agree} of {len(sample)} pairs"
            raise Doubt("predictions", text)

    # ---- Files of the submission -----------------------------------------------------------------

    def has(self, run: str, name: str) -> bool:
        """Return whether this file of a run was handed in."""
        if "/" in run or len(run) > 100:
            return False
        return is_inside(self.copy.root, self.copy.root / "runs" / run / name)

    def file(self, run: str, name: str, largest: int) -> Path:
        """Return a file of a run; FileNotFoundError if it was not handed in, ValueError if it is
        too large."""
        if not self.has(run, name):
            raise FileNotFoundError(f"runs/{run}/{name} was not handed in")
        path = self.copy.root / "runs" / run / name
        if (size := path.stat().st_size) > largest:
            raise ValueError(f"runs/{run}/{name}: {size:,} bytes are too many for such a file")
        return path

    def text(self, run: str, name: str) -> str:
        """Return the text of a run's file; ValueError, too, if it is none."""
        largest = SMALL if name.endswith(".json") else LARGEST
        try:
            return self.file(run, name, largest).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"runs/{run}/{name}: not UTF-8") from error

    def config(self, run: str, model: str, key: str) -> int:
        """Return a number of a saved model's configuration, 0 where it says none."""
        text = self.text(run, f"{model}/config.json")
        try:
            return int(json.loads(text)[key] or 0)
        except Exception as error:  # a file that anybody may have written
            raise ValueError(f"runs/{run}/{model}: its config.json is damaged: {error}") from error


# ---- Ours --------------------------------------------------------------------------------------


@cache
def _held_out() -> tuple:
    """Return the held-out part of the embedded text as handed out, and its unigram entropy."""
    texts = TextDataset(ROOT / "pretrain.txt", load_tokenizer(), TOY_PRETRAINING.max_len)
    train, held_out = texts.split(0.1, seed=TOY_PRETRAINING.seed)
    return held_out, unigram_entropy(train, held_out, len(load_tokenizer()))


@cache
def _fertility(folder: Path) -> pd.DataFrame:
    """Return the fertility of each language as handed out."""
    return measure_fertility(folder, max_samples=FERTILITY_PAIRS)


@lru_cache(maxsize=128)
def _rows(folder: Path, split: str, lang: str, positions: int = 1024) -> XNLIDataset:
    """Return our pairs, whose prompts have at most so many tokens."""
    common = {"tokenizer": load_tokenizer(), "max_length": positions, "verbose": False}
    return XNLIDataset.in_folder(folder, split, lang, **common)
