"""read_xnli_tsv: every usable row of every published layout, and a line number for the others."""

import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.nli_files import LABELS as NAMES
from gpt2.nli_files import SPELLINGS, read_xnli_tsv
from gpt2.xnli import LANGUAGES
from tests import SAMPLE

CASES = Path(__file__).parent / "cases"
ANA = ("Ana closed the shop at noon.", "The shop was shut in the afternoon.", "entailment")
RAIN = ("Rain fell all night in the valley.", "The valley stayed dry.", "contradictory")
BOAT = (
    "The boat has two sails and one engine.",
    "The boat is painted green.",
    "neutral",
)
XNLI_HEADER = "language\tgold_label\tsentence1\tsentence2\tpairID"
# What a line can't hold: its separators, and what is no text in UTF-8.
sentences = st.text(
    st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), max_size=60
)
LABELS = {**{name: name for name in NAMES}, **SPELLINGS}
rows_of = st.tuples(sentences, sentences, st.sampled_from([*LABELS, "-", "-1", "", "0"]))


def rows(data):
    return list(data[["premise", "hypo", "label"]].itertuples(index=False, name=None))


def usable(row):
    return row[0].strip() and row[1].strip() and row[2] in LABELS


def write(folder, *lines, name="file.tsv", encoding="utf-8", end="\n"):
    path = Path(folder) / name
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


# ---- Rows --------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    written=st.lists(rows_of, max_size=8),
    stray=st.lists(
        st.sampled_from(["one field", "", "\t", "a\tb", "a\tb\tc\tneutral"]), max_size=3
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    zipped=st.booleans(),
)
def test_every_row_is_read_or_skipped_with_its_line(
    written, stray, end, encoding, zipped, tmp_path_factory
):
    lines = ["premise\thypo\tlabel", *("\t".join(row) for row in written), *stray]
    path = write(tmp_path_factory.mktemp("tsv"), *lines, end=end, encoding=encoding)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    data = read_xnli_tsv(path)
    good = {line: row for line, row in enumerate(written, start=2) if usable(row)}
    read = {row.line: (row.premise, row.hypo, row.label) for row in data.itertuples(index=False)}
    assert read == {line: (*row[:2], LABELS[row[2]]) for line, row in good.items()}
    skipped = [line for line, _ in data.attrs["skipped"]]
    assert skipped == sorted(set(range(2, len(lines) + 1)) - set(good))


@settings(max_examples=60)
@given(written=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20), rows_of), max_size=6))
def test_json_lines_hold_any_text_and_skip_what_is_none(written, tmp_path_factory):
    records = [
        {"gold_label": label, "sentence1": premise, "sentence2": hypo}
        for premise, hypo, (_, _, label) in written
    ]
    records.append({"gold_label": "neutral", "sentence1": "half \ud83d", "sentence2": "b"})
    lines = ['{"gold_label": "-", "sentence1": "a", "sentence2": "b"}', *map(json.dumps, records)]
    data = read_xnli_tsv(write(tmp_path_factory.mktemp("json"), *lines))
    expected = [(*row[:2], row[2][2]) for row in written]
    assert rows(data) == [
        (p, h, LABELS[label]) for p, h, label in expected if usable((p, h, label))
    ]
    assert {1, len(lines)} <= {line for line, _ in data.attrs["skipped"]}
    assert len(data) + len(data.attrs["skipped"]) == len(lines)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("sentence1", None, "no premise"),
        ("sentence2", ["b"], "no hypo"),
        ("gold_label", -1, "label '-1'"),
        ("gold_label", None, "label ''"),
    ],
)
def test_json_values_that_are_no_text_skip_the_row(key, value, reason, tmp_path):
    good = {"gold_label": "neutral", "sentence1": "a", "sentence2": "b", "pairID": 7}
    path = write(tmp_path, json.dumps(good), json.dumps({**good, key: value}))
    data = read_xnli_tsv(path)
    assert data["pair_id"].tolist() == ["7"] and data.attrs["skipped"] == [(2, reason)]


