"""XNLI's training file, 392,702 rows: how long until it is ids, and in how much memory.

The file is made of the given one: its rows again and again, each sentence with one word exchanged
for another of the file, every premise three times in a row as in MultiNLI. Each turn reads it in
fresh processes: for the first time, again (from the cache), and the course's way, pandas and then
the tokenizer on one whole prompt after the other. That last is measured on the first SLICE rows
and extrapolated to all.
"""

import csv
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.contest import Contest, Timed
from benchmarks.options import ROOT, Options
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import CACHE, XNLI, XNLIDataset, read_xnli_tsv

ROWS = 392_702
SLICE = 20_000


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
    started = time.perf_counter()
    XNLIDataset("train", train_path_template=str(path), tokenizer=tokenizer, verbose=False)
    return time.perf_counter() - started


def row_by_row(path: Path) -> float:
    """Seconds of the course's way, extrapolated from the first SLICE rows."""
    tokenizer = load_tokenizer()
    started = time.perf_counter()
    data = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE)
    read = time.perf_counter() - started
    ids = []
    for row in data.head(SLICE).itertuples():
        prompt = XNLI.prompt.format(premise=row.premise, hypo=row.hypo)
        ids.append(tokenizer(prompt, return_tensors="pt")["input_ids"][0])
    return read + (time.perf_counter() - started - read) * len(data) / len(ids)


WAYS = {"first": ours, "again": ours, "row by row": row_by_row}


def contests(options: Options) -> Iterator[Contest]:
    rows = 300 if options.quick else ROWS
    source = options.dataset("train").path
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "multinli.train.en.tsv"
        write_train_file(source, path, rows)

        def way(name):
            def call(turn) -> Timed:
                if name == "first":
                    shutil.rmtree(path.parent / CACHE, ignore_errors=True)
                return in_a_process(name, path)

            return call

        yield Contest(
            "392,702 rows to ids",
            "rows",
            rows,
            {name: way(name) for name in WAYS},
            compare=[("first", "row by row")],
            rates=["first", "again"],
            agree=lambda found: {f"peak GB, {name}": found[name] for name in ("first", "again")},
            warm=False,
        )


def in_a_process(way: str, path: Path) -> Timed:
    """One way in a process of its own: its seconds, and its peak memory in GB."""
    command = [sys.executable, "-m", "benchmarks.loading", way, path]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    seconds, peak = json.loads(run.stdout)
    return Timed(seconds, peak)


def peak_gb() -> float:
    """Of this process alone: Linux counts its parent's in ru_maxrss, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    seconds = WAYS[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps([seconds, peak_gb()]))
