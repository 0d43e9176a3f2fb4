"""What every method of a Frontier reached and cost: one JSON object a run, tables, what dominates.

A method *dominates* another if it is as accurate, costs no more, and is better in one of the two.
Accuracies are means over the seeds; p is of a paired test against full fine-tuning
(experiments.statistics.paired_test), corrected after Holm for the rows of the table.
"""

import time
from collections.abc import Sequence
from statistics import median

import pandas as pd

from experiments.environment import machine
from experiments.statistics import holm, paired_test
from extensions import costs
from extensions.frontier import Frontier
from extensions.methods import FULL
from gpt2.loss import mean_loss
from utils import get_device


def measure(frontier: Frontier, name: str, seed: int) -> dict:
    """Return what a method or a compression reached and cost, as JSON values.

    A compression has no costs of training; operations are those without what an adapter adds.
    """
    run = frontier.trained(name, seed) if name in frontier.methods else None
    evaluations, model = frontier.evaluations(name, seed), frontier.model(name, seed)
    lang, device = frontier.languages[0], get_device()
    rows = frontier.rows("train", lang, subset=16.0)
    files = run.model_folder.glob("*.safetensors") if run else ()
    result = {
        "method": name,
        "seed": seed,
        "accuracy": {lang: e.accuracy for lang, e in evaluations.items()},
        "interval": {lang: e.interval for lang, e in evaluations.items()},
        "test_loss": evaluations[lang].loss,
        "text_loss": mean_loss(model, frontier.text),
        "text_loss_before": frontier.text_loss_before,
        "bytes": sum(f.stat().st_size for f in files) or costs.stored_bytes(model),
        "block_bytes": costs.stored_bytes(model.gpt_layers),
        "forward_flops": costs.forward_flops(model, round(float(rows.lengths.mean()))),
        "machine": machine(device.type),
    }
    if run:
        (batch,) = frontier.batches(rows, len(rows))
        result |= {
            "learning_rate": run.settings.learning_rate,
            "dev_accuracy": run.result["dev_accuracy"],
            "trained": costs.trainable(model),
            "training_bytes": costs.training_bytes(model.train(), batch),
            "training_pairs_per_s": run.result["examples"] / run.result["seconds"],
            "training_seconds": run.result["seconds"],
        }
    return result


def time_models(frontier: Frontier, names: Sequence[str], turns: int = 3) -> dict[str, dict]:
    """Return each model's evaluation pairs/s and milliseconds for one pair, of the first seed.

    All take part in each turn, and the median of the turns counts.
    """
    seed, lang = frontier.seeds[0], frontier.languages[0]
    models = {name: frontier.model(name, seed) for name in names}
    prompt = frontier.examples.prompts[0]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(turns):
        for name, model in models.items():
            started = time.perf_counter()
            pairs = len(frontier.predict(model, lang).predictions)
            per_second = pairs / (time.perf_counter() - started)
            taken[name].append((per_second, 1000 * costs.latency(model, prompt)))
    columns = ("evaluation_pairs_per_s", "latency_ms")
    return {
        name: dict(zip(columns, map(median, zip(*values, strict=True)), strict=True))
        for name, values in taken.items()
    }


def finetuning_table(frontier: Frontier, results: Sequence[dict]) -> pd.DataFrame:
    """Return a row a way to fine-tune: means over the seeds."""
    means, quality = _quality(frontier, results)
    table = quality.assign(
        **{
            "learning rate": means["learning_rate"],
            "trained": means["trained"].astype(int),
            "kB on disk": means["bytes"] / 1000,
            "MB in training": means["training_bytes"] / 1e6,
            "pairs/s in training": means["training_pairs_per_s"],
            "pairs/s": means["evaluation_pairs_per_s"],
            "ms a pair": means["latency_ms"],
        }
    )
    return table.assign(**{"dominated by": dominated(table, "trained")})


def compression_table(frontier: Frontier, results: Sequence[dict]) -> pd.DataFrame:
    """Return a row a smaller model, full fine-tuning first: means over the seeds."""
    means, quality = _quality(frontier, results)
    table = quality.assign(
        **{
            "test loss": means["test_loss"],
            "MB": means["bytes"] / 1e6,
            "MB in blocks": means["block_bytes"] / 1e6,
            "pairs/s": means["evaluation_pairs_per_s"],
            "ms a pair": means["latency_ms"],
            "MFLOPs a pair": means["forward_flops"] / 1e6,
        }
    )
    return table.assign(**{"dominated by": dominated(table, "MB in blocks")})


def language_table(results: Sequence[dict]) -> pd.DataFrame:
    """Return accuracy by method (rows) and test language, means over the seeds."""
    each = pd.DataFrame([{"method": r["method"], **r["accuracy"]} for r in results])
    return each.groupby("method", sort=False).mean()


def dominated(table: pd.DataFrame, cost: str) -> list[str]:
    """Return for each row the most accurate one that dominates it; "" where none does."""
    found = []
    for _, row in table.iterrows():
        as_good = (table["accuracy"] >= row["accuracy"]) & (table[cost] <= row[cost])
        better = as_good & ((table["accuracy"] > row["accuracy"]) | (table[cost] < row[cost]))
        found.append(table["accuracy"][better].idxmax() if better.any() else "")
    return found


def _quality(frontier: Frontier, results: Sequence[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the means of all that was measured, and the columns that both tables have."""
    each, lang = pd.json_normalize(list(results)), frontier.languages[0]
    groups = each.groupby("method", sort=False)
    means = groups.mean(numeric_only=True)
    tested = {
        name: [frontier.evaluations(name, seed)[lang] for seed in frontier.seeds]
        for name in dict.fromkeys([FULL, *means.index])
    }
    table = pd.DataFrame(
        {
            "accuracy": means[f"accuracy.{lang}"],
            "std": groups[f"accuracy.{lang}"].std(),
            "p": pd.Series({name: paired_test(tested[FULL], tested[name]) for name in means.index}),
            "forgetting (nats)": means["text_loss"] - means["text_loss_before"],
        }
    )
    table.insert(3, "p corrected", holm(table["p"].tolist()))
    return means, table
