"""What is in a folder, zip or tar that somebody handed in, listed without trusting it.

A listing never fails for what one entry is or is called: the entry says what is wrong with it, and
`accepted` raises that when it is known whose entry it is.
"""

import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import mktime
from typing import BinaryIO

from grading.submissions.names import decoded, shown

IGNORED = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", "node_modules"}
IGNORED |= {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".hypothesis"}
VENV = (".venv", "venv")  # environments by their name; others have one of MARKERS
MARKERS = ("pyvenv.cfg", "conda-meta")
IN_ENVIRONMENT = {*MARKERS, "bin", "lib", "lib64", "libs", "include", "share", "etc", "scripts"}
IN_ENVIRONMENT |= {"library", "dlls", "tcl", "tools", "man", "ssl", "var", "sbin", "python.exe"}
CHUNK = 2**20
HEADER = 2**16  # bytes of a tar's header
CROWDED = "the archive has too many entries; leave out data and libraries"
DEEPEST = 50  # folders in a name
BOMB = 64 * 2**20  # bytes unpacked; below that, anything may pack as well as it likes


class SubmissionError(ValueError):
    """A submission can't be read; the message is one sentence, fit for its student."""


@dataclass(frozen=True)
class Limits:
    """What one submission may have at most."""

    total: int = 2 * 2**30  # bytes unpacked
    files: int = 20_000
    ratio: int = 200  # bytes unpacked from one byte of an archive
    contents: int = 8 * 2**20  # bytes of its table of contents, libraries included


@dataclass(frozen=True)
class Entry:
    """A file, folder, link or (as its pyvenv.cfg) environment; `problem`: why it isn't touched."""

    parts: tuple[str, ...]
    kind: str  # "file", "folder", "link" or "environment"
    size: int = 0
    packed: int = 0  # bytes that it takes where it lies
    time: float = 0  # seconds since 1970, by the file's or the archive's own word
    open: Callable[[], BinaryIO] | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        return shown("/".join(self.parts))


def list_folder(folder: Path) -> list[Entry]:
    """Return what is in a folder and in those below it; links aren't followed."""
    entries = []

    def unreadable(error: OSError) -> None:
        parts = Path(error.filename).relative_to(folder).parts
        problem = f"the folder {shown('/'.join(parts))} can't be read ({error.strerror})"
        entries.append(Entry((*parts, "."), "folder", problem=problem))

    for at, folders, files in os.walk(folder, onerror=unreadable):
        for path in (Path(at, name) for name in folders + files):
            status, name = path.lstat(), path.relative_to(folder).as_posix()
            size, opener = status.st_size, partial(open_plainly, path)
            entries.append(_entry(name, status.st_mode, size, size, status.st_mtime, opener))
        folders[:] = [name for name in folders if not _is_ignored(name)]
    return _without_environments(entries)


def list_archive(entry: Entry, stack: ExitStack, budget: "Budget") -> list[Entry]:
    """Return what is in a zip, .tar.gz or .tar.xz, which stays open until the stack closes it."""
    if entry.problem or entry.kind == "link":
        raise SubmissionError(entry.problem or f"{entry.name} is a link; give what it points to")
    with _reading(entry):
        file, contents = stack.enter_context(entry.open()), budget.limits.contents
        if isinstance(file, zipfile.ZipExtFile):  # in which seeking would start over
            file, contents = _spooled(budget.chunks(entry), stack), min(contents, Limits.contents)
        start, packed = file.read(6), file.seek(0, os.SEEK_END)
        file.seek(0)
        if start.startswith((b"\x1f\x8b", b"\xfd7zXZ")):
            opener = partial(gzip.open if start[:1] == b"\x1f" else lzma.open, file)
            chunks = budget.chunks(replace(entry, open=opener), budget.limits.ratio * packed)
            return _without_environments(_of_tar(_spooled(chunks, stack), stack, budget.limits))
        if not zipfile.is_zipfile(file):
            fix = "hand in the whole project folder as a .zip"
            raise SubmissionError(f"{entry.name} is not a zip, or only a part of one; {fix}")
        return _without_environments(_of_zip(_Bounded(file, contents), stack))