def test_quotes_and_odd_separators_are_text(tmp_path):
    odd = [('He said "go.', "He\u2028was\x1dsilent\x85.", "neutral"), ('"', '""', "entailment")]
    path = write(tmp_path, "premise\thypo\tlabel", *map("\t".join, odd))
    assert rows(read_xnli_tsv(path)) == odd


@pytest.mark.parametrize(
    ("file", "expected", "skipped"),
    [
        ("extra_label.train.tsv", [RAIN, BOAT], [(2, "4 fields, not 3")]),
        ("tab_in_hypo.dev.tsv", [RAIN, BOAT], [(2, "20 fields, not 19")]),
        ("tab_in_premise.dev.tsv", [RAIN, BOAT], [(2, "20 fields, not 19")]),
        ("gz.train.tsv.gz", [ANA, RAIN, BOAT], []),
        ("kornli.tsv", [ANA, RAIN, BOAT], []),
        ("mnli.jsonl", [ANA, RAIN, BOAT], []),
        ("mnli.txt", [ANA, RAIN, BOAT], []),
        ("utf16.train.tsv", [ANA, RAIN, BOAT], []),
        ("two_languages.dev.tsv", [ANA, RAIN, BOAT] * 2, []),
    ],
)
def test_published_layouts_are_read_and_broken_rows_skipped(file, expected, skipped):
    data = read_xnli_tsv(CASES / file)
    assert rows(data) == expected and data.attrs["skipped"] == skipped


@pytest.mark.parametrize("file", ["mnli.txt", "two_languages.dev.tsv", "kornli.tsv"])
def test_a_tab_anywhere_too_many_or_too_few_skips_the_row(file, tmp_path):
    lines = (CASES / file).read_text().splitlines()
    tabs = [i for i, character in enumerate(lines[1]) if character == "\t"]
    for i in range(len(lines[1]) + 1):
        changed = [lines[1][:i] + "\t" + lines[1][i:]]
        changed += [lines[1][:i] + lines[1][i + 1 :]] if i in tabs else []
        for line in changed:
            data = read_xnli_tsv(write(tmp_path, lines[0], line, *lines[2:]))
            assert [at for at, _ in data.attrs["skipped"]] == [2]
            assert rows(data)[:2] == [RAIN, BOAT]


def test_pair_ids_are_the_files_or_else_the_lines():
    assert read_xnli_tsv(CASES / "mnli.txt")["pair_id"].tolist() == ["1", "2", "3"]
    assert read_xnli_tsv(CASES / "kornli.tsv")["pair_id"].tolist() == ["2", "3", "4"]
    assert read_xnli_tsv(CASES / "mnli.jsonl")["pair_id"].tolist() == ["1", "2", "3"]


def test_a_subset_is_the_first_usable_rows(tmp_path):
    lines = [f"p {i}\th {i}\t{['neutral', '-'][i % 3 == 0]}" for i in range(60)]
    path = write(tmp_path, "premise\thypo\tlabel", *lines, "\tbroken")
    whole = read_xnli_tsv(path)
    assert len(whole) == 40
    for subset, count in [(0.1, 4), (0.01, 1), (1.0, 40), (7, 7), (7.0, 7), (41, 40)]:
        assert rows(read_xnli_tsv(path, subset=subset)) == rows(whole)[:count]


def test_reading_a_number_of_rows_stops_there(tmp_path):
    path = write(tmp_path, "premise\thypo\tlabel", "a\tb\tneutral", "c\td\tneutral", "\tbroken")
    assert read_xnli_tsv(path, subset=2).attrs["skipped"] == []


# ---- Languages ---------------------------------------------------------------------------------


