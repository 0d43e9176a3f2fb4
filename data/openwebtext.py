"""Make a pretraining text of the course's shape from OpenWebText.

    python -m data.openwebtext --lines 5778 --out pretrain.txt

Streams Skylion007/openwebtext through the `datasets` library (pip install datasets), so that only
the few megabytes that are needed come over the network, and writes one paragraph a line.
`--source` takes a local folder of data files with a `text` column instead.
"""

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from console import errors_in_one_line, progress_bar
from utils import atomic_write, check_hub_reachable

SOURCE = "Skylion007/openwebtext"


def paragraphs(documents: Iterable[str], shortest: int = 20) -> Iterator[str]:
    """Yield the paragraphs of at least `shortest` characters, white space folded to one space."""
    for document in documents:
        for line in document.split("\n"):
            paragraph = " ".join(line.split())
            if len(paragraph) >= shortest:
                yield paragraph


def stream_documents(source: str = SOURCE) -> Iterator[str]:
    """Yield the texts of a data set on the hub, or of a local folder's data files.

    Raises ImportError without the `datasets` library, ConnectionError where the hub can't be
    reached, and ValueError without a `text` column.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError(
            f"reading {source} needs the datasets library: pip install datasets"
        ) from error

    if not Path(source).is_dir():
        check_hub_reachable(source)
    for row in load_dataset(source, split="train", streaming=True):
        if "text" not in row:
            raise ValueError(f"{source}: no column named text, only {', '.join(row)}")
        yield row["text"]


def write_text(out, lines: int, source: str = SOURCE) -> int:
    """Write at most `lines` paragraphs to `out`, all or none; return how many there were.

    Raises ValueError where the source has no text.
    """
    if lines < 1:
        raise ValueError(f"lines must be at least 1, got {lines}")
    count = 0
    with atomic_write(out) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
        first = islice(paragraphs(stream_documents(source)), lines)
        for paragraph in progress_bar(first, total=lines, unit="line"):
            file.write(paragraph + "\n")
            count += 1
        if count == 0:
            raise ValueError(f"{source}: no text in it")
    return count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="pretrain.txt", help="file to write")
    parser.add_argument("--lines", type=int, default=5778, help="how many paragraphs")
    parser.add_argument("--source", default=SOURCE, help="hub data set or local folder")
    args = parser.parse_args()
    print(f"{args.out}: {write_text(args.out, args.lines, args.source)} lines")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
