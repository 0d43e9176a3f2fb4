"""TextDataset: one document a line, tokenized once (handout section 3.4)."""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, random_split

from gpt2.samplers import ShuffledRows
from gpt2.tokenizer import check_tokenizer, encode_texts, pad_id, prefix_ids


class TextDataset(Dataset):
    """Hold the lines of a UTF-8 text file, each a document that ends with one end-of-text token.

    Item i is `(input_ids, attention_mask)`, both [max_len], padded on the right; `collate_fn`
    makes a batch as wide as its longest document. Lines of white space are left out. A document
    of more than `max_len` tokens keeps its first `max_len`, without the end-of-text token, since
    it does not end there; `num_truncated` and `num_tokens_cut` count what is lost.

    Raises FileNotFoundError, or ValueError for a file with no text or not in `encoding`, or a
    tokenizer without a vocabulary or an end-of-text token.
    """

    def __init__(self, filepath, tokenizer, max_len, *, encoding="utf-8"):
        if max_len < 2:
            raise ValueError(f"max_len must be at least 2, got {max_len}: one token to predict")
        check_tokenizer(tokenizer)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "the tokenizer has no end-of-text token to end a document with; set one, such as "
                "tokenizer.eos_token = tokenizer.sep_token"
            )
        self.max_len = max_len
        self.pad_token_id = pad_id(tokenizer)
        lines = [line for line in read_lines(filepath, encoding) if line.strip()]
        if not lines:
            raise ValueError(f"{filepath}: no text in it; give a file with one document a line")
        prefix = prefix_ids(tokenizer)
        documents = [[*prefix, *ids] for ids in encode_texts(tokenizer, lines)]
        self.num_truncated = sum(len(ids) >= max_len for ids in documents)
        self.num_tokens_cut = sum(max(0, len(ids) + 1 - max_len) for ids in documents)
        self.documents = [
            torch.tensor([*ids, tokenizer.eos_token_id][:max_len], dtype=torch.int32)
            for ids in documents
        ]

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        ids = self.documents[index]
        input_ids = torch.full((self.max_len,), self.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        input_ids[: len(ids)], attention_mask[: len(ids)] = ids, 1
        return input_ids, attention_mask

    def collate_fn(self, items: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, [B, T], T the batch's longest document."""
        input_ids, attention_mask = map(torch.stack, zip(*items, strict=True))
        width = int(attention_mask.sum(dim=1).max())
        return {"input_ids": input_ids[:, :width], "attention_mask": attention_mask[:, :width]}

    def split(self, held_out: float, seed: int = 0):
        """Return a random split by document: (all but the share `held_out`, that share)."""
        count = round(held_out * len(self))
        if not 0 < count < len(self):
            raise ValueError(f"held_out={held_out} of {len(self)} documents leaves one part empty")
        generator = torch.Generator().manual_seed(seed)
        return random_split(self, [len(self) - count, count], generator)


def text_loader(documents: Dataset, batch_size: int, *, shuffle=False, seed=0) -> DataLoader:
    """Return batches of a TextDataset or a part of one; an epoch's order follows from `seed`."""
    whole = documents
    while hasattr(whole, "dataset"):  # a part of a part
        whole = whole.dataset
    sampler = ShuffledRows(len(documents), seed) if shuffle else None
    return DataLoader(documents, batch_size, sampler=sampler, collate_fn=whole.collate_fn)


def read_lines(filepath, encoding: str = "utf-8") -> list[str]:
    """Return a file's lines, split at line feeds only; ValueError names an undecodable line."""
    path = Path(filepath)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; git checkout pretrain.txt brings the embedded text back"
        )
    advice = f"save the file as {encoding.upper()} or pass encoding="
    return decode_lines(path, path.read_bytes(), encoding, advice)


def decode_lines(path: Path, raw: bytes, encoding: str, advice: str) -> list[str]:
    """Return the lines of a file's bytes, without a byte-order mark; errors end in `advice`."""
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise ValueError(
            f"{path}, line {line}: not {encoding.upper()} (byte 0x{raw[error.start]:02x}); {advice}"
        ) from error
    return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]


def unigram_entropy(train: Iterable, held_out: Iterable, vocab_size: int) -> float:
    """Return the nats per token of `held_out` under `train`'s token frequencies, plus one each.

    Both hold items of a TextDataset. It is what a model reaches that has learned which tokens
    are frequent and nothing else; the first token of a document does not count.
    """
    counts = torch.ones(vocab_size, dtype=torch.float64)
    for ids, mask in train:
        counts += torch.bincount(ids[mask.bool()][1:], minlength=vocab_size)
    surprise = math.log(counts.sum()) - counts.log()
    targets = torch.cat([ids[mask.bool()][1:] for ids, mask in held_out])
    return surprise[targets].mean().item()
