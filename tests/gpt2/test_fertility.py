"""Fertility as the handout counts it, and the better-founded measures beside it."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from gpt2.fertility import compute_fertility, count_tokens, fertility_table
from gpt2.xnli import XNLIDataset
from tests import SAMPLE

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


def test_the_table_equals_one_by_hand(tmp_path, tokenizer):
    folder = tmp_path / "XNLI-MT-1.0" / "multinli"
    folder.mkdir(parents=True)
    texts = {"en": ("The cat", "unputdownable so"), "de": ("Die Katze", "unglaublich so")}
    for lang, (premise, hypo) in texts.items():
        (folder / f"multinli.train.{lang}.tsv").write_text(
            f"premise\thypo\tlabel\n{premise}\t{hypo}\tneutral\n"
        )
    rows = {lang: train(lang, tokenizer, tmp_path) for lang in texts}
    table = fertility_table(rows, rows, tokenizer)
    count = {lang: sum(count_tokens(pair, tokenizer)) for lang, pair in texts.items()}
    for lang, pair in texts.items():
        row = table.loc[lang]
        assert row["fertility"] == row["tokens per word"] == count[lang] / 4
        assert (
            row["tokens per character"]
            == row["tokens per byte"]
            == count[lang] / len("".join(pair))
        )
        assert row["premium"] == count[lang] / count["en"]
    assert table.loc["en", "continued words"] == 1 / 4  # unputdownable
    assert table.loc["de", "continued words"] == 2 / 4  # Kat|ze, ung|laub|lich


@pytest.mark.parametrize(
    ("lang", "premise", "hypo", "words"),
    [("th", "แมวดื่มนม", "แมว", ["แมว", "ดื่ม", "นม", "แมว"]), ("zh", "牛奶", "猫", ["牛奶", "猫"])],
)
def test_words_of_thai_and_chinese_are_a_segmenters(
    lang, premise, hypo, words, tmp_path, tokenizer
):
    path = tmp_path / "train.tsv"
    path.write_text(f"premise\thypo\tlabel\n{premise}\t{hypo}\tneutral\n", encoding="utf-8")
    rows = {"en": XNLIDataset("train", lang, path, tokenizer=tokenizer)}
    rows[lang] = rows["en"]
    row = fertility_table(rows, rows, tokenizer).loc[lang]
    tokens = sum(count_tokens([premise, hypo], tokenizer))
    assert row["fertility"] == tokens / 2 and row["tokens per word"] == tokens / len(words)
    pieces = count_tokens([f" {word}" for word in words], tokenizer)
    assert row["continued words"] == sum(n > 1 for n in pieces) / len(words)


@pytest.mark.parametrize(("lang", "package"), [("zh", "rjieba"), ("th", "pythainlp")])
def test_without_a_segmenter_only_its_measures_are_missing(
    lang, package, tokenizer, monkeypatch, capsys
):
    rows = {name: train(name, tokenizer) for name in ("en", lang)}
    whole = fertility_table(rows, rows, tokenizer, 40)
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, package, None)  # so that importing it fails
    table = fertility_table(rows, rows, tokenizer, 40)
    needs = f"words of {lang} need a segmenter: pip install {package} -c constraints.txt\n"
    assert capsys.readouterr().out == needs
    measures = ["tokens per word", "continued words"]
    assert table.loc[lang, measures].isna().all()
    assert whole.loc[lang, measures].notna().all()
    whole.loc[lang, measures] = float("nan")
    assert table.equals(whole)


def test_english_is_needed_for_the_premium(tokenizer):
    rows = {"de": train("de", tokenizer)}
    with pytest.raises(ValueError, match="parallel needs English"):
        fertility_table(rows, rows, tokenizer)


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
