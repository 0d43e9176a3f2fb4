"""Submissions: found among whatever lies there, digested alike, unpacked into a folder only."""

import io
import os
import stat
import struct
import zipfile
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.submissions import archives
from grading.submissions.archives import Limits, SubmissionError
from grading.submissions.submission import Submission, find, safe_name, unpack

PROJECT = {
    "default_final_project.ipynb": b'{"cells": []}',
    "config.py": b"x = 1\n",
    "gpt2/model.py": b"class GPT2Model: ...\n",
    "runs/toy/model.safetensors": bytes(range(256)) * 40,
}
JUNK = {
    "__MACOSX/._config.py": b"junk",
    "gpt2/__pycache__/model.cpython-311.pyc": b"junk",
    "gpt2/.DS_Store": b"junk",
    ".venv/lib/site.py": b"junk",
    ".git/HEAD": b"junk",
    "._config.py": b"junk",
}


def zipped(files, prefix="", method=zipfile.ZIP_DEFLATED):
    """A zip's bytes; names may be anything that a zip can hold."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x", (2026, 11, 26, 10, 0, 0))
            info.filename, info.compress_type = prefix + name, method
            archive.writestr(info, content)
    return buffer.getvalue()


def put(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def tree(folder):
    """Every path below a folder, with a file's content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def contents(folder):
    return {name: content for name, content in tree(folder).items() if content is not None}


def one(path, **limits):
    (submission,) = find([path], limits=Limits(**limits))
    return submission


def problem(path, content, **limits):
    """What is wrong with a zip of these bytes, by `find` and by `unpack`, which must agree."""
    path = path / "alice.zip"
    path.write_bytes(content)
    found = one(path, **limits)
    assert found.student == "alice" and not found.digest
    with pytest.raises(SubmissionError) as error:
        unpack(Submission("alice", path, ""), mkdtemp(dir=path.parent), limits=Limits(**limits))
    assert str(error.value) == found.problem
    assert "\n" not in found.problem and found.problem.startswith("alice.zip")
    return found.problem


# ---- Found ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "project/", "Users/alice/Desktop/project/", "gpt2/"])
def test_a_folder_and_a_zip_are_the_same_in_any_wrapping(tmp_path, prefix):
    plain = one(put(tmp_path / "alice", PROJECT))
    folder = one(put(tmp_path / "bob", {prefix + name: data for name, data in PROJECT.items()}))
    archive = tmp_path / "carol.zip"
    junk = {prefix + name: data for name, data in JUNK.items()} | {"__MACOSX/x": b"junk"}
    archive.write_bytes(zipped({prefix + name: data for name, data in PROJECT.items()} | junk))
    others = [folder, one(archive)]
    assert [each.student for each in (plain, *others)] == ["alice", "bob", "carol"]
    assert len({each.digest for each in (plain, *others)}) == 1 and not plain.problem
    for each in (plain, *others):
        root = unpack(each, tmp_path / "out" / each.student)
        assert contents(root) == PROJECT and root == tmp_path / "out" / each.student


def test_a_digest_follows_names_and_bytes_and_nothing_else(tmp_path):
    folder = put(tmp_path / "alice", PROJECT)
    before = one(folder).digest
    os.utime(folder / "config.py", (0, 0))
    put(folder, JUNK)
    assert one(folder).digest == before
    (folder / "config.py").rename(folder / "gpt2/config.py")
    renamed = one(folder).digest
    (folder / "gpt2/config.py").write_bytes(b"x = 2\n")
    assert len({before, renamed, one(folder).digest}) == 3


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_class_of_folders_and_zips_wrapped_or_not(tmp_path, as_zip):
    files = {f"alice/{name}": data for name, data in PROJECT.items()}
    files |= {f"bob_1_assignsubmission_file/p/{name}": data for name, data in PROJECT.items()}
    files |= {"carol LATE.zip": zipped(PROJECT, "project/")}
    files |= {"dave_2_assignsubmission_file/work.zip": zipped(PROJECT)}
    files |= {"erin.zip": zipped({"project.zip": zipped(PROJECT)})}
    files |= {"frank.zip": b"PK, but no zip", "grace.rar": b"Rar!", "heidi/essay.pdf": b"%PDF"}
    files |= {"grades.csv": b"ignored", "readme.txt": b"ignored", "old/gradebook.csv": b"ours"}
    if as_zip:
        path = tmp_path / "download.zip"
        path.write_bytes(zipped(files, "Final project/", zipfile.ZIP_STORED))
    else:
        path = put(tmp_path / "class", files)
    found = find([path])
    students = ["alice", "bob_1", "carol-LATE", "dave_2", "erin", "frank", "grace", "heidi"]
    assert [each.student for each in found] == students
    well = found[:5]
    assert len({each.digest for each in well}) == 1 and not any(each.problem for each in well)
    for each in well:
        root = unpack(each, tmp_path / "out" / each.student)
        assert contents(root) == PROJECT
    for each, name in zip(found[5:], ("frank.zip", "grace.rar", "heidi"), strict=True):
        assert name in each.problem and "hand in the whole project folder" in each.problem
        with pytest.raises(SubmissionError):
            unpack(each, tmp_path / "out" / each.student)