def languages_file(folder, as_json=False, name="xnli.dev.tsv"):
    written = [
        (lang, label, f"p {lang}", f"h {label}", str(pair))
        for lang in ("ar", "en", "hr", "zh-CN")
        for pair, label in enumerate(["neutral", "contradiction", "entailment"], start=1)
    ]
    if as_json:
        keys = XNLI_HEADER.split("\t")
        return write(folder, *(json.dumps(dict(zip(keys, row, strict=True))) for row in written))
    return write(folder, XNLI_HEADER, *map("\t".join, written), name=name)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("lang", ["ar", "en", "hr", "zh-CN"])
def test_lang_picks_rows_where_the_file_has_a_language_column(lang, as_json, tmp_path):
    data = read_xnli_tsv(languages_file(tmp_path, as_json), lang)
    assert data["label"].tolist() == ["neutral", "contradictory", "entailment"]
    assert data["pair_id"].tolist() == ["1", "2", "3"] and set(data["premise"]) == {f"p {lang}"}
    assert data.attrs["skipped"] == []


@pytest.mark.parametrize("lang", ["fr", "ko"])
def test_lang_does_not_matter_without_a_language_column(lang):
    assert rows(read_xnli_tsv(CASES / "kornli.tsv", lang)) == [ANA, RAIN, BOAT]


@pytest.mark.parametrize("as_json", [False, True])
def test_an_absent_language_is_an_error_that_names_those_there(as_json, tmp_path):
    path = languages_file(tmp_path, as_json)
    with pytest.raises(ValueError, match=r"no rows in 'th', only in ar, en, hr, zh-CN$"):
        read_xnli_tsv(path, "th")
    with pytest.raises(ValueError, match=r"only in ar, en, hr, zh-CN; did you mean en\?"):
        read_xnli_tsv(path, "EN")
    with pytest.raises(ValueError, match=r"did you mean zh-CN\?"):
        read_xnli_tsv(path, "zh")


@pytest.mark.parametrize("column", [0, 2, 4])
def test_broken_rows_count_for_their_language_or_for_all(column, tmp_path):
    header = ["gold_label", "sentence1", "sentence2", "pairID"]
    header.insert(column, "language")

    def row(lang, label):
        fields = [label, "p", "h", "1"]
        fields.insert(column, lang)
        return "\t".join(fields)

    stray = ["broken", "", row("", "neutral"), row("e n", "neutral") + "\t"]
    path = write(
        tmp_path,
        "\t".join(header),
        row("en", "neutral"),
        row("fr", "neutral"),
        row("fr", "-"),
        *stray,
        row("en", "neutral") + "\t",
    )
    expected = {"en": {5, 6, 8, 9}, "fr": {4, 5, 6, 8}}
    for lang, lines in expected.items():
        data = read_xnli_tsv(path, lang)
        assert {line for line, _ in data.attrs["skipped"]} - {7} == lines
        assert data["line"].tolist()[0] == {"en": 2, "fr": 3}[lang]


def test_a_missing_file_names_itself_and_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.tsv: no such file; python -m data\.download"):
        read_xnli_tsv(tmp_path / "x.tsv")


# ---- What is no UTF-8 text ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((CASES / "lfs.train.tsv").read_bytes(), "a Git LFS pointer.* run `git lfs pull`"),
        (b"PK\x03\x04rest", "a zip archive; unpack it"),
        (b"PAR1rest", "a Parquet file; convert it .*read_parquet"),
        (b"BZh91AY", "compressed with bzip2; unpack it first"),
        (b"\n<!DOCTYPE html><html>", "an HTML or XML page, not the data; download the raw file"),
        (
            gzip.compress(b"premise\thypo\tlabel\n" * 9, mtime=0)[:-9],
            "damaged gzip file .* download it",
        ),
        (b"", "an empty file"),
        (b" \n", "an empty file"),
        (b"a\tb\tc\n1\t2\t3\n", r"line 1: no column premise or sentence1 among a, b, c; give"),
        (b"premise\thypo\n1\t2\n", r"line 1: no column gold_label or label among premise, hypo"),
        (b'{"premise": 1', r"line 1: not JSON .* one object a line"),
        (b'{"sentence1": "a", "sentence2": "b"}', r"line 1: no column gold_label or label among"),
        (b"premise\thypo\tlabel\na\tb\xff\tneutral\n", r"line 2: not UTF-8 \(byte 0xff\); save"),
        (
            "premise\thypo\tlabel\na\tb\tneutral\ncaf\xe9\tb\tneutral\n".encode("latin-1"),
            r"line 3: not UTF-8 \(byte 0xe9\); .*iconv -f LATIN1 -t UTF-8",
        ),
        (
            "premise\thypo\tlabel\na\tb\tneutral\n".encode("utf-16") + b"\x00",
            r"line 3: not UTF-16-LE \(byte 0x00\); save",
        ),
    ],
)
def test_what_is_no_table_is_an_error_that_helps(content, message, tmp_path):
    path = tmp_path / "file.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"file\.tsv.*{message}"):
        read_xnli_tsv(path)


