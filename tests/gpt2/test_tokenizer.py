"""The packaged GPT-2 tokenizer, without a network."""

import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    Qwen2Tokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

from benchmarks.fertility import openais_encoding
from gpt2 import tokenizer as tokenizer_module
from gpt2.tokenizer import check_tokenizer, load_tokenizer, pad_id, prefix_ids
from tests import ROOT

HANDOUT = "This is the beginning of default final project!"


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


@pytest.fixture(scope="module")
def theirs():
    """OpenAI's own later implementation, with the same files."""
    return openais_encoding()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40))
def test_it_agrees_with_another_implementation(tokenizer, theirs, text):
    assert tokenizer(text, split_special_tokens=True)["input_ids"] == theirs.encode(text)


def test_a_vocabulary_that_is_not_openais_is_refused(without_waiting, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_packaged_tokenizer", without_waiting)
    monkeypatch.setitem(tokenizer_module.VOCABULARY, "vocab.bpe", "0" * 64)
    with pytest.raises(ValueError, match=r"vocab\.bpe: not OpenAI's file.*git checkout"):
        load_tokenizer("gpt2")


def test_another_tokenizer_comes_from_a_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("Hello world")["input_ids"] == [15496, 995] and again.pad_token_id == 50256


def test_a_folder_with_a_model_alone_has_no_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(FileNotFoundError, match=r'no tokenizer in .* use load_tokenizer\("gpt2"\)'):
        load_tokenizer(tmp_path)


def test_no_tokenizer_and_an_unreachable_name_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer in"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConnectionError, match='"someone/model" is no local folder'):
        load_tokenizer("someone/model")


# ---- What a tokenizer is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [
        BertTokenizer,
        GPT2Tokenizer,
        LlamaTokenizer,
        Qwen2Tokenizer,
        T5Tokenizer,
        XLMRobertaTokenizer,
    ],
)
def test_a_tokenizer_without_a_vocabulary_is_refused(family):
    with pytest.raises(ValueError, match=r"has no vocabulary; use .*python -m gpt2\.tokenizer"):
        check_tokenizer(family())


def test_small_and_large_vocabularies_pass(tokenizer):
    check_tokenizer(tokenizer)
    letters = {letter: id for id, letter in enumerate("ab")}
    check_tokenizer(GPT2Tokenizer(vocab=letters, merges=[]))


def test_gpt2_adds_nothing_before_a_text_and_bert_does(tokenizer):
    assert prefix_ids(tokenizer) == []
    bert = BertTokenizer(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4})
    assert prefix_ids(bert) == [1] and pad_id(bert) == 3


def test_pads_are_end_of_text_where_there_is_no_padding_token():
    vocabulary = {"a": 0, "<|endoftext|>": 1}
    assert pad_id(GPT2Tokenizer(vocab=vocabulary, merges=[])) == 1
    assert pad_id(GPT2Tokenizer(vocab=vocabulary, merges=[], eos_token=None)) == 0


# ---- The tokenizer in the project folder -------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A folder laid out as the project, without tokenizer files."""
    shutil.copytree(ROOT / "gpt2", tmp_path / "gpt2", ignore=shutil.ignore_patterns("token*.json"))
    shutil.copytree(ROOT / "optim", tmp_path / "optim")
    for file in ("config.py", "console.py", "counting.py", "utils.py"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


@pytest.mark.all
def test_setup_makes_the_handouts_first_line_work_offline(project, tokenizer, monkeypatch):
    monkeypatch.chdir(project)
    before = GPT2Tokenizer.from_pretrained("gpt2")  # the folder gpt2/ is read, not the hub
    assert before(HANDOUT)["input_ids"] == [] and len(before) == 1
    environment = {**os.environ, "PYTHONPATH": str(project)}
    subprocess.run(
        [sys.executable, "-m", "gpt2.tokenizer"], cwd=project, env=environment, check=True
    )
    expected = [[1212, 318, 262, 3726, 286, 4277, 2457, 1628, 0], 50257]
    assert tokenizer(HANDOUT)["input_ids"] == expected[0]
    for kind in (GPT2Tokenizer, AutoTokenizer):
        made = kind.from_pretrained("gpt2")
        assert [made(HANDOUT)["input_ids"], len(made)] == expected
    assert {file.name for file in (project / "gpt2").glob("*.json")} == {
        "tokenizer.json",
        "tokenizer_config.json",  # and no config.json, which would be a model's
    }
