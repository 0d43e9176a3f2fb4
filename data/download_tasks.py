"""Fetch real data for sentiment, named entities and question answering.

    python -m data.download_tasks [--tasks sentiment ner qa] [--folder .]

leaves sentiment/, ner/ and qa/ in the folder, in the layout of data/tasks. An interrupted download
goes on where it stopped; what is there already is not fetched again. data/tasks/README.md names
the sources and their licences.
"""

import argparse
import io
import json
import tarfile
import zipfile
import zlib
from pathlib import Path

from console import errors_in_one_line
from data.download import alone, download
from utils import atomic_write

URLS = {
    "sentiment": "https://raw.githubusercontent.com/cardiffnlp/xlm-t/main/data/sentiment",
    "ner": "https://s3.amazonaws.com/datasets.huggingface.co/wikiann/1.1.0",
    "qa": "https://github.com/google-deepmind/xquad/raw/master",
}
SENTIMENT = {  # our name of a language: the folder's
    **{"en": "english", "ar": "arabic", "de": "german", "es": "spanish"},
    **{"fr": "french", "hi": "hindi", "it": "italian", "pt": "portuguese"},
}
NER = ("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "tr", "ur", "vi", "zh")
QA = ("en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh")


def fetch(folder=".", tasks=tuple(URLS), urls: dict[str, str] = URLS) -> None:
    """Make sure that the data of `tasks` is in `folder`.

    Raises ConnectionError if a server can't be reached or ends too soon (what has come is kept for
    the next try), ValueError for a file that is damaged or something else, which is deleted.
    """
    with alone(Path(folder)):
        for task in tasks:
            FETCH[task](Path(folder) / task, urls[task])


def fetch_sentiment(folder: Path, url: str) -> None:
    """Fetch texts and labels, and check that there are as many of one as of the other."""
    for lang, name in SENTIMENT.items():
        for split in ("train", "val", "test"):
            pair = [folder / lang / f"{split}_{part}.txt" for part in ("text", "labels")]
            for path in pair:
                _fetch_missing(f"{url}/{name}/{path.name}", path)
            texts, labels = (path.read_bytes().rstrip(b"\n").count(b"\n") for path in pair)
            if texts != labels:
                _refuse(pair, f"{labels + 1:,} labels for {texts + 1:,} texts")


def fetch_ner(folder: Path, url: str) -> None:
    """Fetch the archive of all 282 languages, and unpack three files for each of ours."""
    files = {
        (lang, s): folder / f"{s}-{lang}.tsv" for lang in NER for s in ("train", "dev", "test")
    }
    if all(path.is_file() for path in files.values()):
        return
    archive = folder / "panx_dataset.zip"
    _fetch_missing(f"{url}/{archive.name}", archive)
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = {Path(name).name: name for name in zipped.namelist()}
            for lang in NER:
                packed = io.BytesIO(zipped.read(members[f"{lang}.tar.gz"]))  # checks its CRC
                with tarfile.open(fileobj=packed) as tar:
                    for split in ("train", "dev", "test"):
                        with atomic_write(files[lang, split]) as path:
                            path.write_bytes(tar.extractfile(split).read())
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        _refuse([archive], str(error))
    archive.unlink()


def fetch_qa(folder: Path, url: str) -> None:
    """Fetch the files of XQuAD, and check that each is JSON with the 48 articles."""
    for lang in QA:
        path = folder / f"xquad.{lang}.json"
        _fetch_missing(f"{url}/{path.name}", path)
        try:
            articles = len(json.loads(path.read_bytes())["data"])
        except (ValueError, KeyError, TypeError) as error:
            _refuse([path], repr(error))
        if articles != 48:
            _refuse([path], f"{articles} articles, not 48")


FETCH = {"sentiment": fetch_sentiment, "ner": fetch_ner, "qa": fetch_qa}


def _fetch_missing(url: str, path: Path) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        download(url, path)


def _refuse(paths: list[Path], reason: str) -> None:
    for path in paths:
        path.unlink()
    names = " and ".join(map(str, paths))
    raise ValueError(f"{names}: damaged ({reason}), and deleted; run the command again")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=list(URLS), default=list(URLS))
    parser.add_argument("--folder", default=".", help="where sentiment/, ner/ and qa/ go")
    args = parser.parse_args()
    fetch(args.folder, args.tasks)
    print(f"ready: {', '.join(args.tasks)} in {Path(args.folder).resolve()}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
