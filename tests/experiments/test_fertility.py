"""Fertility in many languages, and the better-founded measures beside it."""

import sys

import pytest

from experiments.fertility import fertility_table, measure_fertility
from gpt2.fertility import count_tokens
from gpt2.xnli import XNLIDataset
from tests import SAMPLE


def train(lang, tokenizer, folder=SAMPLE):
    return XNLIDataset.in_folder(folder, "train", lang, tokenizer=tokenizer)


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


def test_fertility_counts_the_first_pairs_of_each_language():
    table = measure_fertility(SAMPLE, max_samples=50, languages=["de", "sw"])
    assert list(table.index) == ["de", "sw"] and (table["fertility"] > 1).all()
    assert not table.equals(measure_fertility(SAMPLE, languages=["de", "sw"]))
