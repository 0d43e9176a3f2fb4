"""XNLI (Conneau et al. 2018): premise, hypothesis and one of three labels, in 15 languages.

Handout sections 4.2 and 5.1.
"""

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from gpt2.loss import IGNORED
from gpt2.prompts import PROMPT, encode_pairs
from utils import atomic_write, fingerprint

LANGUAGES = (
    "en",
    "ar",
    "bg",
    "de",
    "el",
    "es",
    "fr",
    "hi",
    "ru",
    "sw",
    "th",
    "tr",
    "ur",
    "vi",
    "zh",
)
LABEL2ID = {"entailment": 0, "contradictory": 1, "neutral": 2}
SPELLINGS = {**LABEL2ID, "contradiction": 1}  # dev and test spell it otherwise than train
PAD = 50256  # end-of-text; the mask says that it is none
CACHE = ".xnli_cache"
CACHE_VERSION = 2  # to be raised when the same inputs are to give other ids


def read_xnli_tsv(path, lang: str | None = None) -> pd.DataFrame:
    """The usable rows of a train, dev or test file: premise, hypo, label, pair_id, line.

    Fields end at tabs and rows at line feeds, nothing else: quotes are text, and so are the odd
    separators inside sentences. `lang` picks a language of a dev or test file. `label` is a key
    of LABEL2ID; `line` is the row's line in the file, from 1; `pair_id` is the same for the same
    pair in every language (in train files, its line). Rows that can't be used are in
    `.attrs["skipped"]` as (line, reason), and a warning counts them.

    Raises FileNotFoundError that names the command, ValueError for a file of other columns or not
    in UTF-8, or a language that is not in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; python -m data.download fetches XNLI-1.0 and XNLI-MT-1.0 here"
        )
    try:
        lines = path.read_bytes().decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); "
            "fetch the file again"
        ) from error
    header = lines[0].removesuffix("\r").split("\t")
    names = ("premise", "hypo", "label")
    if "sentence1" in header:
        names = ("sentence1", "sentence2", "gold_label", "pairID", "language")
    missing = [name for name in names if name not in header]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)} in its first line; not XNLI")
    columns = [header.index(name) for name in names]
    rows, skipped, languages = [], [], set()
    for number, text in enumerate(lines[1:], start=2):
        fields = text.removesuffix("\r").split("\t")
        if fields == [""] and number == len(lines):
            continue  # the end of the last row
        if len(fields) <= max(columns):
            skipped.append((number, f"{len(fields)} fields, not {len(header)}"))
            continue
        premise, hypo, label, *rest = (fields[column] for column in columns)
        if rest:
            languages.add(rest[1])
            if lang is not None and rest[1] != lang:
                continue
        if label not in SPELLINGS:
            skipped.append((number, f"label {label[:20]!r}"))
        elif not premise.strip() or not hypo.strip():
            skipped.append((number, "an empty sentence"))
        else:
            rows.append((premise, hypo, SPELLINGS[label], rest[0] if rest else str(number), number))
    if lang is not None and languages and lang not in languages:
        raise ValueError(f"{path}: no rows in {lang!r}, only {', '.join(sorted(languages))}")
    if skipped:
        shown = "; ".join(f"line {line}: {reason}" for line, reason in skipped[:3])
        warnings.warn(f"{path}: {len(skipped)} rows left out ({shown})", stacklevel=2)
    data = pd.DataFrame(rows, columns=["premise", "hypo", "label", "pair_id", "line"])
    data["label"] = pd.Categorical.from_codes(data["label"], list(LABEL2ID)).astype(str)
    data.attrs["skipped"] = skipped
    return data


class XNLIDataset(Dataset):
    """One language and split of XNLI as prompts to be completed by the label's digit.

    A train item is a dict of `input_ids` [T] (prompt and digit), `attention_mask` [T], `labels`
    [T] (-100 but for the digit) and `label_str` ("0", "1" or "2"). A dev or test item has the
    prompt alone, and no `labels`.

    `subset` is a share (the first rows, as in the course) or, if a whole number above 1, a count.
    For the same pairs in every language and each label alike, see `stratified_subset`. Pairs of
    more than `max_length` tokens lose the ends of premise and hypothesis, whichever is longer,
    never `Label:` or the digit; `num_truncated` counts them.

    Rows are tokenized once; the ids are kept in `.xnli_cache` beside the file, under a name made
    of the file's content, the tokenizer and the settings.
    """

    LABEL2ID = LABEL2ID

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
    ):
        paths = {
            "train": str(train_path_template).format(lang=lang),
            "dev": dev_path,
            "test": test_path,
        }
        if split not in paths:
            raise ValueError(f"split must be train, dev or test, got {split!r}")
        if lang not in LANGUAGES:
            raise ValueError(f"lang must be one of {', '.join(LANGUAGES)}, got {lang!r}")
        if max_length < 16:
            raise ValueError(f"max_length must be at least 16, got {max_length}")
        if subset <= 0 or (subset > 1 and subset != int(subset)):
            raise ValueError(f"subset must be a share in (0, 1] or a whole number, got {subset}")
        if tokenizer is None:
            from gpt2.tokenizer import load_tokenizer

            tokenizer = load_tokenizer("gpt2")
        self.split, self.lang, self.path = split, lang, Path(paths[split])
        self.tokenizer, self.max_length = tokenizer, max_length
        self.digits = [_only_token(tokenizer, str(label)) for label in LABEL2ID.values()]
        encoded = self._load_or_encode()
        self.ids, self.offsets = encoded["ids"], encoded["offsets"]
        self.label_ids, self.truncated = encoded["labels"], encoded["truncated"]
        self.skipped_lines = encoded["skipped"].tolist()
        everything = len(self.label_ids)
        if everything == 0:
            raise ValueError(f"{self.path}: no usable row in it")
        count = int(subset) if subset > 1 else int(everything * subset)
        self.rows = np.arange(min(max(count, 1), everything))

    @classmethod
    def in_folder(cls, folder, split="train", lang="en", **settings) -> "XNLIDataset":
        """The data set whose files lie in `folder` as the official archives unpack."""
        root = Path(folder)
        train = root / "XNLI-MT-1.0" / "multinli" / "multinli.train."
        return cls(
            split,
            lang,
            train_path_template=str(train).replace("{", "{{").replace("}", "}}") + "{lang}.tsv",
            test_path=root / "XNLI-1.0" / "xnli.test.tsv",
            dev_path=root / "XNLI-1.0" / "xnli.dev.tsv",
            **settings,
        )

    @cached_property
    def data(self) -> pd.DataFrame:
        """The rows as text: premise, hypo, label (and pair_id, line); read when first asked for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said already, when the data set was made
            data = self._read()
        labels = data["label"].map(LABEL2ID).to_numpy(np.uint8)
        if not np.array_equal(labels, self.label_ids):
            raise RuntimeError(f"{self.path}: changed since it was tokenized; make this set anew")
        return data.iloc[self.rows].reset_index(drop=True)

    @property
    def num_truncated(self) -> int:
        return int(self.truncated[self.rows].sum())

    @property
    def labels(self) -> list[str]:
        """Every row's digit."""
        return [str(label) for label in self.label_ids[self.rows]]

    @property
    def lengths(self) -> np.ndarray:
        """Every row's prompt length in tokens."""
        return np.diff(self.offsets)[self.rows]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that follow from the rows' ids and labels."""
        arrays = (self.ids, self.offsets, self.label_ids, self.rows)
        return fingerprint(*map(torch.from_numpy, arrays))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        prompt = self.ids[self.offsets[row] : self.offsets[row + 1]].astype(np.int64)
        label = int(self.label_ids[row])
        if self.split != "train":
            input_ids = torch.from_numpy(prompt)
            item = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
            return {**item, "label_str": str(label)}
        # BEGIN SOLUTION fine-tuning step
        input_ids = torch.from_numpy(np.append(prompt, self.digits[label]))
        labels = torch.full_like(input_ids, IGNORED)
        labels[-1] = input_ids[-1]
        # END SOLUTION
        return {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "labels": labels,
            "label_str": str(label),
        }

    @staticmethod
    def collate_fn(batch: Sequence[dict]) -> dict:
        """`input_ids`, `attention_mask`, (`labels`), [B, T] padded on the right; `label_strs`."""
        width = max(len(item["input_ids"]) for item in batch)

        def padded(name: str, value: int) -> Tensor:
            rows = torch.full((len(batch), width), value, dtype=torch.long)
            for row, item in zip(rows, batch, strict=True):
                row[: len(item[name])] = item[name]
            return rows

        result = {
            "input_ids": padded("input_ids", PAD),
            "attention_mask": padded("attention_mask", 0),
            "label_strs": [item["label_str"] for item in batch],
        }
        if "labels" in batch[0]:
            result["labels"] = padded("labels", IGNORED)
        return result

    def stratified_subset(self, per_label: int, seed: int = 0) -> "XNLIDataset":
        """A copy with `per_label` rows of each label drawn by `seed`, in the file's order.

        Rows are drawn by their place among the usable ones, so languages whose files are parallel
        and have no `skipped_lines` give the same pairs. Raises ValueError where a label has fewer
        rows.
        """
        if per_label < 1:
            raise ValueError(f"per_label must be at least 1, got {per_label}")
        generator = np.random.default_rng(seed)
        labels = self.label_ids[self.rows]
        chosen = []
        for name, label in LABEL2ID.items():
            places = np.flatnonzero(labels == label)
            if len(places) < per_label:
                raise ValueError(f"{self.path}: only {len(places)} rows are {name}")
            chosen.append(generator.permutation(places)[:per_label])
        copy = object.__new__(type(self))
        copy.__dict__ = {name: value for name, value in vars(self).items() if name != "data"}
        copy.rows = self.rows[np.sort(np.concatenate(chosen))]
        return copy

    # ---- Reading and encoding --------------------------------------------------------------------

    def _read(self) -> pd.DataFrame:
        return read_xnli_tsv(self.path, None if self.split == "train" else self.lang)

    def _load_or_encode(self) -> dict[str, np.ndarray]:
        if not self.path.is_file():
            read_xnli_tsv(self.path)  # raises
        key = hashlib.blake2b(digest_size=16)
        with open(self.path, "rb") as file:
            while chunk := file.read(2**24):
                key.update(chunk)
        tokenizer = hashlib.blake2b(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        settings = (CACHE_VERSION, tokenizer, self.split, self.lang, self.max_length, PROMPT)
        key.update(repr(settings).encode())
        path = (
            self.path.parent / CACHE / f"{self.path.stem}.{self.lang}.{key.hexdigest()}.safetensors"
        )
        try:
            encoded = load_file(path)
            skipped = encoded["skipped"].tolist()
        except (OSError, SafetensorError, KeyError):
            pass  # not there, or torn: encode
        else:
            if skipped:
                lines = ", ".join(map(str, skipped[:3]))
                warnings.warn(
                    f"{self.path}: {len(skipped)} rows left out (first: line {lines})",
                    stacklevel=3,
                )
            return encoded
        encoded = self._encode()
        try:
            with atomic_write(path) as temporary:
                save_file(encoded, temporary)
        except OSError as error:  # a read-only or full disk costs time, not the run
            warnings.warn(f"{path.parent}: no cache written ({error})", stacklevel=3)
        return encoded

    def _encode(self) -> dict[str, np.ndarray]:
        data = self._read()
        premises, hypos = data["premise"], data["hypo"]
        if self.lang == "zh":  # the course's way: train is cut into words by spaces, test is not
            premises, hypos = (c.str.replace(" ", "", regex=False) for c in (premises, hypos))
        return {
            **encode_pairs(premises, hypos, self.tokenizer, self.max_length),
            "labels": data["label"].map(LABEL2ID).to_numpy(np.uint8),
            "skipped": np.array([line for line, _ in data.attrs["skipped"]], np.int64),
        }


def _only_token(tokenizer, text: str) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"the tokenizer makes {len(ids)} tokens of {text!r}; a label needs one")
    return ids[0]
