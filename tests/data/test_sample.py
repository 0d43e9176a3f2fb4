"""The embedded NLI sample: parallel, balanced, in its scripts, and nothing of test in train."""

import re
import unicodedata
from collections import Counter

import pytest

from gpt2.xnli import LABEL2ID, LANGUAGES, read_xnli_tsv
from tests import SAMPLE

PAIRS = {"train": 600, "dev": 60, "test": 120}
SCRIPTS = {
    "ar": "ARABIC",
    "ur": "ARABIC",
    "bg": "CYRILLIC",
    "ru": "CYRILLIC",
    "el": "GREEK",
    "hi": "DEVANAGARI",
    "th": "THAI",
    "zh": "CJK",
}


def read(split, lang):
    if split == "train":
        return read_xnli_tsv(SAMPLE / "XNLI-MT-1.0" / "multinli" / f"multinli.train.{lang}.tsv")
    return read_xnli_tsv(SAMPLE / "XNLI-1.0" / f"xnli.{split}.tsv", lang)


@pytest.fixture(scope="module")
def sample():
    return {(split, lang): read(split, lang) for split in PAIRS for lang in LANGUAGES}


def test_the_files_have_the_official_layout():
    for split in ("dev", "test"):
        header = (SAMPLE / "XNLI-1.0" / f"xnli.{split}.tsv").read_text().split("\n")[0].split("\t")
        assert len(header) == 19 and header[:2] == ["language", "gold_label"]
        assert header[9:11] == ["pairID", "genre"] and header[-1] == "match"


@pytest.mark.parametrize("split", PAIRS)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_has_all_pairs_balanced_in_triples_of_one_premise(split, lang, sample):
    data = sample[split, lang]
    assert len(data) == PAIRS[split] and not data.attrs["skipped"]
    assert set(data["label"].value_counts()) == {PAIRS[split] // 3}
    for _, triple in data.groupby("premise"):
        assert sorted(triple["label"]) == sorted(LABEL2ID)
    sentences = [*data["premise"].unique(), *data["hypo"]]
    assert len(sentences) == len(set(sentences)) == PAIRS[split] * 4 // 3


@pytest.mark.parametrize("split", PAIRS)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_pairs_are_parallel_row_by_row(split, lang, sample):
    ours, english = sample[split, lang], sample[split, "en"]
    assert ours["label"].tolist() == english["label"].tolist()
    if split != "train":
        assert ours["pair_id"].tolist() == english["pair_id"].tolist()
    # The same rows share a premise in both, and a sentence is about as long as its peers.
    same = [list(frame.groupby("premise", sort=False).ngroup()) for frame in (ours, english)]
    assert same[0] == same[1]
    lengths, peers = (
        [*frame["premise"].str.len(), *frame["hypo"].str.len()] for frame in (ours, english)
    )
    ratio = sum(lengths) / sum(peers)
    odd = [a / b / ratio for a, b in zip(lengths, peers, strict=True)]
    assert min(odd) > 0.35 and max(odd) < 2.8


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_letter_is_of_the_languages_script(lang, sample):
    text = "".join(
        "".join(frame["premise"] + frame["hypo"]) for (_, of), frame in sample.items() if of == lang
    )
    assert unicodedata.is_normalized("NFC", text) and '"' not in text
    script = SCRIPTS.get(lang, "LATIN")
    strangers = {c for c in text if c.isalpha() and not unicodedata.name(c).startswith(script)}
    assert not strangers


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_of_dev_and_test_is_in_train(lang, sample):
    train = {w for column in ("premise", "hypo") for w in sample["train", lang][column]}
    for split in ("dev", "test"):
        for column in ("premise", "hypo"):
            assert not train & set(sample[split, lang][column])
    others = set(sample["dev", lang]["premise"]) & set(sample["test", lang]["premise"])
    assert not others


def test_no_english_test_sentence_is_nearly_one_of_train(sample):
    def bags(split):
        frame = sample[split, "en"]
        sentences = {*frame["premise"], *frame["hypo"]}
        return [frozenset(re.findall(r"\w+", sentence.lower())) for sentence in sentences]

    train = bags("train")
    for bag in bags("dev") + bags("test"):
        assert max(len(bag & other) / len(bag | other) for other in train) <= 0.7


def test_the_labels_can_hardly_be_guessed_from_english_hypotheses_alone(sample):
    """Naive Bayes on words, train to test: chance is 1/3, and its standard error 4 points."""
    train, test = sample["train", "en"], sample["test", "en"]
    counts = {label: Counter() for label in LABEL2ID}
    for row in train.itertuples():
        counts[row.label].update(re.findall(r"\w+", row.hypo.lower()))
    vocabulary = set().union(*counts.values())
    totals = {label: sum(c.values()) + len(vocabulary) for label, c in counts.items()}

    def guess(hypo):
        import math

        words = re.findall(r"\w+", hypo.lower())
        return max(
            LABEL2ID,
            key=lambda label: sum(
                math.log((counts[label][word] + 1) / totals[label]) for word in words
            ),
        )

    right = sum(guess(row.hypo) == row.label for row in test.itertuples())
    assert right / len(test) < 0.5
