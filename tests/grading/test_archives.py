"""Archives and folders that anybody may have made: unpacked into a folder only, or refused."""

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.submissions import archives
from grading.submissions.archives import Limits, SubmissionError
from grading.submissions.names import safe_name
from grading.submissions.submission import Submission, find, unpack
from tests.grading.handed_in import PROJECT, contents, one, problem, put, tarred, tree, zipped

PARTS = st.sampled_from(["..", ".", "", "gpt2", "GPT2", "config.py", "C:", "a\\..\\..\\b", "a\0b"])
NAMES_OF_FILES = st.one_of(
    st.lists(PARTS | st.text(max_size=8), max_size=6).map("/".join), st.text(max_size=30)
).filter(lambda name: name.encode(errors="ignore").decode() == name)
LINK = stat.S_IFLNK | 0o777


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(
    st.lists(NAMES_OF_FILES, max_size=6),
    st.sampled_from([0, 0o100644, LINK, 0o010644, 0o040755, "tar"]),
)
def test_nothing_is_written_outside_whatever_the_names(tmp_path_factory, names, mode):
    outer = tmp_path_factory.mktemp("outer")
    buffer, files = io.BytesIO(), {name: b"../../../escaped" for name in names}
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, name in enumerate(("gpt2/model.py", *names)):
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr = name, 0 if i != 1 or mode == "tar" else mode << 16
            archive.writestr(info, "../../../escaped")
    whole = tarred({"gpt2/model.py": b""} | files) if mode == "tar" else buffer.getvalue()
    (outer / "alice.zip").write_bytes(whole)
    before, folder = tree(outer), outer / "a/b/out"
    (found,) = find([outer / "alice.zip"])
    try:
        root = unpack(Submission("alice", outer / "alice.zip", ""), folder)
        assert root.is_relative_to(folder) and found.digest
    except SubmissionError as error:
        assert str(error) == found.problem
    assert all(path.is_dir() or stat.S_ISREG(path.lstat().st_mode) for path in folder.rglob("*"))
    inside = {name: data for name, data in tree(outer).items() if name.startswith("a/b/out/")}
    assert tree(outer) == {**before, "a": None, "a/b": None, "a/b/out": None, **inside}


