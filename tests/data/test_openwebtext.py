"""Packing documents: every kind of input, what is bad in it, resuming, damage, the command."""

import gzip
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from console import errors_in_one_line
from data import packing
from data.documents import HubDataset, open_source
from data.openwebtext import main
from data.packing import pack
from gpt2.text import TextDataset
from gpt2.tokenizer import encode_texts
from tests.data.packs import (
    END,
    KINDS,
    TEXTS,
    content_of,
    interrupt_after_each_shard,
    tokens_of,
    write,
)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_tokens(name, here, tokenizer, tmp_path):
    texts = [*TEXTS[:5], "", "  ", *TEXTS[5:]]
    source = open_source([str(write(tmp_path, name, texts))])
    manifest = pack(source, tmp_path / "out", length=8, shard_tokens=100)
    expected = [id for ids in encode_texts(tokenizer, TEXTS) for id in [*ids, END_OF_GPT2]]
    assert tokens_of(tmp_path / "out").tolist() == expected
    assert manifest["documents"] == len(TEXTS) and manifest["skipped"] == 0
    assert manifest["text_bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert [shard["tokens"] for shard in manifest["shards"][:-1]] == [96] * (len(expected) // 96)
    for name in packing.COUNTS:
        assert sum(shard[name] for shard in manifest["shards"]) == manifest[name]


END_OF_GPT2 = 50256


def test_a_line_is_the_document_that_it_is_to_a_text_dataset(here, tokenizer, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffOne.\r\n\n \t\nTwo: a\u2028b.\rc\r\n three\nlast".encode())
    pack(open_source([str(path)]), tmp_path / "out", length=2)
    lines = TextDataset(path, tokenizer, 100).documents
    assert tokens_of(tmp_path / "out").tolist() == [int(id) for ids in lines for id in ids]


def test_documents_of_json_have_several_lines_and_any_column(here, letters, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"content": "one\n\ntwo", "text": 3}) + "\n")
    pack(open_source([str(path)], "content"), tmp_path / "out", letters, length=2)
    assert len(tokens_of(tmp_path / "out")) == len("one\n\ntwo") + 1


def test_a_folder_is_all_its_files_by_name(here, letters, tmp_path):
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    write(folder, "b/a.txt", ["3"]), write(folder, "a.jsonl", ["1"]), write(folder, "a.txt", ["2"])
    (folder / "README.md").write_text("not read")
    pack(open_source([str(folder)]), tmp_path / "out", letters, length=2)
    found = tokens_of(tmp_path / "out").reshape(-1, 2)
    assert (np.diff(found[:, 0].astype(int)) == 1).all() and (found[:, 1] == END).all()


def test_a_large_vocabulary_takes_32_bits(here, tmp_path):
    vocabulary = {f"w{i}": i for i in range(70_000)}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="w1").save_pretrained(tmp_path / "t")
    source = open_source([str(write(tmp_path, "a.txt", ["w69999 w2"]))])
    manifest = pack(source, tmp_path / "out", str(tmp_path / "t"), length=2)
    assert manifest["dtype"] == "uint32"
    assert tokens_of(tmp_path / "out").tolist() == [69999, 2, 1]


# ---- What is bad -------------------------------------------------------------------------------

