"""Task 3 on real XNLI with a small model and a small budget: zero-shot, per language, together.

    python -m benchmarks.languages --weights FOLDER --xnli FOLDER --out results/toy_languages

Every training is a run in `--runs`: killed, it goes on; finished, it is read. Tables (CSV,
Markdown, LaTeX) and figures go to `--out`.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch

from benchmarks import report
from config import FINETUNE_TOY
from gpt2 import plots
from gpt2.fertility import fertility_table
from gpt2.finetune import finetune
from gpt2.tokenizer import load_tokenizer
from gpt2.transfer import (
    correlation,
    differences,
    export,
    readable,
    results_table,
    select_languages,
    transfer_table,
)
from gpt2.xnli import LANGUAGES, XNLIDataset
from utils import atomic_write


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, help="what every run starts from")
    parser.add_argument("--xnli", type=Path, required=True, help="holds XNLI-1.0, XNLI-MT-1.0")
    parser.add_argument("--languages", nargs="+", default=["de", "es", "fr"], help="beside en")
    parser.add_argument("--rows", type=int, default=2000, help="of each language's train file")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    everything, tokenizer = ("en", *args.languages), load_tokenizer()
    recipe = replace(FINETUNE_TOY, subset=args.rows)
    where = {"weights": args.weights, "data": args.xnli, "runs": args.runs}

    english = finetune(recipe, name="en", **where)
    single = {
        lang: finetune(replace(recipe, languages=(lang,)), name=lang, **where)
        for lang in args.languages
    }
    together = finetune(replace(recipe, languages=everything), name="all", **where)
    budget = finetune(
        replace(recipe, languages=everything, examples=args.rows), name="all-budget", **where
    )

    train, dev = (
        {
            lang: XNLIDataset.in_folder(args.xnli, split, lang, tokenizer=tokenizer)
            for lang in LANGUAGES
        }
        for split in ("train", "dev")
    )
    fertility = fertility_table(train, dev, tokenizer, max_samples=3927)
    zero_shot = english.evaluations()
    transferred = transfer_table(zero_shot, fertility)
    answers = english.answers("English only (zero-shot)", everything)
    for lang, run in single.items():
        answers += run.answers("per language", (lang,))
    answers += together.answers("all together", everything)
    answers += budget.answers("all, same examples", everything)
    results = results_table(answers)
    models = {"en": english, **single, "all": together}
    matrix = pd.DataFrame(
        {name: {a.lang: a.evaluation.accuracy for a in run.answers(name, everything)}
         for name, run in models.items()}
    ).T  # fmt: skip

    tables = {
        "fertility": fertility,
        "transfer": transferred,
        "results": results.set_index(["language", "setting"]),
        "readable": readable(results),
        "differences": differences(answers).set_index(["language", "first", "second"]),
        "train_by_test": matrix,
    }
    for name, table in tables.items():
        export(table, args.out, name)
        print(f"\n{name}\n{table.round(4).to_string()}")
    figures = {
        "fertility": plots.plot_fertility(fertility),
        "transfer": plots.plot_transfer(transferred, chosen=args.languages),
        "results": plots.plot_settings(results),
        "train_by_test": plots.plot_matrix(matrix, "Accuracy by training and test language"),
        "confusions": plots.plot_confusions(zero_shot),
    }
    for name, figure in figures.items():
        with atomic_write(args.out / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=100)
    rho, p = correlation(transferred, "fertility")
    summary = {
        "settings": asdict(recipe),
        "languages": everything,
        "minutes": (time.perf_counter() - began) / 60,
        "training_seconds": {
            name: run.result["seconds"]
            for name, run in {**models, "all, same examples": budget}.items()
        },
        "spearman_fertility_zero_shot": {"rho": rho, "p": p},
        "chosen_by_the_rule": select_languages(transferred),
        "machine": report.machine(),
    }
    with atomic_write(args.out / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
