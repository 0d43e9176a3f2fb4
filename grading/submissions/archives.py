"""What is in a folder or zip that somebody handed in, listed and read without trusting it.

A listing never fails for what one entry is or is called: the entry says what is wrong with it, and
`accepted` raises that when it is known whose entry it is. Nothing is written here.
"""

import os
import re
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

IGNORED = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".venv", "venv"}
IGNORED |= {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".hypothesis"}
CHUNK = 2**20
CONTENTS = (
    64 * 2**20
)  # bytes of a zip's table of contents: a class's hundreds of thousands of names
BOMB = 64 * 2**20  # bytes unpacked; below that, anything may pack as well as it likes


class SubmissionError(ValueError):
    """A submission can't be read; the message is one sentence, fit for its student."""


@dataclass(frozen=True)
class Limits:
    """What one submission may have at most."""

    total: int = 2 * 2**30  # bytes unpacked
    file: int = 2 * 2**30  # bytes of one file
    files: int = 20_000
    ratio: int = 200  # bytes unpacked from one byte of a zip


LIMITS = Limits()


@dataclass(frozen=True)
class Entry:
    """A file, folder or link in a folder or zip; `problem` says why it may not be touched."""

    parts: tuple[str, ...]
    kind: str  # "file", "folder" or "link"
    size: int = 0
    packed: int = 0  # bytes that it takes where it lies
    open: Callable[[], BinaryIO] | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        return shown("/".join(self.parts))


def list_folder(folder: Path) -> list[Entry]:
    """What is in a folder and in those below it; links aren't followed."""
    entries, waiting = [], [()]
    while waiting:
        parts = waiting.pop()
        try:
            with os.scandir(folder.joinpath(*parts)) as scan:
                found = [(item, item.stat(follow_symlinks=False)) for item in scan]
        except OSError as error:
            problem = f"the folder {shown('/'.join(parts))} can't be read ({error.strerror})"
            entries.append(Entry((*parts, "."), "folder", problem=problem))
            continue
        for item, status in found:
            if _is_ignored(item.name):
                continue
            path, size = (*parts, item.name), status.st_size
            opener = partial(_open_plainly, Path(item.path))
            entry = _looked_at("/".join(path), status.st_mode, size, size, opener)
            entries.append(entry)
            if entry.kind == "folder" and not entry.problem:
                waiting.append(path)
    return entries


def list_zip(entry: Entry, stack: ExitStack, limits: Limits = LIMITS) -> list[Entry]:
    """What is in a zip, which stays open until the stack closes it."""
    if entry.problem or entry.kind == "link":
        raise SubmissionError(entry.problem or f"{entry.name} is a link; give what it points to")
    with _reading(entry):
        file = stack.enter_context(entry.open())
    if isinstance(file, zipfile.ZipExtFile):  # a zip in a zip, where seeking would start over
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        for chunk in Budget(limits).chunks(entry):
            file.write(chunk)
    with _reading(entry):
        if not zipfile.is_zipfile(file):
            fix = "hand in the whole project folder as a .zip"
            raise SubmissionError(f"{entry.name} is not a zip, or only a part of one; {fix}")
        archive = stack.enter_context(zipfile.ZipFile(_Bounded(file)))
    entries = []
    for info in archive.infolist():
        found = _of_zip(archive, info)
        if not any(map(_is_ignored, found.parts)) and (found.parts or found.kind != "folder"):
            entries.append(found)
    return entries


def list_file(path: Path, stack: ExitStack, limits: Limits = LIMITS) -> list[Entry]:
    """What is in a zip on disk."""
    entry = Entry((path.name,), "file", open=partial(_open_plainly, path.resolve()))
    return list_zip(entry, stack, limits)


