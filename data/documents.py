"""Documents of local files or of a data set on the hub, in chunks, from any chunk on.

A source has `identity` (JSON: what it reads, for comparison), `unit` and `total` (of its progress;
None where unknown) and `chunks(position)`. Positions are JSON objects, {} the start. The chunks
from a chunk's start on are the same whichever position the reading began at.
"""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from utils import check_hub_reachable

CHUNK = 2**19  # bytes of a chunk, about; a longer line is a chunk of its own
ROWS = 10_000  # of a chunk, at most
KINDS = {".txt": "txt", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "rows"}
PACKED = (".gz", ".zst")
DAMAGE = (OSError, EOFError, ValueError, zlib.error)  # what readers raise for a damaged file


@dataclass(frozen=True)
class Chunk:
    """Consecutive lines or rows, not read yet."""

    kind: str  # "txt", "jsonl" or "rows", for `data.tokenizing`
    payload: object  # bytes of lines, or a list of rows' texts
    source: str  # "a.jsonl, line" or "a.parquet, row"
    first: int  # the number of the first line or row, from 1
    position: dict  # of this chunk
    progress: int  # of the source up to this chunk's end, in its unit


def open_source(inputs: Sequence[str], column: str = "text"):
    """Return the source of files and folders, or of one data set on the hub (NAME or NAME:CONFIG).

    Raises FileNotFoundError, ValueError for a kind of file that is not read, ImportError without
    the library that reads it, and ConnectionError where the hub can't be reached.
    """
    missing = [name for name in inputs if not Path(name).exists()]
    if len(inputs) == 1 and missing and not _kind(Path(inputs[0])):
        return HubDataset(inputs[0], column)
    if missing:
        raise FileNotFoundError(f"{missing[0]}: no such file or folder; check the path")
    return Files(inputs, column)


# ---- Files -------------------------------------------------------------------------------------


