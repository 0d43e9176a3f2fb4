"""What every benchmark is given, and the data that they share."""

from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset
from utils import supports_bf16

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    device: str = "cpu"  # or "cuda"
    quick: bool = False  # the smallest work that goes through all the code; no figure to keep
    xnli: Path = ROOT / "data" / "sample"  # holds XNLI-1.0 and XNLI-MT-1.0
    text: Path = ROOT / "pretrain.txt"  # one document a line

    @property
    def precisions(self) -> list[str]:
        """bfloat16 only where the machine multiplies in it."""
        return ["float32", "bf16"] if supports_bf16() else ["float32"]

    def dataset(self, split: str, lang: str = "en", **changes) -> XNLIDataset:
        settings = {"tokenizer": load_tokenizer(), "verbose": False, **changes}
        return XNLIDataset.in_folder(self.xnli, split, lang, **settings)

    def batches(self, size: int, count: int) -> list[dict]:
        """The first English training pairs, in the file's order."""
        rows = self.dataset("train", subset=float(size * count))
        if len(rows) < size * count:
            raise ValueError(f"{rows.path}: {len(rows)} pairs, but {size * count} are needed")
        batches = [
            XNLIDataset.collate_fn([rows[i] for i in range(start, start + size)])
            for start in range(0, size * count, size)
        ]
        return [
            {name: x.to(self.device) if isinstance(x, torch.Tensor) else x for name, x in b.items()}
            for b in batches
        ]
