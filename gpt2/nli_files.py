"""Files of sentence pairs with a label, in the layouts in which NLI data is published.

XNLI (dev, test), XNLI-MT (train), MultiNLI and KorNLI, as TSV or JSON lines, also compressed with
gzip; handout section 4.2.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from gpt2.text import decode_lines

COLUMNS = {  # what we call a column: what files call it
    "premise": ("premise", "sentence1"),
    "hypo": ("hypo", "hypothesis", "sentence2"),
    "label": ("gold_label", "label"),
    "pair_id": ("pairID",),
    "language": ("language",),
}
LABELS = ("entailment", "contradictory", "neutral")
OPTIONAL = ("pair_id", "language")  # columns that a file may lack
SPELLINGS = {"contradiction": "contradictory"}  # XNLI's dev and test; its train has the other
NOT_TEXT = {  # how a file starts that is something else: what it is, and what to do
    b"version https://git-lfs": "a Git LFS pointer, not the data; run `git lfs pull` where it is",
    b"PK\x03\x04": "a zip archive; unpack it and give the file inside",
    b"PAR1": "a Parquet file; convert it to JSON lines, with labels as text, by "
    "pandas.read_parquet(...).to_json(..., orient='records', lines=True)",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"(\xb5/\xfd": "compressed with zstd; unpack it first",
    b"<": "an HTML or XML page, not the data; download the raw file",
}


def read_xnli_tsv(
    path,
    lang: str | None = None,
    subset: float = 1.0,
    *,
    columns: Mapping[str, Sequence[str]] = COLUMNS,
    labels: Iterable[str] = LABELS,
    spellings: Mapping[str, str] = SPELLINGS,
) -> pd.DataFrame:
    """Return the usable rows of a file: premise, hypo, label, pair_id and line.

    Fields end at tabs and rows at line feeds, nothing else: quotes are text. `lang` picks a
    language where the file has a column for it. `subset` is a share of the usable rows (the first
    ones) or, above 1, their number. `label` is entailment, contradictory or neutral; `line` counts
    from 1; `pair_id` is the same in every language (the line where the file has no pairID). Rows
    that cannot be used, such as those with more fields than the header, are in `.attrs["skipped"]`
    as (line, reason). Other `columns`, `labels` and `spellings` are as in gpt2.xnli.NLITask.

    Raises FileNotFoundError, or ValueError for a file of another format, other columns, or a
    language that is not in it.
    """
    if not subset > 0 or (subset > 1 and not float(subset).is_integer()):
        raise ValueError(f"subset must be a share in (0, 1] or a whole number, got {subset}")
    path = find_file(path)
    names, records = _records(path)
    places = _find_columns(path, names, columns)
    texts = [name for name in columns if name not in ("label", *OPTIONAL)]
    names_of = {label: label for label in labels}
    names_of |= {other: label for other, label in spellings.items() if label in names_of}
    if lang is not None and "language" in places:
        records = _of_language(path, list(records), lang, len(names), places["language"])
    rows, skipped = [], []
    for line, fields in records:
        if subset > 1 and len(rows) == subset:
            break
        if len(fields) != len(names):
            reason = f"{len(fields)} fields, not {len(names)}" if fields else "no JSON object"
            skipped.append((line, reason))
            continue
        row = {name: fields[places[name]] for name in (*texts, "label")}
        empty = [name for name in texts if not row[name].strip()]
        if row["label"] not in names_of:
            skipped.append((line, f"label {row['label'][:20]!r}"))
        elif empty:
            skipped.append((line, f"no {empty[0]}"))
        else:
            pair_id = fields[places["pair_id"]] if "pair_id" in places else ""
            label = names_of[row["label"]]
            rows.append({**row, "label": label, "pair_id": pair_id or str(line), "line": line})
    if subset <= 1:
        del rows[max(1, int(len(rows) * subset)) :]
    data = pd.DataFrame(rows, columns=[*texts, "label", "pair_id", "line"])
    data.attrs["skipped"] = skipped
    return data


def find_file(template, lang: str = "") -> Path:
    """Return the path, with `{lang}` in it replaced; FileNotFoundError says what there is."""
    path = Path(str(template).replace("{lang}", lang))
    if path.is_file():
        return path
    advice = "python -m data.download fetches XNLI-1.0 and XNLI-MT-1.0 here"
    start, _, end = Path(template).name.partition("{lang}")
    there = [file.name for file in path.parent.glob(f"{start}*{end}") if file.is_file()]
    if there and end:
        languages = [name.removeprefix(start).removesuffix(end) for name in there]
        advice = f"in its folder there is {_near(lang, languages)}"
    raise FileNotFoundError(f"{path}: no such file; {advice}")


def _near(lang: str, languages: Iterable[str]) -> str:
    """Return the languages as text for a message, and those that are `lang` in another form."""
    names = sorted(languages)
    near = [name for name in names if name[:2].lower() == lang[:2].lower()]
    return ", ".join(names) + (f"; did you mean {' or '.join(near)}?" if near else "")


def _records(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the names of a file's columns, and an iterator over line numbers and fields."""
    lines = _read_lines(path)
    if lines[-1] == "":
        del lines[-1]  # the end of the last row
    if not lines[0].lstrip().startswith("{"):
        names = lines[0].split("\t")
        return names, ((line, text.split("\t")) for line, text in enumerate(lines[1:], start=2))
    try:
        names = list(json.loads(lines[0]))
    except ValueError as error:
        raise ValueError(f"{path}, line 1: not JSON ({error}); give one object a line") from error
    return names, ((line, _json_fields(text, names)) for line, text in enumerate(lines, start=1))


