"""Tokenize a source of documents into shards of packed tokens, the same bytes however it is run.

Workers are processes of their own (`data.tokenizing`), and their answers are written in order. A
shard is moved into place and then listed in the manifest, together with the place in the input
where the next one starts: whatever a kill leaves unfinished is made again from there.
"""

import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from console import progress_bar
from counting import LONGEST, gpt2_encoding
from data import tokenizing
from data.documents import Chunk
from data.packed import has_its_size, read_manifest, tokenizer_digest, write_manifest
from data.tokenizing import Settings, Tokenized
from gpt2.tokenizer import check_tokenizer, load_tokenizer, prefix_ids
from utils import atomic_write

FORMAT = 1  # of the manifest
COUNTS = ("tokens", "documents", "text_bytes", "skipped")


def pack(
    source,
    folder,
    tokenizer: str = "gpt2",
    *,
    length: int = 1024,
    shard_tokens: int = 2**24,
    workers: int | None = None,
    skip_bad: bool = False,
) -> dict:
    """Return the manifest of the finished folder: read, continued, or started.

    `source` is of `data.documents`. Shards have `shard_tokens` tokens, rounded down to whole rows
    of `length`, the last one fewer. With `skip_bad` lines and rows without a usable text are left
    out and counted, else the first is a ValueError. Raises ValueError, too, where the folder was
    started from another input, tokenizer or setting, and RuntimeError where another process works
    on it.
    """
    if length < 2 or shard_tokens < length:
        raise ValueError(
            f"length must be at least 2 and shard_tokens at least length, got {length} and "
            f"{shard_tokens}"
        )
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    folder, loaded = Path(folder), load_tokenizer(tokenizer)
    identity = _identity(source, tokenizer, loaded, length, shard_tokens - shard_tokens % length)
    settings = worker_settings(loaded, identity["dtype"], source.column, skip_bad)
    with _alone(folder):
        manifest = read_manifest(folder)
        if manifest is None or not manifest["shards"]:  # nothing that could have other bytes
            empty = {**dict.fromkeys(COUNTS, 0), "complete": False, "next": None, "shards": []}
            before, manifest = manifest, {**identity, **empty}
            if manifest != before:
                write_manifest(folder, manifest)
        _check_identity(folder, manifest, identity)
        lost = [s for s in manifest["shards"] if not has_its_size(folder, s, manifest["dtype"])]
        if lost or not manifest["complete"]:
            with started_workers(settings, workers or available_cores()) as pool:
                for shard in lost:
                    _restore(folder, manifest, shard, source, pool)
                if not manifest["complete"]:
                    _continue(folder, manifest, source, pool)
    return manifest


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# ---- What is made ------------------------------------------------------------------------------


def _identity(source, name: str, tokenizer, length: int, shard_tokens: int) -> dict:
    """Return what decides the bytes of the shards."""
    check_tokenizer(tokenizer)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError(f'"{name}" has no fast tokenizer, which packing needs; use another one')
    if tokenizer.eos_token_id is None:
        raise ValueError(f'the tokenizer "{name}" has no end-of-text token to end a document with')
    largest = max(tokenizer.get_vocab().values())
    return {
        "format": FORMAT,
        "tokenizer": {
            "name": Path(name).name if Path(name).is_dir() else name,
            "sha256": tokenizer_digest(tokenizer),
            "prefix": prefix_ids(tokenizer),
            "end": tokenizer.eos_token_id,
        },
        "dtype": "uint16" if largest < 2**16 else "uint32",
        "length": length,
        "shard_tokens": shard_tokens,
        "column": source.column,
        "input": source.identity,
    }


