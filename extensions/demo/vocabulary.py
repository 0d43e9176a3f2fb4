"""GPT-2's vocabulary as the page needs it: what bytes a token has, and which tokens make it."""

import json

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel


def byte_letters() -> dict[str, int]:
    """Return the byte that each of the vocabulary's 256 letters stands for.

    The letters up to U+00FF stand for themselves; those after, in order, for the other bytes.
    """
    letters = sorted(ByteLevel.alphabet())
    plain = [ord(letter) for letter in letters if ord(letter) < 256]
    others = [byte for byte in range(256) if byte not in plain]
    return dict(zip(letters, plain + others, strict=True))


def token_bytes(tokenizer) -> list[bytes]:
    """Return every token's bytes, by its id; <|endoftext|> has those of its name."""
    byte_of, ids = byte_letters(), tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.get)
    return [bytes(byte_of[letter] for letter in token) for token in tokens]


def merges(tokenizer) -> np.ndarray:
    """Return the ids of the two tokens that each merge joins, (merges, 2)."""
    ids = tokenizer.get_vocab()
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return np.array([[ids[left], ids[right]] for left, right in pairs], np.uint16)