class Files:
    """Text files, one document a line; JSON lines; both packed by gzip or zstd, too; parquet.

    A folder stands for all such files in it, ordered by name.
    """

    unit = "B"

    def __init__(self, inputs: Sequence, column: str = "text"):
        self.column, self.paths = column, []
        for path in map(Path, inputs):
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            found = [file for file in inside if file.is_file() and _kind(file)]
            if not found:
                kinds = ", ".join(KINDS)
                raise ValueError(f"{path}: nothing to read; {kinds} are read, also .gz and .zst")
            self.paths += found
        needing = [path for path in self.paths if path.suffix.lower() in (".parquet", ".zst")]
        if needing:
            _pyarrow(needing[0])
        states = [(path.name, path.stat()) for path in self.paths]
        self.identity = [
            {"file": name, "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
            for name, state in states
        ]
        self.total = sum(state.st_size for _, state in states)

    def chunks(self, position: dict) -> Iterator[Chunk]:
        """Yield the chunks from a position on; ValueError for a damaged file."""
        done = 0
        for number, path in enumerate(self.paths):
            size = self.identity[number]["bytes"]
            if number >= position.get("file", 0):
                within = position if number == position.get("file") else {}
                read = self._rows if _kind(path) == "rows" else self._lines
                yield from read(path, done, size, {"file": number, **within})
            done += size

    def _lines(self, path: Path, done: int, size: int, at: dict) -> Iterator[Chunk]:
        offset, line = at.get("offset", 0), at.get("line", 1)
        with open(path, "rb") as raw:
            with _damage(path, f"line {line}"):
                file = _unpacked(raw, path)
                _skip(file, offset)
            while True:
                with _damage(path, f"line {line}"):
                    block = file.read(CHUNK) + file.readline()
                if not block:
                    return
                position = {"file": at["file"], "offset": offset, "line": line}
                offset += len(block)
                text = block if position["offset"] else block.removeprefix(b"\xef\xbb\xbf")
                progress = done + min(raw.tell(), size)
                yield Chunk(_kind(path), text, f"{path}, line", line, position, progress)
                line += block.count(b"\n")

    def _rows(self, path: Path, done: int, size: int, at: dict) -> Iterator[Chunk]:
        start, row = at.get("row", 0), 0
        with _damage(path, "row 1"):
            file = _pyarrow(path).ParquetFile(path, buffer_size=2**16, pre_buffer=False)
        with file:
            if self.column not in (names := file.schema_arrow.names):
                raise ValueError(f"{path}: no column named {self.column}, only {', '.join(names)}")
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row + rows <= start:
                    row += rows
                    continue
                for batch in self._batches(path, file, group, row):
                    values = batch[max(0, start - row) :]
                    if values:
                        first = row + len(batch) - len(values)
                        position = {"file": at["file"], "row": first}
                        progress = done + size * (row + len(batch)) // file.metadata.num_rows
                        where = f"{path}, row"
                        yield Chunk("rows", values, where, first + 1, position, progress)
                    row += len(batch)

    def _batches(self, path: Path, file, group: int, row: int) -> Iterator[list]:
        """Yield the texts of a row group, about CHUNK bytes at a time."""
        about = file.metadata.row_group(group)
        columns = [about.column(i) for i in range(about.num_columns)]
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == self.column)
        rows = min(ROWS, max(1, about.num_rows * CHUNK // max(size, 1)))
        settings = {"row_groups": [group], "columns": [self.column], "use_threads": False}
        with _damage(path, f"row {row + 1}"):
            batches = file.iter_batches(batch_size=rows, **settings)
        while True:
            with _damage(path, f"row {row + 1}"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch.column(0).to_pylist()


def _kind(path: Path) -> str | None:
    """Return how a file is read, by its name; None for a name that says nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
        return {**KINDS, ".parquet": None}.get(suffixes[-1]) if suffixes else None
    return KINDS.get(suffixes[-1]) if suffixes else None


def _unpacked(raw, path: Path):
    """Return a reader of the bytes of a file, which may be packed."""
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix.lower() == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), "zstd"))
    return raw


def _skip(file, count: int) -> None:
    """Move `count` bytes on; what is packed has to be unpacked up to there."""
    if isinstance(file, io.BufferedReader) and file.seekable():
        file.seek(count)
        return
    while count and (block := file.read(min(count, CHUNK))):
        count -= len(block)


def _pyarrow(path: Path):
    """Return pyarrow.parquet; ImportError with the command that installs it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    return pyarrow.parquet


@contextmanager
def _damage(path: Path, place: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path}: damaged at {place} or later ({reason}); fetch or make the file again"
        ) from error


# ---- The hub -----------------------------------------------------------------------------------


class HubDataset:
    """The training split of a data set on the Hugging Face hub, streamed through `datasets`.

    The identity has the revision, which stays the same for whoever continues.
    """

    unit, total = "row", None

    def __init__(self, name: str, column: str = "text"):
        try:
            from datasets import load_dataset
            from huggingface_hub import HfApi
        except ImportError as error:
            raise ImportError(
                f"reading {name} needs the datasets library: pip install datasets"
            ) from error
        self.name, self.column, self.load = name, column, load_dataset
        repository, _, self.config = name.partition(":")
        check_hub_reachable(name)
        try:
            self.revision = HfApi().dataset_info(repository).sha
        except Exception as error:  # the hub's and the HTTP library's own classes
            reason = str(error).partition("\n")[0]
            raise FileNotFoundError(
                f'"{name}" is neither a file here nor a data set on the Hugging Face hub; check '
                f"the spelling ({reason})"
            ) from error
        self.identity = [{"dataset": name, "revision": self.revision, "split": "train"}]

    def rows(self):
        """Return the rows as a stream."""
        settings = {"revision": self.revision, "split": "train", "streaming": True}
        return self.load(self.name.partition(":")[0], self.config or None, **settings)

    def chunks(self, position: dict) -> Iterator[Chunk]:
        """Yield the chunks from a position on; ValueError without the column."""
        rows, number = self.rows(), position.get("row", 0)
        if "state" in position:
            rows.load_state_dict(position["state"])
        elif number:
            rows = rows.skip(number)  # slow: it reads all before
        texts, size = [], 0

        def chunk() -> Chunk:
            where = f"{self.name}, row"
            progress = number + len(texts)
            return Chunk("rows", texts, where, number + 1, position, progress)

        for row in rows:
            if self.column not in row:
                raise ValueError(
                    f"{self.name}: no column named {self.column}, only {', '.join(row)}"
                )
            texts.append(row[self.column])
            size += len(texts[-1]) if isinstance(texts[-1], str) else 0
            if size >= CHUNK or len(texts) >= ROWS:
                yield chunk()
                number, texts, size = number + len(texts), [], 0
                position = {"row": number, "state": rows.state_dict()}
        if texts:
            yield chunk()