@given(st.data(), st.sampled_from([zipped(PROJECT), tarred(PROJECT), tarred(PROJECT, "xz")]))
def test_a_damaged_archive_is_refused_or_read_and_never_a_crash(tmp_path_factory, data, whole):
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "alice.zip"
    path.write_bytes(damaged[: data.draw(st.integers(len(damaged) // 2, len(damaged)))])
    found = one(path)
    assert bool(found.problem) != bool(found.digest)


HOSTILE = {
    "leads out": ["../config.py", "gpt2/../../x.py", "/etc/passwd", "C:/Windows/x", "gpt2/c:x"],
    "can't be printed": ["gpt2/\x1b[31m.py"],
    "too long": ["a" * 300, "a/" * 30_000 + "b"],
    "only in case": ["Config.py", "GPT2/other.py", "config.py/x", "gpt2"],
}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_hostile_names(tmp_path, pack):
    for why, names in HOSTILE.items():
        for name in names:
            assert why in problem(tmp_path, pack({**PROJECT, name: b""})), name
    why = problem(tmp_path, pack({**PROJECT, "gpt2\\..\\..\\x.py": b""}))
    assert "leads out" in why or "a backslash" in why


def with_mode(mode, content=b"/etc/passwd"):
    buffer = io.BytesIO(zipped(PROJECT))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("data/special")
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def test_links_in_an_archive_are_left_out_and_said_so(tmp_path):
    link = {**PROJECT, "data/special": b""}
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE)
    tars = [tarred(link, type=kind, linkname="/etc/passwd") for kind in kinds]
    for number, archive in enumerate((with_mode(LINK), *tars)):
        (tmp_path / "alice.zip").write_bytes(archive)
        found = one(tmp_path / "alice.zip")
        assert found.notes == ("links are left out: data/special",)
        assert contents(unpack(found, tmp_path / str(number))) == PROJECT


def test_devices_pipes_and_names_that_are_there_twice(tmp_path):
    for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        assert "data/special is a device or a pipe" in problem(tmp_path, with_mode(kind | 0o666))
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        special = tarred({**PROJECT, "data/special": b""}, type=kind)
        assert "data/special is a device or a pipe" in problem(tmp_path, special)
    buffer = io.BytesIO(zipped(PROJECT))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.py", "x = 2")
    assert "config.py is there twice" in problem(tmp_path, buffer.getvalue())
    assert "can't be printed" in problem(tmp_path, zipped({**PROJECT, "gpt2/\0.py": b""}))


def test_links_and_pipes_in_a_folder(tmp_path):
    secret = put(tmp_path / "secret", {"key": b"secret"})
    folder = put(tmp_path / "class/alice", PROJECT)
    (folder / "data").symlink_to(secret)
    (folder / "gpt2/key.py").symlink_to(secret / "key")
    (folder / "loop").symlink_to(folder)
    found = one(folder)
    assert "data" in found.notes[0] and "gpt2/key.py" in found.notes[0] and "loop" in found.notes[0]
    assert contents(unpack(found, tmp_path / "out")) == PROJECT
    put(tmp_path / "class/bob", PROJECT)
    os.mkfifo(tmp_path / "class/bob/pipe")
    (tmp_path / "class/carol").symlink_to(folder)
    alice, bob, carol = find([tmp_path / "class"])
    assert not alice.problem and bob.problem == "bob/pipe is a device or a pipe; leave it out"
    assert "carol is a link" in carol.problem


def test_what_cannot_be_read_in_a_folder_is_a_problem(tmp_path, monkeypatch):
    folder, scan = put(tmp_path / "alice", PROJECT), os.scandir
    with open(os.fsencode(put(tmp_path / "bob", PROJECT)) + b"/gpt2/\xff.py", "wb"):
        assert "can't be printed" in one(tmp_path / "bob").problem

    def scandir(path):
        if Path(path).name == "runs":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert one(folder).problem == "alice: the folder runs can't be read (Permission denied)"


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BOMB", 2**20)
    zeros = zipped({**PROJECT, "zeros": bytes(2**21)})
    assert "far more than its size" in problem(tmp_path, zeros)
    assert "unpacks to 2 MiB" in problem(tmp_path, zeros, total=2**20)
    many = zipped({**PROJECT, **{f"data/{i}": b"" for i in range(100)}}, method=zipfile.ZIP_STORED)
    assert "more than 100 files" in problem(tmp_path, many, files=100)
    nested = zipped({"a.zip": zipped({"b.zip": zeros})})
    assert "far more than its size" in problem(tmp_path, nested)
    for _ in range(30):
        nested = zipped({"a.zip": nested})
    assert "there is no gpt2 package" in problem(tmp_path, nested)
    for packed in ("gz", "xz"):
        assert "larger than it" in problem(tmp_path, tarred({**PROJECT, "x": bytes(2**22)}, packed))
    headers = tarred(PROJECT, pax_headers={"comment": "x" * 2**17})
    assert "too many entries" in problem(tmp_path, headers)
    digits = tarred(PROJECT, pax_headers={"comment": "1" * 2**15})
    assert "headers are damaged" in problem(tmp_path, digits)
    few = tarred({f"{i}": b"" for i in range(200)})
    assert "too many entries" in problem(tmp_path, few, contents=2000)
    assert "too many entries" in problem(tmp_path, many, contents=2000)


def headers(content, name):
    """Where a file's local and central headers are in a zip."""
    local = content.rindex(b"PK\3\4", 0, content.index(name))
    return local, content.rindex(b"PK\1\2", 0, content.rindex(name))


def test_a_size_that_is_a_lie(tmp_path):
    content = bytearray(zipped({**PROJECT, "zeros": bytes(2**21)}))
    local, central = headers(content, b"zeros")
    content[local + 22 : local + 26] = content[central + 24 : central + 28] = struct.pack("<I", 10)
    assert "zeros can't be read (Bad CRC-32" in problem(tmp_path, bytes(content), total=2**20)
    entry = archives.Entry(("log",), "file", 1, 1, open=lambda: io.BytesIO(bytes(2**22)))
    with pytest.raises(SubmissionError, match="log is larger than it says"):
        list(archives.Budget(Limits(total=2**21)).chunks(entry))


def test_encrypted_truncated_and_oddly_packed_archives(tmp_path):
    content = bytearray(zipped(PROJECT))
    local, central = headers(content, b"config.py")
    content[local + 6] |= 1
    content[central + 8] |= 1
    assert "encrypted" in problem(tmp_path, bytes(content))
    assert "only a part" in problem(tmp_path, zipped(PROJECT)[:-30])
    assert "only a part" in problem(tmp_path, b"")
    assert "unusual way" in problem(tmp_path, zipped(PROJECT, method=zipfile.ZIP_LZMA))
    cut = zipped(PROJECT, method=zipfile.ZIP_STORED)
    assert "can't be read" in problem(tmp_path, cut[:200] + cut[400:])
    for packed in ("gz", "xz"):
        assert "can't be read" in problem(tmp_path, tarred(PROJECT, packed)[:-30])
    assert "can't be read" in problem(tmp_path, gzip.compress(b"no tar" * 200))
    marked = zipped({**PROJECT, "data/ü": b""}).replace("ü".encode(), b"\xff\xfe")
    assert "can't be read" in problem(tmp_path, marked)


@given(st.text(max_size=200))
def test_a_safe_name_is_one_harmless_part_of_a_path(text):
    name = safe_name(text)
    assert name and name == safe_name(name) and len(name.encode()) <= 110
    assert not set(name) & set('/\\:*?"<>|=+@, \t\n\0') and name[0] not in ".-_"
    assert safe_name("Zoë O'Brien_12") == "Zoë-O-Brien_12" and safe_name("王小明 (2)") == "王小明-2"
    assert safe_name("../../=cmd()") == "cmd"
    assert safe_name("CON") == "student-CON" and safe_name("...") == "unnamed"