def accepted(entries: list[Entry], limits: Limits) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the files in order, and notes of what was left out.

    SubmissionError unless all the files may be unpacked, side by side and on any system.
    """
    if wrong := next((entry.problem for entry in entries if entry.problem), ""):
        raise SubmissionError(wrong)
    files = [entry for entry in entries if entry.kind == "file"]
    size, packed = sum(entry.size for entry in files), sum(entry.packed for entry in files)
    if len(entries) > limits.files:
        raise SubmissionError(f"there are more than {limits.files:,} files; leave out the data")
    if size > limits.total:
        raise SubmissionError(f"it unpacks to {size / 2**20:,.0f} MiB; leave out data and old runs")
    if size > max(BOMB, limits.ratio * packed):
        raise SubmissionError("it unpacks to far more than its size; zip the project folder anew")
    known = {}
    for entry in entries:
        key = ()
        for depth, part in enumerate(entry.parts, 1):
            key = (*key, unicodedata.normalize("NFC", part).casefold())
            is_file = depth == len(entry.parts) and entry.kind != "folder"
            this = (entry.parts[:depth], is_file)
            if (is_file and key in known) or known.setdefault(key, this) != this:
                why = "is there twice, or differs from another name only in case; rename it"
                raise SubmissionError(f"{entry.name} {why}")
    notes = []
    for kind in ("link", "environment"):
        if names := [entry.name for entry in entries if entry.kind == kind]:
            some = ", ".join(names[:5]) + (", ..." if names[5:] else "")
            notes.append(f"{kind}s are left out: {some}")
    return sorted(files, key=lambda entry: entry.parts), tuple(notes)


@dataclass
class Budget:
    """Counts what is read, as the sizes that an archive declares may be lies."""

    limits: Limits
    spent: int = 0

    def chunks(self, entry: Entry, most: float = float("inf")) -> Iterator[bytes]:
        """Yield a file's bytes; SubmissionError where they are more than `most` and BOMB."""
        limit = min(self.spent + max(most, BOMB), self.limits.total)
        with _reading(entry), entry.open() as file:
            while chunk := file.read(CHUNK):
                self.spent += len(chunk)
                if self.spent > limit:
                    raise SubmissionError(f"{entry.name} is larger than it says; zip it anew")
                yield chunk


class _Bounded:
    """A file of which no read is longer than `most`, as archives say what is to be read.

    `headers` are read through it: a long row of digits in one takes tarfile minutes in some
    versions of Python (CVE-2024-6232).
    """

    def __init__(self, file: BinaryIO, most: int, headers: bool = False):
        self._file, self.most, self.headers = file, most, headers

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            raise SubmissionError(CROWDED)
        content = self._file.read(size)
        if self.headers and re.search(rb"\d{100}", content):
            raise SubmissionError("its headers are damaged; hand in the project folder as a .zip")
        return content


def _spooled(chunks: Iterable[bytes], stack: ExitStack) -> BinaryIO:
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    file.writelines(chunks)
    file.seek(0)
    return file


def _of_tar(file: BinaryIO, stack: ExitStack, limits: Limits) -> list[Entry]:
    bounded, entries = _Bounded(file, HEADER, headers=True), []
    tar = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:"))  # noqa: SIM115
    while (info := tar.next()) is not None:
        tar.members, info.pax_headers = [], {}  # else each keeps a copy of all headers
        link = stat.S_IFLNK if info.issym() or info.islnk() else stat.S_IFIFO
        plain = info.isreg() and not info.issparse()
        mode = stat.S_IFREG if plain else stat.S_IFDIR if info.isdir() else link
        opener = partial(tar.extractfile, info)
        entries.append(_entry(info.name, mode, info.size, info.size, info.mtime, opener))
        if len(entries) > limits.contents // 100:
            raise SubmissionError(CROWDED)
    bounded.most, bounded.headers = 2 * CHUNK, False
    return entries


