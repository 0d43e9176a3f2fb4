"""Fetch the official XNLI archives and unpack them into the layout of the handout.

    python -m data.download [--folder .]

leaves XNLI-1.0/ and XNLI-MT-1.0/ in the folder. An interrupted download goes on where it
stopped; what is there already is not fetched again. XNLI is licensed CC BY-NC 4.0.
"""

import argparse
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

OFFICIAL = "https://dl.fbaipublicfiles.com/XNLI"
NEEDED = {  # a file that each archive must leave behind
    "XNLI-1.0": "XNLI-1.0/xnli.test.tsv",
    "XNLI-MT-1.0": "XNLI-MT-1.0/multinli/multinli.train.en.tsv",
}
LARGEST = 4 * 2**30  # bytes that an archive may unpack to; the real ones have 0.1 and 1.5 GB
TIMEOUT = 30.0  # seconds without a byte


def fetch(folder=".", base_url: str = OFFICIAL) -> list[Path]:
    """Make sure that both archives are unpacked in `folder`; returns the two folders.

    Raises ConnectionError if the server can't be reached or ends too soon (what has come is kept
    for the next try), ValueError for an archive that is damaged or not XNLI.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, needed in NEEDED.items():
        if (folder / needed).is_file():
            print(f"{name}: already in {folder.resolve()}")
            continue
        archive = folder / f"{name}.zip"
        if not archive.is_file():
            download(f"{base_url}/{name}.zip", archive)
        unpack(archive, folder, name, needed)
        archive.unlink()
    return [folder / name for name in NEEDED]


def download(url: str, path: Path) -> None:
    """Fetch `url` to `path`, by way of `path`.part, which a later call continues."""
    part = path.with_name(path.name + ".part")
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if start and response.status != 206:
                start = 0  # the server sends everything again
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            bar = tqdm(
                desc=path.name, total=total, initial=start, unit="B", unit_scale=True, ncols=100
            )
            with bar, open(part, "ab" if start else "wb") as file:
                while chunk := response.read(2**18):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is left to fetch
            total = start
        else:
            raise ConnectionError(
                f"{url}: the server answers {error.code} {error.reason}"
            ) from None
    except (OSError, urllib.error.URLError) as error:
        raise ConnectionError(
            f"{url}: {getattr(error, 'reason', error)}; run the command again to continue"
        ) from None
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(
            f"{url}: only {part.stat().st_size:,} of {total:,} bytes came; "
            "run the command again to continue"
        )
    part.replace(path)


def unpack(archive: Path, folder: Path, name: str, needed: str) -> None:
    """Unpack the archive's folder `name` into `folder`, whole or not at all.

    A damaged archive is deleted, so that the next call fetches it anew.
    """
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary:
        try:
            with zipfile.ZipFile(archive) as zipped:
                members = [m for m in zipped.infolist() if _wanted(m, name, archive)]
                size = sum(member.file_size for member in members)
                if size > LARGEST:
                    raise ValueError(f"{archive}: would unpack to {size:,} bytes; that is no XNLI")
                for member in members:
                    zipped.extract(member, temporary)  # checks each file's CRC
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # a full disk, say: the archive is not to blame
            archive.unlink()
            raise ValueError(
                f"{archive}: damaged ({error}), and deleted; run the command again to fetch it anew"
            ) from None
        if not (Path(temporary) / needed).is_file():
            raise ValueError(f"{archive}: has no {needed}; that is no XNLI")
        target = folder / name
        if target.exists():
            shutil.rmtree(target)
        os.replace(Path(temporary) / name, target)


def _wanted(member: zipfile.ZipInfo, name: str, archive: Path) -> bool:
    """Whether to unpack a member; ValueError if it would escape from the folder."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"{archive}: {member.filename!r} would escape from its folder; refused")
    return path.parts[:1] == (name,) and not member.is_dir()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default=".", help="where XNLI-1.0 and XNLI-MT-1.0 go")
    parser.add_argument("--base-url", default=OFFICIAL, help="a mirror with the same two archives")
    args = parser.parse_args()
    try:
        for folder in fetch(args.folder, args.base_url):
            print(f"ready: {folder}")
    except (ConnectionError, ValueError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
