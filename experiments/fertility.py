"""Fertility in many languages, and measures that are better founded.

Handout section 5.2; Rust et al. 2021 (fertility, continued words); Petrov et al. 2023 (premium).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module

import pandas as pd

from gpt2.fertility import count_tokens, count_words, pair_texts
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLI, NLITask, XNLIDataset

# Languages written without spaces between words: the package and its function that finds words.
SEGMENTERS = {"zh": ("rjieba", "cut"), "th": ("pythainlp", "word_tokenize")}


def measure_fertility(
    data,
    task: NLITask = XNLI,
    max_samples: int | None = None,
    languages: Sequence[str] | None = None,
    tokenizer=None,
) -> pd.DataFrame:
    """Return `fertility_table` of the first training pairs of each language.

    By default of all the task's languages, and of GPT-2's tokenizer.
    """
    tokenizer = load_tokenizer("gpt2") if tokenizer is None else tokenizer
    languages = task.languages if languages is None else languages
    common = {"tokenizer": tokenizer, "verbose": False}
    train = {
        lang: task.dataset(data, "train", lang, subset=max_samples or 1.0, **common)
        for lang in languages
    }
    dev = {lang: task.dataset(data, "dev", lang, **common) for lang in {"en", *languages}}
    return fertility_table(train, dev, tokenizer, max_samples)


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
    english = sum(count_tokens(pair_texts(parallel["en"]), tokenizer))
    rows = {}
    for lang, dataset in languages.items():
        texts = pair_texts(dataset, max_samples)
        tokens = sum(count_tokens(texts, tokenizer))
        row = {
            "fertility": tokens / count_words(texts),
            "tokens per word": float("nan"),
            "continued words": float("nan"),
            "tokens per character": tokens / sum(map(len, texts)),
            "tokens per byte": tokens / sum(len(text.encode()) for text in texts),
            "premium": sum(count_tokens(pair_texts(parallel[lang]), tokenizer)) / english,
        }
        if (segment := _segmenter(lang)) is not None:
            words = Counter(w for text in texts for w in segment(text) if w.strip())
            pieces = count_tokens([f" {word}" for word in words], tokenizer)
            continued = sum(n for n, count in zip(words.values(), pieces, strict=True) if count > 1)
            row["tokens per word"] = tokens / words.total()
            row["continued words"] = continued / words.total()
        rows[lang] = row
    return pd.DataFrame.from_dict(rows, orient="index")


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