def _json_fields(text: str, names: list[str]) -> list[str]:
    """Return the values of a line's object by name; [] where it is no object or broken text."""
    try:
        values = map(json.loads(text).get, names)
        fields = [str(value) if isinstance(value, str | int) else "" for value in values]
        "".join(fields).encode()  # half a surrogate?
        return fields
    except (ValueError, AttributeError, RecursionError):
        return []


def _find_columns(path: Path, names: list[str], columns: Mapping) -> dict[str, int]:
    """Return where each of the columns is among the names, those that a file may lack left out."""
    places = {}
    for column, aliases in columns.items():
        name = next((alias for alias in aliases if alias in names), None)
        if name is not None:
            places[column] = names.index(name)
        elif column not in OPTIONAL:
            raise ValueError(
                f"{path}, line 1: no column {' or '.join(aliases)} among {', '.join(names)[:200]}; "
                "give a file of XNLI, MultiNLI or KorNLI with its header, or name its columns"
            )
    return places


def _of_language(path: Path, records: list, lang: str, width: int, column: int) -> Iterator:
    """Return the records in a language, and those that may be: without a language's code."""
    there = {fields[column] for _, fields in records if len(fields) == width} - {""}
    if there and lang not in there:
        raise ValueError(f"{path}: no rows in {lang!r}, only in {_near(lang, there)}")
    others = there - {lang}
    return ((n, f) for n, f in records if len(f) <= column or f[column] not in others)


def _read_lines(path: Path) -> list[str]:
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error}); download it again") from error
    start = raw[:100].lstrip()
    if not start:
        raise ValueError(f"{path}: an empty file; download it again")
    for mark, advice in NOT_TEXT.items():
        if start.startswith(mark):
            raise ValueError(f"{path}: {advice}")
    encoding = "utf-8"  # else UTF-16, with a byte-order mark or without
    if raw.startswith(b"\xff\xfe") or raw[1:2] == b"\0":
        encoding = "utf-16-le"
    elif raw.startswith(b"\xfe\xff") or raw[:1] == b"\0":
        encoding = "utf-16-be"
    advice = "save the file as UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8)"
    return decode_lines(path, raw, encoding, advice)
