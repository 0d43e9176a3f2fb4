"""Files of sentence pairs with a label, in the layouts in which NLI data is published.

XNLI (dev, test), XNLI-MT (train), MultiNLI and KorNLI, as TSV or JSON lines, also compressed with
gzip; handout section 4.2.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

COLUMNS = {  # what we call a column: what files call it
    "premise": ("premise", "sentence1"),
    "hypo": ("hypo", "hypothesis", "sentence2"),
    "label": ("gold_label", "label"),
    "pair_id": ("pairID",),
    "language": ("language",),
}
LABELS = {  # XNLI spells one of them differently in train than in dev and test
    "entailment": "entailment",
    "contradictory": "contradictory",
    "contradiction": "contradictory",
    "neutral": "neutral",
}
LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
NOT_TEXT = {  # how a file starts that is something else: what it is, and what to do
    b"version https://git-lfs": "a Git LFS pointer, not the data; run `git lfs pull` where it is",
    b"PK\x03\x04": "a zip archive; unpack it and give the file inside",
    b"PAR1": "a Parquet file; convert it with pandas.read_parquet(...).to_json(..., "
    'orient="records", lines=True)',
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"(\xb5/\xfd": "compressed with zstd; unpack it first",
    b"<": "an HTML or XML page, not the data; download the raw file",
}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def read_xnli_tsv(path, lang: str | None = None, subset: float = 1.0) -> pd.DataFrame:
    """Return the usable rows of a file: premise, hypo, label, pair_id and line.

    Fields end at tabs and rows at line feeds, nothing else: quotes are text, and so are the odd
    separators inside sentences. `lang` picks a language where the file has a column for it.
    `subset` is a share of the usable rows (the first ones) or, above 1, their number; reading
    stops there. `label` is entailment, contradictory or neutral; `line` is the row's line in the
    file, from 1; `pair_id` is the same for the same pair in every language (the line where the
    file has no pairID).

    Rows that cannot be used, such as those with more or fewer fields than the header, are in
    `.attrs["skipped"]` as (line, reason).

    Raises FileNotFoundError, or ValueError for a file of another format, other columns, or a
    language that is not in it.
    """
    path = find_file(path)
    lines = _utf8_lines(path)
    is_json = lines[0].lstrip().startswith(b"{")
    first = _decode(path, 1, lines[0])
    names = _json_names(path, first) if is_json else first.split("\t")
    columns = _find_columns(path, names)
    numbered = list(enumerate(lines, start=1))[0 if is_json else 1 :]
    if lines[-1] == b"":
        del numbered[-1:]  # the end of the last row
    if lang is not None and "language" in columns:
        numbered = _of_language(path, numbered, lang, names, columns["language"], is_json)
    premise_at, hypo_at, label_at = (columns[name] for name in ("premise", "hypo", "label"))
    pair_id_at = columns.get("pair_id")
    rows, skipped = [], []
    for number, line in numbered:
        if subset > 1 and len(rows) == subset:
            break
        text = _decode(path, number, line)
        fields = _json_fields(text, names) if is_json else text.split("\t")
        if len(fields) != len(names):
            reason = f"{len(fields)} fields, not {len(names)}" if fields else "no JSON object"
            skipped.append((number, reason))
            continue
        premise, hypo, label = fields[premise_at], fields[hypo_at], fields[label_at]
        if not isinstance(label, str) or label not in LABELS:
            skipped.append((number, f"label {str(label)[:20]!r}"))
        elif not (isinstance(premise, str) and premise.strip()):
            skipped.append((number, "no premise"))
        elif not (isinstance(hypo, str) and hypo.strip()):
            skipped.append((number, "no hypothesis"))
        else:
            pair_id = number if pair_id_at is None else fields[pair_id_at] or number
            rows.append((premise, hypo, LABELS[label], str(pair_id), number))
    if subset <= 1:
        del rows[max(1, int(len(rows) * subset)) :]
    data = pd.DataFrame(rows, columns=["premise", "hypo", "label", "pair_id", "line"])
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


def _find_columns(path: Path, names: list[str]) -> dict[str, int]:
    """Return where each of COLUMNS is among the names, those that a file may lack left out."""
    columns = {}
    for column, aliases in COLUMNS.items():
        name = next((alias for alias in aliases if alias in names), None)
        if name is not None:
            columns[column] = names.index(name)
        elif column in ("premise", "hypo", "label"):
            raise ValueError(
                f"{path}, line 1: no column {' or '.join(aliases)} among {', '.join(names)[:200]}; "
                "give a file of XNLI, MultiNLI or KorNLI with its header"
            )
    return columns


def _json_names(path: Path, first: str) -> list[str]:
    try:
        return list(json.loads(first))
    except ValueError as error:
        raise ValueError(f"{path}, line 1: not JSON ({error}); give one object a line") from error


def _json_fields(text: str, names: list[str]) -> list:
    """Return the values of a line's object by name; [] where it is no object or broken text."""
    try:
        record = json.loads(text)
        fields = [record.get(name) for name in names]
        "".join(field for field in fields if isinstance(field, str)).encode()  # half a surrogate?
    except (ValueError, AttributeError):
        return []
    return fields