def _of_zip(file: BinaryIO, stack: ExitStack) -> list[Entry]:
    archive, entries = stack.enter_context(zipfile.ZipFile(file)), []
    names = {info: _unicode_path(info) for info in archive.infolist()}
    unsaid = [info for info, name in names.items() if not name]
    texts = decoded([info.orig_filename.encode("cp437") for info in unsaid])
    for info, name in (names | dict(zip(unsaid, texts, strict=True))).items():
        problem, opener = "", partial(archive.open, info)
        if info.flag_bits & 1:
            problem = "the zip is encrypted; zip the project folder without a password"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "the zip is packed in an unusual way; zip the project folder with deflate"
        name = name.replace("\\", "/")  # PowerShell's
        mode, when = info.external_attr >> 16, mktime((*info.date_time, 0, 0, -1))
        sizes = info.file_size, info.compress_size
        entries.append(_entry(name, mode, *sizes, when, opener, problem))
    return entries


def _unicode_path(info: zipfile.ZipInfo) -> str:
    """Return the name where the zip says it in Unicode: by a flag, or by Info-ZIP's extra field."""
    if info.flag_bits & 0x800:
        return info.orig_filename  # .filename would end at a zero byte
    extra, checksum = info.extra, zlib.crc32(info.orig_filename.encode("cp437"))
    start = extra.find(struct.pack("<BI", 1, checksum))
    end = start + int.from_bytes(extra[start - 2 : start], "little")
    ours = start >= 4 and extra[start - 4 : start - 2] == b"up"
    return extra[start + 5 : end].decode("utf-8", "replace") if ours else ""


def _entry(
    name: str, mode: int, size: int, packed: int, time: float, opener, problem: str = ""
) -> Entry:
    """Return an entry of a folder or archive, whose name and mode may be anything."""
    raw = name.split("/")
    if not name.isprintable() and {"Cc", "Cs"} & set(map(unicodedata.category, name)):
        problem = f"{shown(name)} has characters in its name that can't be printed; rename it"
    elif "\\" in name:
        problem = f"{shown(name)} has a backslash in its name; rename it"
    elif raw[0] == "" or ".." in raw or re.search("(^|/)[A-Za-z]:", name):
        problem = f"{shown(name)} leads out of the folder; zip the project folder itself"
    elif len(name) > 1000 or len(raw) > DEEPEST or max(len(part.encode()) for part in raw) > 255:
        problem = f"{shown(name)} has too long a name; shorten it"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        problem = f"{shown(name)} is a device or a pipe; leave it out"
    is_folder = name.endswith("/") or stat.S_ISDIR(mode)
    kind = "link" if stat.S_ISLNK(mode) else "folder" if is_folder else "file"
    parts = tuple(part[:256] for part in raw[:DEEPEST] if part not in ("", "."))
    if not parts and kind != "folder":
        problem, parts = problem or "there is a file without a name; rename it", ("?",)
    return Entry(parts, kind, size, packed, time, opener, problem)


def _without_environments(entries: list[Entry]) -> list[Entry]:
    """Leave out what no one wrote, and of each Python environment all but one entry, its marker.

    Of an environment made in the project's own folder the usual folders are left out.
    """
    entries = [e for e in entries if e.parts and not any(map(_is_ignored, e.parts))]
    roots = {e.parts[:i] for e in entries for i, p in enumerate(e.parts) if p in MARKERS}
    kept, found = [], set()
    for entry in entries:
        for i, part in enumerate(entry.parts):
            inside = entry.parts[:i] in roots and part.casefold() in IN_ENVIRONMENT
            if inside or (part in VENV and len(entry.parts) > i + 1):
                found.add((*entry.parts[: i + (not inside)], "pyvenv.cfg"))
                break
        else:
            kept.append(entry)
    return kept + [Entry(parts, "environment") for parts in sorted(found)]


@contextmanager
def _reading(entry: Entry) -> Iterator[None]:
    try:
        yield
    except SubmissionError:
        raise
    except Exception as error:  # for what is broken, zipfile has a dozen
        why = shown(str(error) or type(error).__name__)
        raise SubmissionError(f"{entry.name} can't be read ({why}); hand it in anew") from error


def open_plainly(path: Path) -> BinaryIO:
    """Open a plain file, and nothing else that may be there by now."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0))  # Windows has only the last
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("not a plain file")
    return os.fdopen(handle, "rb")


def _is_ignored(name: str) -> bool:
    return name in IGNORED or name.startswith("._")
