"""TextDataset: the item contract, one end-of-text token a document, nothing silently lost."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import BertTokenizer, GPT2Tokenizer

from gpt2.text import TextDataset, read_lines, text_loader, unigram_entropy

EOT = 50256


def test_an_item_has_max_len_ids_and_one_end_of_text(text_file, tokenizer):
    dataset = TextDataset(text_file("Hello world", "", "Good"), tokenizer, 6)
    assert len(dataset) == 2  # the empty line is no document
    input_ids, mask = dataset[0]
    assert input_ids.tolist() == [15496, 995, EOT, EOT, EOT, EOT]
    assert mask.tolist() == [1, 1, 1, 0, 0, 0]
    assert input_ids.dtype == mask.dtype == torch.long


def test_the_courses_loader_works_on_it_unchanged(text_file, tokenizer):
    dataset = TextDataset(text_file(*["Hello world"] * 5), tokenizer, 16)
    input_ids, mask = next(iter(DataLoader(dataset, batch_size=4, shuffle=True)))
    assert input_ids.shape == mask.shape == (4, 16)


@given(
    documents=st.lists(
        st.text(max_size=80).filter(
            lambda s: s.strip() and not set(s) & {"\n", "\r"} and "\ufeff" not in s
        ),
        min_size=1,
        max_size=5,
    ),
    max_len=st.integers(2, 40),
)
def test_ids_are_the_tokenizers_and_cut_tokens_are_counted(
    tmp_path_factory, tokenizer, documents, max_len
):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes("\n".join(documents).encode("utf-8", "surrogatepass"))
    expected = [tokenizer(d, split_special_tokens=True)["input_ids"] + [EOT] for d in documents]
    dataset = TextDataset(path, tokenizer, max_len)
    kept = [ids[mask.bool()].tolist() for ids, mask in (dataset[i] for i in range(len(dataset)))]
    assert kept == [ids[:max_len] for ids in expected]
    assert dataset.num_tokens_cut == sum(
        len(ids) - len(k) for ids, k in zip(expected, kept, strict=True)
    )
    assert dataset.num_truncated == sum(len(ids) > max_len for ids in expected)
    for ids, mask in (dataset[i] for i in range(len(dataset))):
        assert len(ids) == len(mask) == max_len


def test_a_batch_is_as_wide_as_its_longest_document(text_file, tokenizer):
    path = text_file("Hello", "Hello world and more", "Good morning")
    dataset = TextDataset(path, tokenizer, 64)
    (batch,) = text_loader(dataset, batch_size=3)
    assert batch["input_ids"].shape == (3, 5)
    assert batch["attention_mask"].sum(1).tolist() == [2, 5, 3]
    assert (batch["input_ids"][0, 1:] == EOT).all()


def test_the_order_is_drawn_from_the_seed(text_file, tokenizer):
    dataset = TextDataset(text_file(*(f"word {i}" for i in range(50))), tokenizer, 8)

    def order(seed):
        return torch.cat(
            [batch["input_ids"][:, 1] for batch in text_loader(dataset, 4, shuffle=True, seed=seed)]
        ).tolist()

    assert order(1) == order(1) != order(2)


def test_a_line_that_spells_the_end_of_text_out_is_text(text_file, tokenizer):
    dataset = TextDataset(text_file("a<|endoftext|>b"), tokenizer, 32)
    assert dataset[0][0][dataset[0][1].bool()].tolist().count(EOT) == 1


def test_lines_end_at_line_feeds_and_nowhere_else(text_file):
    odd = ["one\x1d\x85\u2028still one", "two\x0b"]
    assert read_lines(text_file(*odd)) == [*odd, ""]
    assert read_lines(text_file(*odd, end="\r\n")) == [*odd, ""]


def test_a_split_shares_no_document_and_loses_none(text_file, tokenizer):
    dataset = TextDataset(text_file(*(f"word {i}" for i in range(50))), tokenizer, 8)
    train, held_out = dataset.split(0.1, seed=3)
    assert len(train) == 45 and len(held_out) == 5
    assert sorted([*train.indices, *held_out.indices]) == list(range(50))
    assert dataset.split(0.1, seed=3)[1].indices == held_out.indices


def test_an_empty_part_is_an_error_and_parts_of_parts_load(text_file, tokenizer):
    dataset = TextDataset(text_file(*(f"word {i}" for i in range(4))), tokenizer, 8)
    with pytest.raises(ValueError, match=r"held_out=0\.1 of 4 documents leaves one part empty"):
        dataset.split(0.1)
    part = torch.utils.data.Subset(dataset.split(0.25)[0], [0, 1])
    assert next(iter(text_loader(part, 2)))["input_ids"].shape[0] == 2


def test_unigram_entropy_of_uniform_text_is_log_vocabulary():
    ids = torch.arange(8)
    item = (torch.cat([ids[:1], ids]), torch.ones(9, dtype=torch.long))
    assert unigram_entropy([item] * 1000, [item], 8) == pytest.approx(math.log(8), rel=1e-6)


def test_a_missing_file_names_itself_and_the_command(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file; git checkout"):
        TextDataset(tmp_path / "none.txt", tokenizer, 8)


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_a_file_without_text_is_a_clear_error(content, tmp_path, tokenizer):
    (tmp_path / "empty.txt").write_text(content)
    with pytest.raises(ValueError, match=r"empty\.txt: no text in it"):
        TextDataset(tmp_path / "empty.txt", tokenizer, 8)


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path, tokenizer):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"fine\nfine too\ncaf\x93 bad\n")
    message = r"latin\.txt, line 3: not UTF-8 \(byte 0x93\); save the file as UTF-8 or pass enc"
    with pytest.raises(ValueError, match=message):
        TextDataset(path, tokenizer, 8)
    assert len(TextDataset(path, tokenizer, 8, encoding="cp1252")) == 3


def test_a_length_with_nothing_to_predict_is_a_clear_error(text_file, tokenizer):
    with pytest.raises(ValueError, match="max_len must be at least 2, got 1"):
        TextDataset(text_file("Hello"), tokenizer, 1)


# ---- Tokenizers --------------------------------------------------------------------------------


def test_a_tokenizer_without_a_vocabulary_is_refused(text_file):
    with pytest.raises(ValueError, match="has no vocabulary"):
        TextDataset(text_file("Hello"), GPT2Tokenizer(), 8)


def test_documents_start_and_end_once_for_any_tokenizer(text_file):
    words = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "hello", "cls")
    bert = BertTokenizer(vocab={word: id for id, word in enumerate(words)})
    with pytest.raises(ValueError, match=r"no end-of-text token .* = tokenizer\.sep_token"):
        TextDataset(text_file("Hello"), bert, 8)
    bert.eos_token = bert.sep_token
    input_ids, mask = TextDataset(text_file("Hello hello [CLS]"), bert, 8)[0]
    assert input_ids[mask.bool()].tolist()[:3] == [1, 4, 4]
    assert (input_ids[mask.bool()] == 2).sum() == 1 and (input_ids[~mask.bool()] == 3).all()


def test_end_of_text_pads_where_there_is_no_padding_token(text_file):
    tokenizer = GPT2Tokenizer(vocab={"a": 0, "<|endoftext|>": 1, "b": 2}, merges=[])
    input_ids, mask = TextDataset(text_file("aa"), tokenizer, 5)[0]
    assert input_ids.tolist() == [0, 0, 1, 1, 1] and mask.tolist() == [1, 1, 1, 0, 0]
