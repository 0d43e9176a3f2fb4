"""Named entities: spans from tags, spans to text and back, entity F1, and the reader."""

import itertools
import random
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extensions.tasks.ner import (
    TAGS,
    TYPES,
    NERTask,
    answer_to_spans,
    entity_f1,
    spans_to_answer,
    tag_spans,
    text_spans,
)

TASK = NERTask()
TEXT = st.text(
    st.one_of(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), st.sampled_from(";\\: "))
)
SPANS = st.lists(st.tuples(st.sampled_from(TYPES), TEXT.map(str.strip).filter(bool)), max_size=6)
SEQUENCE = st.lists(st.sampled_from(sorted(TAGS)), max_size=12)


def f1_of_tags(gold, predicted):
    return entity_f1(map(tag_spans, gold), map(tag_spans, predicted))


def conlleval(tags):
    """Return the chunks by conlleval's own questions: does one end here, does one start here?"""
    chunks, start, before = [], None, ("O", "")
    for i, tag in enumerate([*tags, "O"]):
        place, kind = (tag[0], tag[2:]) if tag != "O" else ("O", "")
        ends = before[0] in "BI" and (place in "BO" or kind != before[1])
        starts = place == "B" or (place == "I" and (before[0] == "O" or kind != before[1]))
        if ends:
            chunks.append((before[1], start, i))
        start = i if starts else start
        before = (place, kind)
    return chunks


# ---- Spans as text ------------------------------------------------------------------------------


@given(SPANS)
def test_an_answer_reads_back_as_its_spans(spans):
    assert answer_to_spans(spans_to_answer(spans)) == spans


@given(SPANS)
def test_an_answer_is_one_line_and_white_space_around_it_is_nothing(spans):
    answer = spans_to_answer(spans)
    assert "\n" not in answer and answer_to_spans(f" {answer} ") == spans


@given(st.text())
def test_any_generated_text_reads_as_spans(text):
    assert all(len(span) == 2 for span in answer_to_spans(text))


@pytest.mark.parametrize(
    ("spans", "answer"),
    [
        ([], "none"),
        ([("PER", "Ada Lovelace"), ("LOC", "London")], "PER: Ada Lovelace; LOC: London"),
        ([("LOC", "London"), ("LOC", "London")], "LOC: London; LOC: London"),
        ([("LOC", "北京"), ("ORG", "北京大学")], "LOC: 北京; ORG: 北京大学"),
        ([("ORG", "Film: A; B \\ C")], r"ORG: Film: A\; B \\ C"),
        ([("PER", "none")], "PER: none"),
    ],
)
def test_answers_as_a_reader_expects_them(spans, answer):
    assert spans_to_answer(spans) == answer and answer_to_spans(answer) == spans


def test_what_is_no_entity_counts_as_a_wrong_one():
    assert answer_to_spans("London; LOC: Oslo;") == [("", "London"), ("LOC", "Oslo")]
    assert answer_to_spans("") == answer_to_spans(" none\n") == []


def test_text_spans_join_tokens_as_the_language_does():
    tags = ["B-PER", "I-PER", "O", "B-LOC"]
    assert text_spans(["Ada", "King", "in", "Rome"], tags, "en") == [
        ("PER", "Ada King"),
        ("LOC", "Rome"),
    ]
    assert text_spans(list("李民在京"), tags, "zh") == [("PER", "李民"), ("LOC", "京")]


# ---- Spans of tags ------------------------------------------------------------------------------


@given(SEQUENCE)
def test_spans_are_those_of_conlleval(tags):
    assert tag_spans(tags) == conlleval(tags)


@given(SEQUENCE)
def test_spans_cover_every_tag_but_o_once(tags):
    covered = [i for _, start, end in tag_spans(tags) for i in range(start, end)]
    assert covered == [i for i, tag in enumerate(tags) if tag != "O"]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O O B-MISC I-MISC I-MISC O B-PER I-PER", [("MISC", 3, 6), ("PER", 7, 9)]),  # seqeval
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),  # seqeval
        ("O I-PER I-PER", [("PER", 1, 3)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
    ],
)
def test_wrong_transitions_start_an_entity(tags, spans):
    assert tag_spans(tags.split()) == spans


# ---- F1 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "predicted", "f1"),
    [  # as published with seqeval: its README, and its tests of conlleval's mode
        (
            ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"],
            ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"],
            0.5,
        ),
        (["B-ORG I-ORG"], ["I-ORG I-ORG"], 1.0),
        ([""], [""], 0.0),
        (  # in the tests' order: 2 of 3 and 2 of 3, by hand
            ["O O O B-MISC I-MISC O B-ORG", "B-PER I-PER O B-PER"],
            ["O O B-MISC I-MISC I-MISC O O", "B-PER I-PER O B-MISC"],
            2 * 1 / (4 + 3),
        ),
    ],
)
def test_f1_of_published_cases(gold, predicted, f1):
    split = [[tags.split() for tags in column] for column in (gold, predicted)]
    assert f1_of_tags(*split) == pytest.approx(f1)


@given(st.lists(st.tuples(SEQUENCE, SEQUENCE), max_size=6))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs):
    gold = {(row, *span) for row, (tags, _) in enumerate(pairs) for span in conlleval(tags)}
    guess = {(row, *span) for row, (_, tags) in enumerate(pairs) for span in conlleval(tags)}
    precision, recall = (len(gold & guess) / max(1, len(a)) for a in (guess, gold))
    expected = 2 * precision * recall / (precision + recall) if gold & guess else 0
    assert f1_of_tags(*zip(*pairs, strict=True) if pairs else ((), ())) == pytest.approx(expected)