def _check_identity(folder: Path, manifest: dict, identity: dict) -> None:
    for name, wanted in identity.items():
        before = manifest.get(name)
        if before == wanted or (name == "tokenizer" and before["sha256"] == wanted["sha256"]):
            continue  # a tokenizer may have several names
        what = f"{name.replace('_', '-')} {before}, and not {wanted}"
        if name == "input":
            changed = [
                part for part in [*before, *wanted] if part not in before or part not in wanted
            ]
            names = dict.fromkeys(part.get("file", part.get("dataset")) for part in changed)
            what = f"other input ({', '.join(names) or 'in another order'})"
        elif name == "tokenizer":
            what = f'the tokenizer "{before["name"]}", whose files are not those given now'
        raise ValueError(
            f"{folder}: was started with {what}; give the same again, or another folder"
        )


def worker_settings(tokenizer, dtype: str, column: str, skip_bad: bool) -> Settings:
    """Return what a worker is started with."""
    typecode = {"uint16": "H", "uint32": "I"}[dtype]
    encoding = gpt2_encoding(tokenizer, load_tokenizer)
    ways = tokenizer.backend_tokenizer.to_str(), encoding, LONGEST
    ends = tuple(prefix_ids(tokenizer)), tokenizer.eos_token_id
    return Settings(*ways, *ends, typecode, column, skip_bad)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of the folder, and delete what a killed one was writing."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(f"{folder}: another process works in this folder") from error
    with lock:
        for file in folder.glob(".*.*.????????"):
            file.unlink()
        yield


# ---- Shards ------------------------------------------------------------------------------------


class TokenStream:
    """The tokens of a source from a position on, taken in pieces of any size.

    A position is that of a chunk and how many of its tokens come before; None is the start.
    """

    def __init__(self, source, pool: "Workers", position: dict | None):
        position = position or {"chunk": {}, "tokens": 0}
        self.answers = pool.answers(source.chunks(position["chunk"]))
        self.skip_bad, self.dtype = pool.settings.skip_bad, pool.settings.typecode
        self.skipped = self.bad = self.progress = 0  # bad: of the chunk that is not passed yet
        self._next_chunk()
        self.place = position["tokens"]

    @property
    def position(self) -> dict | None:
        """Where the next token is; None at the end."""
        return self.chunk and {"chunk": self.chunk.position, "tokens": self.place}

    def take(self, count: int) -> tuple[np.ndarray, int, int]:
        """Return at most `count` tokens, at least one, and the number of documents that end in
        them and their bytes of text."""
        start, stop = self.place, min(self.place + count, len(self.ids))
        ids, inside = self.ids[start:stop], (self.ends > start) & (self.ends <= stop)
        text_bytes = int(self.sizes[inside].sum())
        self.place = stop
        if stop == len(self.ids):
            self._next_chunk()
        return ids, int(inside.sum()), text_bytes

    def _next_chunk(self) -> None:
        """Step to the next chunk that has tokens, if there is one."""
        self.chunk, self.place, self.ids = None, 0, ()
        while not len(self.ids):
            self.skipped, self.bad = self.skipped + self.bad, 0
            chunk, answer = next(self.answers, (None, None))
            if chunk is None:
                return
            self.bad = answer.bad
            if answer.bad and not self.skip_bad:
                place, reason = answer.fault
                raise ValueError(
                    f"{chunk.source} {chunk.first + place}: {reason}; correct it, or leave such "
                    "out with --skip-bad"
                )
            self.ids = np.frombuffer(answer.ids, self.dtype)
            self.ends, self.sizes = (np.frombuffer(x, "Q") for x in (answer.ends, answer.sizes))
            self.progress = chunk.progress
        self.chunk = chunk


def _continue(folder: Path, manifest: dict, source, pool: "Workers") -> None:
    """Write the shards that are still missing, and the manifest after each."""
    stream = TokenStream(source, pool, manifest["next"])
    if stream.position is None and not manifest["shards"]:
        raise ValueError(f"{_first(source)}: no text in it")
    with _bar(source, folder) as bar:
        while stream.position is not None:
            number = len(manifest["shards"])
            shard = {"file": f"shard-{number:05d}.bin", "position": _lasting(stream.position)}
            shard |= _write_shard(folder / shard["file"], manifest["shard_tokens"], stream, bar)
            manifest["shards"].append(shard)
            for name in COUNTS:
                manifest[name] += shard[name]
            manifest["next"], manifest["complete"] = stream.position, stream.position is None
            write_manifest(folder, manifest)


