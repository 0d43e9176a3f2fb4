"""Us beside our peers, in turns, in one process.

    python -m benchmarks [NAME ...] [--device cpu|cuda] [--quick] [--xnli FOLDER] [--text FILE]

Without names all benchmarks of the device run. Every result says how many times as fast we are as
each peer (the median over the turns), and how near it is to what this machine's largest matrix
product and copy reach, measured in the same run. With --save they go to
benchmarks/results/DEVICE.json, those of other names stay; --table prints what is there.
"""

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.contest import hold, measure_ceilings
from benchmarks.options import ROOT, Options
from console import errors_in_one_line

NAMES = {  # in the order of the table
    "cpu": ["evaluation", "finetuning", "pretraining", "generation", "optimizer", "fertility",
            "loading", "packing", "quantization"],
    "cuda": ["evaluation", "finetuning", "pretraining", "generation", "optimizer", "cuda",
             "quantization"],
}  # fmt: skip


def existing(text: str) -> Path:
    path = Path(text).resolve()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist; check the path")
    return path


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    everything = [*NAMES["cpu"], "cuda"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(everything))
    parser.add_argument("--device", choices=NAMES, default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="run through in seconds, without figures"
    )
    parser.add_argument("--xnli", type=existing, default=Options.xnli, help="default: the sample")
    parser.add_argument("--text", type=existing, default=Options.text, help="default: pretrain.txt")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DEVICE.json")
    parser.add_argument("--table", action="store_true", help="print the saved results")
    args = parser.parse_args(arguments)
    if args.table:
        print(report.table(report.load()))
        return
    there_are = NAMES[args.device]
    if unknown := ", ".join(sorted(set(args.names) - set(there_are))):
        parser.error(f"no benchmark {unknown} for {args.device}; there are {', '.join(there_are)}")
    if args.turns < 1:
        parser.error(f"--turns must be at least 1, got {args.turns}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here; leave it out for the CPU's figures")
    if args.quick and args.save:
        parser.error("--quick makes no figures to save; leave --save or --quick out")
    names = args.names or NAMES[args.device]
    if len(names) > 1:  # each in a process of its own: memory that one has used serves the next
        settings = ["--device", args.device, "--xnli", args.xnli, "--text", args.text]
        settings += ["--turns", str(args.turns), "--threads", str(args.threads)]
        settings += ["--quick"] * args.quick + ["--save"] * args.save
        for name in names:
            command = [sys.executable, "-m", "benchmarks", name, *settings]
            subprocess.run(command, check=True, cwd=ROOT)
        return
    torch.set_num_threads(args.threads)
    options = Options(args.device, args.quick, args.xnli, args.text)
    ceilings = measure_ceilings(options)
    products = ", ".join(f"{ceilings[name] / 1e9:,.0f} {name}" for name in options.precisions)
    print(f"ceilings: GFLOP/s {products}, copy {ceilings['copy'] / 1e9:.1f} GB/s")
    turns = 1 if args.quick else args.turns
    for contest in import_module(f"benchmarks.{names[0]}").contests(options):
        result = hold(contest, turns, ceilings, args.device)
        print(report.describe(contest.name, result), flush=True)
        if args.save:
            report.store(args.device, contest.name, {**result, "ceilings": ceilings})


if __name__ == "__main__":
    with errors_in_one_line():
        main()
