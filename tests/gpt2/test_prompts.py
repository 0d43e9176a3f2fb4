"""encode_prompts: every tokenizer's own ids of the whole prompt; the label's place never lost."""

from copy import deepcopy
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from gpt2.nli_files import read_xnli_tsv
from gpt2.prompts import encode_prompts, label_tokens
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLI, XNLIDataset
from tests import SAMPLE

QWEN = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
PREFIX = {"adds BOS": ["<|endoftext|>"], "BERT": ["[CLS]"]}
KINDS = (
    *("GPT-2", "adds BOS", "prefix space", "a word with a space", "BERT"),
    *("merges across lines", "Qwen", "SentencePiece", "bytes"),
)
sentences = st.text(
    st.characters(exclude_characters="\ufeff", exclude_categories=["Cs"]), min_size=1, max_size=60
) | st.text("Ab1.'<|endoftext|>\u00a0 \n", min_size=1, max_size=30)
pairs_of = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=4)


@cache
def tokenizer_of(kind):
    """Return one of many sorts of tokenizers, trained on the sample where it needs training."""
    if kind in ("GPT-2", "adds BOS", "a word with a space"):
        tokenizer = deepcopy(load_tokenizer("gpt2"))
        if kind == "adds BOS":
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 50256)]
            )
        elif kind == "a word with a space":
            tokenizer.add_tokens(["b.\nHypothesis", "A b"])
        return tokenizer
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    model, trainer = models.BPE(), trainers.BpeTrainer
    settings = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "vocab_size": 600}
    cut, decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if kind == "prefix space":
        cut = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif kind == "bytes":
        settings["vocab_size"] = 0
    elif kind == "merges across lines":
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    elif kind == "Qwen":
        parts = pre_tokenizers.Split(Regex(QWEN), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        cut = pre_tokenizers.Sequence([parts, byte_level])
    elif kind == "BERT":
        special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        model, trainer = models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer
        settings = {"vocab_size": 600}
        cut, decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    elif kind == "SentencePiece":
        model, trainer = models.Unigram(), trainers.UnigramTrainer
        settings = {"vocab_size": 600, "unk_token": "[UNK]"}
        cut, decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = cut, decoder
    if kind == "BERT":
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    data = read_xnli_tsv(SAMPLE / "XNLI-1.0" / "xnli.dev.tsv", "en")
    texts = [*prompts_of(zip(data["premise"], data["hypo"], strict=True)), *"012", "\n"]
    texts += ["Yes indeed", "No, not", "true", "false"]
    backend.train_from_iterator(texts, trainer(special_tokens=[*special.values()], **settings))
    if kind == "BERT":
        ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        backend.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def prompts_of(pairs):
    return [XNLI.prompt.format(premise=premise, hypo=hypo) for premise, hypo in pairs]


def encoded(pairs, tokenizer, max_length=10**6, prompt=XNLI.prompt):
    data = pd.DataFrame(pairs, columns=["premise", "hypo"], dtype=str)
    arrays = encode_prompts(prompt, data, tokenizer, max_length - 1)  # a token is the label's
    rows = np.split(arrays["ids"].astype(int), arrays["offsets"][1:-1])
    return [row.tolist() for row in rows], arrays["truncated"].tolist()


def own_ids(pairs, kind):
    tokenizer = tokenizer_of(kind)
    prefix = tokenizer.convert_tokens_to_ids(PREFIX.get(kind, []))
    settings = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return [prefix + tokenizer(prompt, **settings)["input_ids"] for prompt in prompts_of(pairs)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(pairs=pairs_of)
def test_ids_are_the_tokenizers_own_of_the_whole_prompt(kind, pairs):
    assert encoded(pairs, tokenizer_of(kind)) == (own_ids(pairs, kind), [0] * len(pairs))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_the_sample_are_the_tokenizers_own(kind):
    data = read_xnli_tsv(SAMPLE / "XNLI-1.0" / "xnli.test.tsv", subset=400)
    pairs = list(zip(data["premise"], data["hypo"], strict=True))
    assert encoded(pairs, tokenizer_of(kind))[0] == own_ids(pairs, kind)


def test_the_kinds_differ_in_what_they_do_at_the_end_of_a_line():
    """Otherwise the tests above would not test it."""
    (ids,) = own_ids([("It rains.", "It is wet.")], "merges across lines")
    tokens = [tokenizer_of("merges across lines").decode([id]) for id in ids]
    assert any("\n" in token and token.strip() for token in tokens)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(pairs=pairs_of, times=st.integers(1, 12), max_length=st.integers(60, 100))
def test_long_pairs_lose_text_and_never_the_label(kind, pairs, times, max_length):
    pairs = [(premise * times, hypo * times) for premise, hypo in pairs]
    tokenizer, full = tokenizer_of(kind), own_ids(pairs, kind)
    rows, truncated = encoded(pairs, tokenizer, max_length)
    assert truncated == [len(ids) > max_length - 1 for ids in full]
    for ids, whole in zip(rows, full, strict=True):
        assert len(ids) == min(len(whole), max_length - 1)
        text = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "").lower()
        assert text.startswith("premise:") and text.endswith("label:")
        assert ids == whole or len(ids) < len(whole)


@pytest.mark.parametrize("kind", ["GPT-2", "BERT"])
def test_the_longer_sentence_is_cut_first(kind):
    tokenizer = tokenizer_of(kind)
    (long_premise, long_hypo), _ = encoded(
        [("go " * 100, "in the end"), ("in the end", "go " * 100)], tokenizer, 40
    )
    assert all("in the end" in tokenizer.decode(ids) for ids in (long_premise, long_hypo))


@pytest.mark.parametrize("kind", ["bytes", "merges across lines"])
def test_a_length_too_small_for_the_prompt_is_an_error(kind):
    with pytest.raises(
        ValueError, match=r"max_length leaves room for \d tokens, but a prompt without its"
    ):
        encoded([("a" * 90, "b" * 90)], tokenizer_of(kind), 4)


@pytest.mark.parametrize(
    "prompt", ["{premise} Question: {hypo} Label:", "Premise:{premise}\nHypo: {hypo}\nA:"]
)
def test_another_prompt_is_encoded_as_it_stands(prompt, tokenizer):
    expected = tokenizer(prompt.format(premise="It rains.", hypo="It is wet."))["input_ids"]
    assert encoded([("It rains.", "It is wet.")], tokenizer, prompt=prompt)[0] == [expected]


# ---- Labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digit", ["0", "1", "2"])
def test_a_label_is_the_one_token_that_continues_the_prompt(kind, digit):
    tokenizer = tokenizer_of(kind)
    prompt = tokenizer("x\nLabel:", add_special_tokens=False)["input_ids"]
    answered = tokenizer(f"x\nLabel:{digit}", add_special_tokens=False)["input_ids"]
    (tokens,) = label_tokens(tokenizer, XNLI.prompt, {"a": digit})
    assert answered == [*prompt, *tokens] and len(tokens) == 1


def test_gpt2s_labels_are_the_digits(tokenizer):
    assert label_tokens(tokenizer, XNLI.prompt, XNLI.labels) == [[15], [16], [17]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [(" Yes", " No"), ("true", "false"), (" Yes indeed", " No, not")])
def test_label_words_are_the_tokens_that_continue_the_prompt(kind, words):
    tokenizer, labels = tokenizer_of(kind), dict(enumerate(words))
    texts = ["x\nLabel:", *(f"x\nLabel:{word}" for word in words)]
    prompt, *whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    if any(ids[: len(prompt)] != prompt for ids in whole):  # one that joins ":" and the space
        with pytest.raises(ValueError, match="an answer's tokens must follow the prompt's own"):
            label_tokens(tokenizer, XNLI.prompt, labels)
        return
    tokens = label_tokens(tokenizer, XNLI.prompt, labels)
    assert [[*prompt, *ids] for ids in tokens] == whole


def test_a_label_that_starts_another_is_an_error(tokenizer):
    with pytest.raises(ValueError, match=r"label ' No idea' start with those of ' No'"):
        label_tokens(tokenizer, XNLI.prompt, {"a": " No", "b": " Yes", "c": " No idea"})


def without_digits():
    vocabulary = {"[UNK]": 0, "Premise": 1, "Hypothesis": 2, "Label": 3, ":": 4, "0": 5}
    backend = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def merged_with_the_colon():
    tokenizer = deepcopy(load_tokenizer("gpt2"))
    tokenizer.add_tokens([":1"])
    return tokenizer


@pytest.mark.parametrize("make", [without_digits, merged_with_the_colon])
def test_a_label_that_the_tokenizer_cannot_write_is_an_error(make):
    label_tokens(make(), XNLI.prompt, {"a": "0"})
    message = r"tokenizer makes \['.*:?.*'\] of '.*1'.*another .*tokenizer"
    with pytest.raises(ValueError, match=message):
        label_tokens(make(), XNLI.prompt, {"a": "1"})
    with pytest.raises(ValueError, match=message):
        XNLIDataset.in_folder(SAMPLE, "dev", tokenizer=make())


# ---- The data set with other tokenizers --------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_set_works_with_any_fast_tokenizer(kind, tmp_path):
    path = tmp_path / "train.en.tsv"
    path.write_text("premise\thypo\tlabel\nIt rains.\tIt is wet.\tneutral\nA b.\tC\tentailment\n")
    tokenizer = tokenizer_of(kind)
    data = XNLIDataset("train", "en", str(path), tokenizer=tokenizer)
    pairs = [("It rains.", "It is wet."), ("A b.", "C")]
    ids = [[*own, data.digits[i]] for own, i in zip(own_ids(pairs, kind), (2, 0), strict=True)]
    assert [data[i]["input_ids"].tolist() for i in range(2)] == ids
    batch = data.collate_fn([data[0], data[1]])
    pads = batch["input_ids"][batch["attention_mask"] == 0]
    assert len(pads) > 0 and set(pads.tolist()) == {tokenizer.pad_token_id}
    assert batch["label_strs"] == ["2", "0"]


def test_a_slow_tokenizer_is_a_clear_error():
    with pytest.raises(ValueError, match=r"ByT5Tokenizer is a slow tokenizer.* AutoTokenizer"):
        XNLIDataset.in_folder(SAMPLE, "dev", tokenizer=ByT5Tokenizer())