def test_a_copy_counts_once_and_namesakes_are_told_apart(tmp_path):
    put(tmp_path / "first/project", PROJECT)
    (tmp_path / "first/project.zip").write_bytes(zipped(PROJECT, "project/"))
    put(tmp_path / "second/Project", PROJECT)
    put(tmp_path / "second/index.html", PROJECT)
    found = find([tmp_path / "first", tmp_path / "second", tmp_path / "first/project"])
    assert [each.student for each in found] == ["project", "Project-2", "index.html-2"]


def test_projects_of_other_shapes(tmp_path):
    notebook = put(tmp_path / "notebook", {"work.ipynb": b"{}", "data/pretrain.txt": b"text"})
    apart = put(tmp_path / "apart", {"work.ipynb": b"{}", "code/gpt2/model.py": b"", "a.txt": b""})
    package = put(tmp_path / "package", {"gpt2/model.py": b"", "gpt2/layer.py": b""})
    backup = put(tmp_path / "backup", PROJECT | {f"old/{name}": b"" for name in PROJECT})
    for path, root in ((notebook, ""), (apart, "code"), (package, ""), (backup, "")):
        submission = one(path)
        assert submission.student == path.name and not submission.problem
        assert (
            unpack(submission, tmp_path / "out" / path.name) == tmp_path / "out" / path.name / root
        )


def test_a_notebook_among_submissions_is_no_project(tmp_path):
    put(tmp_path, {"solution.ipynb": b"{}", "alice.zip": zipped(PROJECT), "bob.zip": b"broken"})
    put(tmp_path / "carol", PROJECT)
    found = {each.student: each for each in find([tmp_path])}
    assert set(found) == {"alice", "bob", "carol", "solution"}
    assert "not a zip" in found["bob"].problem and "not a zip" in found["solution"].problem


def test_two_projects_in_one_submission_are_a_question(tmp_path):
    two = {f"{folder}/{name}": b"" for folder in ("a", "b") for name in PROJECT}
    put(tmp_path, {"alice.zip": zipped(two), "bob.zip": zipped(PROJECT)})
    alice, _ = find([tmp_path])
    assert alice.problem == "alice.zip: there are several projects (a and b); hand in one"


