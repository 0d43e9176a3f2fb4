"""Write documents as files of each kind, and read what was packed of them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data import packing, tokenizing
from data.packed import read_manifest

TEXTS = ["The sea is calm.", " Zwei  Sätze. 你好。", 'He said: "<|endoftext|>"', "\tx 😀 = 1 "] * 9
KINDS = ["a.txt", "a.txt.gz", "a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"]
END = 256  # end-of-text of the tokenizer of bytes


class InThisProcess:
    """Workers that are none, for tests of everything else."""

    def __init__(self, settings):
        self.settings, self.encode = settings, tokenizing.load(settings)

    def answers(self, chunks):
        for chunk in chunks:
            arguments = self.encode, self.settings, chunk.kind, chunk.payload
            yield chunk, tokenizing.tokenize(*arguments)


def write(folder: Path, name: str, texts=TEXTS, rows_in_group=7) -> Path:
    """Write documents as the kind of file that the name says."""
    path = folder / name
    if ".parquet" in name:
        columns = {"n": list(range(len(texts))), "text": texts}
        pq.write_table(pa.table(columns), path, row_group_size=rows_in_group)
        return path
    lines = texts if ".txt" in name else [json.dumps({"n": 1, "text": text}) for text in texts]
    content = "".join(line + "\n" for line in lines).encode()
    if name.endswith(".gz"):
        content = gzip.compress(content)
    elif name.endswith(".zst"):
        half = len(content) // 2  # two frames, as parallel compressors write
        parts = content[:half], content[half:]
        content = b"".join(pa.compress(part, codec="zstd", asbytes=True) for part in parts)
    path.write_bytes(content)
    return path


def tokens_of(folder) -> np.ndarray:
    manifest = read_manifest(folder)
    parts = [np.fromfile(folder / shard["file"], manifest["dtype"]) for shard in manifest["shards"]]
    return np.concatenate(parts)


def content_of(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}


def interrupt_after_each_shard(monkeypatch) -> None:
    """Let a packing end as by Ctrl-C whenever it has written its manifest."""
    real = packing.write_manifest

    def stop(folder, manifest):
        real(folder, manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "write_manifest", stop)
