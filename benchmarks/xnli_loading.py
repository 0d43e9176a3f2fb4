"""XNLI's training file, 392,702 rows: how long until it is ids, and in how much memory.

    python -m benchmarks.xnli_loading [--train FILE] [--turns 3] [--name NAME]

The file is made of the given one (the sample's, if none is): its rows again and again, each
sentence with one word exchanged for another of the file, every premise three times in a row as in
MultiNLI. Each turn reads it in fresh processes: for the first time, again (from the cache), and
the course's way, pandas and then the tokenizer on one whole prompt after the other. That last is
measured on the first SLICE rows and extrapolated to all.
"""

import argparse
import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import report
from gpt2.prompts import PROMPT
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset, read_xnli_tsv

ROWS = 392_702
SLICE = 20_000
SAMPLE = Path(__file__).parent.parent / "data/sample/XNLI-MT-1.0/multinli/multinli.train.en.tsv"


def write_train_file(source: Path, path: Path, rows: int) -> None:
    """A train file of so many rows, in the manner that the head of this module describes."""
    data = read_xnli_tsv(source)
    words = " ".join(data["premise"]).split()
    rng = random.Random(0)

    def changed(sentence: str) -> str:
        parts = sentence.split()
        parts[rng.randrange(len(parts))] = rng.choice(words)
        return " ".join(parts)

    premises, hypotheses = data["premise"].unique(), data["hypo"].tolist()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("premise\thypo\tlabel\n")
        for row in range(rows):
            if row % 3 == 0:
                premise = changed(premises[row // 3 % len(premises)])
            hypo, label = changed(hypotheses[row % len(data)]), data["label"][row % len(data)]
            file.write(f"{premise}\t{hypo}\t{label}\n")


def ours(path: Path) -> float:
    """Seconds until every row is ids, by XNLIDataset, its cache written or read."""
    tokenizer = load_tokenizer()
    began = time.perf_counter()
    XNLIDataset("train", train_path_template=str(path), tokenizer=tokenizer)
    return time.perf_counter() - began


def row_by_row(path: Path) -> float:
    """Seconds of the course's way, extrapolated from the first SLICE rows."""
    tokenizer = load_tokenizer()
    began = time.perf_counter()
    data = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE)
    read = time.perf_counter() - began
    ids = []
    for row in data.head(SLICE).itertuples():
        prompt = PROMPT.format(premise=row.premise, hypo=row.hypo)
        ids.append(tokenizer(prompt, return_tensors="pt")["input_ids"][0])
    return read + (time.perf_counter() - began - read) * len(data) / len(ids)


WAYS = {"first": ours, "again": ours, "row by row": row_by_row}


def measured(way: str, path: Path) -> dict[str, float]:
    """Seconds and peak memory (GB) of one way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.xnli_loading", "--child", way, "--train", path]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, default=SAMPLE, help="a train file in English")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        seconds = WAYS[args.child](args.train)
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        print(json.dumps({"seconds": seconds, "peak_gb": peak / 1e9}))
        return
    turns = []
    for _ in tqdm(range(args.turns), desc="turns", ncols=100):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "multinli.train.en.tsv"
            write_train_file(args.train, path, args.rows)
            turns.append({way: measured(way, path) for way in WAYS})
    result = {"rows": args.rows, "turns": args.turns, "slice": SLICE, "ways": {}}
    for way in WAYS:
        result["ways"][way] = {
            "seconds": statistics.median(turn[way]["seconds"] for turn in turns),
            "peak_gb": statistics.median(turn[way]["peak_gb"] for turn in turns),
            "times_as_fast_as_row_by_row": statistics.median(
                turn["row by row"]["seconds"] / turn[way]["seconds"] for turn in turns
            ),
        }
        print(way, *(f"{name} {value:.2f}" for name, value in result["ways"][way].items()))
    if args.name:
        print(f"wrote {report.save(args.name, result)}")


if __name__ == "__main__":
    main()
