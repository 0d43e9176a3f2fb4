"""How finely a tokenizer cuts a language: fertility, and measures that are better founded.

Handout section 5.2; Rust et al. 2021 (fertility, continued words); Petrov et al. 2023 (premium).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

import pandas as pd

from gpt2.tokenizer import (
    backend_of,
    check_tokenizer,
    cuts_at_spaces,
    split_at_spaces,
    texts_whole,
)
from gpt2.xnli import XNLIDataset

CHUNK = 10_000  # texts that are tokenized at a time
UNSPACED = ("zh", "th")  # languages that are written without spaces between words


def compute_fertility(dataset: XNLIDataset, tokenizer, max_samples: int | None = None) -> float:
    """Return the tokens per word of premises and hypotheses, words being split at white space.

    `max_samples` is how many pairs count, the first ones (default: all). Raises ValueError where
    there is no word.
    """
    texts = _texts(dataset, max_samples)
    words = sum(len(text.split()) for text in texts)
    if words == 0:
        raise ValueError(f"no word in {len(texts) // 2} pairs, so there is no fertility")
    return count_tokens(texts, tokenizer) / words


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

    Raises ImportError that names the package where a segmenter is missing.
    """
    if "en" not in parallel:
        raise ValueError("parallel needs English (en): the premium is over its tokens")
    english = count_tokens(_texts(parallel["en"]), tokenizer)
    rows = {}
    for lang, dataset in languages.items():
        texts = _texts(dataset, max_samples)
        tokens = count_tokens(texts, tokenizer)
        words = Counter(word for text in texts for word in segment(text, lang))
        pieces = _lengths([f" {word}" for word in words], tokenizer)
        continued = sum(count for count, n in zip(words.values(), pieces, strict=True) if n > 1)
        rows[lang] = {
            "fertility": compute_fertility(dataset, tokenizer, max_samples),
            "tokens per word": tokens / words.total(),
            "continued words": continued / words.total(),
            "tokens per character": tokens / sum(map(len, texts)),
            "tokens per byte": tokens / sum(len(text.encode()) for text in texts),
            "premium": count_tokens(_texts(parallel[lang]), tokenizer) / english,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def count_tokens(texts: Sequence[str], tokenizer) -> int:
    """Return how many tokens the texts have together; special tokens are text and not added."""
    check_tokenizer(tokenizer)
    if not cuts_at_spaces(backend_of(tokenizer)):
        return sum(_lengths(texts, tokenizer))
    split = [split_at_spaces(text) for text in texts]
    pieces = Counter(words[0] for words in split)
    times = Counter(chain.from_iterable(words[1:] for words in split))
    # Words that occur equally often make one text, which is faster than one text per word.
    of_count: dict[int, list[str]] = {}
    for word, count in times.items():
        of_count.setdefault(count, []).append(f" {word}")
    for count, words in of_count.items():
        for i in range(0, len(words), 100):
            pieces["".join(words[i : i + 100])] += count
    lengths = _lengths(list(pieces), tokenizer)
    return sum(count * n for count, n in zip(pieces.values(), lengths, strict=True))


def _lengths(texts: Sequence[str], tokenizer) -> list[int]:
    """Return how many tokens each text has."""
    backend, lengths = backend_of(tokenizer), []
    with texts_whole(backend):
        for start in range(0, len(texts), CHUNK):
            chunk = list(texts[start : start + CHUNK])
            lengths += map(len, backend.encode_batch_fast(chunk, add_special_tokens=False))
    return lengths


def segment(text: str, lang: str) -> list[str]:
    """Return the words of a text: by white space, in zh by rjieba and in th by pythainlp."""
    if lang not in UNSPACED:
        return text.split()
    return [word for word in _segmenter(lang)(text) if word.strip()]


def _segmenter(lang: str) -> Callable[[str], list[str]]:
    package = {"zh": "rjieba", "th": "pythainlp"}[lang]
    try:
        if lang == "zh":
            import rjieba

            return rjieba.cut
        from pythainlp.tokenize import word_tokenize

        return word_tokenize
    except ImportError as error:
        raise ImportError(
            f"words of {lang} need a segmenter: pip install {package} -c constraints.txt"
        ) from error


def _texts(dataset: XNLIDataset, max_samples: int | None = None) -> list[str]:
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    data = dataset.data.head(max_samples) if max_samples is not None else dataset.data
    return [*data["premise"], *data["hypo"]]
