"""How finely a tokenizer cuts a language (handout section 5.2; Rust et al. 2021)."""

from collections.abc import Sequence

from counting import count_gpt2_tokens
from gpt2.tokenizer import check_tokenizer, encode_texts, load_tokenizer
from gpt2.xnli import XNLIDataset


def compute_fertility(dataset: XNLIDataset, tokenizer, max_samples: int | None = None) -> float:
    """Return the tokens per word of premises and hypotheses, words being split at white space.

    `max_samples` is how many pairs count, the first ones (default: all). Raises ValueError where
    there is no word.
    """
    texts = pair_texts(dataset, max_samples)
    words = count_words(texts)
    return sum(count_tokens(texts, tokenizer)) / words


def count_tokens(texts: Sequence[str], tokenizer) -> list[int]:
    """Return how many tokens each text has; special tokens are text and not added."""
    check_tokenizer(tokenizer)
    counts = count_gpt2_tokens(texts, tokenizer, load_tokenizer)
    return list(map(len, encode_texts(tokenizer, texts))) if counts is None else counts


def count_words(texts: Sequence[str]) -> int:
    """Return how many words white space separates; ValueError where there is none."""
    words = sum(len(text.split()) for text in texts)
    if words == 0:
        raise ValueError(f"no word in {len(texts) // 2} pairs, so there is no fertility")
    return words


def pair_texts(dataset: XNLIDataset, max_samples: int | None = None) -> list[str]:
    """Return the premises of the first `max_samples` pairs (default: all), then the hypotheses."""
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    data = dataset.data if max_samples is None else dataset.data.head(max_samples)
    return [*data["premise"], *data["hypo"]]
