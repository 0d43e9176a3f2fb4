"""Pairs of sentences as prompts, and prompts as token ids (handout section 4.2)."""

import numpy as np
import pandas as pd

from gpt2.tokenizer import encode_texts, prefix_ids

PROMPT = "Premise: {premise}\nHypothesis: {hypo}\nLabel:"
CHUNK = 1000  # prompts that are tokenized at a time


def encode_pairs(
    premises: pd.Series, hypos: pd.Series, tokenizer, max_length: int
) -> dict[str, np.ndarray]:
    """Return every pair's prompt as ids, one after the other.

    `ids` [all tokens], `offsets` [N + 1] where each prompt starts and ends, and `truncated` [N],
    1 where text was cut.

    The ids are those that the tokenizer gives for the whole prompt: with the BOS token, if it adds
    one, and without a token after the text, since the label follows there. A special token that
    a sentence spells out is text. A prompt has at most `max_length` - 1 tokens, so that the
    label's digit fits behind it: premise and hypothesis lose their last tokens, the longer one
    first.

    Raises ValueError where `max_length` is too small for a prompt.
    """
    prefix = prefix_ids(tokenizer)
    room = max_length - 1 - len(prefix)
    pairs = list(zip(premises, hypos, strict=True))
    pieces, lengths = [np.empty(0, np.int32)], np.zeros(len(pairs), dtype=np.int64)
    truncated = np.zeros(len(pairs), dtype=np.uint8)
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        prompts = [PROMPT.format(premise=premise, hypo=hypo) for premise, hypo in chunk]
        for row, ids in enumerate(encode_texts(tokenizer, prompts), start):
            if len(ids) > room:
                ids, truncated[row] = _shorten(ids, *pairs[row], tokenizer, room), 1
            pieces.append(np.array(prefix + ids, np.int32))
            lengths[row] = len(pieces[-1])
    ids = np.concatenate(pieces)
    return {
        "ids": ids.astype(np.uint16) if ids.max(initial=0) < 2**16 else ids,
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "truncated": truncated,
    }


def label_id(tokenizer, digit: str) -> int:
    """Return the token that follows a prompt for a label; ValueError where it is not just one."""
    prompt = PROMPT.format(premise="a", hypo="b")
    before, after = encode_texts(tokenizer, [prompt, prompt + digit])
    if after[:-1] != before or tokenizer.decode(after[-1:]).strip() != digit:
        raise ValueError(
            f"the tokenizer makes {tokenizer.convert_ids_to_tokens(after)[-3:]} of "
            f"{prompt[-6:] + digit!r}; a label must be one token, so use another tokenizer"
        )
    return after[-1]


def _shorten(ids: list[int], premise: str, hypo: str, tokenizer, room: int) -> list[int]:
    """Return a prompt's ids, `room` of them, without the last tokens of premise and hypothesis.

    Tokens with characters of the prompt's own, such as one that joins "." and a newline, stay.
    """
    prompt = PROMPT.format(premise=premise, hypo=hypo)
    places = tokenizer(
        prompt,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    of_text = []  # the numbers of each sentence's tokens
    for name, text in (("premise", premise), ("hypo", hypo)):
        start = len(PROMPT.partition(f"{{{name}}}")[0].format(premise=premise, hypo=hypo))
        end = start + len(text)
        of_text.append([i for i, (a, b) in enumerate(places) if start <= a < b <= end])
    longer, shorter = sorted(of_text, key=len, reverse=True)
    without = len(ids) - len(longer) - len(shorter)
    if without > room:
        raise ValueError(
            f"max_length leaves room for {room} tokens, but a prompt without its sentences has "
            f"{without} with this tokenizer; choose a larger one"
        )
    left = room - without
    from_shorter = min(len(shorter), left // 2)
    removed = {*longer[left - from_shorter :], *shorter[from_shorter:]}
    return [id for i, id in enumerate(ids) if i not in removed]
