"""Tokens as a reader wants to see them, and where premise and hypothesis are among them.

GPT-2's tokens are bytes, and a character of most scripts has two to four of them, so a token may
hold a piece of a character. Its label is then the character with the numbers of the bytes that the
token holds:

    "न है"   bytes   e0 a4 a8 | 20 | e0 a4 b9 | e0 a5 88
             tokens  न₁₂  न₃  ·ह₁₂  ह₃  ◌ै₁₂  ◌ै₃

A space is "·", a new line "↵", and what has no picture its number.

Paper: Sennrich et al. 2016 (BPE); Radford et al. 2019, section 2.2 (on bytes).
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from transformers.convert_slow_tokenizer import bytes_to_unicode

from gpt2.xnli import XNLI

BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
SUBSCRIPTS = "₁₂₃₄"
SIGNS = {" ": "·", "\n": "↵"}


class Tokens:
    """The tokens of one text.

    `ids` are their numbers in the vocabulary, `pieces` their bytes, `labels` what a figure shows,
    `premise` and `hypothesis` the places of the tokens that end inside of either (none where the
    text is no NLI prompt).
    """

    def __init__(self, tokenizer, ids: Sequence[int]):
        self.ids = [int(i) for i in ids]
        names = tokenizer.convert_ids_to_tokens(self.ids)
        self.pieces = [
            bytes(BYTE_OF[c] for c in name)
            if set(name) <= BYTE_OF.keys()
            else tokenizer.decode([i]).encode()
            for i, name in zip(self.ids, names, strict=True)
        ]
        self.text = b"".join(self.pieces)
        self.ends = list(accumulate(map(len, self.pieces)))
        before, between, after = (
            part.encode() for part in re.split(r"\{premise\}|\{hypo\}", XNLI.prompt)
        )
        start, middle = self.text.find(before), self.text.find(between)
        end = self.text.rfind(after)
        is_prompt = 0 <= start < middle < end
        self.premise = self._inside(start + len(before), middle) if is_prompt else []
        self.hypothesis = self._inside(middle + len(between), end) if is_prompt else []

    @property
    def labels(self) -> list[str]:
        """A text for each token."""
        owner = [i for i, piece in enumerate(self.pieces) for _ in piece]
        labels, place = [""] * len(self.pieces), 0
        while place < len(self.text):
            character = _character(self.text[place : place + 4])
            length = len(character.encode()) if character else 1
            owners = owner[place : place + length]
            for i in dict.fromkeys(owners):
                shown = _visible(character) if character else f"⟨{self.text[place]:02x}⟩"
                if len(set(owners)) > 1:
                    shown += "".join(SUBSCRIPTS[n] for n, o in enumerate(owners) if o == i)
                labels[i] += shown
            place += length
        return [
            "◌" + label if unicodedata.category(label[:1] or "a")[0] == "M" else label
            for label in labels
        ]

    def find(self, text: str, among: Sequence[int]) -> list[int]:
        """Return the tokens that spell a text's first occurrence among tokens that follow each
        other; [] where it is not there."""
        if not among:
            return []
        first = self.ends[among[0]] - len(self.pieces[among[0]])
        start = self.text.find(text.encode(), first, self.ends[among[-1]])
        if start < 0:
            return []
        end = start + len(text.encode())
        starts = [stop - len(piece) for stop, piece in zip(self.ends, self.pieces, strict=True)]
        return [i for i in among if starts[i] < end and self.ends[i] > start]

    def _inside(self, start: int, stop: int) -> list[int]:
        return [i for i, end in enumerate(self.ends) if start < end <= stop]


def token_labels(tokenizer, ids: Sequence[int]) -> list[str]:
    """Return a label for each token, readable in every script."""
    return Tokens(tokenizer, ids).labels


def _character(piece: bytes) -> str:
    """Return the character that bytes start with; "" where they start with none."""
    for length in range(1, len(piece) + 1):
        try:
            return piece[:length].decode()
        except UnicodeDecodeError:
            continue
    return ""


def _visible(character: str) -> str:
    if character in SIGNS:
        return SIGNS[character]
    return character if character.isprintable() else f"⟨U+{ord(character):04X}⟩"
