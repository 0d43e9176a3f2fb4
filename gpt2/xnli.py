"""XNLI (Conneau et al. 2018): premise, hypothesis and one of three labels, in 15 languages.

Handout sections 4.2 and 5.1.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from config import GPT2Config
from gpt2 import prompts
from gpt2.loss import IGNORED
from gpt2.nli_files import find_file, read_xnli_tsv
from gpt2.prompts import encode_pairs, label_id
from gpt2.tokenizer import check_tokenizer, load_tokenizer, pad_id
from utils import atomic_write, fingerprint

LANGUAGES = (
    *("en", "ar", "bg", "de", "el", "es", "fr"),
    *("hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"),
)
LABEL2ID = {"entailment": 0, "contradictory": 1, "neutral": 2}
LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
CACHE = ".xnli_cache"
SOURCES = b"".join(  # as they were loaded: what they encode is saved under their digest
    Path(__file__).with_name(f"{module}.py").read_bytes()
    for module in ("nli_files", "prompts", "text", "tokenizer", "xnli")
)


@cache
def _print_once(line: str) -> None:
    print(line)


class XNLIDataset(Dataset):
    """One language and split of XNLI as prompts to be completed by the label's digit.

    A train item is a dict of `input_ids` [T] (prompt and digit), `attention_mask` [T], `labels`
    [T] (-100 except for the digit) and `label_str` ("0", "1" or "2"). A dev or test item has the
    prompt alone, and no `labels`.

    The files may be any that `read_xnli_tsv` reads; `{lang}` in a path is the language. `subset`
    is a share (the first rows, as in the course) or, above 1, a count; only those rows are
    tokenized. Pairs of more than `max_length` tokens lose the ends of premise and hypothesis, never
    `Label:` or the digit; `num_truncated` counts them. `pair_ids` are the same for the same pair in
    every language. Rows are tokenized once: the ids are saved in `.xnli_cache` beside the file.
    With `verbose` one line says what was loaded, the first time.

    Raises FileNotFoundError for a missing file, or ValueError that names the argument or the line.
    """

    LABEL2ID: ClassVar = LABEL2ID
    ID2LABEL: ClassVar = {id: label for label, id in LABEL2ID.items()}

    def __init__(
        self,
        split="train",
        lang="en",
        train_path_template="XNLI-MT-1.0/multinli/multinli.train.{lang}.tsv",
        test_path="XNLI-1.0/xnli.test.tsv",
        dev_path="XNLI-1.0/xnli.dev.tsv",
        tokenizer=None,
        max_length=1024,
        subset=1.0,
        *,
        verbose=True,
    ):
        templates = {"train": train_path_template, "dev": dev_path, "test": test_path}
        if split not in templates:
            raise ValueError(f"split must be train, dev or test, got {split!r}")
        if not isinstance(lang, str) or not LANGUAGE.fullmatch(lang):
            raise ValueError(f"lang must be a language code such as en or zh-CN, got {lang!r}")
        if max_length < 16:
            raise ValueError(f"max_length must be at least 16, got {max_length}")
        if not subset > 0 or (subset > 1 and not float(subset).is_integer()):
            raise ValueError(f"subset must be a share in (0, 1] or a whole number, got {subset}")
        self.split, self.lang, self.max_length, self.subset = split, lang, max_length, subset
        self.path = find_file(templates[split], lang)
        self.tokenizer = load_tokenizer("gpt2") if tokenizer is None else tokenizer
        check_tokenizer(self.tokenizer)
        if not getattr(self.tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(self.tokenizer).__name__} is a slow tokenizer, written in Python; load the "
                "model's fast one with AutoTokenizer.from_pretrained"
            )
        self.digits = [label_id(self.tokenizer, str(label)) for label in sorted(LABEL2ID.values())]
        # The static method pads as GPT-2's tokenizer does; a loader of this set as its own does.
        self.collate_fn = partial(XNLIDataset.collate_fn, pad_token_id=pad_id(self.tokenizer))
        encoded = self._load_or_encode()
        self.ids, self.offsets = encoded["ids"], encoded["offsets"]
        self.label_ids, self.truncated = encoded["labels"], encoded["truncated"]
        texts = json.loads(encoded["texts"].tobytes())
        self.pair_ids, self.skipped = texts["pair_ids"], texts["skipped"]
        reasons = "; ".join(f"line {line}: {reason}" for line, reason in self.skipped[:3])
        skipped = f"{len(self.skipped):,} skipped" + (f" ({reasons})" if reasons else "")
        if len(self) == 0:
            raise ValueError(f"{self.path}: no usable row, {skipped}; labels are {[*LABEL2ID]}")
        if verbose:
            truncated = f"{self.num_truncated:,} truncated"
            _print_once(
                f"XNLI {split} {lang}: {len(self):,} rows, {skipped}, {truncated} ({self.path})"
            )

    @classmethod
    def in_folder(cls, folder, split="train", lang="en", **settings) -> "XNLIDataset":
        """Return the data set whose files lie in `folder` as the official archives unpack."""
        root = Path(folder)
        return cls(
            split,
            lang,
            train_path_template=root / "XNLI-MT-1.0" / "multinli" / "multinli.train.{lang}.tsv",
            test_path=root / "XNLI-1.0" / "xnli.test.tsv",
            dev_path=root / "XNLI-1.0" / "xnli.dev.tsv",
            **settings,
        )

    @cached_property
    def data(self) -> pd.DataFrame:
        """The rows as text: premise, hypo, label (and pair_id, line); read at the first use."""
        data = read_xnli_tsv(self.path, self.lang, self.subset)
        if data["label"].map(LABEL2ID).tolist() != self.label_ids.tolist():
            raise RuntimeError(f"{self.path}: changed since it was tokenized; load it again")
        return data

    @property
    def num_truncated(self) -> int:
        """How many rows lost text to fit `max_length`."""
        return int(self.truncated.sum())

    @property
    def labels(self) -> list[str]:
        """Every row's digit."""
        return [str(label) for label in self.label_ids]

    @property
    def lengths(self) -> np.ndarray:
        """Every row's prompt length in tokens."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that follow from the rows' ids and labels."""
        arrays = (self.ids, self.offsets, self.label_ids)
        return fingerprint(*map(torch.from_numpy, arrays))

    def __len__(self) -> int:
        return len(self.label_ids)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # negative ones count from the end
        prompt = self.ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int64)
        label = int(self.label_ids[index])
        item = {"label_str": str(label)}
        if self.split != "train":
            input_ids = torch.from_numpy(prompt)
            return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), **item}
        # BEGIN SOLUTION fine-tuning step
        input_ids = torch.from_numpy(np.append(prompt, self.digits[label]))
        labels = torch.full_like(input_ids, IGNORED)
        labels[-1] = input_ids[-1]
        # END SOLUTION
        item["labels"] = labels
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), **item}

    @staticmethod
    def collate_fn(batch: Sequence[dict], pad_token_id: int = GPT2Config().pad_token_id) -> dict:
        """Return `input_ids`, `attention_mask`, (`labels`), [B, T], padded on the right, and
        `label_strs`."""
        padding = {"input_ids": pad_token_id, "attention_mask": 0, "labels": IGNORED}
        padded = {
            name: pad_sequence([item[name] for item in batch], True, value)
            for name, value in padding.items()
            if name in batch[0]
        }
        return {**padded, "label_strs": [item["label_str"] for item in batch]}

    # ---- Reading and encoding --------------------------------------------------------------------

    def _load_or_encode(self) -> dict[str, np.ndarray]:
        path = self.path.parent / CACHE / f"{self.path.stem}.{self.lang}.{self._key()}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            pass  # not there, or torn: encode
        encoded = self._encode()
        try:
            with atomic_write(path) as temporary:
                save_file(encoded, temporary)
        except OSError as error:  # a read-only or full disk costs time, not the run
            warnings.warn(f"{path.parent}: no cache written ({error})", stacklevel=3)
        return encoded

    def _key(self) -> str:
        """Return a name for the encoded rows that follows from everything that decides them."""
        key = hashlib.blake2b(SOURCES, digest_size=16)
        key.update(self.tokenizer.backend_tokenizer.to_str().encode())
        settings = (self.lang, self.max_length, self.subset, prompts.PROMPT, LABEL2ID)
        key.update(repr(settings).encode())
        with open(self.path, "rb") as file:
            key.update(hashlib.file_digest(file, "blake2b").digest())
        return key.hexdigest()

    def _encode(self) -> dict[str, np.ndarray]:
        data = read_xnli_tsv(self.path, self.lang, self.subset)
        premises, hypos = data["premise"], data["hypo"]
        if self.lang == "zh":  # the course's way: train is cut into words by spaces, test is not
            premises, hypos = (c.str.replace(" ", "", regex=False) for c in (premises, hypos))
        texts = {"pair_ids": data["pair_id"].tolist(), "skipped": data.attrs["skipped"]}
        return {
            **encode_pairs(premises, hypos, self.tokenizer, self.max_length),
            "labels": data["label"].map(LABEL2ID).to_numpy(np.uint8),
            "texts": np.frombuffer(json.dumps(texts).encode(), np.uint8),
        }