def test_what_is_no_submission_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        find([tmp_path / "missing.zip"])
    with pytest.raises(ValueError, match="holds no project"):
        find([put(tmp_path / "empty", {"readme.txt": b""})])
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        find([tmp_path / "empty/readme.txt"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(FileExistsError):
        unpack(one(put(tmp_path / "alice", PROJECT)), tmp_path / "full")


@given(st.text(max_size=200))
def test_a_safe_name_is_one_harmless_part_of_a_path(text):
    name = safe_name(text)
    assert name and name == safe_name(name) and len(name.encode()) <= 110
    assert not set(name) & set('/\\:*?"<>|=+@, \t\n\0') and name[0] not in ".-_"


def test_a_safe_name_stays_readable():
    assert safe_name("Zoë O'Brien_12_assignsubmission_file_") == "Zoë-O-Brien_12"
    assert safe_name("王小明 (2)") == "王小明-2"
    assert safe_name("../../=cmd()") == "cmd"
    assert safe_name("CON") == "student-CON" and safe_name("...") == "unnamed"


# ---- Unpacked, or refused ----------------------------------------------------------------------

PARTS = st.sampled_from(
    ["..", ".", "", "gpt2", "GPT2", "config.py", "C:", "a\\..\\..\\b", "~", "a\0b"]
)
NAMES = st.one_of(
    st.lists(PARTS | st.text(max_size=8), max_size=6).map("/".join),
    st.text(max_size=30),
).filter(lambda name: name.encode(errors="ignore").decode() == name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(st.lists(NAMES, max_size=6), st.sampled_from([0, 0o100644, 0o120777, 0o010644, 0o040755]))
def test_nothing_is_written_outside_whatever_the_names(tmp_path_factory, names, mode):
    outer = tmp_path_factory.mktemp("outer")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("gpt2/model.py", "")
        for i, name in enumerate(names):
            info = zipfile.ZipInfo("x")
            info.filename = name
            if i == 0:
                info.external_attr = mode << 16
            archive.writestr(info, "../../../escaped")
    (outer / "alice.zip").write_bytes(buffer.getvalue())
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


BROKEN = zipped(PROJECT)


@given(st.data())
def test_a_damaged_zip_is_refused_or_read_and_never_a_crash(tmp_path_factory, data):
    damaged = bytearray(BROKEN)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "alice.zip"
    path.write_bytes(
        damaged[: data.draw(st.integers(0, len(damaged)))] if len(damaged) % 2 else damaged
    )
    found = one(path)
    assert bool(found.problem) != bool(found.digest)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../config.py", "leads out"),
        ("gpt2/../../x.py", "leads out"),
        ("/etc/passwd", "leads out"),
        ("C:/Windows/x", "leads out"),
        ("gpt2/c:x", "leads out"),
        ("gpt2\\model2.py", "backslash"),
        ("gpt2/\0.py", "can't be printed"),
        ("gpt2/\x1b[31m.py", "can't be printed"),
        ("a" * 300, "too long"),
        ("a/" * 400 + "b", "too long"),
        ("Config.py", "only in case"),
        ("GPT2/other.py", "only in case"),
        ("config.py/x", "only in case"),
        ("gpt2", "only in case"),
    ],
)
def test_hostile_names(tmp_path, name, why):
    assert why in problem(tmp_path, zipped({**PROJECT, name: b""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path):
    buffer = io.BytesIO(zipped(PROJECT))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("config.py", "x = 2")
    assert "config.py is there twice" in problem(tmp_path, buffer.getvalue())


def with_mode(mode, content=b"/etc/passwd"):
    buffer = io.BytesIO(zipped(PROJECT))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("data/special")
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def test_links_in_a_zip_are_left_out_and_said_so(tmp_path):
    (tmp_path / "alice.zip").write_bytes(with_mode(stat.S_IFLNK | 0o777))
    found = one(tmp_path / "alice.zip")
    assert found.notes == ("links are not followed and were left out: data/special",)
    assert contents(unpack(found, tmp_path / "out")) == PROJECT


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_in_a_zip(tmp_path, kind):
    assert "data/special is a device or a pipe" in problem(tmp_path, with_mode(kind | 0o666))


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


def test_a_folders_name_that_is_no_text(tmp_path):
    folder = put(tmp_path / "alice", PROJECT)
    with open(os.fsencode(folder) + b"/gpt2/\xff.py", "wb"):
        pass
    assert "can't be printed" in one(folder).problem


def test_a_folder_that_may_not_be_read_is_a_problem(tmp_path, monkeypatch):
    folder, scan = put(tmp_path / "alice", PROJECT), os.scandir

    def scandir(path):
        if Path(path).name == "runs":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert one(folder).problem == "alice: the folder runs can't be read (Permission denied)"


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BOMB", 2**20)
    zeros = zipped({**PROJECT, "zeros": bytes(2**21)})
    assert "far more than its size" in problem(tmp_path, zeros)
    assert "unpacks to 2 MiB" in problem(tmp_path, zeros, total=2**20)
    assert "unpacks to 2 MiB" in problem(tmp_path, zeros, file=2**20)
    many = zipped({**PROJECT, **{f"data/{i}": b"" for i in range(100)}}, method=zipfile.ZIP_STORED)
    assert "more than 100 files" in problem(tmp_path, many, files=100)
    nested = zipped({"a.zip": zipped({"b.zip": zipped({"c.zip": zeros})})})
    assert "there is no gpt2 package" in problem(tmp_path, nested)
    assert "far more than its size" in problem(
        tmp_path, zipped({"a.zip": zipped({"b.zip": zeros})})
    )
    monkeypatch.setattr(archives, "CONTENTS", 2000)
    assert "too many entries" in problem(tmp_path, many)


def headers(content, name):
    """Where a file's local and central headers are in a zip."""
    local = content.rindex(b"PK\3\4", 0, content.index(name))
    return local, content.rindex(b"PK\1\2", 0, content.rindex(name))


def test_a_size_that_is_a_lie(tmp_path):
    content = bytearray(zipped({**PROJECT, "zeros": bytes(2**21)}))
    local, central = headers(content, b"zeros")
    content[local + 22 : local + 26] = content[central + 24 : central + 28] = struct.pack("<I", 10)
    assert "zeros can't be read (Bad CRC-32" in problem(tmp_path, bytes(content), total=2**20)


def test_a_file_that_grows_while_it_is_read(tmp_path):
    entry = archives.Entry(("log",), "file", 1, 1, lambda: io.BytesIO(bytes(2**22)))
    with pytest.raises(SubmissionError, match="log is larger than it says"):
        list(archives.Budget(Limits(file=2**21)).chunks(entry))


def test_encrypted_truncated_and_oddly_packed_zips(tmp_path):
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


def test_names_of_other_encodings(tmp_path):
    unmarked = zipped({**PROJECT, "data/x.txt": b""}).replace(b"data/x.txt", "data/ü.tx".encode())
    (tmp_path / "mac.zip").write_bytes(unmarked)
    assert (unpack(one(tmp_path / "mac.zip"), tmp_path / "out") / "data/ü.tx").is_file()
    marked = zipped({**PROJECT, "data/ü": b""}).replace("ü".encode(), b"\xff\xfe")
    assert "can't be read" in problem(tmp_path, marked)
