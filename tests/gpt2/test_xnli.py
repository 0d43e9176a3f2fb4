"""XNLIDataset: nothing lost on the way from the file, and the label never cut away."""

import multiprocessing
import os
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import ByteLevel
from torch.utils.data import DataLoader

from config import GPT2Config
from gpt2.loss import IGNORED, next_token_loss
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer, split_at_spaces
from gpt2.xnli import CACHE, LABEL2ID, LANGUAGES, XNLIDataset, read_xnli_tsv

DIGITS = {"0": 15, "1": 16, "2": 17}
HEADER = (
    "language\tgold_label\t" + "\t".join(["parse"] * 4) + "\tsentence1\tsentence2\tpromptID\tpairID"
)
ROWS = [
    ("A cat sleeps.", "An animal rests.", "entailment"),
    ('He said "go.', "He was silent.", "contradictory"),
    ("It rains\u2028 and\x1d rains.", "It is Monday.", "neutral"),
]
# What a line can't hold: its separators, and what is no text in UTF-8.
sentences = st.text(
    st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), max_size=60
)


def write_train(folder, rows, lang="en"):
    path = Path(folder) / f"train.{lang}.tsv"
    lines = ["premise\thypo\tlabel", *("\t".join(row) for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def dataset(folder, rows=ROWS, lang="en", **settings):
    write_train(folder, rows, lang)
    return XNLIDataset("train", lang, str(Path(folder) / "train.{lang}.tsv"), **settings)


def prompt_of(premise, hypo):
    return f"Premise: {premise}\nHypothesis: {hypo}\nLabel:"


# ---- Reading -----------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.tuples(sentences, sentences, st.sampled_from([*LABEL2ID, "contradiction", "-", ""])),
        max_size=8,
    ),
    stray=st.lists(st.sampled_from(["one field", "", "\t", "a\tb"]), max_size=3),
)
def test_any_file_reads_to_the_rows_written_or_to_a_numbered_report(rows, stray, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tsv")
    path = folder / "file.tsv"
    lines = ["\t".join(row) for row in rows] + stray
    path.write_bytes("\n".join(["premise\thypo\tlabel", *lines, ""]).encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = read_xnli_tsv(path)
    good = {
        number: (premise, hypo, {"contradiction": "contradictory"}.get(label, label))
        for number, (premise, hypo, label) in enumerate(rows, start=2)
        if premise.strip() and hypo.strip() and label not in ("-", "")
    }
    read = {row.line: (row.premise, row.hypo, row.label) for row in data.itertuples(index=False)}
    assert read == good
    skipped = {line for line, _ in data.attrs["skipped"]}
    assert skipped == set(range(2, len(lines) + 2)) - set(good)
    assert bool(skipped) == bool(caught)


def test_quotes_and_odd_separators_are_text(tmp_path):
    data = read_xnli_tsv(write_train(tmp_path, ROWS))
    assert list(data[["premise", "hypo", "label"]].itertuples(index=False, name=None)) == ROWS


def test_a_dev_file_gives_one_language_and_its_spelling_of_contradiction(tmp_path):
    path = tmp_path / "xnli.dev.tsv"
    rows = [
        "\t".join([lang, label, "", "", "", "", f"p {lang}", f"h {label}", "1", str(pair)])
        for lang in ("ar", "en")
        for pair, label in enumerate(["neutral", "contradiction", "entailment"], start=1)
    ]
    path.write_text("\n".join([HEADER, *rows, ""]))
    data = read_xnli_tsv(path, "en")
    assert data["label"].tolist() == ["neutral", "contradictory", "entailment"]
    assert data["pair_id"].tolist() == ["1", "2", "3"] and set(data["premise"]) == {"p en"}
    with pytest.raises(ValueError, match="no rows in 'th', only ar, en"):
        read_xnli_tsv(path, "th")


def test_a_missing_file_names_itself_and_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.en\.tsv: no such file; python -m data"):
        XNLIDataset("train", "en", str(tmp_path / "train.{lang}.tsv"))


def test_a_file_of_other_columns_or_encoding_is_a_clear_error(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\tc\n1\t2\t3\n")
    with pytest.raises(ValueError, match="no column premise, hypo, label in its first line"):
        read_xnli_tsv(path)
    path.write_bytes(b"premise\thypo\tlabel\na\tb\xff\tneutral\n")
    with pytest.raises(ValueError, match=r"line 2: not UTF-8 \(byte 0xff\)"):
        read_xnli_tsv(path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"split": "val"}, "split must be"),
        ({"lang": "xx"}, "lang must be one of en, ar"),
        ({"max_length": 15}, "max_length must be at least 16"),
        ({"subset": 0}, "subset must be"),
        ({"subset": 1.5}, "subset must be"),
    ],
)
def test_a_bad_argument_is_named(bad, message):
    with pytest.raises(ValueError, match=message):
        XNLIDataset(**bad)


