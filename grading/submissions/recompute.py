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
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean

import pandas as pd
from torch import Tensor

from config import TOY_PRETRAINING
from data.miniature import nli_folder
from experiments.evaluation import Evaluation
from experiments.languages import BUDGET, FERTILITY_PAIRS
from experiments.transfer import select_languages, transfer_table
from gpt2.fertility import compute_fertility, count_tokens
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
LARGEST = 2**25  # bytes of a file of predictions, metrics or settings
LARGEST_WEIGHTS, MOST_LAYERS = 2**27, 48  # of a toy model
RUN = re.compile(r"[\w+-][\w.+-]{0,99}")
FIFTEEN = "fifteen accuracies"
MOST_GROUPS = 5000  # of runs whose mean could be a claimed one
CLOSE = 0.01  # share by which a fertility or a loss may differ

# Kinds of flags: a claim does not agree with what stands behind it; nothing stands behind it;
# something could not be looked at, which costs nothing.
WRONG, MISSING, UNSEEN = ("accuracy", "predictions", "curve"), "evidence", "recomputed"


class NotThere(ValueError):
    """What is needed was not handed in."""


@dataclass
class Recomputed:
    """`accuracy` by split and language: claimed, recomputed and n; `predictions`: compared, agree,
    split; `held_out_loss`; and flags, each with the claim that it is about."""

    accuracy: dict[str, dict] = field(default_factory=dict)
    predictions: dict = field(default_factory=dict)
    held_out_loss: float | None = None
    flags: list[tuple[str, Flag]] = field(default_factory=list)


def recompute(
    copy: Copy, claims: Mapping[str, dict], data: Sequence[Path], rules: Mapping, limits: Limits,
    seed: int = 0,
) -> Recomputed:  # fmt: skip
    """Compute again what these claims say; only claims that their checks understood are given."""
    work = _Work(copy.root, data, rules)
    found, behind, lot = work.found, work.behind, random.Random(seed)
    for claim, where, function, *arguments in work.computations(claims):
        try:
            function(*arguments)
        except NotThere as error:
            work.flag(claim, MISSING, where, str(error))
        except Exception as error:  # a file that anybody may have written
            work.flag(claim, "accuracy", where, str(error) or type(error).__name__)
    first = sorted({run for claim, run, *_ in behind if claim in ("dev accuracy", FIFTEEN)})
    others = sorted({run for claim, run, *_ in behind if claim == "comparison"} - {*first})
    for run in [*first, *lot.sample(others, min(1, len(others)))] if rules["pairs"] else []:
        sets = dict.fromkeys((split, lang) for _, other, split, lang in behind if other == run)
        answered = [(f"{split}.{lang}", *pair) for split, lang in sets
                    for pair in work.pairs(run, split, lang)]  # fmt: skip
        sample = lot.sample(answered, min(rules["pairs"], len(answered)))
        agreement, *flag = _answer_again(copy, run, sample, rules, limits)
        found.predictions = found.predictions or agreement
        for claim in sorted({claim for claim, other, *_ in behind if other == run}) if flag else ():
            work.flag(claim, flag[0], run, flag[1])
    groups: dict[tuple, list[Flag]] = {}
    for claim, flag in found.flags:
        groups.setdefault((claim, flag.kind), []).append(flag)
    found.flags = [
        (claim, replace(flag, text=f"{flag.text} (and {len(more)} more)" if more else flag.text))
        for (claim, _), (flag, *more) in groups.items()
    ]
    return found


