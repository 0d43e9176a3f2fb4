"""Compute again what a submission claims.

Accuracies follow from its saved predictions and the instructor's own labels; predictions from its
saved weights. No file is trusted.
"""

import csv
import io
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from grading.submissions.notebook import Flag
from grading.submissions.observe import Copy
from grading.submissions.sandbox import Limits

LARGEST = 2**25  # bytes of a file of predictions or settings
RUN = re.compile(r"[\w.+-]{1,100}")


@dataclass(frozen=True)
class Recomputed:
    """`accuracy` by split and language: claimed, recomputed and n; `predictions`: compared, agree,
    split; what does not agree as flags, each with the claim that it is about."""

    accuracy: dict[str, dict]
    predictions: dict
    flags: list[tuple[str, Flag]]


def recompute(
    copy: Copy, claims: Mapping[str, dict], data: Sequence[Path], rules: Mapping, limits: Limits,
    seed: int = 0,
) -> Recomputed:  # fmt: skip
    """Compute again what these claims say; only claims that their checks understood are given."""
    accuracy: dict[str, dict] = {}
    flags: list[tuple[str, Flag]] = []
    rows: dict[str, dict[str, list]] = {}  # by run, by set
    for claim, run, split, row in _accuracies(claims):
        lang = row["language"]
        name = f"{split}.{lang}"
        try:
            pairs = _predictions(copy.root, run, split, lang, data)
            rows.setdefault(run, {})[name] = pairs
        except Exception as error:  # a file that anybody may have written
            flags.append((claim, Flag("accuracy", f"{run[:100]}, {name}", str(error)[:300])))
            continue
        right = sum(label == prediction for _, label, prediction in pairs)
        found = right / len(pairs)
        accuracy[name] = {"claimed": row["accuracy"], "recomputed": found, "n": len(pairs)}
        if abs(found - row["accuracy"]) > rules["accuracy"] or len(pairs) != row["n"]:
            text = (
                f"claims {row['accuracy']:.4f} of {row['n']:,} pairs; its predictions and our "
                f"labels make {found:.4f} of {len(pairs):,}"
            )
            flags.append((claim, Flag("accuracy", f"{run}, {name}", text)))
    for claim, text in _contradictions(claims):
        flags.append((claim, Flag("accuracy", claim, text)))
    predictions: dict = {}
    for run, sets in rows.items() if rules["pairs"] else ():  # of all claims one run, as handed out
        answered = [(name, *pair) for name, pairs in sets.items() for pair in pairs]
        chosen = random.Random(seed).sample(answered, min(rules["pairs"], len(answered)))
        predictions, flag = _answer_again(copy, run, chosen, data, rules, limits)
        if flag is not None:
            about = {claim for claim, other, _, _ in _accuracies(claims) if other == run}
            flags += [(claim, flag) for claim in sorted(about)]
    return Recomputed(accuracy, predictions, flags)


def _contradictions(claims: Mapping[str, dict]) -> Iterator[tuple[str, str]]:
    """Claims that give the English model another accuracy than the fifteen, and what they say."""
    if "fifteen accuracies" not in claims:
        return
    fifteen = {row["language"]: row["accuracy"] for row in claims["fifteen accuracies"]["rows"]}
    for claim in ("selection", "comparison"):
        for row in claims.get(claim, {}).get("rows", []):
            lang, found = row["language"], row["accuracy"]
            zero_shot = "zero-shot" in row.get("setting", "zero-shot")
            if zero_shot and row.get("seeds", 1) == 1 and found != fifteen.get(lang, found):
                text = f"{lang} {found:.4f} zero-shot, and {fifteen[lang]:.4f} among the fifteen"
                yield claim, text


def _accuracies(claims: Mapping[str, dict]) -> Iterator[tuple[str, str, str, dict]]:
    """Claim, run, split and row of each accuracy that a run's predictions stand behind."""
    if (claim := claims.get("dev accuracy")) is not None:
        yield "dev accuracy", claim["run"], "dev", claim
    if (claim := claims.get("fifteen accuracies")) is not None:
        for row in claim["rows"]:
            yield "fifteen accuracies", claim["run"], "test", row