@given(st.lists(SPANS, min_size=1, max_size=4), st.randoms())
def test_f1_of_spans_is_symmetric_and_ignores_their_order(rows, rng):
    other = [rng.sample(row, len(row)) for row in rows]
    assert entity_f1(rows, other) == (1.0 if any(rows) else 0.0)
    fewer = [row[1:] for row in rows]
    assert entity_f1(rows, fewer) == entity_f1(fewer, rows) <= 1


def test_an_entity_that_is_there_twice_counts_twice():
    twice = [("LOC", "London"), ("LOC", "London")]
    assert entity_f1([twice], [twice[:1]]) == pytest.approx(2 / 3)
    assert entity_f1([twice[:1]], [twice]) == pytest.approx(2 / 3)


def test_f1_over_answers_is_f1_over_tags_where_no_text_repeats():
    rng = random.Random(0)
    names = [f"t{i}" for i in range(8)]
    columns = [[rng.choices(sorted(TAGS), k=8) for _ in range(50)] for _ in range(2)]
    answers = [[spans_to_answer(text_spans(names, tags, "en")) for tags in c] for c in columns]
    table = pd.DataFrame({"label": answers[0], "prediction": answers[1]})
    assert TASK.score(table) == pytest.approx(f1_of_tags(*columns))
    assert 0 < TASK.score(table) < 1


# ---- Reading ------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(text, name="train-en"):
        (tmp_path / "ner").mkdir(exist_ok=True)
        (tmp_path / f"ner/{name}.tsv").write_bytes(text.encode())
        return tmp_path

    return write


def sentences(count):
    return "".join(f"w{i}\tB-LOC\nis\tO\n\n" for i in range(count))


def test_a_sentence_becomes_a_prompt_and_its_entities(write):
    folder = write("Ada\tB-PER\nKing\tI-PER\nsaw\tO\nRome\tB-LOC\n\nNo\tO\n\n", "dev-en")
    data = TASK.read(folder, "test", "en")
    assert data["sentence"].tolist() == ["Ada King saw Rome", "No"]
    assert data["label"].tolist() == ["PER: Ada King; LOC: Rome", "none"]
    assert data["line"].tolist() == [1, 6] and data["pair_id"].tolist() == ["en-1", "en-6"]
    assert data["tags"][0] == ["B-PER", "I-PER", "O", "B-LOC"] and data["tokens"][1] == ["No"]


def test_prefixes_crlf_and_blank_lines_change_nothing(write):
    plain = "Rome\tB-LOC\nen:x\tO\n\nNo\tO\n"
    expected = TASK.read(write(plain, "dev-en"), "test", "en").drop(columns=["line", "pair_id"])
    prefixed = "en:Rome\tB-LOC\nen:en:x\tO\n\nen:No\tO\n"
    for text in (prefixed, plain.replace("\n", "\r\n"), "\n\n" + plain.replace("\n\n", "\n \n\n")):
        data = TASK.read(write(text, "dev-en"), "test", "en")
        assert data.drop(columns=["line", "pair_id"]).equals(expected)


def test_sentences_with_broken_lines_are_skipped_and_named(write):
    text = "a\tO\nno tag\n\nb\tB-MISC\n\n\tO\n\nc\tO\textra\n\nd\tO\n"
    data = TASK.read(write(text, "dev-en"), "test", "en")
    assert data["sentence"].tolist() == ["d"]
    assert [line for line, _ in data.attrs["skipped"]] == [2, 4, 6, 8]
    assert data.attrs["skipped"][0][1] == "no token and tag 'no tag'"


def test_without_a_test_file_dev_is_test_and_a_tenth_of_train_is_dev(write):
    folder = write(sentences(37))
    write("x\tO\n", "dev-en")
    parts = {split: TASK.read(folder, split, "en") for split in ("train", "dev", "test")}
    assert {split: len(data) for split, data in parts.items()} == {"train": 34, "dev": 3, "test": 1}
    assert parts["dev"]["sentence"].tolist() == ["w34 is", "w35 is", "w36 is"]


def test_with_a_test_file_the_official_splits_are_used(write):
    folder = write(sentences(20))
    write("x\tO\n", "dev-en")
    write("y\tO\n\nz\tO\n", "test-en")
    assert [len(TASK.read(folder, split, "en")) for split in ("train", "dev", "test")] == [20, 1, 2]


def test_chinese_has_no_spaces_between_its_tokens(write):
    data = TASK.read(write("李\tB-PER\n民\tI-PER\n在\tO\n京\tB-LOC\n", "dev-zh"), "test", "zh")
    assert data["sentence"][0] == "李民在京" and data["label"][0] == "PER: 李民; LOC: 京"


def test_a_missing_language_says_which_there_are(write):
    folder = write("x\tO\n", "dev-en")
    write("x\tO\n", "dev-sw")
    with pytest.raises(FileNotFoundError, match="no such file; there is en, sw"):
        TASK.read(folder, "test", "xx")


def test_all_short_sequences_cover_every_transition():
    for tags in itertools.product(sorted(TAGS), repeat=3):
        assert tag_spans(tags) == conlleval(tags)
        assert Counter(kind for kind, *_ in tag_spans(tags)).total() <= 3