# ---- Items -------------------------------------------------------------------------------------


def test_a_train_item_is_the_prompt_and_its_digit_with_a_loss_there_only(tmp_path, tokenizer):
    data = dataset(tmp_path, tokenizer=tokenizer)
    assert len(data) == 3 and data.data["label"].tolist() == [label for *_, label in ROWS]
    for item, (premise, hypo, label) in zip((data[i] for i in range(3)), ROWS, strict=True):
        digit = str(LABEL2ID[label])
        ids = tokenizer(prompt_of(premise, hypo))["input_ids"] + [DIGITS[digit]]
        assert item["input_ids"].tolist() == ids and item["label_str"] == digit
        assert item["labels"].tolist() == [IGNORED] * (len(ids) - 1) + [DIGITS[digit]]
        assert item["attention_mask"].tolist() == [1] * len(ids)
        assert tokenizer.decode(item["input_ids"]) == prompt_of(premise, hypo) + digit


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(sentences, sentences, st.sampled_from([*LABEL2ID])).filter(
            lambda row: row[0].strip() and row[1].strip()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_encoding_in_parts_gives_the_ids_of_the_whole_prompt(rows, tmp_path_factory, tokenizer):
    data = dataset(tmp_path_factory.mktemp("rows"), rows, tokenizer=tokenizer)
    for item, (premise, hypo, _) in zip((data[i] for i in range(len(data))), rows, strict=True):
        whole = tokenizer(prompt_of(premise, hypo), split_special_tokens=True, verbose=False)
        assert item["input_ids"][:-1].tolist() == whole["input_ids"]


@settings(max_examples=300)
@given(text=sentences | st.text(" \u00a0\u3000\x1d\u0301a1.'s", max_size=20))
def test_words_are_cut_only_where_the_tokenizer_cuts(text):
    cut = ByteLevel(add_prefix_space=False).pre_tokenize_str
    words = split_at_spaces(text)
    assert " ".join(words) == text
    assert [part for part, _ in cut(" " + text)] == [
        part for word in words for part, _ in cut(" " + word)
    ]


@pytest.mark.parametrize("change", ["a word with a space", "no space at all"])
def test_a_tokenizer_that_reads_across_spaces_gives_its_own_ids(change, tmp_path):
    other = load_tokenizer("gpt2")
    if change == "a word with a space":
        other.add_tokens(["cat sleeps"])
    else:
        other.backend_tokenizer.normalizer = Replace(" ", "n")
    ids = dataset(tmp_path, tokenizer=other)[0]["input_ids"]
    premise, hypothesis, label = prompt_of(*ROWS[0][:2]).split("\n")
    apart = (premise, "\n", hypothesis, "\n", label)
    assert ids.tolist() == [i for text in apart for i in other(text)["input_ids"]] + [DIGITS["0"]]


@settings(max_examples=60)
@given(data=st.data())
def test_the_label_survives_any_max_length_and_no_loss_is_nan(data, tmp_path_factory, tokenizer):
    text = sentences.filter(str.strip).map(lambda s: s * data.draw(st.integers(1, 20)))
    rows = data.draw(
        st.lists(st.tuples(text, text, st.sampled_from([*LABEL2ID])), min_size=1, max_size=3)
    )
    max_length = data.draw(st.integers(16, 80))
    folder = tmp_path_factory.mktemp("long")
    cut = dataset(folder, rows, tokenizer=tokenizer, max_length=max_length)
    full = dataset(folder, rows, tokenizer=tokenizer, max_length=10**6)
    label_ids = tokenizer("\nLabel:")["input_ids"]
    for i in range(len(rows)):
        ids = cut[i]["input_ids"].tolist()
        assert len(ids) == min(max_length, len(full[i]["input_ids"]))
        assert ids[-1 - len(label_ids) :] == [*label_ids, DIGITS[cut[i]["label_str"]]]
        assert ids[:3] == full[i]["input_ids"][:3].tolist()
        assert cut[i]["labels"][-1] == ids[-1]
    assert cut.num_truncated == sum(
        len(full[i]["input_ids"]) > max_length for i in range(len(rows))
    )
    torch.manual_seed(0)
    model = GPT2Model(
        GPT2Config(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=80
        )
    )
    batch = XNLIDataset.collate_fn([cut[i] for i in range(len(rows))])
    assert next_token_loss(model, batch).isfinite()


def test_a_batch_is_padded_on_the_right_and_test_items_have_no_labels(tmp_path, tokenizer):
    data = dataset(tmp_path, tokenizer=tokenizer)
    batch = next(iter(DataLoader(data, batch_size=3, collate_fn=data.collate_fn)))
    lengths = [len(data[i]["input_ids"]) for i in range(3)]
    assert batch["input_ids"].shape == batch["labels"].shape == (3, max(lengths))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 50256).all()
    assert (batch["labels"] != IGNORED).sum(1).tolist() == [1, 1, 1]
    assert batch["label_strs"] == ["0", "1", "2"]
    assert "labels" not in XNLIDataset.collate_fn(
        [{k: v for k, v in data[0].items() if k != "labels"}]
    )


