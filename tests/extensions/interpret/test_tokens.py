"""Token labels are readable in every script, and premise and hypothesis are found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.miniature.files import sentences
from data.miniature.language import CODES
from data.miniature.pairs import make_pairs
from extensions.interpret.tokens import SUBSCRIPTS, Tokens, token_labels
from gpt2.tokenizer import encode_texts, load_tokenizer
from gpt2.xnli import XNLI

TOKENIZER = load_tokenizer("gpt2")
HARD = ["नमस्ते", "แมว", "是的", "🙂👍🏽", "é", "é", "سلام", "a\0b", "\n\t ", "Ωμέγα", "\u200d"]


def ids_of(text):
    return encode_texts(TOKENIZER, [text])[0]


def test_labels_of_whole_and_of_partial_characters():
    assert token_labels(TOKENIZER, ids_of("The cat\nsat")) == ["The", "·cat", "↵", "sat"]
    labels = token_labels(TOKENIZER, ids_of("न"))
    assert labels[0][0] == "न" and "".join(label[1:] for label in labels) == "₁₂₃"
    assert token_labels(TOKENIZER, ids_of("a\0")) == ["a", "⟨U+0000⟩"]
    assert token_labels(TOKENIZER, ids_of("न")[:1])[0].startswith("⟨")  # cut off in the middle
    assert token_labels(TOKENIZER, [TOKENIZER.eos_token_id]) == ["<|endoftext|>"]


@given(st.one_of(st.text(min_size=1, max_size=30), st.sampled_from(HARD)))
def test_no_byte_is_lost_and_every_token_has_a_label(text):
    ids = ids_of(text)
    tokens = Tokens(TOKENIZER, ids)
    assert tokens.text == text.encode()
    assert len(tokens.labels) == len(ids) and all(tokens.labels)
    assert not any(c in label for label in tokens.labels for c in "\n\0\ufffd" if c not in text)


@pytest.mark.parametrize("code", CODES)
def test_every_language_reads_as_its_own_script(code):
    _, hypothesis = sentences(make_pairs("dev")[0], code)
    shown = "".join(token_labels(TOKENIZER, ids_of(hypothesis)))
    for sign in (*SUBSCRIPTS, "◌"):
        shown = shown.replace(sign, "")
    assert {*hypothesis.replace(" ", "·")} == {*shown}


@pytest.mark.parametrize("code", CODES)
def test_premise_and_hypothesis_are_where_they_stand(code):
    premise, hypothesis = sentences(make_pairs("dev")[0], code)
    ids = ids_of(XNLI.prompt.format(premise=premise, hypo=hypothesis))
    tokens = Tokens(TOKENIZER, ids)
    assert b"".join(tokens.pieces[i] for i in tokens.premise).decode().strip() == premise
    assert b"".join(tokens.pieces[i] for i in tokens.hypothesis).decode().strip() == hypothesis
    word = hypothesis.split()[0]
    found = tokens.find(word, tokens.hypothesis)
    spelled = b"".join(tokens.pieces[i] for i in found).decode("utf-8", "replace")
    assert word in spelled and found[0] == tokens.hypothesis[0]


def test_other_texts_have_no_premise():
    tokens = Tokens(TOKENIZER, ids_of("Just a sentence."))
    assert tokens.premise == tokens.hypothesis == []
    assert tokens.find("sentence", tokens.premise) == tokens.find("x", [0, 1, 2]) == []
