"""Fertility as the handout counts it."""

import os
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Tokenizer

from counting import _tiktoken, count_gpt2_tokens
from gpt2.fertility import compute_fertility, count_tokens, pair_texts
from gpt2.tokenizer import encode_texts, load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from tests import SAMPLE
from tests.small import small_tokenizer

REAL = Path(os.environ.get("XNLI_DIR", "no XNLI_DIR"))
PUBLISHED = {
    "en": 1.11, "ar": 4.70, "de": 2.10, "es": 1.83, "fr": 1.75,
    "sw": 2.08, "tr": 2.73, "ur": 5.16, "vi": 3.62, "zh": 3.77,
}  # fmt: skip


def train(lang, tokenizer, folder=SAMPLE):
    return XNLIDataset.in_folder(folder, "train", lang, tokenizer=tokenizer)


@pytest.mark.all
@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="set XNLI_DIR to the folder with XNLI-MT-1.0")
@pytest.mark.parametrize("lang", PUBLISHED)
def test_the_published_figures_to_the_digit(lang, tokenizer):
    rows = XNLIDataset.in_folder(REAL, "train", lang, tokenizer=tokenizer, subset=3927)
    assert round(compute_fertility(rows, tokenizer, 3927), 2) == PUBLISHED[lang]


@pytest.mark.parametrize("lang", ["en", "ar", "th", "zh"])
def test_it_equals_the_handouts_loop_over_the_samples(lang, tokenizer):
    rows = train(lang, tokenizer)
    words = tokens = 0
    for _, pair in rows.data.head(40).iterrows():
        for text in (pair["premise"], pair["hypo"]):
            words += len(text.split())
            tokens += len(tokenizer.tokenize(text))
    assert compute_fertility(rows, tokenizer, 40) == tokens / words


@settings(max_examples=200)
@given(st.lists(st.text(" ab\u00a0\nß猫.'s<|endoftext|>", max_size=30), min_size=1, max_size=5))
def test_tokens_are_counted_text_by_text(tokenizer, texts):
    each = [tokenizer(t, split_special_tokens=True)["input_ids"] for t in texts]
    assert count_tokens(texts, tokenizer) == list(map(len, each))


@pytest.fixture(scope="module")
def many(tokenizer):
    """As many texts as tiktoken counts: of all languages, and what tokenizers could differ in."""
    pairs = [text for lang in LANGUAGES for text in pair_texts(train(lang, tokenizer), 20)]
    spaces = [" " * n + "'s" * n + "\n\u00a0\u3000" * n for n in range(50)]
    marks = ["<|endoftext|>", "", "a <|endoftext|> b", "\x00\x85\U0001f9d1\u200d"]
    return [*pairs, *spaces, *marks] * 4


def test_tiktoken_counts_the_same(many, tokenizer, monkeypatch):
    counts = count_gpt2_tokens(many, tokenizer, load_tokenizer)
    assert counts == list(map(len, encode_texts(tokenizer, many)))
    monkeypatch.setenv("GPT2_FAST", "0")
    assert count_gpt2_tokens(many, tokenizer, load_tokenizer) is None
    assert count_tokens(many, tokenizer) == counts


def adds_a_token(tokenizer):
    tokenizer.add_tokens(["the"])


def puts_a_space_before(tokenizer):
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)


def lowers(tokenizer):
    tokenizer.backend_tokenizer.normalizer = Lowercase()


def leaves_merges_out(tokenizer):
    tokenizer.backend_tokenizer.model.dropout = 1.0


@pytest.mark.parametrize("change", [adds_a_token, puts_a_space_before, lowers, leaves_merges_out])
def test_a_changed_tokenizer_is_counted_itself(change, many, tokenizer):
    tokenizer = deepcopy(tokenizer)
    before = count_tokens(many, tokenizer)
    change(tokenizer)
    after = count_tokens(many, tokenizer)
    assert after == list(map(len, encode_texts(tokenizer, many))) and after != before


def test_other_tokenizers_and_long_texts_are_counted_themselves(many, tokenizer):
    assert count_gpt2_tokens(many, small_tokenizer(), load_tokenizer) is None
    assert count_gpt2_tokens(many, object(), load_tokenizer) is None
    assert count_tokens([*many, " " * 10**6], tokenizer)[-1] == 10**6


def test_without_tiktoken_the_tokenizer_counts(many, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)  # so that importing it fails
    monkeypatch.setattr("counting._tiktoken", _tiktoken.__wrapped__)
    assert count_gpt2_tokens(many, tokenizer, load_tokenizer) is None


def test_a_tokenizer_without_a_vocabulary_is_refused(tokenizer):
    with pytest.raises(ValueError, match="has no vocabulary"):
        compute_fertility(train("en", tokenizer), GPT2Tokenizer())


@pytest.mark.parametrize("max_samples", [0, -1])
def test_fewer_than_one_sample_is_an_error(max_samples, tokenizer):
    with pytest.raises(ValueError, match="max_samples must be at least 1"):
        compute_fertility(train("en", tokenizer), tokenizer, max_samples)


def test_a_subset_has_the_fertility_of_its_first_samples(tokenizer):
    rows = XNLIDataset.in_folder(SAMPLE, "train", "de", tokenizer=tokenizer, subset=0.1)
    assert len(rows) == 60
    whole = compute_fertility(train("de", tokenizer), tokenizer, 60)
    assert compute_fertility(rows, tokenizer) == whole
