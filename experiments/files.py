"""Text and JSON files that are whole, whenever the process is killed."""

import hashlib
import json
import tomllib
from pathlib import Path

from utils import atomic_write

CHECKSUMS = "checksums.json"
RESULTS = Path(__file__).parent.parent / "results"


def write_text(path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, value) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, to_json(value))


def check_folder(out: Path) -> None:
    """Raise NotADirectoryError where there can be no folder `out`, before anything is computed."""
    there = next(path for path in (out, *out.parents, Path()) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there}: a file, but --out is a folder; name another one")


def to_json(value) -> str:
    """Return the value as JSON text; equal values give equal texts."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def read_json(path: Path) -> dict | None:
    """Return the object in a JSON file; None if there is no file, ValueError if it is damaged."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it and run again") from error
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{path}: not what a run writes; delete it and run again")
    return value


def write_sealed(path, value: dict) -> None:
    """Write a JSON file as `write_json` does, with a checksum of its content."""
    write_json(path, {**value, "checksum": digest(to_json(json.loads(to_json(value))).encode())})


def read_sealed(path: Path) -> dict | None:
    """Return what `write_sealed` wrote; None if there is no file, ValueError if it is damaged."""
    value = read_json(path)
    if value is not None and value.pop("checksum", None) != digest(to_json(value).encode()):
        raise ValueError(f"{path}: damaged (wrong checksum); delete its folder and run again")
    return value


def seal_folder(folder: Path) -> None:
    """Write the checksums of a folder's files beside them."""
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name[0] != "."]
    sums = {file.name: _file_digest(file) for file in files if file.name != CHECKSUMS}
    write_sealed(folder / CHECKSUMS, sums)


def verify_folder(folder: Path) -> None:
    """Raise ValueError for a file that is missing or not as it was when the folder was sealed."""
    for name, expected in (read_sealed(folder / CHECKSUMS) or {CHECKSUMS: ""}).items():
        if not (folder / name).is_file() or _file_digest(folder / name) != expected:
            raise ValueError(
                f"{folder / name}: not what the run saved; delete {folder.parent} and run again"
            )


def digest(content: bytes) -> str:
    """Return 16 hexadecimal digits that follow from every bit of the content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def read_toml(path: Path) -> dict:
    """Return what a TOML file holds; ValueError that names the file and the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no UTF-8, no TOML
        raise ValueError(f"{path}: not TOML ({error})") from error


def write_toml(path, settings: dict) -> None:
    """Write settings as a TOML file; None is "none"."""
    lines = [f"{k} = {json.dumps('none' if v is None else v)}\n" for k, v in settings.items()]
    write_text(path, "".join(lines))


def kept_result(name: str) -> str:
    """Return the sentence of results/real_data.json that says what was measured on real data."""
    return read_json(RESULTS / "real_data.json")[name]
