"""Fetching the tasks' data from a server of our own: whole, once, or refused."""

import functools
import http.server
import io
import json
import tarfile
import threading
import zipfile

import pytest

from data.download_tasks import NER, QA, SENTIMENT, fetch

SPLITS = ("train", "dev", "test")


def packed(lang):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for split in (*SPLITS, "extra"):
            content = f"{lang}:x\tB-LOC\n\n{lang}:{split}\tO\n".encode()
            member = tarfile.TarInfo(split)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path):
    """Serves a folder with all three sources; returns it and the tasks' addresses."""
    root = tmp_path / "server"
    for name in SENTIMENT.values():
        (root / "sentiment" / name).mkdir(parents=True)
        for split in ("train", "val", "test"):
            (root / "sentiment" / name / f"{split}_text.txt").write_text(f"{name}\nb")
            (root / "sentiment" / name / f"{split}_labels.txt").write_text("0\n2\n")
    for task in ("ner", "qa"):
        (root / task).mkdir()
    with zipfile.ZipFile(root / "ner/panx_dataset.zip", "w") as zipped:
        for lang in (*NER, "ace"):
            zipped.writestr(f"panx/{lang}.tar.gz", packed(lang))
    for lang in QA:
        (root / f"qa/xquad.{lang}.json").write_text(json.dumps({"data": [{}] * 48}))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=root)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{httpd.server_port}"
    yield root, {task: f"{address}/{task}" for task in ("sentiment", "ner", "qa")}
    httpd.shutdown()
    httpd.server_close()


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


COMPLETE = {
    *(
        f"sentiment/{lang}/{s}_{part}.txt"
        for lang in SENTIMENT
        for s in ("train", "val", "test")
        for part in ("text", "labels")
    ),
    *(f"ner/{split}-{lang}.tsv" for lang in NER for split in SPLITS),
    *(f"qa/xquad.{lang}.json" for lang in QA),
}


def test_all_files_end_in_the_layout_of_the_sample_and_nothing_else(server, tmp_path):
    _, urls = server
    folder = tmp_path / "here"
    fetch(folder, urls=urls)
    assert names(folder) == COMPLETE
    assert (folder / "sentiment/hi/val_text.txt").read_text() == "hindi\nb"
    assert (folder / "ner/test-sw.tsv").read_text() == "sw:x\tB-LOC\n\nsw:test\tO\n"
    fetch(folder, urls=dict.fromkeys(urls, "http://127.0.0.1:9"))  # nothing is fetched again


def test_one_task_alone_is_fetched(server, tmp_path):
    fetch(tmp_path / "here", ["qa"], server[1])
    assert names(tmp_path / "here") == {name for name in COMPLETE if name.startswith("qa/")}


@pytest.mark.parametrize(
    ("task", "file", "content", "reason"),
    [
        ("sentiment", "english/train_labels.txt", b"0\n", "1 labels for 2 texts"),
        ("ner", "panx_dataset.zip", b"PK no archive", "File is not a zip file"),
        ("qa", "xquad.en.json", b"<html>", "JSONDecodeError"),
        ("qa", "xquad.en.json", b'{"data": [1]}', "1 articles, not 48"),
    ],
)
def test_a_damaged_file_is_deleted_and_fetched_anew(task, file, content, reason, server, tmp_path):
    root, urls = server
    good = (root / task / file).read_bytes()
    (root / task / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"damaged \(.*{reason}.*\), and deleted"):
        fetch(tmp_path / "here", [task], urls)
    (root / task / file).write_bytes(good)
    fetch(tmp_path / "here", [task], urls)
    assert names(tmp_path / "here") == {name for name in COMPLETE if name.startswith(f"{task}/")}


def test_an_archive_without_a_language_is_refused(server, tmp_path):
    root, urls = server
    with zipfile.ZipFile(root / "ner/panx_dataset.zip", "w") as zipped:
        zipped.writestr("en.tar.gz", packed("en"))
    with pytest.raises(ValueError, match=r"panx_dataset\.zip: damaged \('ar\.tar\.gz'\)"):
        fetch(tmp_path / "here", ["ner"], urls)


def test_no_server_is_a_clear_error(tmp_path):
    with pytest.raises(ConnectionError, match="run the command again to continue"):
        fetch(tmp_path, ["qa"], {"qa": "http://127.0.0.1:9"})
