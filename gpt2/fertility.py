"""How finely a tokenizer cuts a language: fertility, and measures that are better founded.

Handout section 5.2; Rust et al. 2021 (fertility, continued words); Petrov et al. 2023 (premium).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module

import pandas as pd

from gpt2.tokenizer import check_tokenizer, encode_texts
from gpt2.xnli import XNLIDataset

# Languages written without spaces between words: the package and its function that finds words.
SEGMENTERS = {"zh": ("rjieba", "cut"), "th": ("pythainlp", "word_tokenize")}


def compute_fertility(dataset: XNLIDataset, tokenizer, max_samples: int | None = None) -> float:
    """Return the tokens per word of premises and hypotheses, words being split at white space.

    `max_samples` is how many pairs count, the first ones (default: all). Raises ValueError where
    there is no word.
    """
    texts = _texts(dataset, max_samples)
    words = _count_words(texts)
    return sum(count_tokens(texts, tokenizer)) / words


def fertility_table(
    languages: dict[str, XNLIDataset],
    parallel: dict[str, XNLIDataset],
    tokenizer,
    max_samples: int | None = None,
) -> pd.DataFrame:
    """Return a table with one row per language: how finely the tokenizer cuts it.

    `languages` and `parallel` map a language to a data set; those of `parallel` hold the same
    pairs in every language, with English among them.

    - fertility: tokens per word, words being what white space separates (`compute_fertility`)
    - tokens per word: the same, but in zh and th by a segmenter's words
    - continued words: the share of such words that are cut into several tokens (each after a
      space, as inside a sentence)
    - tokens per character, tokens per byte (UTF-8)
    - premium: tokens on `parallel` over those of the same texts in English

    Where the segmenter of zh or th is not installed, a line names it and both of its measures
    are NaN.
    """
    if "en" not in parallel:
        raise ValueError("parallel needs English (en): the premium is over its tokens")
    english = sum(count_tokens(_texts(parallel["en"]), tokenizer))
    rows = {}
    for lang, dataset in languages.items():
        texts = _texts(dataset, max_samples)
        tokens = sum(count_tokens(texts, tokenizer))
        row = {
            "fertility": tokens / _count_words(texts),
            "tokens per word": float("nan"),
            "continued words": float("nan"),
            "tokens per character": tokens / sum(map(len, texts)),
            "tokens per byte": tokens / sum(len(text.encode()) for text in texts),
            "premium": sum(count_tokens(_texts(parallel[lang]), tokenizer)) / english,
        }
        if (segment := _segmenter(lang)) is not None:
            words = Counter(w for text in texts for w in segment(text) if w.strip())
            pieces = count_tokens([f" {word}" for word in words], tokenizer)
            continued = sum(n for n, count in zip(words.values(), pieces, strict=True) if count > 1)
            row["tokens per word"] = tokens / words.total()
            row["continued words"] = continued / words.total()
        rows[lang] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def count_tokens(texts: Sequence[str], tokenizer) -> list[int]:
    """Return how many tokens each text has; special tokens are text and not added."""
    check_tokenizer(tokenizer)
    return list(map(len, encode_texts(tokenizer, texts)))


def _count_words(texts: Sequence[str]) -> int:
    words = sum(len(text.split()) for text in texts)
    if words == 0:
        raise ValueError(f"no word in {len(texts) // 2} pairs, so there is no fertility")
    return words


def _segmenter(lang: str) -> Callable[[str], list[str]] | None:
    """Return what cuts a text into words; print what to install and return None without it."""
    if lang not in SEGMENTERS:
        return str.split
    package, function = SEGMENTERS[lang]
    try:
        return getattr(import_module(package), function)
    except ImportError:
        print(f"words of {lang} need a segmenter: pip install {package} -c constraints.txt")
        return None


def _texts(dataset: XNLIDataset, max_samples: int | None = None) -> list[str]:
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    data = dataset.data if max_samples is None else dataset.data.head(max_samples)
    return [*data["premise"], *data["hypo"]]
