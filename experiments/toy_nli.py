"""The toy model on real XNLI: pretrained on a text, fine-tuned on English, beside what the
hypotheses alone give away.

    python -m experiments.toy_nli --text TEXT --xnli FOLDER [--rates 3e-4 1e-3] [--name NAME]

Every learning rate is a run of its own in `runs/` (killed, it goes on; finished, it is read); the
best on dev is evaluated on test. A run of the same rate from random weights shows what
pretraining was good for.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks import report
from config import FINETUNE_TOY, TOY_PRETRAINING, GPT2Config
from experiments.baseline import hypothesis_only
from experiments.evaluation import Evaluation, mcnemar
from experiments.finetuning import finetune
from experiments.pretraining import pretrain
from experiments.study import run_study, study_table
from gpt2.model import GPT2Model
from gpt2.text import TextDataset
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset
from utils import set_seed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="one document a line")
    parser.add_argument("--xnli", type=Path, required=True, help="holds XNLI-1.0, XNLI-MT-1.0")
    parser.add_argument("--rates", type=float, nargs="+", default=[FINETUNE_TOY.learning_rate])
    parser.add_argument("--epochs", type=int, default=FINETUNE_TOY.epochs)
    parser.add_argument("--batch-size", type=int, default=FINETUNE_TOY.batch_size)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    texts = TextDataset(args.text, load_tokenizer(), TOY_PRETRAINING.max_len)
    pretrained = pretrain(TOY_PRETRAINING, *texts.split(0.1), runs=args.runs)
    recipe = replace(FINETUNE_TOY, epochs=args.epochs, batch_size=args.batch_size)
    where = {"data": args.xnli, "runs": args.runs}
    runs = run_study(
        [replace(recipe, learning_rate=rate) for rate in args.rates],
        weights=pretrained.path / "model",
        name="toy-nli",
        **where,
    )
    best = max(runs, key=lambda run: run.result["dev_accuracy"])
    if len(runs) > 1:
        print(study_table(runs).to_string())
    set_seed(0)
    scratch = args.runs / "toy-random"
    GPT2Model(GPT2Config(**TOY_PRETRAINING.model)).save_pretrained(scratch)
    unpretrained = finetune(best.settings, weights=scratch, name="toy-nli-random", **where)

    evaluations = {"dev": {}, "test": {}}
    train = XNLIDataset.in_folder(args.xnli, "train")
    for split, found in evaluations.items():
        found["toy model"] = best.evaluation(split)
        found["… not pretrained"] = unpretrained.evaluation(split)
        found["hypothesis only"] = hypothesis_only(train, XNLIDataset.in_folder(args.xnli, split))
    p = mcnemar(evaluations["test"]["toy model"], evaluations["test"]["hypothesis only"])
    rows = {
        split: {name: describe(evaluation) for name, evaluation in found.items()}
        for split, found in evaluations.items()
    }
    for split, found in rows.items():
        for name, row in found.items():
            interval = f"[{row['low']:.2%}, {row['high']:.2%}]"
            print(f"{split:4s} {name:18s} {row['accuracy']:.2%}  {interval}")
    print(f"McNemar, toy model and hypothesis only on test: p = {p:.2g}")
    if args.name:
        result = {
            "settings": asdict(best.settings),
            "train_rows": len(train),
            "held_out_loss": pretrained.held_out()["held_out_loss"].tolist(),
            "run": best.result,
            "accuracy": rows,
            "mcnemar_p": p,
        }
        print(f"wrote {report.save(args.name, result)}")


def describe(evaluation: Evaluation) -> dict:
    low, high = evaluation.interval
    return {
        "accuracy": evaluation.accuracy,
        "low": low,
        "high": high,
        "share_without_label": evaluation.share_without_label,
        "calibration_error": evaluation.calibration_error(),
    }


if __name__ == "__main__":
    main()
