"""Turn raw lines or rows into token ids, in a process that imports neither torch nor the project.

`data.packing` starts this file as a program for each of its workers. Pickles come on stdin: first
the settings, then a piece of work after the other; the answer to each goes to stdout. The process
ends with its stdin, so also when the one that started it was killed.
"""

import json
import os
import pickle
import signal
import sys
from array import array
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from tokenizers import Tokenizer


class Settings(NamedTuple):
    tokenizer: str  # a fast tokenizer as JSON
    encoding: Any  # tiktoken's of the same ids, for texts of at most `longest` characters, or None
    longest: int
    prefix: tuple[int, ...]  # the ids before each document
    end: int  # the id after each document
    typecode: str  # of `array`: "H" for 16 bits, "I" for 32
    column: str  # that holds the text of a JSON object
    skip_bad: bool


class Tokenized(NamedTuple):
    ids: bytes  # of all documents, each with its prefix and its end
    ends: bytes  # an array "Q": how many ids there are up to the end of each document
    sizes: bytes  # an array "Q": the bytes of each document's text
    bad: int  # how many lines or rows have no usable text; without `skip_bad` at most 1
    fault: tuple[int, str] | None  # the place of the first, from 0, and what is wrong


def tokenize(encode: Callable, settings: Settings, kind: str, payload) -> Tokenized:
    """Return the ids of the documents in `payload`; those of white space alone are left out.

    `kind` is "txt" or "jsonl", where the payload is bytes and a document is a line, or "rows",
    where it is a list of texts; `encode` is what `load` returns.
    """
    texts, sizes = [], array("Q")
    bad, fault = 0, None
    for place, value in enumerate(split(kind, payload)):
        try:
            text = read_text(kind, value, settings.column)
            size = len(text.encode())
        except (ValueError, RecursionError) as error:
            reason = "half of a surrogate pair" if isinstance(error, UnicodeEncodeError) else error
            bad, fault = bad + 1, fault or (place, str(reason))
            if settings.skip_bad:
                continue
            break
        if size and not text.isspace():
            texts.append(text)
            sizes.append(size)
    ids, ends = array(settings.typecode), array("Q")
    for text_ids in encode(texts):
        ids.extend(settings.prefix)
        ids.fromlist(text_ids)
        ids.append(settings.end)
        ends.append(len(ids))
    return Tokenized(ids.tobytes(), ends.tobytes(), sizes.tobytes(), bad, fault)


def split(kind: str, payload) -> list:
    """Return the lines or rows of a payload."""
    return payload if kind == "rows" else payload.split(b"\n")


def read_text(kind: str, value, column: str) -> str:
    """Return the text of one line or row, "" for a blank line; ValueError where it has none."""
    if kind != "rows":
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 (byte 0x{value[error.start]:02x})") from error
        value = value.removesuffix("\r")
    if kind == "jsonl" and value and not value.isspace():
        value = _from_json(value, column)
    if not isinstance(value, str):
        raise ValueError(f"{column} is no text but {json.dumps(value, default=str)[:40]}")
    return value


def _from_json(line: str, column: str):
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, character {error.pos + 1})") from error
    except (ValueError, RecursionError) as error:  # thousands of digits or of brackets
        raise ValueError(f"not JSON that can be read ({error})") from error
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    if column not in row:
        raise ValueError(f"no column named {column}, only {', '.join(row) or 'an empty object'}")
    return row[column]


def load(settings: Settings) -> Callable[[list[str]], Iterable[list[int]]]:
    """Return a function of texts that gives their ids; a special token spelt out is text to it."""

    @cache
    def tokenizer() -> Tokenizer:
        loaded = Tokenizer.from_str(settings.tokenizer)
        loaded.encode_special_tokens = True
        loaded.no_truncation()
        loaded.no_padding()
        return loaded

    def encode(texts: list[str]) -> Iterable[list[int]]:
        if settings.encoding and max(map(len, texts), default=0) <= settings.longest:
            return map(settings.encoding.encode_ordinary, texts)
        encodings = tokenizer().encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    return encode


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the other process decides
    work, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints
    try:
        settings = Settings(*pickle.load(work))
        encode = load(settings)
        while True:
            kind, payload = pickle.load(work)
            pickle.dump(tuple(tokenize(encode, settings, kind, payload)), answers)
            answers.flush()
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):  # the other process has ended
        os._exit(0)


if __name__ == "__main__":
    main()
