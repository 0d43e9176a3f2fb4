"""Packing: the same bytes however often it is stopped or killed, and what is damaged."""

import json
import random
import shutil
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.packing import generated_documents
from counting import LONGEST
from data import documents, openwebtext, packing, tokenizing
from data.documents import Files, open_source
from data.packed import read_manifest
from data.packing import TokenStream, pack
from gpt2.tokenizer import encode_texts
from tests.data.packs import (
    KINDS,
    TEXTS,
    InThisProcess,
    content_of,
    interrupt_after_each_shard,
    tokens_of,
    write,
)
from tests.processes import kill_until_finished

# ---- Resuming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_stopped_after_any_shard_it_continues_to_the_same_bytes(
    name, here, letters, tmp_path, monkeypatch
):
    source = open_source([str(write(tmp_path, name)), str(write(tmp_path, f"b{name}", TEXTS[:9]))])
    settings = {"tokenizer": letters, "length": 4, "shard_tokens": 64}
    pack(source, tmp_path / "whole", **settings)
    shards = len(read_manifest(tmp_path / "whole")["shards"])
    assert shards > 10
    out, stops = tmp_path / "out", 0
    real = packing.write_manifest
    for moved in (False, True) * (shards + 2):  # stopped before the manifest, or after it

        def stop(folder, manifest, moved=moved):
            if moved:
                real(folder, manifest)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(packing, "write_manifest", stop)
            try:
                pack(source, out, **settings)
                break
            except KeyboardInterrupt:
                stops += 1
    assert stops > shards
    assert content_of(out) == content_of(tmp_path / "whole")


@given(data=st.data())
def test_the_tokens_from_a_position_are_the_same_in_any_pieces(data, letters):
    lines = data.draw(st.lists(st.text("ab \né", max_size=30), max_size=8))
    blob = "\n".join(lines).encode()
    source = Lines(blob, data.draw(st.integers(1, 40)))
    pool = InThisProcess(_settings(letters))
    whole = tokenizing.tokenize(pool.encode, pool.settings, "txt", blob).ids
    stream, found = TokenStream(source, pool, None), b""
    while stream.position is not None:
        if data.draw(st.booleans()):
            stream = TokenStream(source, pool, json.loads(json.dumps(stream.position)))
        ids, _, _ = stream.take(data.draw(st.integers(1, 20)))
        assert len(ids)
        found += ids.tobytes()
    assert found == whole


class Lines(Files):
    """A file of these bytes, read in chunks of some size."""

    def __init__(self, blob: bytes, size: int):
        self.blob, self.size = blob, size

    def chunks(self, position):
        start = position.get("offset", 0)
        while start < len(self.blob):
            end = self.blob.find(b"\n", start + self.size) + 1 or len(self.blob)
            where = {"offset": start}
            yield documents.Chunk("txt", self.blob[start:end], "a.txt, line", 1, where, end)
            start = end


def _settings(folder, skip_bad=False):
    tokenizer = packing.load_tokenizer(folder)
    return packing.worker_settings(tokenizer, "uint16", "text", skip_bad)


def test_what_is_left_out_is_counted_once_however_often_it_stops(
    here, letters, tmp_path, monkeypatch
):
    path = write(tmp_path, "a.txt")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\xff\n" + b"\n\xff\n\xff\n".join(lines) + b"\xff")
    settings = {"tokenizer": letters, "length": 4, "shard_tokens": 64, "skip_bad": True}
    source = open_source([str(path)])
    whole = pack(source, tmp_path / "whole", **settings)
    assert whole["skipped"] == 2 + 2 * len(TEXTS)
    interrupt_after_each_shard(monkeypatch)
    for _ in range(len(whole["shards"]) + 1):
        with pytest.raises(KeyboardInterrupt):
            pack(source, tmp_path / "out", **settings)
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")


def test_another_input_tokenizer_or_setting_is_refused(here, letters, tmp_path):
    path, other = write(tmp_path, "a.txt"), write(tmp_path, "b.txt")
    out, settings = tmp_path / "out", {"length": 4, "shard_tokens": 64}
    pack(open_source([str(path)]), out, letters, **settings)
    for source, tokenizer, changes, message in [
        ([path], "gpt2", {}, 'the tokenizer "letters'),
        ([path], letters, {"length": 8}, "length 4, and not 8"),
        ([path], letters, {"shard_tokens": 128}, "shard-tokens 64, and not 128"),
        ([path, other], letters, {}, "other input (b.txt)"),
        ([other], letters, {}, "other input (a.txt, b.txt)"),
    ]:
        with pytest.raises(ValueError) as error:
            pack(open_source(list(map(str, source))), out, tokenizer, **{**settings, **changes})
        assert message in str(error.value)
    path.write_text("something else\n")
    with pytest.raises(ValueError, match=r"other input \(a.txt\); give the same again"):
        pack(open_source([str(path)]), out, letters, **settings)


def test_before_the_first_shard_the_input_may_be_corrected(here, letters, tmp_path):
    path = write(tmp_path, "a.txt")
    good = path.read_bytes()
    path.write_bytes(good + b"\xff")
    with pytest.raises(ValueError, match="line 37: not UTF-8"):
        pack(open_source([str(path)]), tmp_path / "out", letters)
    path.write_bytes(good)
    assert pack(open_source([str(path)]), tmp_path / "out", letters)["documents"] == len(TEXTS)


