"""Rows of texts as prompts, and prompts and their answers as token ids (handout section 4.2)."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from string import Formatter

import numpy as np
import pandas as pd

from gpt2.tokenizer import encode_texts, prefix_ids

CHUNK = 1000  # prompts that are tokenized at a time


def encode_prompts(
    template: str, data: pd.DataFrame, tokenizer, max_length: int
) -> dict[str, np.ndarray]:
    """Return the prompt of every row as ids, one after the other.

    `template` has the names of columns of `data` in braces. `ids` [all tokens], `offsets` [N + 1]
    where each prompt starts and ends, and `truncated` [N], 1 where text was cut.

    The ids are those that the tokenizer gives for the whole prompt: with the BOS token, if it adds
    one, and without a token after the text, since the answer follows there. A special token that
    a text spells out is text. A prompt has at most `max_length` tokens: its fields lose their last
    ones, the longest field first.

    Raises ValueError where `max_length` is too small for a prompt.
    """
    prefix = prefix_ids(tokenizer)
    room = max_length - len(prefix)
    names = fields_of(template)
    rows = data[names].to_dict("records")
    pieces, lengths = [np.empty(0, np.int32)], np.zeros(len(rows), dtype=np.int64)
    truncated = np.zeros(len(rows), dtype=np.uint8)
    for start in range(0, len(rows), CHUNK):
        prompts = [template.format(**row) for row in rows[start : start + CHUNK]]
        for i, ids in enumerate(encode_texts(tokenizer, prompts), start):
            if len(ids) > room:
                ids, truncated[i] = _shorten(ids, template, rows[i], tokenizer, room), 1
            pieces.append(np.array(prefix + ids, np.int32))
            lengths[i] = len(pieces[-1])
    ids = np.concatenate(pieces)
    return {
        "ids": ids.astype(np.uint16) if ids.max(initial=0) < 2**16 else ids,
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "truncated": truncated,
    }


def label_tokens(tokenizer, template: str, labels: Mapping[str, str]) -> list[list[int]]:
    """Return the tokens that follow a prompt for each label.

    Raises ValueError where the tokenizer cannot write a label behind the prompt, or where one is
    the start of another, which then could never be the more probable one.
    """
    tokens = continuations(tokenizer, template, list(labels.values()))
    for text, ids in zip(labels.values(), tokens, strict=True):
        if tokenizer.decode(ids).strip().lower() != text.strip().lower():
            raise ValueError(
                f"the tokenizer makes {tokenizer.convert_ids_to_tokens(ids)} of {text!r} behind "
                f"{template[-6:]!r}, which is another text; use other label words or another "
                "tokenizer"
            )
    for a, b in permutations(range(len(tokens)), 2):
        if tokens[a] == tokens[b][: len(tokens[a])]:
            first, second = (list(labels.values())[i] for i in (a, b))
            raise ValueError(
                f"the tokens of label {second!r} start with those of {first!r}, so that it could "
                "never be the more probable one; use other label words"
            )
    return tokens


def continuations(tokenizer, template: str, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text behind the prompt, of which they may not change any."""
    prompt = template.format(**dict.fromkeys(fields_of(template), "a"))
    before, *whole = encode_texts(tokenizer, [prompt, *(prompt + text for text in texts)])
    for text, ids in zip(texts, whole, strict=True):
        if ids[: len(before)] != before or len(ids) == len(before):
            raise ValueError(
                f"the tokenizer makes {tokenizer.convert_ids_to_tokens(ids)[-3:]} of "
                f"{prompt[-6:] + text!r}; an answer's tokens must follow the prompt's own, so use "
                "another prompt or tokenizer"
            )
    return [ids[len(before) :] for ids in whole]


def fields_of(template: str) -> list[str]:
    """Return the names in a prompt's braces, in their order."""
    parts = [part for part in Formatter().parse(template) if part[1]]
    if formats := [name for _, name, spec, conversion in parts if spec or conversion]:
        raise ValueError(f"prompt must have names alone in braces; {formats[0]!r} has a format")
    return list(dict.fromkeys(name for _, name, *_ in parts))


def _shorten(ids: list[int], template: str, row: dict[str, str], tokenizer, room: int) -> list[int]:
    """Return a prompt's ids, `room` of them, without the last tokens of its fields.

    Tokens with characters of the prompt's own, such as one that joins "." and a newline, stay.
    """
    places = tokenizer(
        template.format(**row),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    of_fields, end = [], 0  # the numbers of each field's tokens
    for before, name, *_ in Formatter().parse(template):
        start = end + len(before)
        end = start + len(row.get(name, ""))
        of_fields.append([i for i, (a, b) in enumerate(places) if start <= a < b <= end])
    removed: set[int] = set()
    while len(ids) - len(removed) > room:
        longest = max(reversed(of_fields), key=len)  # of equally long ones the last loses first
        if not longest:
            raise ValueError(
                f"max_length leaves room for {room} tokens, but a prompt without its texts has "
                f"{len(ids) - len(removed)} with this tokenizer; choose a larger one"
            )
        removed.add(longest.pop())
    return [id for i, id in enumerate(ids) if i not in removed]
