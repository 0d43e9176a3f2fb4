"""Pairs of the small world to pick from, the same ones in every language."""

import numpy as np

from data.miniature.files import sentences
from data.miniature.language import language
from data.miniature.pairs import make_pairs
from experiments.profiles import MINIATURE, find_data
from gpt2.xnli import LANGUAGES, XNLIDataset

LABELS = {"entailment": "entailment", "contradictory": "contradiction", "neutral": "neutral"}


def language_names() -> dict[str, str]:
    """Return every language's English name, by its code."""
    return {code: language(code).name for code in LANGUAGES}


def examples() -> list[dict]:
    """Return pairs as a dict of label, phenomenon and texts, [premise, hypothesis] by language.

    They are the first test premise of each phenomenon, with a hypothesis of each label.
    """
    triples: dict[str, list] = {}
    for pair in make_pairs("test"):
        triple = triples.setdefault(pair.phenomenon, [])
        if not triple or (pair.premise == triple[0].premise and len(triple) < 3):
            triple.append(pair)
    return [
        {
            "label": LABELS[pair.label],
            "phenomenon": pair.phenomenon,
            "texts": {code: list(sentences(pair, code)) for code in LANGUAGES},
        }
        for triple in triples.values()
        for pair in triple
    ]


def used_tokens(tokenizer) -> np.ndarray:
    """Return the ids, in order, of the tokens in the small world's pairs in any language, and of
    single bytes."""
    ids = [np.arange(256)]
    for split in ("train", "test"):
        for code in LANGUAGES:
            settings = {"tokenizer": tokenizer, "verbose": False}
            rows = XNLIDataset.in_folder(find_data(MINIATURE), split, code, **settings)
            ids.append(rows.ids)
    return np.unique(np.concatenate(ids))
