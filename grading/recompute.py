"""What can be computed again of the results that a submission claims.

Accuracies, from its saved predictions and the instructor's own labels; predictions, from its saved
weights. All files are read as coming from anybody.
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

from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from grading.notebook import Flag
from grading.observe import Copy
from grading.sandbox import Limits

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
    accuracy, flags, rows = {}, [], {}
    for claim, run, split, row in _accuracies(claims):
        lang = row["language"]
        name = f"{split}.{lang}"
        try:
            pairs = rows[name] = rows.get(name) or _predictions(copy.root, run, split, lang, data)
        except (OSError, ValueError) as error:
            flags.append((claim, Flag("recomputed", f"{run}, {name}", str(error))))
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
    predictions: dict = {}
    for claim, run, split, row in _accuracies(claims):
        if (pairs := rows.get(f"{split}.{row['language']}")) is None:
            continue
        lang = row["language"]
        predictions, flag = _answer_again(copy, run, split, lang, pairs, data, rules, limits, seed)
        if flag is not None:
            flags.append((claim, flag))
        break  # one model's answers to one set
    return Recomputed(accuracy, predictions, flags)


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
        rows = XNLIDataset.in_folder(folder, split, lang, tokenizer=load_tokenizer())
    except FileNotFoundError:
        return {}
    return dict(zip(rows.data["pair_id"], rows.labels, strict=True))


def _answer_again(
    copy: Copy, run: str, split: str, lang: str, pairs: list, data, rules, limits, seed
) -> tuple[dict, Flag | None]:
    where = f"{run}, {split}.{lang}"
    weights = copy.root / "runs" / run / "best_model"
    if not (weights / "model.safetensors").is_file():
        return {}, Flag("recomputed", where, f"no weights in runs/{run}/best_model to answer with")
    chosen = random.Random(seed).sample(pairs, min(rules["pairs"], len(pairs)))
    try:
        config = json.loads(_read(copy.root, f"runs/{run}/best_model/config.json"))
        positions = int(config["n_positions"])
        prompts = _prompts(split, lang, {pair for pair, _, _ in pairs}, data, positions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {}, Flag("recomputed", where, f"its config.json does not say its size: {error}")
    tokens, why = copy.answers(
        f"runs/{run}/best_model", [prompts[pair] for pair, _, _ in chosen], limits
    )
    if not tokens:
        return {}, Flag("recomputed", where, f"its model does not answer: {why}")
    vocabulary = range(len(tokenizer := load_tokenizer()))
    texts = [tokenizer.decode([t]).strip() if t in vocabulary else "" for t in tokens]
    agree = sum(text == answer for text, (_, _, answer) in zip(texts, chosen, strict=True))
    found = {"compared": len(chosen), "agree": agree, "split": f"{split}.{lang}"}
    if agree < math.ceil(rules["agree"] * len(chosen)):
        text = f"its weights give the saved prediction for {agree} of {len(chosen)} pairs"
        return found, Flag("predictions", where, text)
    return found, None


def _prompts(split: str, lang: str, pairs: set, data: Sequence[Path], positions: int) -> dict:
    """The prompt's ids by pair, of the data folder that has just these pairs."""
    for folder in data:
        if _labels(folder, split, lang).keys() == pairs:
            length = min(max(positions, 16), 1024)
            rows = XNLIDataset.in_folder(
                folder, split, lang, tokenizer=load_tokenizer(), max_length=length
            )
            return {pair: rows[i]["input_ids"] for i, pair in enumerate(rows.data["pair_id"])}
    raise ValueError("no such pairs")


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