class _Work:
    """What was handed in, what is claimed of it, and what came out so far.

    `trained` has the languages that each run was trained on, and `behind` what a claim that agrees
    follows from: claim, run, split, language.
    """

    def __init__(self, root: Path, data: Sequence[Path], rules: Mapping):
        self.root, self.data, self.rules, self.found = root, data, rules, Recomputed()
        self.behind: list[tuple[str, str, str, str]] = []
        self.trained: dict[str, list] = {}
        for path in sorted(root.glob("runs/*/settings.json"))[:200]:
            with suppress(Exception):  # a file that anybody may have written
                raw = json.loads(_read(root, path.relative_to(root).as_posix()))
                self.trained[path.parent.name] = list(raw["settings"]["languages"])
        self.pairs = cache(self._pairs)

    def flag(self, claim: str, kind: str, where: str, text: str) -> None:
        self.found.flags.append((claim, Flag(kind, where[:100], text[:300])))

    def computations(self, claims: Mapping[str, dict]) -> Iterator[tuple]:
        """Claim by claim what of it is computed again, and by what, which raises if it is wrong."""
        if claim := claims.get("toy curve"):
            yield "toy curve", claim["run"], self.curve, claim
        for name in ("fertility", "selection"):
            if claim := claims.get(name):
                yield name, name, self.fertility, claim
        for name, split, row, names in self._accuracies(claims):
            where = f"{row.get('setting', split)}, {row['language']}"
            yield name, where, self.accuracy, name, split, row, names
        if claim := claims.get("selection"):
            yield "selection", "rule", self.rule, claim

    def _accuracies(self, claims: Mapping[str, dict]) -> Iterator[tuple[str, str, dict, list[str]]]:
        """Claim, split and row of each accuracy, and the runs whose predictions can be behind."""
        if claim := claims.get("dev accuracy"):
            yield "dev accuracy", "dev", claim, [claim["run"]]
        if claim := claims.get(FIFTEEN):
            for row in claim["rows"]:
                yield FIFTEEN, "test", row, [claim["run"]]
        english, single, together = SETTINGS
        kinds = {english: lambda on, _: on == ["en"], single: lambda on, lang: on == [lang]}
        kinds |= dict.fromkeys((together, BUDGET), lambda on, _: len(on) > 1)
        for claim in ("selection", "comparison"):
            for row in claims.get(claim, {}).get("rows", ()):
                fits = kinds.get(row.get("setting", english), lambda *_: True)
                names = [run for run, on in self.trained.items() if fits(on, row["language"])]
                yield claim, "test", row, names

    def _pairs(self, run: str, split: str, lang: str) -> list[tuple[str, str, str, Path]]:
        """Pair id, our label, the submission's prediction and our data of every pair; ValueError
        if a row of the file is missing or belongs to no pair of ours."""
        if lang not in LANGUAGES or not RUN.fullmatch(run):
            raise ValueError(f"no run {run[:100]!r} or language {lang[:20]!r}")
        name = f"runs/{run}/predictions/{split}.{lang}.csv"
        answers = {
            row.get("pair_id"): (row.get("prediction") or "").strip()
            for row in csv.DictReader(io.StringIO(_read(self.root, name)))
        }
        for folder in self.data:
            labels = _labels(folder, split, lang)
            if labels.keys() == answers.keys():
                return [(pair, label, answers[pair], folder) for pair, label in labels.items()]
        raise ValueError(f"{name}: not the pairs of any data of the grader's ({len(answers):,})")

    def accuracy(self, claim: str, split: str, row: dict, names: list[str]) -> None:
        """Compare with the run, or the mean of as many as the row has seeds, that comes closest."""
        shares, why = {}, "no run of this setting was handed in"
        for run in names:
            try:
                pairs = self.pairs(run, split, row["language"])
            except NotThere as error:
                why = str(error)
            else:
                shares[run], n = fmean(pair[1] == pair[2] for pair in pairs), len(pairs)
        if len(shares) < (seeds := row.get("seeds", 1)):
            raise NotThere(why)
        groups = islice(combinations(shares, seeds), MOST_GROUPS)
        means = {group: fmean(map(shares.get, group)) for group in groups}
        best = min(means, key=lambda group: abs(means[group] - row["accuracy"]))
        self.behind += [(claim, run, split, row["language"]) for run in best]
        if claim in ("dev accuracy", FIFTEEN):
            values = {"claimed": row["accuracy"], "recomputed": means[best], "n": n}
            self.found.accuracy[f"{split}.{row['language']}"] = values
        if abs(means[best] - row["accuracy"]) > self.rules["accuracy"] or n != row["n"]:
            raise ValueError(
                f"claims {row['accuracy']:.4f} of {row['n']:,} pairs; the predictions of "
                f"{', '.join(best)} and our labels make {means[best]:.4f} of {n:,}"
            )

    def fertility(self, claim: dict) -> pd.DataFrame:
        """Compare with our tokenizer on our data; return fertility and premium as we have them."""
        known = {"miniature world": nli_folder(), "embedded NLI set": SAMPLE}
        named = [known[each] for each in known if each in claim["note"]]
        folders = named[:1] or [each for each in self.data if each not in known.values()]
        ours = next((table for each in folders if (table := _fertility(each)) is not None), None)
        if ours is None:
            raise NotThere("the grader has no training files of all languages (see --data)")
        for row in claim["rows"]:
            value = ours["fertility"][row["language"]]
            if abs(row["fertility"] - value) > CLOSE * value:
                text = f"claims {row['fertility']:.3f} tokens a word of {row['language']}; "
                raise ValueError(f"{text}our tokenizer and data make {value:.3f}")
        return ours

    def rule(self, claim: dict) -> None:
        """Compare the languages that the rule selects, where all that it needs is there."""
        of = {lang: run for name, run, _, lang in self.behind if name == "selection"}
        if of.keys() != set(LANGUAGES):
            return
        columns = ["pair_id", "label", "prediction", "data"]
        pairs = {lang: self.pairs(run, "test", lang) for lang, run in of.items()}
        evaluations = {k: Evaluation(pd.DataFrame(v, columns=columns)) for k, v in pairs.items()}
        ours = select_languages(transfer_table(evaluations, self.fertility(claim)))
        if sorted(ours) != sorted(claim["by_rule"]):
            raise ValueError(f"from these predictions the rule selects {', '.join(ours) or 'none'}")

    def curve(self, claim: dict) -> None:
        """Compare with the run's metrics and, of the embedded text, with what its weights give."""
        run, epochs, held_out = claim["run"], defaultdict(list), []
        if not RUN.fullmatch(run):
            raise ValueError(f"no run {run[:100]!r}")
        for line in filter(None, _read(self.root, f"runs/{run}/metrics.jsonl").split("\n")):
            step = json.loads(line)
            if "loss" in step:
                epochs[step["epoch"]].append(step["loss"])
            else:
                held_out.append(step["held_out_loss"])
        losses = {
            "train_loss": [fmean(each) for each in epochs.values()],
            "held_out_loss": held_out,
        }
        for name, ours in losses.items():
            if len(ours) != len(claim[name]) or math.dist(ours, claim[name]) > 1e-6:
                raise ValueError(f"its {name} is not that of runs/{run}/metrics.jsonl")
        folder = self.root / "runs" / run / "model"
        there = is_inside(self.root, folder / "model.safetensors")
        if "embedded text" not in claim["note"] or not there:
            why = f"no weights in runs/{run}/model" if not there else "it has read another text"
            text = f"{why}, so its loss was only compared with its own metrics"
            return self.flag("toy curve", UNSEEN, run, text)
        texts, unigram = _held_out()
        if abs(unigram - claim["unigram"]) > CLOSE:
            raise ValueError(f"the text's unigram entropy is {unigram:.3f}")
        layers = json.loads(_read(self.root, f"runs/{run}/model/config.json"))["n_layer"]
        if (folder / "model.safetensors").stat().st_size > LARGEST_WEIGHTS or layers > MOST_LAYERS:
            raise ValueError("its model is no toy")
        loss = mean_loss(GPT2Model.from_pretrained(folder), text_loader(texts, 32))
        self.found.held_out_loss = loss if math.isfinite(loss) else None
        if not held_out[-1] >= (1 - CLOSE) * loss:  # of weights that are no numbers, too
            text = f"claims a held-out loss of {held_out[-1]:.3f}; its weights in our model make"
            self.flag("toy curve", "curve", run, f"{text} {loss:.3f}")