# ---- The real files ----------------------------------------------------------------------------

REAL = Path(os.environ.get("XNLI_DIR", "no XNLI_DIR"))
real_data = pytest.mark.skipif(
    not (REAL / "XNLI-1.0").is_dir(), reason="set XNLI_DIR to the folder with XNLI-1.0, XNLI-MT-1.0"
)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_all_of_the_sample_is_read(lang):
    for split, count in (("dev", 60), ("test", 120)):
        data = read_xnli_tsv(SAMPLE / "XNLI-1.0" / f"xnli.{split}.tsv", lang)
        assert len(data) == count and not data.attrs["skipped"]


FIRST = ("ar", "en", "th", "zh")  # in make test-all; of all 15 it would take 20 seconds


@pytest.mark.real_data
@real_data
@pytest.mark.parametrize(
    "lang",
    [*FIRST, *(pytest.param(x, marks=pytest.mark.slow) for x in LANGUAGES if x not in FIRST)],
)
def test_the_real_dev_and_test_files_are_read_whole_and_balanced(lang):
    for split, count in (("dev", 2490), ("test", 5010)):
        data = read_xnli_tsv(REAL / "XNLI-1.0" / f"xnli.{split}.tsv", lang)
        assert len(data) == count and not data.attrs["skipped"]
        assert set(data["label"].value_counts()) == {count // 3}
        assert data["pair_id"].is_unique


@pytest.mark.real_data
@real_data
@pytest.mark.parametrize("lang", ["ar", "de", "en", "es", "fr", "sw", "tr", "ur", "vi", "zh"])
def test_the_real_train_files_are_read_whole(lang):
    path = REAL / "XNLI-MT-1.0" / "multinli" / f"multinli.train.{lang}.tsv"
    data = read_xnli_tsv(path)
    labels = [line.rsplit(b"\t", 1)[1].decode() for line in path.read_bytes().split(b"\n")[1:-1]]
    assert len(data) == 15_001 and not data.attrs["skipped"]
    assert data["label"].tolist() == labels


def test_json_lines_that_pandas_writes_are_read_exactly(tmp_path):
    """As the advice for a Parquet file says."""
    premises = ['He said "hi" to me.', "Two\nlines\tand a tab.", "Ça va ? 你好"]
    columns = {"hypothesis": ["a", "b", "c"], "label": ["entailment", "contradiction", "neutral"]}
    frame = pd.DataFrame({"premise": premises, **columns})
    frame.to_json(tmp_path / "pairs.jsonl", orient="records", lines=True)
    assert read_xnli_tsv(tmp_path / "pairs.jsonl")["premise"].tolist() == premises


@pytest.mark.parametrize("subset", [0, -0.5, -3, 1.5, 2.5, float("nan"), float("inf")])
def test_a_subset_is_a_share_or_a_number(subset):
    with pytest.raises(ValueError, match=r"subset must be a share in .* or a whole number"):
        read_xnli_tsv(SAMPLE / "XNLI-1.0" / "xnli.dev.tsv", "en", subset)
