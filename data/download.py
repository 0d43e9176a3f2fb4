"""Fetch the official XNLI archives and unpack them into the layout of the handout.

    python -m data.download [--folder .]

leaves XNLI-1.0/ and XNLI-MT-1.0/ in the folder. An interrupted download continues where
it stopped; what is there already is not fetched again. XNLI is licensed CC BY-NC 4.0.
"""

import argparse
import errno
import http.client
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from console import errors_in_one_line, progress_bar

OFFICIAL = "https://dl.fbaipublicfiles.com/XNLI"
NEEDED = {  # a file that each archive must leave behind
    "XNLI-1.0": "XNLI-1.0/xnli.test.tsv",
    "XNLI-MT-1.0": "XNLI-MT-1.0/multinli/multinli.train.en.tsv",
}
LARGEST = 4 * 2**30  # bytes that an archive may unpack to; the real ones have 0.1 and 1.5 GB
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of the disk, and not of the network
TIMEOUT = 30.0  # seconds without a byte


def fetch(folder=".", base_url: str = OFFICIAL) -> list[Path]:
    """Make sure that both archives are unpacked in `folder`; returns the two folders.

    A second call at the same time waits for the first. Raises ConnectionError if the server can't
    be reached or ends too soon (what has come is kept for the next try), ValueError for an archive
    that is damaged or not XNLI, which is deleted.
    """
    folder = Path(folder)
    with alone(folder):
        for name, needed in NEEDED.items():
            for left in folder.glob(f".{name}.*"):  # by a killed process
                shutil.rmtree(left)
            if (folder / needed).is_file():
                print(f"{name}: already in {folder.resolve()}")
                continue
            archive = folder / f"{name}.zip"
            if not archive.is_file():
                download(f"{base_url}/{name}.zip", archive)
            unpack(archive, folder, name, needed)
            archive.unlink()
    return [folder / name for name in NEEDED]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into the folder, and keep others out."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another download into {folder} is running; waiting for its end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def not_to_blame(error: Exception) -> bool:
    """Return whether the system and not a file is the reason: no room, no right, too many files."""
    of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return isinstance(error, MemoryError) or of_system


def download(url: str, path: Path) -> None:
    """Fetch `url` to `path`, by way of `path`.part, which a later call continues."""
    part = path.with_name(path.name + ".part")
    start = part.stat().st_size if part.is_file() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            continued = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if start and not (response.status == 206 and continued):
                start = 0
            if response.status == 206 and not continued:
                part.unlink(missing_ok=True)
                raise ValueError("the server sends another part")
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            settings = {"total": total, "initial": start, "unit": "B", "unit_scale": True}
            bar = progress_bar(desc=path.name, **settings)
            with bar, open(part, "ab" if start else "wb") as file:
                while chunk := response.read(2**18):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:  # nothing is left to fetch
            reason = f"the server answers {error.code} {error.reason}"
            raise ConnectionError(f"{url}: {reason}") from None
        total = start
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = getattr(error, "reason", "") or str(error) or type(error).__name__
        raise ConnectionError(f"{url}: {reason}; run the command again to continue") from None
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(
            f"{url}: only {part.stat().st_size:,} of {total:,} bytes came; "
            "run the command again to continue"
        )
    part.replace(path)


def unpack(archive: Path, folder: Path, name: str, needed: str) -> None:
    """Unpack the archive's folder `name` into `folder`, whole or not at all.

    An archive that cannot be used is deleted, so that the next call fetches it anew.
    """
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary:
        try:
            with zipfile.ZipFile(archive) as zipped:
                members = [m for m in zipped.infolist() if _wanted(m, name)]
                size = sum(member.file_size for member in members)
                if size > LARGEST:
                    raise ValueError(f"would unpack to {size:,} bytes; that is no XNLI")
                for member in members:
                    zipped.extract(member, temporary)  # checks each file's CRC
            if not (Path(temporary) / needed).is_file():
                raise ValueError(f"has no {needed}; that is no XNLI")
        except Exception as error:  # zipfile raises almost anything for a strange archive
            if not_to_blame(error):
                raise
            archive.unlink()
            raise ValueError(
                f"{archive}: damaged ({error}), and deleted; run the command again to fetch it anew"
            ) from None
        target = folder / name
        if target.exists():
            shutil.rmtree(target)
        os.replace(Path(temporary) / name, target)


def _wanted(member: zipfile.ZipInfo, name: str) -> bool:
    """Whether to unpack a member; ValueError if it would escape from the folder."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"{member.filename!r} would escape from its folder")
    return path.parts[:1] == (name,) and not member.is_dir()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default=".", help="where XNLI-1.0 and XNLI-MT-1.0 go")
    parser.add_argument("--base-url", default=OFFICIAL, help="a mirror with the same two archives")
    args = parser.parse_args()
    for folder in fetch(args.folder, args.base_url):
        print(f"ready: {folder}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
