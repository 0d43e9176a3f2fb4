"""Fetching XNLI from a server of our own: whole, resumed, refused."""

import http.server
import io
import runpy
import stat
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from data import download
from data.download import NEEDED, fetch


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server():
    """Serves `files` with ranges; `requests` lists them; sends no more than `cut` bytes at once."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip("/")
            wanted = self.headers.get("Range")
            state.requests.append((name, wanted))
            if name not in state.files:
                self.send_error(404)
                return
            content = state.files[name]
            start = int(wanted.split("=")[1].rstrip("-")) if wanted and state.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted and state.ranges else 200)
            if wanted and state.ranges:
                first = start + state.shift
                self.send_header("Content-Range", f"bytes {first}-{len(content)}/{len(content)}")
            self.send_header("Content-Length", state.length or str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: state.cut])

        def log_message(self, *_):
            pass

    class State:
        def __init__(self):
            self.requests, self.cut, self.ranges = [], None, True
            self.shift, self.length = 0, ""
            self.files = {
                f"{name}.zip": archive(
                    {
                        needed: "x\n" * 50_000 + name,
                        f"{name}/readme.txt": "hello",
                        "__MACOSX/junk": "junk",
                    }
                )
                for name, needed in NEEDED.items()
            }

    state = State()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    yield state
    httpd.shutdown()
    httpd.server_close()


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


COMPLETE = sorted([*NEEDED.values(), "XNLI-1.0/readme.txt", "XNLI-MT-1.0/readme.txt"])


def test_both_archives_end_in_the_handouts_layout_and_nothing_else(server, tmp_path):
    fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE
    assert (tmp_path / NEEDED["XNLI-1.0"]).read_text().endswith("XNLI-1.0")
    fetch(tmp_path, server.url)
    assert len(server.requests) == 2  # nothing is fetched again


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_is_kept_and_goes_on(ranges, server, tmp_path):
    server.cut, server.ranges = 100, ranges
    with pytest.raises(ConnectionError, match=r"100 of .* bytes came; run the command again"):
        fetch(tmp_path, server.url)
    assert names(tmp_path) == ["XNLI-1.0.zip.part"]
    server.cut = None
    fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE
    assert server.requests[1] == ("XNLI-1.0.zip", "bytes=100-")


def test_a_part_that_is_complete_already_is_used(server, tmp_path):
    (tmp_path / "XNLI-1.0.zip.part").write_bytes(server.files["XNLI-1.0.zip"])
    fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE


def test_a_damaged_archive_is_deleted_and_fetched_anew_next_time(server, tmp_path):
    good = server.files["XNLI-1.0.zip"]
    server.files["XNLI-1.0.zip"] = good[:60] + bytes(255 - byte for byte in good[60:70]) + good[70:]
    with pytest.raises(ValueError, match=r"XNLI-1\.0\.zip: damaged .* run the command again"):
        fetch(tmp_path, server.url)
    assert names(tmp_path) == []
    server.files["XNLI-1.0.zip"] = good
    fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE


@pytest.mark.parametrize("evil", ["../evil.txt", "/evil.txt", "XNLI-1.0/../../evil.txt"])
def test_a_path_that_escapes_is_refused(evil, server, tmp_path):
    server.files["XNLI-1.0.zip"] = archive({NEEDED["XNLI-1.0"]: "x", evil: "evil"})
    with pytest.raises(ValueError, match="would escape from its folder"):
        fetch(tmp_path / "inner", server.url)
    assert not list(tmp_path.rglob("evil.txt")) and not (tmp_path / "inner/XNLI-1.0").exists()


def test_a_symbolic_link_is_refused(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        link = zipfile.ZipInfo("XNLI-1.0/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc")
    server.files["XNLI-1.0.zip"] = buffer.getvalue()
    with pytest.raises(ValueError, match="would escape"):
        fetch(tmp_path, server.url)


def test_a_bomb_is_refused_before_it_is_unpacked(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"would unpack to 100,0.. bytes"):
        fetch(tmp_path, server.url)
    assert names(tmp_path) == []  # deleted: the next call fetches it anew


def test_an_archive_of_something_else_is_refused(server, tmp_path):
    server.files["XNLI-1.0.zip"] = archive({"XNLI-1.0/other.txt": "x"})
    with pytest.raises(ValueError, match=r"has no XNLI-1\.0/xnli\.test\.tsv; that is no XNLI"):
        fetch(tmp_path, server.url)


def encrypted():
    content = bytearray(archive({NEEDED["XNLI-1.0"]: "x"}))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = content.index(mark) + (6 if mark[2] == 3 else 8)
        content[at] |= 1
    return bytes(content)


def of_another_method():
    content = bytearray(archive({NEEDED["XNLI-1.0"]: "x"}))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = content.index(mark) + (8 if mark[2] == 3 else 10)
        content[at] = 97
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Please log in</html>", b"PK", archive({}), archive({"XNLI-1.0": "a file"}),
     archive({"x": "x"}), encrypted(), of_another_method()],
    ids=["empty", "a page", "two bytes", "no files", "a file", "another", "encrypted", "method 97"],
)  # fmt: skip
def test_no_strange_archive_stays(content, server, tmp_path):
    good = server.files["XNLI-1.0.zip"]
    server.files["XNLI-1.0.zip"] = content
    with pytest.raises((ValueError, ConnectionError)) as error:
        fetch(tmp_path, server.url)
    assert "\n" not in str(error.value)
    server.files["XNLI-1.0.zip"] = good
    fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE


@pytest.mark.parametrize("trick", ["another part", "no length", "a part of something else"])
def test_a_server_that_tricks_spoils_one_try_at_most(trick, server, tmp_path):
    (tmp_path / "XNLI-1.0.zip.part").write_bytes(b"PK of another version" * 5)
    server.shift = 7 if trick == "another part" else 0
    server.length = "many" if trick == "no length" else ""
    with pytest.raises((ValueError, ConnectionError), match="run the command again"):
        fetch(tmp_path, server.url)
    server.shift, server.length = 0, ""
    for _ in range(2):
        with suppress(ValueError, ConnectionError):
            fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE


def test_what_a_killed_process_left_is_cleared(server, tmp_path):
    (tmp_path / ".XNLI-1.0.abc" / "XNLI-1.0").mkdir(parents=True)
    fetch(tmp_path, server.url)
    assert names(tmp_path) == COMPLETE and not list(tmp_path.glob(".XNLI*"))


def test_a_second_call_at_the_same_time_waits(server, tmp_path):
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(fetch, tmp_path, server.url) for _ in range(2)]
        assert both[0].result() == both[1].result()
    assert names(tmp_path) == COMPLETE and len(server.requests) == 2


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://[", "nothing", "http://a b"])
def test_an_error_of_the_command_is_one_line(address, tmp_path, monkeypatch, capsys):
    command = ["download", "--folder", str(tmp_path), "--base-url", address]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(download.__file__, run_name="__main__")
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1


def test_no_server_and_no_such_file_are_clear_errors(server, tmp_path):
    with pytest.raises(ConnectionError, match="run the command again to continue"):
        fetch(tmp_path, "http://127.0.0.1:9")
    server.files.clear()
    with pytest.raises(ConnectionError, match="the server answers 404"):
        fetch(tmp_path, server.url)