@cache
def _held_out() -> tuple:
    """The held-out part of the embedded text as handed out, and its unigram entropy."""
    texts = TextDataset(ROOT / "pretrain.txt", load_tokenizer(), TOY_PRETRAINING.max_len)
    train, held_out = texts.split(0.1, seed=TOY_PRETRAINING.seed)
    return held_out, unigram_entropy(train, held_out, len(load_tokenizer()))


@cache
def _fertility(folder: Path) -> pd.DataFrame | None:
    """Fertility and premium of each language as handed out; None where files are missing."""
    tokenizer, rows, english = load_tokenizer(), {}, 0
    try:
        for lang in LANGUAGES:  # English first
            train = _rows(folder, "train", lang, subset=float(FERTILITY_PAIRS))
            dev = _rows(folder, "dev", lang).data
            tokens = sum(count_tokens([*dev["premise"], *dev["hypo"]], tokenizer))
            english = english or tokens
            rows[lang] = compute_fertility(train, tokenizer), tokens / english
    except FileNotFoundError:
        return None
    return pd.DataFrame.from_dict(rows, orient="index", columns=["fertility", "premium"])


@cache
def _labels(folder: Path, split: str, lang: str) -> dict[str, str]:
    try:
        rows = _rows(folder, split, lang)
    except FileNotFoundError:
        return {}
    return dict(zip(rows.pair_ids, rows.labels, strict=True))