def test_chinese_prompts_have_no_spaces_between_words_and_the_text_keeps_them(tmp_path, tokenizer):
    data = dataset(
        tmp_path, [("我 在 家 .", "我 不 在 家 .", "contradictory")], "zh", tokenizer=tokenizer
    )
    assert data.data.loc[0, "premise"] == "我 在 家 ."
    assert tokenizer.decode(data[0]["input_ids"]) == prompt_of("我在家.", "我不在家.") + "1"


# ---- Subsets -----------------------------------------------------------------------------------


def test_a_subset_is_the_first_rows_and_a_stratified_one_has_each_label_alike(tmp_path, tokenizer):
    rows = [(f"p {i}", f"h {i}", [*LABEL2ID][i % 5 % 3]) for i in range(100)]
    first = dataset(tmp_path, rows, tokenizer=tokenizer, subset=0.1)
    assert len(first) == 10 and first.data["premise"].tolist() == [f"p {i}" for i in range(10)]
    assert len(dataset(tmp_path, rows, tokenizer=tokenizer, subset=7)) == 7
    whole = dataset(tmp_path, rows, tokenizer=tokenizer)
    even = whole.stratified_subset(5, seed=1)
    assert sorted(even.labels) == ["0"] * 5 + ["1"] * 5 + ["2"] * 5
    assert even.data["premise"].tolist() == whole.stratified_subset(5, 1).data["premise"].tolist()
    assert even.data["premise"].tolist() != whole.stratified_subset(5, 2).data["premise"].tolist()
    assert even.data["premise"].tolist() == [f"p {row}" for row in even.rows]
    assert len(whole.data) == 100
    other = dataset(
        tmp_path,
        [(f"q {i}", "h", label) for i, (*_, label) in enumerate(rows)],
        "de",
        tokenizer=tokenizer,
    )
    assert (other.stratified_subset(5, seed=1).rows == even.rows).all()
    with pytest.raises(ValueError, match="only 20 rows are neutral"):
        whole.stratified_subset(21)


# ---- The cache ---------------------------------------------------------------------------------


