"""The embedded text, and the program that builds a text from OpenWebText."""

import json
import re
import sys

import pytest

from data.openwebtext import paragraphs, write_text
from tests import ROOT


def test_the_embedded_lines_are_different_varied_and_well_formed(tokenizer):
    lines = (ROOT / "pretrain.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == 5000
    lengths = [len(ids) for ids in tokenizer(lines)["input_ids"]]
    assert max(lengths) < 128 and 15 < sum(lengths) / len(lengths) < 25
    assert len(set(re.findall(r"[a-z]+", " ".join(lines).lower()))) > 1500
    bad = re.compile(
        r"  |\{|\}|\b(\w+) \1\b(?<!had had)|[,.;]{2}|\ban [bcdfgjkpqtvwz]|\ba [aeio][a-z]", re.I
    )
    offenders = [line for line in lines if bad.search(line) and not re.search(r"a one", line)]
    assert not offenders
    assert all(line[0].isupper() or line[0].isdigit() or line[0] == '"' for line in lines)
    assert all(line.count('"') % 2 == 0 for line in lines)


def test_paragraphs_are_folded_and_short_ones_left_out():
    documents = [
        "A first paragraph,\twith  odd spaces.\n\nShort.\nAnother one that is long enough."
    ]
    assert list(paragraphs(documents)) == [
        "A first paragraph, with odd spaces.",
        "Another one that is long enough.",
    ]


def test_a_text_is_built_from_a_local_data_set(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    rows = [{"text": f"This is document number {i}.\n\nIt has two paragraphs."} for i in range(30)]
    (source / "part.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert write_text(tmp_path / "out.txt", 7, str(source)) == 7
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[:2] == ["This is document number 0.", "It has two paragraphs."]
    assert len(lines) == 7


def test_what_can_not_be_built_leaves_no_file(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "part.jsonl").write_text(json.dumps({"words": "no text column"}))
    with pytest.raises(ValueError, match=r"part.jsonl, line 1: no column named text, only words"):
        write_text(tmp_path / "out.txt", 7, str(source))
    with pytest.raises(ConnectionError, match="can't be reached"):
        write_text(tmp_path / "out.txt", 7)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_without_the_datasets_library_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="needs the datasets library: pip install datasets"):
        write_text(tmp_path / "out.txt", 7)
    assert not list(tmp_path.iterdir())