BAD = {
    "not UTF-8 (byte 0x93)": b'{"text": "\x93a"}',
    "not JSON (Expecting ',' delimiter, character 14)": b'{"text": "a" 3}',
    "no JSON object": b'["text"]',
    "no column named text, only words": b'{"words": "a"}',
    "text is no text but null": b'{"text": null}',
    "text is no text but 3": b'{"text": 3}',
    "half of a surrogate pair": b'{"text": "\\ud83d"}',
    "not JSON that can be read": b"[" * 100_000,
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_is_named_or_left_out(reason, here, letters, tmp_path):
    path, good = tmp_path / "a.jsonl", [json.dumps({"text": text}).encode() for text in TEXTS]
    path.write_bytes(b"\n".join([*good[:20], BAD[reason], *good[20:], BAD[reason]]))
    source = open_source([str(path)])
    with pytest.raises(ValueError) as error:
        pack(source, tmp_path / "out", letters, length=2, shard_tokens=100)
    assert str(error.value).startswith(f"{path}, line 21: {reason}")
    manifest = pack(source, tmp_path / "out", letters, length=2, shard_tokens=100, skip_bad=True)
    assert manifest["skipped"] == 2 and manifest["documents"] == len(TEXTS)
    assert (tokens_of(tmp_path / "out") == END).sum() == len(TEXTS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\n\xff\n", "a.txt, line 2: not UTF-8 (byte 0xff); correct it"),
        ("a.txt", b"\n \n", "a.txt: no text in it"),
        ("a.md", b"text", "nothing to read; .txt, .jsonl"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-20],
            "damaged at line 1 or later",
        ),
        ("a.jsonl.gz", b'{"text": "a"}\n', "damaged at line 1 or later"),
        ("a.jsonl.zst", b'{"text": "a"}\n', "damaged at line 1 or later"),
        ("a.parquet", b"PAR1", "damaged at row 1 or later"),
    ],
)
def test_a_bad_file_is_named(name, content, message, here, letters, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        pack(open_source([str(tmp_path / name)]), tmp_path / "out", letters, length=2)
    assert message in str(error.value)


def test_bad_rows_of_parquet_are_named(here, letters, tmp_path):
    path = write(tmp_path, "a.parquet", ["a", "b", None])
    with pytest.raises(ValueError, match=r"a.parquet, row 3: text is no text but null"):
        pack(open_source([str(path)]), tmp_path / "out", letters, length=2)
    with pytest.raises(ValueError, match=r"a.parquet: no column named story, only n, text"):
        pack(open_source([str(path)], "story"), tmp_path / "other", letters, length=2)


def test_damage_in_the_middle_of_a_parquet_file_is_named(here, letters, tmp_path):
    path = write(tmp_path, "a.parquet", [f"{i} text" * 20 for i in range(300)], 100)
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.parquet: damaged at row 101 or later"):
        pack(open_source([str(path)]), tmp_path / "out", letters, length=2)


# ---- The hub -----------------------------------------------------------------------------------


@pytest.fixture
def on_the_hub(tmp_path, monkeypatch):
    """A data set in a local folder that `datasets` takes for one of the hub."""
    import datasets

    folder = tmp_path / "hub"
    folder.mkdir()
    for name in "abc":
        write(folder, f"{name}.jsonl", TEXTS)
    real = datasets.load_dataset

    def load(name, config, revision, **settings):
        assert (name, config, revision) == ("owner/texts", "small", "1234")
        return real(str(folder), **settings)

    class Api:
        def dataset_info(self, name):
            if name != "owner/texts":
                raise OSError("404 Client Error\nmore")
            return type("Info", (), {"sha": "1234"})

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("data.documents.check_hub_reachable", lambda name: None)


def test_a_data_set_on_the_hub_is_streamed_and_resumed(
    on_the_hub, here, letters, tmp_path, monkeypatch
):
    source = open_source(["owner/texts:small"])
    assert isinstance(source, HubDataset)
    settings = {"tokenizer": letters, "length": 4, "shard_tokens": 256}
    whole = pack(source, tmp_path / "whole", **settings)
    assert whole["documents"] == 3 * len(TEXTS) and whole["input"][0]["revision"] == "1234"
    interrupt_after_each_shard(monkeypatch)
    for _ in range(len(whole["shards"]) + 1):
        with pytest.raises(KeyboardInterrupt):
            pack(open_source(["owner/texts:small"]), tmp_path / "out", **settings)
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")


def test_what_the_hub_has_not_is_said(on_the_hub, here, letters, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nor a data set .* \(404 Client Error\)"):
        open_source(["owner/nothing"])
    with pytest.raises(ValueError, match="texts:small: no column named story, only n, text"):
        pack(open_source(["owner/texts:small"], "story"), tmp_path / "out", letters)


def test_missing_files_libraries_and_networks_are_said(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none.jsonl: no such file"):
        open_source(["none.jsonl"])
    with pytest.raises(ConnectionError, match="can't be reached"):
        open_source(["owner/texts"])
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="needs the datasets library: pip install datasets"):
        open_source(["owner/texts"])
    write(tmp_path, "a.parquet")
    with pytest.raises(ImportError, match=r"a.parquet needs pyarrow: pip install pyarrow"):
        open_source([str(tmp_path / "a.parquet")])


# ---- The command -------------------------------------------------------------------------------


def test_the_command_packs_checks_and_says_what_it_made(here, letters, tmp_path, capsys):
    path, out = write(tmp_path, "a.jsonl"), str(tmp_path / "out")
    path.write_bytes(path.read_bytes() + b"{\n")
    command = ["--input", str(path), "--out", out, "--tokenizer", letters, "--length", "4"]
    main([*command, "--shard-tokens", "64", "--skip-bad"])
    printed = capsys.readouterr().out
    tokens = sum(len(text.encode()) + 1 for text in TEXTS)
    assert f"out: 36 documents, {tokens:,} tokens in {-(-tokens // 64)} shards of uint16" in printed
    assert "bytes of text per token, " in printed and "MB/s" in printed
    assert "1 lines or rows without a usable text were left out" in printed
    main(["--out", out, "--check"])
    assert "shards are as they were written" in capsys.readouterr().out
    main([*command, "--shard-tokens", "64"])  # finished: nothing to do
    assert "36 documents" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "1"], "length must be at least 2"),
        (["--length", "2000", "--shard-tokens", "1000"], "got 2000 and 1000"),
        (["--workers", "0"], "workers must be at least 1"),
        (["--tokenizer", "none/x"], "none/x"),
        (["--input", "none.txt"], "none.txt: no such file"),
        (["--check"], "no manifest.json in it"),
    ],
)
def test_what_the_command_can_not_do_is_one_sentence(options, message, here, tmp_path, capsys):
    path = write(tmp_path, "a.txt")
    with pytest.raises(SystemExit), errors_in_one_line():
        main(["--input", str(path), "--out", str(tmp_path / "out"), *options])
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