def _lasting(position: dict) -> dict:
    """Return a position without what only makes it quick to find again, and differs by the way."""
    chunk = {name: value for name, value in position["chunk"].items() if name != "state"}
    return {**position, "chunk": chunk}


def _restore(folder: Path, manifest: dict, shard: dict, source, pool: "Workers") -> None:
    """Write a lost shard again from its position."""
    stream = TokenStream(source, pool, shard["position"])
    written = _write_shard(folder / shard["file"], manifest["shard_tokens"], stream)
    if written["sha256"] != shard["sha256"]:
        raise ValueError(
            f"{folder / shard['file']}: made again, it has other bytes than before; delete "
            f"{folder} and pack the text again"
        )


def _write_shard(path: Path, size: int, stream: TokenStream, bar=None) -> dict:
    """Write the next `size` tokens, fewer at the end of the stream; return the shard's counts."""
    counts, digest = dict.fromkeys(COUNTS, 0), sha256()
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        while counts["tokens"] < size and stream.position is not None:
            ids, documents, text_bytes = stream.take(size - counts["tokens"])
            file.write(ids)
            digest.update(ids)
            counts["tokens"] += len(ids)
            counts["documents"] += documents
            counts["text_bytes"] += text_bytes
            if bar is not None:
                bar.update(stream.progress - bar.n)
    counts["skipped"], stream.skipped = stream.skipped, 0
    return {**counts, "sha256": digest.hexdigest()}


def _bar(source, folder: Path):
    scaled = source.unit == "B"
    return progress_bar(total=source.total, unit=source.unit, unit_scale=scaled, desc=folder.name)


def _first(source) -> str:
    return str(next(iter(source.identity[0].values())))


# ---- Workers -----------------------------------------------------------------------------------


@contextmanager
def started_workers(settings: Settings, count: int) -> Iterator["Workers"]:
    """Start `count` tokenizing processes, and end them after the block."""
    command = [sys.executable, tokenizing.__file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # a core for each
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(count)]
    threads = ThreadPoolExecutor(count)
    try:
        yield Workers(settings, processes, threads)
    finally:
        for process in processes:
            process.kill()
        threads.shutdown(cancel_futures=True)
        for process in processes:
            process.wait()
            process.stdout.close()
            with suppress(OSError):  # what was on its way to it
                process.stdin.close()


class Workers:
    """Tokenizing processes, a thread for each that waits for it."""

    def __init__(self, settings: Settings, processes: list, threads: ThreadPoolExecutor):
        self.settings, self.processes, self.threads = settings, processes, threads
        self.idle: queue.Queue = queue.Queue()
        for process in processes:
            self._send(process, tuple(settings))
            self.idle.put(process)

    def answers(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Tokenized]]:
        """Yield the chunks in their order, tokenized; at most two for each worker are held."""
        waiting: deque = deque()
        for chunk in chunks:
            waiting.append((chunk, self.threads.submit(self._ask, chunk.kind, chunk.payload)))
            if len(waiting) > 2 * len(self.processes):
                done, answer = waiting.popleft()
                yield done, answer.result()
        while waiting:
            done, answer = waiting.popleft()
            yield done, answer.result()

    def _ask(self, kind: str, payload) -> Tokenized:
        process = self.idle.get()
        try:
            self._send(process, (kind, payload))
            return Tokenized(*pickle.load(process.stdout))
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise ChildProcessError(
                f"a tokenizing process has ended (status {process.wait()}); run the command "
                "again, with fewer --workers if memory is short"
            ) from error
        finally:
            self.idle.put(process)

    @staticmethod
    def _send(process, message) -> None:
        pickle.dump(message, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
