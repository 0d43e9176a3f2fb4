"""Named entities: persons, organizations and locations, generated as a list.

Pan et al. 2017, "Cross-lingual Name Tagging and Linking for 282 Languages" (ACL); the balanced
splits are of Rahimi et al. 2019, as in XTREME (PAN-X). The usual model tags each token; a language
model writes the entities in their order, so that it needs no head of its own:

    Ada   Lovelace  lived in  London     B-PER I-PER O O B-LOC
    -> "PER: Ada Lovelace; LOC: London"          no entity -> "none"

Within an entity ";" is written "\\;" and "\\" as "\\\\", so that every answer reads back exactly.

The score is micro-averaged entity F1 = 2 |G & P| / (|G| + |P|), where an entity counts if its type
and all of its text (or place) are right: conlleval (Tjong Kim Sang and Buchholz 2000).
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from extensions.tasks import as_data, check_split, read_file
from extensions.tasks.free import FreeTask

LANGUAGES = (
    *("en", "ar", "bg", "de", "el", "es", "fr"),
    *("hi", "ru", "sw", "tr", "ur", "vi", "zh"),
)
TYPES = ("PER", "ORG", "LOC")
TAGS = {"O", *(f"{place}-{kind}" for place in "BI" for kind in TYPES)}
UNSPACED = ("zh", "ja", "th")  # written without spaces: a token is a character
NONE = "none"


@dataclass(frozen=True)
class NERTask(FreeTask):
    """Entities of a sentence as free text; `tokens` and `tags` stay beside it for baselines."""

    prompt: str = "Sentence: {sentence}\nEntities:"
    languages: tuple[str, ...] = LANGUAGES
    max_answer: int = 128

    measure = "entity F1"

    def read(self, folder, split: str, lang: str, subset: float = 1.0) -> pd.DataFrame:
        """Return the usable sentences: sentence, label (the answer), pair_id, line, tokens, tags.

        `line` is that of the first token. Where there is no ner/test-{lang}.tsv, the file dev is
        our test, and the last tenth of the file train our dev. A sentence with a line that is no
        token and tag is in `.attrs["skipped"]`.
        """
        check_split(split)
        official = (Path(folder) / f"ner/test-{lang}.tsv").is_file()
        file = split if official else {"train": "train", "dev": "train", "test": "dev"}[split]
        rows, skipped = read_sentences(folder, file, lang)
        if not official and file == "train":
            held_out = len(rows) - len(rows) // 10
            rows = rows[:held_out] if split == "train" else rows[held_out:]
        columns = ("sentence", "label", "pair_id", "line", "tokens", "tags")
        return as_data(rows, columns, skipped, subset)

    def score(self, predictions: pd.DataFrame) -> float:
        """Return the entity F1 of the answers in `prediction` against those in `label`."""
        gold, predicted = (
            map(answer_to_spans, predictions[column]) for column in ("label", "prediction")
        )
        return entity_f1(gold, predicted)


def read_sentences(folder, file: str, lang: str) -> tuple[list[tuple], list[tuple[int, str]]]:
    """Return a file's sentences as rows, and the lines for which some were skipped."""
    _, lines = read_file(folder, f"ner/{file}-{{lang}}.tsv", lang)
    prefix = f"{lang}:"  # the archive of WikiANN has it before every token
    prefix = prefix if all(line.startswith(prefix) for line in lines if line.strip()) else ""
    rows, skipped, tokens, tags, problem = [], [], [], [], None
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            token, _, tag = line.removeprefix(prefix).partition("\t")
            if not token.strip() or tag not in TAGS:
                problem = problem or (number, f"no token and tag {line[:20]!r}")
            tokens.append(token.strip())
            tags.append(tag)
            continue
        if problem:
            skipped.append(problem)
        elif tokens:
            first = number - len(tokens)
            answer = spans_to_answer(text_spans(tokens, tags, lang))
            rows.append((joined(tokens, lang), answer, f"{lang}-{first}", first, tokens, tags))
        tokens, tags, problem = [], [], None
    return rows, skipped


def joined(tokens: Sequence[str], lang: str) -> str:
    """Return tokens as text."""
    return ("" if lang in UNSPACED else " ").join(tokens)


def tag_spans(tags: Iterable[str]) -> list[tuple[str, int, int]]:
    """Return the entities of a tag sequence as (type, first token, token after the last).

    As conlleval reads it: B- starts an entity, and so does I- after O or after another type.
    """
    spans, before = [], ""
    for i, tag in enumerate(tags):
        place, _, kind = tag.partition("-")
        if kind and place == "I" and kind == before:
            spans[-1] = (kind, spans[-1][1], i + 1)
        elif kind:
            spans.append((kind, i, i + 1))
        before = kind
    return spans


def text_spans(tokens: Sequence[str], tags: Iterable[str], lang: str) -> list[tuple[str, str]]:
    """Return the entities of a tagged sentence as (type, text)."""
    return [(kind, joined(tokens[start:end], lang)) for kind, start, end in tag_spans(tags)]


def spans_to_answer(spans: Sequence[tuple[str, str]]) -> str:
    """Return entities (type, text) as the text that a model is to write."""
    items = (f"{kind}: " + re.sub(r"([;\\])", r"\\\1", text) for kind, text in spans)
    return "; ".join(items) or NONE


def answer_to_spans(answer: str) -> list[tuple[str, str]]:
    """Return the entities (type, text) of an answer; what is none has the type "" and is wrong."""
    if answer.strip() in ("", NONE):
        return []
    spans = []
    for item in re.findall(r"(?:[^;\\]|\\.)+", answer):
        kind, colon, text = item.strip().partition(": ")
        text = re.sub(r"\\(.)", r"\1", text)
        spans.append((kind, text) if colon else ("", kind))
    return spans


def entity_f1(gold: Iterable[Iterable[Hashable]], predicted: Iterable[Iterable[Hashable]]) -> float:
    """Return F1 over all entities of all sentences; 0 where there is none.

    Entities are those of `tag_spans` or (type, text) pairs; one that a sentence has twice counts
    twice.
    """
    right = total = 0
    for truth, guess in zip(map(Counter, gold), map(Counter, predicted), strict=True):
        right += (truth & guess).total()
        total += truth.total() + guess.total()
    return 2 * right / total if total else 0.0
