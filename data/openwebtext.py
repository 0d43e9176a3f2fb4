"""Make pretraining data of OpenWebText, or of any documents: a text file, or packed tokens.

    python -m data.openwebtext --lines 5778 --out my_text.txt
    python -m data.openwebtext --input a.jsonl.zst b.parquet texts/ --out packed

With --lines it writes a text of the course's shape, one paragraph a line. Without, it tokenizes all
documents, ends each with end-of-text, and packs them into shards of token ids with a manifest,
which `python -m gpt2 pretrain --text packed` trains on. A killed run continues by the same command
and ends with the same bytes, whatever --workers is. What is read:

    .txt                a document is a line, as in pretrain.txt; blank lines are left out
    .jsonl .json        a JSON object a line, whose --text-column is the document
    ... .gz .zst        the same, packed; zstd needs pyarrow
    .parquet            the --text-column of each row; needs pyarrow
    a folder            all such files in it, ordered by name
    NAME, NAME:CONFIG   the training split of a data set on the hub, streamed; needs datasets
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from console import errors_in_one_line, progress_bar
from data.documents import open_source
from data.packed import damaged_shards, read_manifest
from data.packing import pack
from data.tokenizing import read_text, split
from utils import atomic_write

SOURCE = "Skylion007/openwebtext"


def paragraphs(documents: Iterable[str], shortest: int = 20) -> Iterator[str]:
    """Yield the paragraphs of at least `shortest` characters, white space folded to one space."""
    for document in documents:
        for line in document.split("\n"):
            paragraph = " ".join(line.split())
            if len(paragraph) >= shortest:
                yield paragraph


def stream_documents(source) -> Iterator[str]:
    """Yield the texts of a source (`data.documents`); ValueError names a line or row without."""
    for chunk in source.chunks({}):
        for number, value in enumerate(split(chunk.kind, chunk.payload), chunk.first):
            try:
                yield read_text(chunk.kind, value, source.column)
            except ValueError as error:
                raise ValueError(f"{chunk.source} {number}: {error}") from error


def write_text(out, lines: int, *inputs: str, column: str = "text") -> int:
    """Write at most `lines` paragraphs to `out`, all or none; return how many there were.

    Raises ValueError where the inputs have no text.
    """
    if lines < 1:
        raise ValueError(f"lines must be at least 1, got {lines}")
    source = open_source(inputs or [SOURCE], column)
    count = 0
    with atomic_write(out) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
        first = islice(paragraphs(stream_documents(source)), lines)
        for paragraph in progress_bar(first, total=lines, unit="line"):
            file.write(paragraph + "\n")
            count += 1
        if count == 0:
            raise ValueError(f"{', '.join(inputs)}: no text in it")
    return count


def write_shards(args) -> None:
    """Pack the inputs, and print counts and speed."""
    before = read_manifest(args.out) or {"text_bytes": 0}
    source, started = open_source(args.input, args.text_column), time.perf_counter()
    settings = {"length": args.length, "shard_tokens": args.shard_tokens, "workers": args.workers}
    done = pack(source, args.out, args.tokenizer, skip_bad=args.skip_bad, **settings)
    made = (done["text_bytes"] - before["text_bytes"]) / 1e6
    speed = f", {made / (time.perf_counter() - started):.2f} MB/s" if made else ""
    counts = f"{done['documents']:,} documents, {done['tokens']:,} tokens"
    counts += f" in {len(done['shards'])} shards of {done['dtype']}"
    ratio = f"{done['text_bytes'] / done['tokens']:.2f} bytes of text per token"
    print(f"{args.out}: {counts}, {ratio}{speed}")
    if done["skipped"]:
        print(f"{done['skipped']:,} lines or rows without a usable text were left out")


def check(folder: str) -> None:
    """Print that all shards are as they were written; ValueError names those that are not."""
    if damaged := damaged_shards(folder):
        names = ", ".join(map(str, damaged))
        raise ValueError(
            f"damaged: {names}; delete what is damaged, and the command that packed the folder "
            "makes it anew"
        )
    print(f"{folder}: all {len(read_manifest(folder)['shards'])} shards are as they were written")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.openwebtext",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, help="folder of shards, or text file, to write")
    parser.add_argument("--input", nargs="+", default=[SOURCE], help=f"default: {SOURCE}")
    parser.add_argument("--text-column", default="text", help="default: text")
    parser.add_argument("--lines", type=int, help="write a text file of so many paragraphs")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a row, default: 1024")
    parser.add_argument("--shard-tokens", type=int, default=2**24, help="default: 16,777,216")
    parser.add_argument("--workers", type=int, help="tokenizing processes, default: one a core")
    parser.add_argument("--tokenizer", default="gpt2", help="hub name or folder, default: gpt2")
    parser.add_argument("--skip-bad", action="store_true", help="leave out what has no usable text")
    parser.add_argument("--check", action="store_true", help="only read the shards in --out again")
    args = parser.parse_args(arguments)
    if args.check:
        check(args.out)
    elif args.lines is not None:
        count = write_text(args.out, args.lines, *args.input, column=args.text_column)
        print(f"{args.out}: {count} lines")
    else:
        write_shards(args)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
