"""Packs what is handed in into submission.zip: code, notebook, and what the runs have left.

    python -m grading.submit

Left out: .venv and caches, checkpoints, and the second copy of each best model. Two runs of it on
the same files make the same bytes.
"""

import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = {".venv", ".git", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache"}
LEFT_OUT |= {".hypothesis", ".xnli_cache", "XNLI-1.0", "XNLI-MT-1.0"}


def main() -> None:
    target = ROOT / "submission.zip"
    paths = [path for path in sorted(ROOT.rglob("*")) if path.is_file() and _belongs(path)]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            entry = zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with open(path, "rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
                while chunk := source.read(2**20):
                    packed.write(chunk)
    print(f"{target.name}: {len(paths)} files, {target.stat().st_size / 1e6:.1f} MB")


def _belongs(path: Path) -> bool:
    inside = path.relative_to(ROOT)
    embedded = inside.parts[:2] == ("data", "sample") and ".xnli_cache" not in inside.parts
    heavy = path.name.startswith("checkpoint-") or inside.parts[-2:] == ("best_model", "model.pt")
    return embedded or not (LEFT_OUT & set(inside.parts) or heavy or path.suffix == ".zip")


if __name__ == "__main__":
    main()
