"""Text and JSON files that are whole, whenever the process is killed."""

import json
from pathlib import Path

from utils import atomic_write

RESULTS = Path(__file__).parent.parent / "results"


def write_text(path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, value) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, to_json(value))


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


def kept_result(name: str) -> str:
    """Return the sentence of results/real_data.json that says what was measured on real data."""
    return read_json(RESULTS / "real_data.json")[name]
