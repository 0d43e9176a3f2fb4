"""Write a small English corpus on which a toy GPT-2 can be trained in minutes.

Every line is one short document of one to three sentences: news and weather from six
invented towns, recipes, true facts about animals and science, sums, letters, dialogues
and more. The people, towns, prices and dates of the invented world never contradict each
other. The same ``--lines`` and ``--seed`` give the same bytes on every Python >= 3.10.

    python -m data.make_pretrain_text [--out pretrain.txt] [--lines 5000] [--seed 0]

The word tables are in ``data/pretrain_words.py``. Needs only the standard library.

Licence: CC0 1.0 (public domain), for this file and for the text that it writes.
"""

from __future__ import annotations

import re
from random import Random

from data.pretrain_words import lines

SENTENCE_START = re.compile(r"""((?:^|[.!?]"? |[.!?,:] )"?)([a-z])""")
AFTER_SPEECH = re.compile(r"""^[?!,]" $""")
SMALL_NUMBERS = lines("""
zero
one
two
three
four
five
six
seven
eight
nine
ten
eleven
twelve
thirteen
fourteen
fifteen
sixteen
seventeen
eighteen
nineteen
""")
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


# ---------------------------------------------------------------------- helpers


def pick(rng: Random, items):
    """Return one item; uses only ``rng.random()``, which never changes between Pythons."""
    return items[int(rng.random() * len(items))]


def between(rng: Random, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick_two(rng: Random, items):
    """Return two different items."""
    first = between(rng, 0, len(items) - 1)
    second = between(rng, 0, len(items) - 2)
    return items[first], items[second + (second >= first)]


def words(number: int) -> str:
    """Write a whole number from 0 to 100 in words."""
    if number < 20:
        return SMALL_NUMBERS[number]
    if number == 100:
        return "a hundred"
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{SMALL_NUMBERS[ones]}" if ones else "")


def coins(number: int) -> str:
    """Write a price."""
    return "one coin" if number == 1 else f"{words(number)} coins"


def clock(minutes: int) -> str:
    """Write minutes after midnight as a time such as 9:05."""
    return f"{minutes // 60}:{minutes % 60:02d}"


def tidy(text: str) -> str:
    """Begin every sentence, and every speech after a comma or colon, with a capital."""

    def capital(match: re.Match) -> str:
        before, letter = match.groups()
        opens_speech = (before.endswith('"') and not before.endswith(' "')) or before.endswith(' "')
        starts = before == "" or before[0] in ".!?" or opens_speech
        if before[:2] in ('?"', '!"') and not opens_speech:
            starts = False
        return before + (letter.upper() if starts else letter)

    return SENTENCE_START.sub(capital, text)


def say(rng: Random, frames: tuple[str, ...], **fields) -> str:
    """Fill one of the sentence patterns; a field may itself hold further fields."""
    text = pick(rng, frames)
    while "{" in text:
        text = text.format(**fields)
    return tidy(text)