def accepted(entries: list[Entry], limits: Limits) -> tuple[list[Entry], tuple[str, ...]]:
    """The files in order, and a note if there are links, which are left out.

    SubmissionError unless all the files may be unpacked, side by side and on any system.
    """
    if wrong := next((entry.problem for entry in entries if entry.problem), ""):
        raise SubmissionError(wrong)
    files = [entry for entry in entries if entry.kind == "file"]
    links = [entry.name for entry in entries if entry.kind == "link"]
    size, packed = sum(entry.size for entry in files), sum(entry.packed for entry in files)
    if len(files) > limits.files:
        raise SubmissionError(f"there are more than {limits.files:,} files; leave out the data")
    if size > limits.total or any(entry.size > limits.file for entry in files):
        raise SubmissionError(f"it unpacks to {size / 2**20:,.0f} MiB; leave out data and old runs")
    if size > BOMB and size > limits.ratio * packed:
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
    some = ", ".join(links[:5]) + (", ..." if links[5:] else "")
    notes = (f"links are not followed and were left out: {some}",) if links else ()
    return sorted(files, key=lambda entry: entry.parts), notes


@dataclass
class Budget:
    """Counts what is read, as the sizes that a zip declares may be lies."""

    limits: Limits
    spent: int = 0

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        most = min(self.spent + self.limits.file, self.limits.total)
        with _reading(entry), entry.open() as file:
            while chunk := file.read(CHUNK):
                self.spent += len(chunk)
                if self.spent > most:
                    raise SubmissionError(f"{entry.name} is larger than it says; zip it anew")
                yield chunk


class _Bounded:
    """A zip's file, of which no read is longer than CONTENTS: zipfile reads what the zip says."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if size > CONTENTS:
            raise SubmissionError("the zip has too many entries; leave out data and environments")
        return self._file.read(size)


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    name, problem = info.orig_filename, ""  # .filename would end at a zero byte
    if not info.flag_bits & 0x800:  # macOS writes UTF-8 without saying so
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    if info.flag_bits & 1:
        problem = "the zip is encrypted; zip the project folder without a password"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = "the zip is packed in an unusual way; zip the project folder with deflate"
    opener, mode = partial(archive.open, info), info.external_attr >> 16
    return _looked_at(name, mode, info.file_size, info.compress_size, opener, problem)


def _looked_at(name: str, mode: int, size: int, packed: int, opener, problem: str = "") -> Entry:
    """An entry of a folder or zip, whose name and mode may be anything."""
    raw = name.split("/")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        problem = f"{shown(name)} has characters in its name that can't be printed; rename it"
    elif "\\" in name:
        problem = f"{shown(name)} has a backslash in its name; zip the project folder anew"
    elif raw[0] == "" or ".." in raw or any(re.match("[A-Za-z]:", part) for part in raw):
        problem = f"{shown(name)} leads out of the folder; zip the project folder itself"
    elif len(name) > 1000 or len(raw) > 50 or any(len(part.encode()) > 255 for part in raw):
        problem = f"{shown(name)} has too long a name; shorten it"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        problem = f"{shown(name)} is a device or a pipe; leave it out"
    is_folder = name.endswith("/") or stat.S_ISDIR(mode)
    kind = "link" if stat.S_ISLNK(mode) else "folder" if is_folder else "file"
    parts = tuple(part for part in raw if part not in ("", "."))
    if not parts and kind != "folder":
        problem, parts = problem or "there is a file without a name; rename it", ("?",)
    return Entry(parts, kind, size, packed, opener, problem)


@contextmanager
def _reading(entry: Entry) -> Iterator[None]:
    try:
        yield
    except SubmissionError:
        raise
    except Exception as error:  # for what is broken, zipfile has a dozen
        why = shown(str(error) or type(error).__name__)
        raise SubmissionError(f"{entry.name} can't be read ({why}); hand it in anew") from error


def _open_plainly(path: Path) -> BinaryIO:
    """Open a plain file, and nothing else that may be there by now."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("not a plain file")
    return os.fdopen(handle, "rb")


def _is_ignored(name: str) -> bool:
    return name in IGNORED or name.startswith("._")


def shown(text: str, longest: int = 100) -> str:
    """A name or message from a submission, as one of ours can show it."""
    text = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."
