"""A run and its page on a file system with Windows' rules, as far as Linux can play them."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from config import FINETUNE_ENGLISH, TOY_PRETRAINING
from experiments.finetuning import finetune
from experiments.pages import Page
from experiments.pretraining import pretrain
from gpt2.text import TextDataset
from gpt2.tokenizer import load_tokenizer
from tests import few_pairs
from tests.small import save_small_gpt2
from utils import atomic_write

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def is_open(path: Path) -> bool:
    """Return whether this process has the file open or mapped."""
    descriptors = Path("/proc/self/fd").iterdir()
    held = {os.readlink(fd) for fd in descriptors if fd.is_symlink()}
    return (
        str(path.resolve()) in held or f" {path.resolve()}\n" in Path("/proc/self/maps").read_text()
    )


@pytest.fixture
def windows(monkeypatch):
    """Files are not replaced while they are open; only writable ones are flushed."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs Linux's /proc")
    move, flush = Path.replace, os.fsync

    def checked_move(self, target):
        if is_open(Path(self)) or is_open(Path(target)):
            raise PermissionError(13, "The process cannot access the file", str(target))
        return move(self, target)

    def checked_flush(descriptor):
        flags = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        if int(re.search(r"flags:\s*(\d+)", flags)[1], 8) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        flush(descriptor)

    monkeypatch.setattr(Path, "replace", checked_move)
    monkeypatch.setattr(os, "fsync", checked_flush)


def assert_names_are_allowed(folder):
    files = list(folder.rglob("*"))
    assert files
    for path in files:
        name = path.name
        assert not set(name) & set('<>:"|?*\\') and name[-1] not in ". ", path
        assert not RESERVED.fullmatch(name), path
        assert len(str(path.relative_to(folder))) < 150
    for parent in {path.parent for path in files}:  # names that differ in case alone are one file
        names = [path.name.lower() for path in files if path.parent == parent]
        assert len(names) == len(set(names))


def test_a_run_its_resumption_and_its_page(windows, tmp_path):
    settings = replace(FINETUNE_ENGLISH, subset=12.0, epochs=2)
    where = {"weights": save_small_gpt2(tmp_path / "weights"), "data": few_pairs(tmp_path / "data")}
    where |= {"runs": tmp_path / "runs", "progress": False}
    for _ in range(2):
        run = finetune(settings, checkpoints={"every_seconds": 0}, **where)
        run.evaluation("test", "de", progress=False)
    page = Page(tmp_path / "page", "A title", "a command")
    page.table("accuracy", pd.DataFrame({"a": [1.0]}))
    page.save()
    assert_names_are_allowed(tmp_path)


def test_pretraining(windows, tmp_path):
    (tmp_path / "text.txt").write_text("The cat sees the dog.\n" * 20)
    settings = replace(TOY_PRETRAINING, epochs=1, max_len=16)
    texts = TextDataset(tmp_path / "text.txt", load_tokenizer(), 16)
    run = pretrain(settings, *texts.split(0.1), runs=tmp_path / "runs", progress=False)
    assert run.model() is not None
    assert_names_are_allowed(tmp_path)


def test_a_file_that_a_reader_has_open_is_replaced_a_little_later(windows, tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")
    reader = path.open()
    monkeypatch.setattr("utils.time.sleep", lambda seconds: reader.close())
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_reader_that_stays_costs_an_error_and_not_the_file(windows, tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr("utils.time.sleep", lambda seconds: None)
    with path.open(), pytest.raises(PermissionError), atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
