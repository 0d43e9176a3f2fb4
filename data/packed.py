"""Read packed shards: fixed-length rows, in an order that follows from a seed and needs no memory.

`data.packing` writes them: a folder with files of token ids, one document after the other, each
followed by end-of-text, and manifest.json.
"""

import hashlib
import json
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gpt2.samplers import ShuffledRows
from gpt2.text import TextDataset
from utils import atomic_write

MANIFEST = "manifest.json"
ROUNDS = 4  # of the permutation, each of which changes both halves


class PackedDataset(Dataset):
    """Hold the rows of a packed folder, each `length` consecutive tokens of its documents.

    Item i is `(input_ids, attention_mask)`, both [length], as TextDataset's; only the very last
    row can have pads. Nothing is held in memory: an item is read through a memory map. `length`
    is the packing's if not given; any other cuts the same tokens in other places. Attention is not
    cut at the end of a document, as in GPT-2's own training.

    Raises FileNotFoundError, or ValueError for a folder that is not complete or damaged.
    """

    collate_fn = TextDataset.collate_fn

    def __init__(self, folder, length: int | None = None, rows: range | None = None):
        self.folder, self.manifest = Path(folder), read_manifest(folder)
        if self.manifest is None:
            raise FileNotFoundError(
                f"{self.folder}: no {MANIFEST} in it; python -m data.openwebtext packs a folder"
            )
        if not self.manifest["complete"]:
            raise ValueError(f"{self.folder}: not complete; the command that makes it continues")
        for shard in self.manifest["shards"]:
            if not has_its_size(self.folder, shard, self.manifest["dtype"]):
                raise ValueError(
                    f"{self.folder / shard['file']}: missing or of another size than was written; "
                    "the command that packed the folder makes it anew"
                )
        self.length = self.manifest["length"] if length is None else length
        if self.length < 2:
            raise ValueError(f"length must be at least 2, got {length}: one token to predict")
        count = -(-self.manifest["tokens"] // self.length)
        self.rows = range(count) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        first = self.rows[index] * self.length
        ids = self._read(first, min(first + self.length, self.manifest["tokens"]))
        input_ids = torch.full((self.length,), self.manifest["tokenizer"]["end"])
        attention_mask = torch.zeros_like(input_ids)
        input_ids[: len(ids)], attention_mask[: len(ids)] = torch.from_numpy(ids), 1
        return input_ids, attention_mask

    def _read(self, first: int, last: int) -> np.ndarray:
        """Return the tokens from `first` up to `last` of all shards, as int64."""
        parts, dtype = [], np.dtype(self.manifest["dtype"])
        while first < last:
            shard, offset = divmod(first, self.manifest["shard_tokens"])
            path = self.folder / self.manifest["shards"][shard]["file"]
            shape = (min(last - first, self.manifest["shard_tokens"] - offset),)
            parts.append(np.memmap(path, dtype, "r", offset * dtype.itemsize, shape))
            first += len(parts[-1])
        return np.concatenate(parts).astype(np.int64)

    def split(self, held_out: int) -> tuple["PackedDataset", "PackedDataset"]:
        """Return two parts: all rows but the last `held_out`, and those."""
        if not 0 < held_out < len(self):
            raise ValueError(f"held_out={held_out} of {len(self)} rows leaves one part empty")
        parts = self.rows[:-held_out], self.rows[-held_out:]
        first, second = (PackedDataset(self.folder, self.length, rows) for rows in parts)
        return first, second

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that follow from every token and the rows' places."""
        shards = [shard["sha256"] for shard in self.manifest["shards"]]
        text = json.dumps([shards, self.manifest["dtype"], self.length, str(self.rows)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def check_tokenizer(self, tokenizer) -> None:
        """Raise ValueError unless the tokens are this tokenizer's."""
        if tokenizer_digest(tokenizer) != self.manifest["tokenizer"]["sha256"]:
            raise ValueError(
                f'{self.folder}: packed with the tokenizer "{self.manifest["tokenizer"]["name"]}", '
                f'and not with "{tokenizer.name_or_path or "gpt2"}"; pack the text again with that'
            )


def packed_loader(
    dataset: PackedDataset,
    batch_size: int,
    seed: int = 0,
    *,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    accumulate: int = 1,
    num_workers: int = 0,
) -> DataLoader:
    """Return the shuffled batches of this process; see GlobalBatches. `train` takes it as it is:
    there accelerate shares the batches out. An epoch has a multiple of `accumulate` batches."""
    batches = GlobalBatches(len(dataset), batch_size, seed, rank, world_size, start, accumulate)
    settings = {"batch_sampler": batches, "num_workers": num_workers}
    return DataLoader(dataset, collate_fn=dataset.collate_fn, **settings)


class GlobalBatches(Sampler[list[int]]):
    """Yield this rank's part of each batch of `batch_size` rows that all ranks make together.

    The batches follow from seed and epoch alone, whatever the number of ranks, which must divide
    `batch_size`. `start` is how many rows all ranks have had since the start of the first epoch:
    the first pass begins at exactly the next batch, also with another number of ranks. `set_epoch`
    picks an epoch. Each has a multiple of `accumulate` batches, and leaves out the fewer rows that
    remain, others each time.
    """

    def __init__(self, count, batch_size, seed=0, rank=0, world_size=1, start=0, accumulate=1):
        if count < batch_size * accumulate:
            raise ValueError(
                f"{count} rows make no step of {accumulate} · {batch_size}; lower accumulate or "
                "batch_size"
            )
        if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"rank {rank} of {world_size} can't have its share of batches of {batch_size}: "
                "the number of ranks must divide batch_size, and ranks count from 0"
            )
        if start < 0 or start % batch_size:
            raise ValueError(f"start={start} is not the end of a batch of {batch_size} rows")
        self.batch_size, self.rank, self.share = batch_size, rank, batch_size // world_size
        self.length = count // (batch_size * accumulate) * accumulate  # in batches
        self.sampler = ShuffledOrder(count, seed)  # by this name accelerate sets its epoch
        self.started = divmod(start // batch_size, self.length)  # epoch and batch of the first pass
        self.sampler.set_epoch(self.started[0])

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, batch = self.started
        order = self.sampler.order()
        for number in range(batch if self.sampler.epoch == epoch else 0, self.length):
            first = number * self.batch_size + self.rank * self.share
            yield [order[place] for place in range(first, first + self.share)]

    def __len__(self) -> int:
        return self.length


class ShuffledOrder(ShuffledRows):
    """ShuffledRows in constant memory."""

    def order(self) -> "Permutation":
        """Return this epoch's order."""
        return Permutation(self.count, f"{self.seed} {self.epoch}")

    def __iter__(self) -> Iterator[int]:
        order = self.order()
        return (order[place] for place in range(self.length))


class Permutation:
    """A bijection of range(count) that follows from `key`, computed place by place.

    It is a generalized Feistel cipher on the pairs of a grid that is little larger than `count`;
    a place that falls outside is permuted again until it falls inside, which ends since the cycle
    comes back to the place itself (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
    2002, methods 2 and 3). With a keyed hash in each round it cannot be told from a random
    permutation by any practical test (Luby and Rackoff 1988).
    """

    def __init__(self, count: int, key: str):
        self.count = count
        self.width = isqrt(max(count - 1, 0)) + 1
        self.height = -(-count // self.width)
        self.keys = [f"{key} {half}".encode() for half in range(2 * ROUNDS)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self.count:
            raise IndexError(f"place {place} is not in range({self.count})")
        while True:
            row, column = divmod(place, self.width)
            for left, right in zip(self.keys[::2], self.keys[1::2], strict=True):
                row = (row + _hash(left, column)) % self.height
                column = (column + _hash(right, row)) % self.width
            place = row * self.width + column
            if place < self.count:
                return place


def _hash(key: bytes, number: int) -> int:
    text = number.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "little")


# ---- The manifest ------------------------------------------------------------------------------


def read_manifest(folder) -> dict | None:
    """Return the manifest of a packed folder, None where there is none; ValueError if damaged."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        checksum = manifest.pop("checksum")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged; delete {folder} and pack the text again") from error
    if checksum != _checksum(manifest):
        raise ValueError(f"{path}: damaged or edited; delete {folder} and pack the text again")
    return manifest


def write_manifest(folder, manifest: dict) -> None:
    """Write the manifest with a checksum of its content, whole or not at all."""
    text = json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=1)
    with atomic_write(Path(folder) / MANIFEST) as path:
        path.write_text(text + "\n", encoding="utf-8", newline="\n")


def damaged_shards(folder) -> list[Path]:
    """Return the shards that are missing or not as they were written; reads every byte."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder}: no {MANIFEST} in it")
    return [
        Path(folder) / shard["file"]
        for shard in manifest["shards"]
        if not has_its_size(Path(folder), shard, manifest["dtype"])
        or _sha256(Path(folder) / shard["file"]) != shard["sha256"]
    ]


def tokenizer_digest(tokenizer) -> str:
    """Return the SHA-256 of all that decides a fast tokenizer's ids."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None  # those of its last call
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def has_its_size(folder: Path, shard: dict, dtype: str) -> bool:
    path = folder / shard["file"]
    return path.is_file() and path.stat().st_size == shard["tokens"] * np.dtype(dtype).itemsize


def _checksum(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
