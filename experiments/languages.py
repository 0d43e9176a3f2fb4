"""Task 3 on real XNLI with a small model and a small budget: zero-shot, per language, together.

    python -m experiments.languages --weights FOLDER --xnli FOLDER --out results/toy_languages

Every training is a run in `--runs`: killed, it goes on; finished, it is read. Tables (CSV,
Markdown, LaTeX), figures and a page that shows them go to `--out`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch

from benchmarks import report
from config import FINETUNE_TOY
from experiments import plots
from experiments.finetuning import FinetunedRun, finetune
from experiments.transfer import (
    correlation,
    differences,
    export,
    readable,
    results_table,
    select_languages,
    transfer_table,
)
from gpt2.fertility import fertility_table
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from utils import atomic_write


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, help="what every run starts from")
    parser.add_argument("--xnli", type=Path, required=True, help="holds XNLI-1.0, XNLI-MT-1.0")
    parser.add_argument("--languages", nargs="+", default=["de", "es", "fr"], help="beside en")
    parser.add_argument("--rows", type=int, default=2000, help="of each language's train file")
    parser.add_argument("--epochs", type=int, default=FINETUNE_TOY.epochs)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", default="", help="for the page, such as what the weights are")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    everything, tokenizer = ("en", *args.languages), load_tokenizer()
    recipe = replace(FINETUNE_TOY, subset=args.rows, epochs=args.epochs)

    began = time.perf_counter()
    runs = {seed: train_all(replace(recipe, seed=seed), args) for seed in args.seeds}
    first = runs[args.seeds[0]]
    fertility = fertility_table(
        *(
            {
                lang: XNLIDataset.in_folder(args.xnli, split, lang, tokenizer=tokenizer)
                for lang in LANGUAGES
            }
            for split in ("train", "dev")
        ),
        tokenizer,
        max_samples=3927,
    )
    zero_shot = first["en"].evaluations()
    transferred = transfer_table(zero_shot, fertility)
    answers = []
    for found in runs.values():
        answers += found["en"].answers("English only (zero-shot)", everything)
        for lang in args.languages:
            answers += found[lang].answers("per language", (lang,))
        answers += found["all"].answers("all together", everything)
        answers += found["all, same examples"].answers("all, same examples", everything)
    results = results_table(answers)
    matrix = pd.DataFrame(
        {
            name: {a.lang: a.evaluation.accuracy for a in first[name].answers(name, everything)}
            for name in (*everything, "all")
        }
    ).T
    tables = {
        "results": results.set_index(["language", "setting"]),
        "readable": readable(results),
        "differences": differences(answers).set_index(["language", "first", "second"]),
        "train_by_test": matrix,
        "transfer": transferred,
        "fertility": fertility,
    }
    figures = {
        "results": plots.plot_settings(results),
        "train_by_test": plots.plot_matrix(matrix, "Accuracy by training and test language"),
        "transfer": plots.plot_transfer(transferred, chosen=args.languages),
        "fertility": plots.plot_fertility(fertility),
        "confusions": plots.plot_confusions(zero_shot),
    }
    rho, p = correlation(transferred, "fertility")
    command = (
        "python -m experiments.languages --weights FOLDER --xnli FOLDER --out results/toy_languages"
        f" --languages {' '.join(args.languages)} --rows {args.rows} --epochs {args.epochs}"
        f" --seeds {' '.join(map(str, args.seeds))} --threads {args.threads}"
    )
    summary = {
        "command": command,
        "note": args.note,
        "settings": asdict(recipe),
        "languages": everything,
        "seeds": args.seeds,
        "minutes_of_training": sum(
            run.result["seconds"] for found in runs.values() for run in found.values()
        )
        / 60,
        "minutes_of_this_call": (time.perf_counter() - began) / 60,
        "training_seconds": {
            seed: {name: run.result["seconds"] for name, run in found.items()}
            for seed, found in runs.items()
        },
        "spearman_fertility_zero_shot": {"rho": rho, "p": p},
        "chosen_by_the_rule": select_languages(transferred),
        "machine": report.machine(),
    }
    write(args.out, tables, figures, summary)


def train_all(settings, args) -> dict[str, FinetunedRun]:
    """One run a language, one on all of them, and one on all that sees no more examples than
    each of the former; all from the same weights."""
    everything = ("en", *args.languages)
    where = {"weights": args.weights, "data": args.xnli, "runs": args.runs}
    together = replace(settings, languages=everything)
    return {
        **{
            lang: finetune(replace(settings, languages=(lang,)), name=lang, **where)
            for lang in everything
        },
        "all": finetune(together, name="all", **where),
        "all, same examples": finetune(
            replace(together, examples=args.rows), name="all-budget", **where
        ),
    }


def write(folder: Path, tables: dict, figures: dict, summary: dict) -> None:
    page = [
        "# Task 3 on real rows with the toy model",
        f"`{summary['command']}`",
        *([summary["note"]] if summary["note"] else []),
        f"{summary['minutes_of_training']:.0f} minutes of training in all. Intervals are 95 % "
        "(Wilson), or mean (standard deviation) where there are several seeds; differences, "
        "matrix and zero-shot table are of the first seed; p-values are exact McNemar, corrected "
        "after Holm.",
    ]
    for name, table in tables.items():
        _, markdown, _ = export(table, folder, name)
        page.append(f"## {name.replace('_', ' ').capitalize()}")
        page.append(markdown.read_text(encoding="utf-8").rstrip())
        print(f"\n{name}\n{table.round(4).to_string()}")
        if name in figures:
            page.append(f"![{name}]({name}.png)")
    page.append("## Confusions\n\n![confusions](confusions.png)")
    for name, figure in figures.items():
        with atomic_write(folder / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=100)
    with atomic_write(folder / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=1) + "\n")
    with atomic_write(folder / "README.md") as path:
        path.write_text("\n\n".join(page) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
