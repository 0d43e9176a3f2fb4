"""XNLI (Conneau et al. 2018): premise, hypothesis and one of three labels, in 15 languages.

Handout sections 4.2 and 5.1.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gpt2.nli_files import COLUMNS, SPELLINGS, find_file, read_xnli_tsv
from gpt2.tasks import PromptDataset, Task
from gpt2.tokenizer import check_tokenizer, load_tokenizer
from utils import atomic_write, fingerprint

LANGUAGES = (
    *("en", "ar", "bg", "de", "el", "es", "fr"),
    *("hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"),
)
LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
CACHE = ".xnli_cache"
SOURCES = b"".join(  # as they were loaded: what they encode is saved under their digest
    Path(__file__).with_name(f"{module}.py").read_bytes()
    for module in ("nli_files", "prompts", "tasks", "text", "tokenizer", "xnli")
)


@dataclass(frozen=True)
class NLITask(Task):
    """Natural language inference as a prompt; by default the handout's prompt and XNLI's files.

    `labels` maps what files say to the text that the model writes, `spellings` other spellings of
    a label to it, and `columns` each column to the names that files have for it: the prompt's
    fields, `label`, and, where there are any, `pair_id` and `language`.
    """

    prompt: str = "Premise: {premise}\nHypothesis: {hypo}\nLabel:"
    labels: Mapping[str, str] = field(
        default_factory=lambda: {"entailment": "0", "contradictory": "1", "neutral": "2"}
    )
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(COLUMNS))
    languages: tuple[str, ...] = LANGUAGES
    spellings: Mapping[str, str] = field(default_factory=lambda: dict(SPELLINGS))

    def __post_init__(self):
        super().__post_init__()
        if missing := [name for name in (*self.fields, "label") if name not in self.columns]:
            raise ValueError(
                f"columns says nothing of {', '.join(missing)}; give the names that files have for "
                "each field of the prompt and for the label"
            )

    def dataset(self, folder, split="train", lang="en", **settings) -> "XNLIDataset":
        """Return the data set whose files lie in `folder` as XNLI's archives unpack."""
        return XNLIDataset.in_folder(folder, split, lang, task=self, **settings)


XNLI = NLITask()
LABEL2ID = {label: i for i, label in enumerate(XNLI.labels)}


@cache
def _print_once(line: str) -> None:
    print(line)


class XNLIDataset(PromptDataset):
    """One language and split of XNLI as prompts to be completed by the label's digit.

    A train item is a dict of `input_ids` [T] (prompt and digit), `attention_mask` [T], `labels`
    [T] (-100 except for the digit) and `label_str` ("0", "1" or "2"). A dev or test item has the
    prompt alone, and no `labels`. Another `task` has another prompt or other label words.

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
        task: NLITask = XNLI,
        verbose=True,
    ):
        templates = {"train": train_path_template, "dev": dev_path, "test": test_path}
        if split not in templates:
            raise ValueError(f"split must be train, dev or test, got {split!r}")
        if not isinstance(lang, str) or not LANGUAGE.fullmatch(lang):
            raise ValueError(f"lang must be a language code such as en or zh-CN, got {lang!r}")
        if max_length < 16:
            raise ValueError(f"max_length must be at least 16, got {max_length}")
        tokenizer = load_tokenizer("gpt2") if tokenizer is None else tokenizer
        check_tokenizer(tokenizer)
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(tokenizer).__name__} is a slow tokenizer, written in Python; load the "
                "model's fast one with AutoTokenizer.from_pretrained"
            )
        self.subset, self.path = subset, find_file(templates[split], lang)
        self._start(task, tokenizer, split, lang, max_length)
        encoded = self._load_or_encode()
        texts = json.loads(encoded["texts"].tobytes())
        self.pair_ids, self.skipped = texts["pair_ids"], texts["skipped"]
        skipped = self._skipped_rows()
        if len(self.pair_ids) == 0:
            raise ValueError(f"{self.path}: no usable row, {skipped}; labels are {[*task.labels]}")
        self._use(encoded)
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

    @property
    def digits(self) -> list[int]:
        """The one token of each label; ValueError where a label has more."""
        if self.longest_answer > 1:
            raise ValueError(f"labels have several tokens: {self.label_tokens}; use label_tokens")
        return [tokens[0] for tokens in self.label_tokens]

    @cached_property
    def data(self) -> pd.DataFrame:
        """The rows as text: premise, hypo, label (and pair_id, line); read at the first use."""
        data = self._read()
        if [*data["label"].map([*self.task.labels].index)] != self.label_ids.tolist():
            raise RuntimeError(f"{self.path}: changed since it was tokenized; load it again")
        return data

    # ---- Reading and encoding --------------------------------------------------------------------

    def _load_or_encode(self) -> dict[str, np.ndarray]:
        key = self._key()
        path = self.path.parent / CACHE / f"{self.path.stem}.{self.lang}.{key}.safetensors"
        try:
            encoded = load_file(path)
            if np.array_equal(encoded.pop("checksum", None), _checksum(key, encoded)):
                return encoded
            raise ValueError("wrong checksum")
        except FileNotFoundError:
            pass
        except (OSError, ValueError, SafetensorError) as error:
            warnings.warn(f"{path}: damaged ({error}); it is made again", stacklevel=3)
        encoded = self._encode_file()
        try:
            with atomic_write(path) as temporary:
                save_file({**encoded, "checksum": _checksum(key, encoded)}, temporary)
        except OSError as error:  # a read-only or full disk costs time, not the run
            warnings.warn(f"{path.parent}: no cache written ({error})", stacklevel=3)
        return encoded

    def _key(self) -> str:
        """Return a name for the encoded rows that follows from everything that decides them."""
        key = hashlib.blake2b(SOURCES, digest_size=16)
        key.update(self.tokenizer.backend_tokenizer.to_str().encode())
        settings = (self.lang, self.max_length, self.subset, self.task)
        key.update(repr(settings).encode())
        with open(self.path, "rb") as file:
            key.update(hashlib.file_digest(file, "blake2b").digest())
        return key.hexdigest()

    def _read(self) -> pd.DataFrame:
        task = self.task
        return read_xnli_tsv(
            self.path,
            self.lang,
            self.subset,
            columns=task.columns,
            labels=task.labels,
            spellings=task.spellings,
        )

    def _encode_file(self) -> dict[str, np.ndarray]:
        data = self._read()
        texts = {"pair_ids": data["pair_id"].tolist(), "skipped": data.attrs["skipped"]}
        if self.lang == "zh":  # the course's way: train is cut into words by spaces, test is not
            for name in self.task.fields:
                data[name] = data[name].str.replace(" ", "", regex=False)
        texts = np.frombuffer(json.dumps(texts).encode(), np.uint8)
        return {**self._encode(data), "texts": texts}


def _checksum(key: str, encoded: dict[str, np.ndarray]) -> np.ndarray:
    """Return what follows from the name of a cache and every bit of its arrays."""
    tensors = (torch.from_numpy(array.copy()) for _, array in sorted(encoded.items()))
    return np.frombuffer(f"{key} {sorted(encoded)} {fingerprint(*tensors)}".encode(), np.uint8)
