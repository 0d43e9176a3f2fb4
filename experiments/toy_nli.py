"""Measure the toy model on real XNLI: pretrained on a text, fine-tuned on English, beside a
classifier that sees the hypotheses alone.

    python -m experiments.toy_nli --text TEXT --data FOLDER [--rates 3e-4 1e-3] [--out FILE]

Every learning rate is a run of its own in `runs/` (killed, it resumes; finished, it is read); the
best on dev is evaluated on test. A run of the same rate from random weights shows the effect of
pretraining.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from config import FINETUNE_TOY, TOY_PRETRAINING, GPT2Config
from experiments.baseline import hypothesis_only
from experiments.environment import save_measurement
from experiments.evaluation import Evaluation
from experiments.finetuning import finetune
from experiments.pretraining import pretrain
from experiments.statistics import mcnemar
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
    parser.add_argument("--data", type=Path, required=True, help="holds XNLI-1.0, XNLI-MT-1.0")
    parser.add_argument("--rates", type=float, nargs="+", default=[FINETUNE_TOY.learning_rate])
    parser.add_argument("--epochs", type=int, default=FINETUNE_TOY.epochs)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are")
    parser.add_argument("--out", help="a JSON file for the result")
    args = parser.parse_args()

    texts = TextDataset(args.text, load_tokenizer(), TOY_PRETRAINING.max_len)
    pretrained = pretrain(TOY_PRETRAINING, *texts.split(0.1), runs=args.runs)
    recipe = replace(FINETUNE_TOY, epochs=args.epochs)
    where = {"data": args.data, "runs": args.runs}
    variants = [replace(recipe, learning_rate=rate) for rate in args.rates]
    weights = pretrained.path / "model"
    runs = run_study(variants, weights=weights, name="toy-nli", **where)
    best = max(runs, key=lambda run: run.result["dev_accuracy"])
    print(study_table(runs).to_string())
    set_seed(0)
    scratch = args.runs / "toy-random"
    GPT2Model(GPT2Config(**TOY_PRETRAINING.model)).save_pretrained(scratch)
    unpretrained = finetune(best.settings, weights=scratch, name="toy-nli-random", **where)

    train = XNLIDataset.in_folder(args.data, "train")
    evaluations = {
        split: {
            "toy model": best.evaluation(split),
            "… not pretrained": unpretrained.evaluation(split),
            "hypothesis only": hypothesis_only(train, XNLIDataset.in_folder(args.data, split)),
        }
        for split in ("dev", "test")
    }
    accuracies = {
        split: {name: describe(evaluation) for name, evaluation in of_split.items()}
        for split, of_split in evaluations.items()
    }
    for split, of_split in accuracies.items():
        for name, row in of_split.items():
            interval = f"[{row['low']:.2%}, {row['high']:.2%}]"
            print(f"{split:4s} {name:18s} {row['accuracy']:.2%}  {interval}")
    p = mcnemar(evaluations["test"]["toy model"], evaluations["test"]["hypothesis only"])
    print(f"McNemar, toy model and hypothesis only on test: p = {p:.2g}")
    if args.out:
        result = {
            "settings": asdict(best.settings),
            "train_rows": len(train),
            "held_out_loss": pretrained.held_out()["held_out_loss"].tolist(),
            "run": best.result,
            "accuracy": accuracies,
            "mcnemar_p": p,
        }
        save_measurement(args.out, result)


def describe(evaluation: Evaluation) -> dict:
    """Return the measures of an evaluation that the result file holds."""
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