def _of_language(
    path: Path, numbered: list, lang: str, names: list[str], column: int, is_json: bool
) -> list[tuple[int, bytes]]:
    """Return the numbered lines in a language, and those that may be: without a language's code.

    Most lines are in other languages, so they are not taken apart any further than to the column.
    """
    if is_json:
        records = (_json_fields(line.decode(errors="replace"), names) for _, line in numbered)
        codes = [str(record[column] or "").encode() if record else b"" for record in records]
    else:
        fields = (line.split(b"\t", column + 1) for _, line in numbered)
        codes = [field[column] if len(field) > column else b"" for field in fields]
    of_whole_rows = {
        code
        for (_, line), code in zip(numbered, codes, strict=True)
        if is_json or line.count(b"\t") == len(names) - 1
    }
    there = {code for code in of_whole_rows if LANGUAGE.fullmatch(code.decode(errors="replace"))}
    if there and lang.encode() not in there:
        languages = [code.decode() for code in there]
        raise ValueError(f"{path}: no rows in {lang!r}, only in {_near(lang, languages)}")
    others = there - {lang.encode()}
    return [row for row, code in zip(numbered, codes, strict=True) if code not in others]


# ---- Bytes to text -----------------------------------------------------------------------------


def _utf8_lines(path: Path) -> list[bytes]:
    """Return a file's lines as UTF-8, unpacked, without a byte-order mark."""
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error}); download it again") from error
    start = raw[:100].lstrip()
    for mark, advice in NOT_TEXT.items():
        if start.startswith(mark):
            raise ValueError(f"{path}: {advice}")
    if not start:
        raise ValueError(f"{path}: an empty file; download it again")
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            raw = raw.removeprefix(mark)
            if encoding != "utf-8":
                raw = _reencode(path, raw, encoding)
            return raw.split(b"\n")
    if b"\0" in raw[:2]:
        encoding = "UTF-16BE" if raw[:1] == b"\0" else "UTF-16LE"
        raise ValueError(
            f"{path}, line 1: byte 0x00, as in {encoding} without a byte-order mark; "
            f"save the file as UTF-8 (iconv -f {encoding} -t UTF-8)"
        )
    return raw.split(b"\n")


def _reencode(path: Path, raw: bytes, encoding: str) -> bytes:
    try:
        return raw.decode(encoding).encode()
    except UnicodeError as error:
        line = raw[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise ValueError(
            f"{path}, line {line}: not {encoding.upper()} as its first bytes say; "
            "download it again, or save it as UTF-8"
        ) from error


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); "
            "save the file as UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8)"
        ) from None