def cache_files(folder):
    return sorted((Path(folder) / CACHE).iterdir())


def all_ids(data):
    return [data[i]["input_ids"].tolist() for i in range(len(data))]


def test_a_second_time_nothing_is_tokenized(tmp_path, tokenizer, monkeypatch):
    first = all_ids(dataset(tmp_path, tokenizer=tokenizer))
    monkeypatch.setattr(XNLIDataset, "_encode", None)
    assert all_ids(dataset(tmp_path, tokenizer=tokenizer)) == first
    assert len(cache_files(tmp_path)) == 1


def test_a_row_left_out_is_reported_from_the_cache_too(tmp_path, tokenizer):
    rows = [*ROWS, ("A premise", "A hypothesis", "unknown")]
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 rows left out .*line 5"):
            data = dataset(tmp_path, rows, tokenizer=tokenizer)
        assert data.skipped_lines == [5] and len(data) == 3


def test_other_content_settings_or_tokenizer_get_another_cache(tmp_path, tokenizer):
    dataset(tmp_path, tokenizer=tokenizer)
    changed = dataset(tmp_path, [("Another", "text", "neutral")], tokenizer=tokenizer)
    assert tokenizer.decode(changed[0]["input_ids"]) == prompt_of("Another", "text") + "2"
    dataset(tmp_path, tokenizer=tokenizer, max_length=20)
    other = load_tokenizer("gpt2")
    other.add_tokens(["cat"])
    dataset(tmp_path, tokenizer=other)
    assert len(cache_files(tmp_path)) == 4


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_torn_cache_is_made_again(keep, tmp_path, tokenizer):
    first = all_ids(dataset(tmp_path, tokenizer=tokenizer))
    (path,) = cache_files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert all_ids(dataset(tmp_path, tokenizer=tokenizer)) == first
    assert path.read_bytes() == whole


def test_a_folder_that_can_not_be_written_costs_the_cache_and_not_the_run(tmp_path, tokenizer):
    (tmp_path / CACHE).write_text("a file in the way")
    with pytest.warns(UserWarning, match="no cache written"):
        assert len(dataset(tmp_path, tokenizer=tokenizer)) == 3


def load_in_a_process(folder):
    return all_ids(XNLIDataset("train", "en", str(Path(folder) / "train.{lang}.tsv")))


def test_two_processes_at_once_leave_one_whole_cache(tmp_path):
    write_train(tmp_path, [(f"p {i}", f"h {i}", "neutral") for i in range(500)])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(load_in_a_process, [tmp_path] * 2)
    assert one == two and len(one) == 500
    assert len(cache_files(tmp_path)) == 1


# ---- The real files ----------------------------------------------------------------------------

REAL = Path(os.environ.get("XNLI_DIR", "no XNLI_DIR"))
real_data = pytest.mark.skipif(
    not (REAL / "XNLI-1.0").is_dir(), reason="set XNLI_DIR to the folder with XNLI-1.0, XNLI-MT-1.0"
)


@pytest.mark.real_data
@real_data
@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_real_dev_and_test_files_are_read_whole_and_balanced(lang):
    for split, count in (("dev", 2490), ("test", 5010)):
        data = read_xnli_tsv(REAL / "XNLI-1.0" / f"xnli.{split}.tsv", lang)
        assert len(data) == count and not data.attrs["skipped"]
        assert set(data["label"].value_counts()) == {count // 3}
        assert data["pair_id"].is_unique


@pytest.mark.real_data
@real_data
@pytest.mark.parametrize("lang", ["ar", "de", "en", "es", "fr", "sw", "tr", "ur", "vi", "zh"])
def test_the_real_train_files_are_read_whole(lang):
    path = REAL / "XNLI-MT-1.0" / "multinli" / f"multinli.train.{lang}.tsv"
    data = read_xnli_tsv(path)
    labels = [line.rsplit(b"\t", 1)[1].decode() for line in path.read_bytes().split(b"\n")[1:-1]]
    assert len(data) == 15_001 and not data.attrs["skipped"]
    assert data["label"].tolist() == labels