def _predictions(
    root: Path, run: str, split: str, lang: str, data: Sequence[Path]
) -> list[tuple[str, str, str]]:
    """Pair id, our label and the submission's prediction of every pair; ValueError if a row of
    the file is missing or belongs to no pair of ours."""
    if lang not in LANGUAGES or not RUN.fullmatch(run):
        raise ValueError(f"no run {run[:100]!r} or language {lang[:20]!r}")
    name = f"runs/{run}/predictions/{split}.{lang}.csv"
    text = _read(root, name)
    answers = {}
    for row in csv.DictReader(io.StringIO(text)):
        answers[row.get("pair_id")] = (row.get("prediction") or "").strip()
    for folder in data:
        labels = _labels(folder, split, lang)
        if labels.keys() == answers.keys():
            return [(pair, label, answers[pair]) for pair, label in labels.items()]
    raise ValueError(f"{name}: not the pairs of any data that the grader has ({len(answers):,})")


def _labels(folder: Path, split: str, lang: str) -> dict[str, str]:
    try:
        rows = _rows(folder, split, lang)
    except FileNotFoundError:
        return {}
    return dict(zip(rows.pair_ids, rows.labels, strict=True))


def _rows(folder: Path, split: str, lang: str, **settings) -> XNLIDataset:
    common = {"tokenizer": load_tokenizer(), "verbose": False}
    return XNLIDataset.in_folder(folder, split, lang, **common, **settings)


def _answer_again(
    copy: Copy, run: str, chosen: list, data: Sequence[Path], rules: Mapping, limits: Limits
) -> tuple[dict, Flag | None]:
    """How many of these (set, pair, label, prediction) the run's saved weights answer alike."""
    if not (copy.root / "runs" / run / "best_model" / "model.safetensors").is_file():
        return {}, Flag("recomputed", run, f"no weights in runs/{run}/best_model to predict with")
    try:
        config = json.loads(_read(copy.root, f"runs/{run}/best_model/config.json"))
        positions = min(max(int(config["n_positions"]), 16), 1024)
    except Exception as error:  # a file that anybody may have written
        return {}, Flag("predictions", run, f"its config.json is damaged: {str(error)[:300]}")
    prompts = {
        name: _prompts(name, {pair for other, pair, *_ in chosen if other == name}, data, positions)
        for name in {name for name, *_ in chosen}
    }
    ids = [prompts[name][pair] for name, pair, *_ in chosen]
    tokens, why = copy.answers(f"runs/{run}/best_model", ids, limits)
    if not tokens:
        return {}, Flag("predictions", run, f"its model gives no predictions: {why}")
    vocabulary = range(len(tokenizer := load_tokenizer()))
    texts = tokenizer.batch_decode(
        [[t] if t in vocabulary else [] for t in tokens], skip_special_tokens=True
    )
    texts = [text.strip().lower() for text in texts]
    agree = sum(text == answer for text, (*_, answer) in zip(texts, chosen, strict=True))
    sets = sorted({name for name, *_ in chosen})
    found = {"compared": len(chosen), "agree": agree, "split": ", ".join(sets)}
    if agree < math.ceil(rules["agree"] * len(chosen)):
        text = f"its weights give the saved prediction for {agree} of {len(chosen)} pairs"
        return found, Flag("predictions", run, text)
    return found, None


def _prompts(name: str, pairs: set, data: Sequence[Path], positions: int) -> dict[str, Tensor]:
    """The prompt's ids by pair, of the first data folder that has these pairs."""
    split, lang = name.split(".")
    for folder in data:
        if pairs <= _labels(folder, split, lang).keys():
            rows = _rows(folder, split, lang, max_length=positions)
            return {pair: rows[i]["input_ids"] for i, pair in enumerate(rows.pair_ids)}
    raise LookupError(f"no data with the pairs of {name}")


def _read(root: Path, name: str) -> str:
    """A text of the submission; OSError or ValueError, naming it, for what is none."""
    path = root / name
    if not path.is_file() or path.resolve() != root.resolve() / name:
        raise FileNotFoundError(f"{name} was not handed in")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{name}: {path.stat().st_size:,} bytes are too many for such a file")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8") from error
