"""Generated text to packed shards, beside the tokenizer alone on the same documents and cores.

Words are drawn with Zipf's frequencies from 60,000, most of which are made of the given text's
letter sequences, so that words are about as rare, and as long in tokens, as in text of the web. The
tokenizer alone has the documents in memory and drops the ids, in as many processes as we have
workers: tiktoken, which ours has, too, and tokenizers, with which GPT2_FAST=0 packs. We also read
and parse JSON lines, and write, and check by hash. Peak memory is of the main process and of the
largest worker.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.contest import Contest, Timed
from benchmarks.options import ROOT, Options
from data.documents import open_source
from data.packing import available_cores, pack, worker_settings
from data.tokenizing import load, read_text, split
from gpt2.tokenizer import load_tokenizer

MEGABYTES = int(os.environ.get("PACKING_MB", "100"))
WORDS = 60_000


def generated_documents(seed: int, text: Path = Options.text) -> Iterator[str]:
    """Yield documents without end, the same for the same seed and text."""
    rng = np.random.default_rng(seed)
    words = _vocabulary(random.Random(seed), text.read_text(encoding="utf-8"))
    frequencies = 1 / (np.arange(WORDS) + 2.7)
    cumulated = np.cumsum(frequencies / frequencies.sum())
    while True:
        drawn = np.minimum(np.searchsorted(cumulated, rng.random(2**16)), WORDS - 1)
        lengths = np.minimum(rng.lognormal(5.5, 1.0, 400).astype(int) + 5, 5000)
        for start, stop in zip(*_spans(lengths, len(drawn)), strict=True):
            parts = [words[i] for i in drawn[start:stop]]
            for end in range(rng.integers(4, 20), len(parts), rng.integers(8, 25)):
                parts[end - 1] += ".\n\n" if end % 5 == 0 else "."
                parts[end] = parts[end].capitalize()
            yield " ".join(parts).replace("\n ", "\n") + "."


def _spans(lengths: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum(lengths)
    ends = ends[ends <= count]
    return np.concatenate([[0], ends[:-1]]), ends


def _vocabulary(rng: random.Random, text: str) -> list[str]:
    """Return the text's words, most frequent first, and words of its letter triples and numbers."""
    words = [word for word, _ in Counter(text.split()).most_common()]
    follows: dict[str, list[str]] = {}
    for word in words:
        for i in range(len(padded := f"  {word} ") - 2):
            follows.setdefault(padded[i : i + 2], []).append(padded[i + 2])
    while len(words) < WORDS:
        word = "  "
        while len(word) < 20 and (letter := rng.choice(follows[word[-2:]])) != " ":
            word += letter
        words.append(word[2:] if rng.random() > 0.03 else str(rng.randrange(10**6)))
    return words


def write_documents(path: Path, size: int) -> None:
    """Write JSON lines of about `size` bytes."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for document in generated_documents(0):
            file.write(json.dumps({"text": document}) + "\n")
            if file.tell() >= size:
                return


def ours(path: Path, workers: int) -> dict:
    """Pack the file; return seconds, bytes of text, tokens and the peaks of memory."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "benchmarks.packing", path, folder, str(workers)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        return json.loads(run.stdout)


def alone(path: Path, workers: int, fast: str) -> float:
    """Seconds in which as many processes tokenize the file's documents, which they hold.

    `fast` is GPT2_FAST.
    """
    command = [sys.executable, "-m", "benchmarks.packing", path, "", str(workers)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes |= {"env": {**os.environ, "GPT2_FAST": fast}}
    runs = [subprocess.Popen([*command, str(part)], cwd=ROOT, **pipes) for part in range(workers)]
    for run in runs:
        run.stdout.readline()  # it has the documents
    started = time.perf_counter()
    for run in runs:
        run.stdin.close()
    for run in runs:
        run.stdout.readline()
    seconds = time.perf_counter() - started
    if any(run.wait() for run in runs):
        raise RuntimeError("a process that tokenizes has failed; its error is above")
    return seconds


def contests(options: Options) -> Iterator[Contest]:
    size = 200_000 if options.quick else MEGABYTES * 10**6
    workers = min(1 if options.quick else 2, available_cores())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        write_documents(path, size)

        def packing(turn) -> Timed:
            measured = ours(path, workers)
            return Timed(measured["seconds"], measured)

        yield Contest(
            f"JSON lines to packed tokens, on {workers} core{'s' * (workers > 1)}",
            "kB",
            path.stat().st_size / 1e3,
            {
                "ours": packing,
                "tiktoken alone": lambda turn: Timed(alone(path, workers, "1")),
                "tokenizers alone": lambda turn: Timed(alone(path, workers, "0")),
            },
            compare=[("ours", "tiktoken alone"), ("ours", "tokenizers alone")],
            rates=["ours"],
            agree=lambda found: {
                name: value for name, value in found["ours"].items() if name != "seconds"
            },
            warm=False,
        )


# ---- In processes of their own -----------------------------------------------------------------


def measure_packing(path: Path, folder: str, workers: int) -> None:
    import psutil

    from benchmarks.loading import peak_gb
    from data.packing import Workers

    largest, real = 0.0, Workers._ask

    def ask(self, kind, payload):
        nonlocal largest
        answer = real(self, kind, payload)
        memory = [psutil.Process(process.pid).memory_info().rss for process in self.processes]
        largest = max(largest, *(rss / 1e9 for rss in memory))
        return answer

    Workers._ask = ask
    started = time.perf_counter()
    manifest = pack(open_source([str(path)]), folder, workers=workers)
    measured = {
        "seconds": time.perf_counter() - started,
        "bytes of text per token": manifest["text_bytes"] / manifest["tokens"],
        "peak GB, main process": peak_gb(),
        "peak GB, largest worker": largest,
    }
    print(json.dumps(measured))


def measure_alone(path: Path, workers: int, part: int) -> None:
    encode = load(worker_settings(load_tokenizer(), "uint16", "text", False))
    source = open_source([str(path)])
    pieces = [
        [read_text(chunk.kind, line, "text") for line in split(chunk.kind, chunk.payload)]
        for chunk in islice(source.chunks({}), part, None, workers)
    ]
    print("ready", flush=True)
    sys.stdin.read()
    for piece in pieces:
        list(encode(piece))
    print("done", flush=True)


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if len(sys.argv) == 4:
        measure_packing(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    else:
        measure_alone(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]))
