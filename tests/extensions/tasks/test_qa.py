"""Question answering: SQuAD's normalization, exact match and F1, and the reader of XQuAD."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extensions.tasks.qa import QATask, exact_match, f1, normalize

TASK = QATask()
WORDS = st.lists(st.sampled_from(["red", "green", "The", "a,", "Red."]), max_size=6).map(" ".join)


def table(*rows):
    return pd.DataFrame(rows, columns=["label", "prediction"])


# ---- Scores -------------------------------------------------------------------------------------


@given(WORDS, WORDS)
def test_both_scores_are_symmetric_and_between_0_and_1(a, b):
    for measure in (f1, exact_match):
        assert measure(a, b) == measure(b, a)
        assert 0 <= measure(a, b) <= 1


@given(WORDS, WORDS)
def test_an_exact_match_with_a_word_has_f1_of_1(a, b):
    if normalize(a) and exact_match(a, b):
        assert f1(a, b) == 1


@given(st.text())
def test_normalizing_twice_changes_nothing_but_uncovered_articles(text):
    words = normalize(text)
    again = normalize(" ".join(words))
    assert again == [word for word in words if word not in ("a", "an", "the")]


@given(WORDS, WORDS, WORDS)
def test_the_best_of_the_gold_answers_counts(prediction, a, b):
    score = TASK.score(table((f"{a}\n{b}", prediction)))
    assert score == max(f1(prediction, a), f1(prediction, b))


@pytest.mark.parametrize(
    ("text", "words"),
    [  # the first three are published with T5 and others, the rest follows from the script
        ("`Needs\tA_LOT of the 'normalization'.\"‘", "needs alot of normalization‘"),
        ("needs no normalization", "needs no normalization"),
        ("   Rock    n  Roll.", "rock n roll"),
        ("The Cat", "cat"),
        ("an apple, a day", "apple day"),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes first, so that no article is left
        ("a", ""),
    ],
)
def test_normalization_is_that_of_the_official_script(text, words):
    assert normalize(text) == words.split()


@pytest.mark.parametrize(
    ("prediction", "gold", "f1_expected", "exact"),
    [
        ("rock", "rock n roll", 2 * (1 / 3) / (1 + 1 / 3), 0),
        ("rock n roll", "rock n roll", 1, 1),
        ("The Denver Broncos.", "Denver broncos", 1, 1),
        ("near the village of Tarn", "Tarn", 2 / 5, 0),
        ("to be or not to be", "to be", 2 * 2 / (6 + 2), 0),
        ("", "Tarn", 0, 0),
        ("the", "a", 0, 1),  # nothing is left of both: the official script gives these
    ],
)
def test_scores_of_cases_of_the_official_script(prediction, gold, f1_expected, exact):
    assert f1(prediction, gold) == pytest.approx(f1_expected)
    assert exact_match(prediction, gold) == exact


def test_scores_are_means_over_questions_of_the_best_answer():
    predictions = table(  # T5's test, which has F1 35: it leaves the first answer's article in
        ("big moose\nhippo", "a big moose‘"),
        ("correct1", "wrong"),
        ("correct2.1\ncorrect2.2", "correct2.2"),
        ("a\nb", "c"),
    )
    assert TASK.exact_match(predictions) == pytest.approx(0.25)
    assert TASK.score(predictions) == pytest.approx(0.375)


def test_chinese_characters_are_words_only_if_asked_for():
    assert f1("在北京", "北京") == 0
    assert f1("在北京。", "北京", by_character=True) == pytest.approx(4 / 5)
    assert normalize("在Beijing 2008年", by_character=True) == ["在", "beijing", "2008", "年"]
    rows = table(("北京", "《北京》"))
    assert (TASK.score(rows), QATask(by_character=True).score(rows)) == (0, 1)


# ---- Reading ------------------------------------------------------------------------------------


def question(number, **changes):
    item = {
        "id": f"q{number}",
        "question": f"Who is {number}?",
        "answers": [{"text": f"Ann {number}", "answer_start": 0}],
    }
    return {**item, **changes}


def article(number, *items):
    items = items or (question(number),)
    paragraph = {"context": f"Ann {number} is\n here. Bob too.", "qas": list(items)}
    return {"title": f"t{number}", "paragraphs": [paragraph]}


@pytest.fixture
def write(tmp_path):
    def write(*articles, lang="en"):
        (tmp_path / "qa").mkdir(exist_ok=True)
        text = json.dumps({"version": "1.1", "data": articles})
        (tmp_path / f"qa/xquad.{lang}.json").write_text(text)
        return tmp_path

    return write


def test_splits_are_by_article_and_disjoint_and_complete(write):
    folder = write(*map(article, range(12)))
    lines = {s: TASK.read(folder, s, "en")["line"].tolist() for s in ("train", "dev", "test")}
    assert lines == {"train": [1, 2, 3, 7, 8, 9], "dev": [4, 10], "test": [5, 6, 11, 12]}


def test_splits_are_the_same_in_every_language(write):
    write(*map(article, range(12)), lang="hi")
    folder = write(*map(article, range(12)))
    for split in ("train", "dev", "test"):
        ids = [TASK.read(folder, split, lang)["pair_id"].tolist() for lang in ("en", "hi")]
        assert ids[0] == ids[1]


def test_a_question_becomes_one_line_per_field(write):
    data = TASK.read(write(article(1)), "train", "en")
    row = data.iloc[0].to_dict()
    assert row == {
        "context": "Ann 1 is here. Bob too.",
        "question": "Who is 1?",
        "label": "Ann 1",
        "pair_id": "q1",
        "line": 1,
    }


def test_train_has_the_first_answer_and_test_all_of_them(write):
    answers = [{"text": text} for text in ("Ann 1", "Bob", "Ann 1", " ", "Carl")]
    folder = write(*[article(1, question(1, answers=answers))] * 6)
    assert TASK.read(folder, "train", "en")["label"][0] == "Ann 1"
    assert TASK.read(folder, "test", "en")["label"][0] == "Ann 1\nBob"


def test_questions_without_question_or_answer_are_skipped_and_named(write):
    items = (question(1), question(2, question=" "), question(3, answers=[{"text": "Zoe"}]))
    data = TASK.read(write(article(1, *items)), "train", "en")
    assert data["line"].tolist() == [1]
    assert data.attrs["skipped"] == [(2, "no question"), (3, "no answer in the context")]


def test_another_file_is_a_clear_error(write, tmp_path):
    folder = write(article(1))
    with pytest.raises(FileNotFoundError, match="no such file; there is en"):
        TASK.read(folder, "train", "ro")
    for text in ("{", "[]", '{"rows": 1}', '{"data": [{"paragraphs": [{"context": 1}]}]}'):
        (tmp_path / "qa/xquad.en.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"xquad\.en\.json: no SQuAD JSON .* download it again"
        ):
            TASK.read(folder, "train", "en")
