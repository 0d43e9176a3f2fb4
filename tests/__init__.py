"""Tests: tests/gpt2/test_attention.py tests gpt2/attention.py, and so on."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample"


def few_pairs(folder: Path, pairs: int = 24) -> Path:
    """Copy the sample into a folder, with that many pairs of each language for dev and test, and
    three times as many to train on."""
    train = Path("XNLI-MT-1.0") / "multinli"
    for name in (train, Path("XNLI-1.0")):
        (folder / name).mkdir(parents=True)
    for path in (SAMPLE / train).glob("*.tsv"):
        lines = path.read_text("utf-8").split("\n")[: 3 * pairs + 1]
        (folder / train / path.name).write_text("\n".join([*lines, ""]), "utf-8")
    for split in ("dev", "test"):
        name = Path("XNLI-1.0") / f"xnli.{split}.tsv"
        header, *lines = (SAMPLE / name).read_text("utf-8").rstrip("\n").split("\n")
        seen: dict[str, int] = {}
        for line in lines:
            lang = line.split("\t")[0]
            seen[lang] = seen.get(lang, 0) + 1
            if seen[lang] <= pairs:
                header += "\n" + line
        (folder / name).write_text(header + "\n", "utf-8")
    return folder