def test_the_same_tokenizer_by_another_name_is_the_same(here, letters, tmp_path):
    source = open_source([str(write(tmp_path, "a.txt"))])
    made = pack(source, tmp_path / "out", letters)
    shutil.copytree(letters, tmp_path / "named")
    assert pack(source, tmp_path / "out", str(tmp_path / "named")) == made


def test_two_processes_do_not_pack_into_one_folder(here, letters, tmp_path):
    source = open_source([str(write(tmp_path, "a.txt"))])
    with (
        packing._alone(tmp_path / "out"),
        pytest.raises(RuntimeError, match="another process works in this folder"),
    ):
        pack(source, tmp_path / "out", letters)


# ---- Damage ------------------------------------------------------------------------------------


def test_a_damaged_shard_is_named_and_made_again(here, letters, tmp_path):
    source, out = open_source([str(write(tmp_path, "a.jsonl"))]), tmp_path / "out"
    settings = {"tokenizer": letters, "length": 4, "shard_tokens": 64}
    pack(source, out, **settings)
    before = content_of(out)
    openwebtext.check(str(out))
    shard = out / "shard-00003.bin"
    shard.write_bytes(b"\0" * 128)
    (out / "shard-00005.bin").unlink()
    with pytest.raises(ValueError, match=r"damaged: .*shard-00003.bin, .*shard-00005.bin; delete"):
        openwebtext.check(str(out))
    shard.unlink()
    pack(source, out, **settings)
    assert content_of(out) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', None])
def test_a_damaged_manifest_is_named(text, here, letters, tmp_path):
    source, out = open_source([str(write(tmp_path, "a.txt"))]), tmp_path / "out"
    pack(source, out, letters)
    manifest = out / "manifest.json"
    manifest.write_text(text or manifest.read_text().replace("documents", "document"))
    with pytest.raises(ValueError, match=r"manifest.json: damaged"):
        pack(source, out, letters)


def test_bytes_that_can_not_be_made_again_are_refused(here, letters, tmp_path, monkeypatch):
    source, out = open_source([str(write(tmp_path, "a.txt"))]), tmp_path / "out"
    pack(source, out, letters)
    (out / "shard-00000.bin").unlink()
    monkeypatch.setattr(tokenizing, "read_text", lambda *_: "other")
    with pytest.raises(ValueError, match="made again, it has other bytes than before"):
        pack(source, out, letters)


# ---- Workers -----------------------------------------------------------------------------------


def test_neither_the_workers_nor_what_tokenizes_change_a_byte(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(documents, "CHUNK", 1000)
    texts = [*TEXTS, f"{' ' * LONGEST}a", *TEXTS]  # one too long for tiktoken
    path = write(tmp_path, "a.jsonl", texts)
    for workers, fast in ((1, "1"), (3, "1"), (2, "0")):
        monkeypatch.setenv("GPT2_FAST", fast)
        settings = {"length": 8, "shard_tokens": 4096, "workers": workers}
        pack(open_source([str(path)]), tmp_path / str(workers), **settings)
    assert content_of(tmp_path / "1") == content_of(tmp_path / "2") == content_of(tmp_path / "3")
    expected = [id for ids in encode_texts(tokenizer, texts) for id in [*ids, 50256]]
    assert tokens_of(tmp_path / "1").tolist() == expected


def test_a_worker_that_dies_ends_the_run_with_a_sentence(letters, tmp_path, monkeypatch):
    real = packing.Workers._ask

    def ask(self, kind, payload):
        self.processes[0].kill()
        return real(self, kind, payload)

    monkeypatch.setattr(packing.Workers, "_ask", ask)
    source = open_source([str(write(tmp_path, "a.txt"))])
    with pytest.raises(ChildProcessError, match="a tokenizing process has ended"):
        pack(source, tmp_path / "out", letters, workers=1)


def pack_file(path, out, shard_tokens, workers):
    pack(open_source([str(path)]), out, shard_tokens=shard_tokens, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_killed_ten_times_it_ends_with_the_same_bytes(name, tmp_path):
    texts = [document for document, _ in zip(generated_documents(0), range(3000), strict=False)]
    path = write(tmp_path, name, texts)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert kill_until_finished(pack_file, (path, whole, 2**15, 2), lambda: None) == 0
    shards, rng = len(read_manifest(whole)["shards"]), random.Random(0)
    assert shards > 40
    targets = iter([shards * i // 12 for i in range(10)])

    def delay():
        """Wait for a tenth of the work, and return a random time within about two shards."""
        if (target := next(targets, None)) is None:
            return None
        deadline = time.monotonic() + 60
        while target and len((read_manifest(killed) or {"shards": []})["shards"]) < target:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return rng.uniform(0, 0.5)

    assert kill_until_finished(pack_file, (path, killed, 2**15, 1), delay) == 10
    assert content_of(killed) == content_of(whole)
    deadline = time.monotonic() + 20  # the workers of those that were killed end by themselves
    while left := [p for p in psutil.process_iter(["cmdline"]) if works_for_nobody(p)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def works_for_nobody(process) -> bool:
    return tokenizing.__file__ in (process.info["cmdline"] or ()) and process.ppid() == 1