def _rows(folder: Path, split: str, lang: str, **settings) -> XNLIDataset:
    common = {"tokenizer": load_tokenizer(), "verbose": False}
    return XNLIDataset.in_folder(folder, split, lang, **common, **settings)


def _answer_again(copy: Copy, run: str, chosen: list, rules: Mapping, limits: Limits) -> tuple:
    """How many of these (set, pair, label, prediction, data) the run's weights answer alike; with
    kind and text of a flag, if there is something to say."""
    if not (copy.root / "runs" / run / "best_model" / "model.safetensors").is_file():
        return {}, UNSEEN, f"no weights in runs/{run}/best_model to predict with"
    try:
        config = json.loads(_read(copy.root, f"runs/{run}/best_model/config.json"))
        positions = min(max(int(config["n_positions"]), 16), 1024)
    except Exception as error:  # a file that anybody may have written
        return {}, "predictions", f"its config.json is damaged: {error}"
    ids = [_prompts(folder, name, positions)[pair] for name, pair, *_, folder in chosen]
    tokens, why = copy.answers(f"runs/{run}/best_model", ids, limits)
    if not tokens:
        return {}, "predictions", f"its model gives no predictions: {why}"
    tokenizer = load_tokenizer()
    known = [[token] if token in range(len(tokenizer)) else [] for token in tokens]
    texts = tokenizer.batch_decode(known, skip_special_tokens=True)
    answers = [answer for *_, answer, _ in chosen]
    agree = sum(text.strip().lower() == each for text, each in zip(texts, answers, strict=True))
    sets = sorted({name for name, *_ in chosen})
    found = {"compared": len(chosen), "agree": agree, "split": ", ".join(sets)}
    if agree >= math.ceil(rules["agree"] * len(chosen)):
        return (found,)
    text = f"its weights give the saved prediction for {agree} of {len(chosen)} pairs"
    return found, "predictions", text


@lru_cache(maxsize=32)
def _prompts(folder: Path, name: str, positions: int) -> dict[str, Tensor]:
    """The prompt's ids by pair."""
    rows = _rows(folder, *name.split("."), max_length=positions)
    return {pair: rows[i]["input_ids"] for i, pair in enumerate(rows.pair_ids)}


def _read(root: Path, name: str) -> str:
    """A text of the submission; NotThere or ValueError, naming it, for what is none."""
    path = root / name
    if not is_inside(root, path):
        raise NotThere(f"{name} was not handed in")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{name}: {path.stat().st_size:,} bytes are too many for such a file")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8") from error
