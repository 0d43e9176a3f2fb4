"""XNLIDataset: nothing lost on the way from the file, and the label never cut away."""

from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import GPT2Tokenizer

from gpt2 import xnli
from gpt2.loss import IGNORED
from gpt2.xnli import CACHE, LABEL2ID, NLITask, XNLIDataset
from tests import SAMPLE
from tests.processes import processes

CASES = Path(__file__).parent / "cases"
DIGITS = {"0": 15, "1": 16, "2": 17}
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


# ---- Files and languages -----------------------------------------------------------------------


@pytest.mark.parametrize(("lang", "lines"), [("en", [2, 3, 4]), ("fr", [5, 6, 7])])
def test_lang_filters_a_dev_file_that_is_read_as_train(lang, lines, tokenizer):
    path = CASES / "two_languages.dev.tsv"
    data = XNLIDataset("train", lang, train_path_template=path, tokenizer=tokenizer)
    assert data.data["line"].tolist() == lines and len(data) == 3
    assert data.pair_ids == ["1", "2", "3"] and "labels" in data[0]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize(
    "file", ["mnli.txt", "mnli.jsonl", "kornli.tsv", "gz.train.tsv.gz", "utf16.train.tsv"]
)
def test_files_of_other_sources_serve_any_split(file, split, tokenizer):
    paths = dict.fromkeys(("train_path_template", "dev_path", "test_path"), CASES / file)
    data = XNLIDataset(split, "ko", **paths, tokenizer=tokenizer)
    assert data.labels == ["0", "1", "2"] and not data.skipped
    assert tokenizer.decode(data[1]["input_ids"]).startswith("Premise: Rain fell all night")


@pytest.mark.parametrize("lang", ["hr", "ko", "my", "zh-Hant"])
def test_any_language_with_a_file_is_loaded(lang, tmp_path, tokenizer):
    data = dataset(tmp_path, lang=lang, tokenizer=tokenizer)
    assert len(data) == 3 and data.lang == lang


def test_a_missing_language_is_an_error_that_names_those_there(tmp_path, tokenizer):
    for lang in ("de", "en"):
        write_train(tmp_path, ROWS, lang)
    template = str(tmp_path / "train.{lang}.tsv")
    message = r"train\.hr\.tsv: no such file; in its folder there is de, en$"
    with pytest.raises(FileNotFoundError, match=message):
        XNLIDataset("train", "hr", template, tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"no rows in 'hr', only in ar, bg, de, .*, zh$"):
        XNLIDataset.in_folder(SAMPLE, "dev", "hr", tokenizer=tokenizer)


def test_a_missing_file_names_itself_and_the_command(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"train\.en\.tsv: no such file; python -m data"):
        XNLIDataset("train", "en", str(tmp_path / "train.{lang}.tsv"), tokenizer=tokenizer)


def test_braces_in_a_path_are_part_of_it(tmp_path, tokenizer):
    folder = tmp_path / "{0} {x}"
    folder.mkdir()
    assert len(dataset(folder, tokenizer=tokenizer)) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"split": "val"}, "split must be"),
        ({"lang": "../en"}, "lang must be a language code such as en"),
        ({"lang": ""}, "lang must be a language code such as en .*, got ''"),
        ({"lang": "en/"}, "lang must be"),
        ({"lang": None}, "lang must be .*, got None"),
        ({"max_length": 15}, "max_length must be at least 16"),
        ({"subset": 0}, "subset must be"),
        ({"subset": 1.5}, "subset must be"),
        ({"subset": float("inf")}, "subset must be"),
        ({"subset": float("nan")}, "subset must be"),
    ],
)
def test_a_bad_argument_is_named(bad, message, tmp_path):
    train = write_train(tmp_path, ROWS, "en")
    with pytest.raises(ValueError, match=message):
        XNLIDataset(**{"train_path_template": train, **bad})


@pytest.mark.parametrize("label", ["0", "-1", "-", "", "Neutral"])
@pytest.mark.filterwarnings("error")  # and no word of a disk that is full
def test_a_file_with_no_usable_label_is_an_error(label, tmp_path, tokenizer):
    rows = [(*row[:2], label) for row in ROWS]
    message = rf"no usable row, 3 skipped \(line 2: label '{label}'; .*labels are \['entailment'"
    with pytest.raises(ValueError, match=message):
        dataset(tmp_path, rows, tokenizer=tokenizer)


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no vocabulary; use gpt2\.tokenizer\.load_tokenizer"):
        dataset(tmp_path, tokenizer=GPT2Tokenizer())


def test_one_line_reports_what_was_loaded(tmp_path, tokenizer, capsys):
    rows = [*ROWS, ("word " * 50, "A hypothesis", "neutral"), ("a", "b", "0"), ("a\tb", "c", "-")]
    for found in (
        "XNLI train en: 4 rows, 2 skipped (line 6: label '0'; line 7: 4 fields, not 3), "
        f"1 truncated ({tmp_path / 'train.en.tsv'})\n",
        "",  # the second time, from the cache
    ):
        data = dataset(tmp_path, rows, tokenizer=tokenizer, max_length=32)
        assert capsys.readouterr().out == found
        assert [line for line, _ in data.skipped] == [6, 7] and data.num_truncated == 1
    dataset(tmp_path, rows, tokenizer=tokenizer, verbose=False)
    XNLIDataset.in_folder(SAMPLE, "dev", tokenizer=tokenizer, verbose=False)
    assert capsys.readouterr().out == ""


# ---- Items -------------------------------------------------------------------------------------


def test_a_train_item_is_the_prompt_and_its_labelled_digit(tmp_path, tokenizer):
    data = dataset(tmp_path, tokenizer=tokenizer)
    assert len(data) == 3 and data.data["label"].tolist() == [label for *_, label in ROWS]
    for item, (premise, hypo, label) in zip((data[i] for i in range(3)), ROWS, strict=True):
        digit = str(LABEL2ID[label])
        ids = tokenizer(prompt_of(premise, hypo))["input_ids"] + [DIGITS[digit]]
        assert item["input_ids"].tolist() == ids and item["label_str"] == digit
        assert item["labels"].tolist() == [IGNORED] * (len(ids) - 1) + [DIGITS[digit]]
        assert item["attention_mask"].tolist() == [1] * len(ids)
        assert tokenizer.decode(item["input_ids"]) == prompt_of(premise, hypo) + digit


@settings(max_examples=30)
@given(data=st.data())
def test_the_label_survives_any_max_length(data, tmp_path_factory, tokenizer):
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
    batch = XNLIDataset.collate_fn([cut[i] for i in range(len(rows))])
    assert (batch["labels"] != IGNORED).sum(dim=1).tolist() == [1] * len(rows)


def test_a_batch_is_padded_on_the_right(tmp_path, tokenizer):
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


def test_chinese_prompts_have_no_spaces_between_words(tmp_path, tokenizer):
    data = dataset(
        tmp_path, [("我 在 家 .", "我 不 在 家 .", "contradictory")], "zh", tokenizer=tokenizer
    )
    assert data.data.loc[0, "premise"] == "我 在 家 ."
    assert tokenizer.decode(data[0]["input_ids"]) == prompt_of("我在家.", "我不在家.") + "1"


# ---- Subsets -----------------------------------------------------------------------------------


def test_subsets_are_the_first_rows(tmp_path, tokenizer):
    rows = [(f"p {i}", f"h {i}", [*LABEL2ID][i % 5 % 3]) for i in range(100)]
    first = dataset(tmp_path, rows, tokenizer=tokenizer, subset=0.1)
    assert len(first) == 10 and first.data["premise"].tolist() == [f"p {i}" for i in range(10)]
    assert len(first.offsets) == 11  # no other row is tokenized
    assert len(dataset(tmp_path, rows, tokenizer=tokenizer, subset=7)) == 7


# ---- The cache ---------------------------------------------------------------------------------


def cache_files(folder):
    return sorted((Path(folder) / CACHE).iterdir())


def all_ids(data):
    return [data[i]["input_ids"].tolist() for i in range(len(data))]


def test_a_second_time_nothing_is_tokenized(tmp_path, tokenizer, monkeypatch):
    first = all_ids(dataset(tmp_path, tokenizer=tokenizer))
    monkeypatch.setattr(XNLIDataset, "_encode_file", None)
    assert all_ids(dataset(tmp_path, tokenizer=tokenizer)) == first
    assert len(cache_files(tmp_path)) == 1


def test_pair_ids_come_from_the_cache(tmp_path, tokenizer, monkeypatch):
    sets = [XNLIDataset.in_folder(SAMPLE, "test", tokenizer=tokenizer, subset=9) for _ in range(2)]
    monkeypatch.setattr(xnli, "read_xnli_tsv", None)
    assert len(sets[1].pair_ids) == 9 and sets[1].pair_ids == sets[0].pair_ids
    monkeypatch.undo()
    assert sets[0].data["pair_id"].tolist() == sets[0].pair_ids


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "{premise} {hypo}\nLabel:"},
        {"labels": {"entailment": "2", "contradictory": "1", "neutral": "0"}},
        {"labels": {"entailment": " Yes", "contradictory": " No", "neutral": " Maybe"}},
    ],
)
def test_a_changed_prompt_or_label_gets_other_ids(change, tmp_path, tokenizer):
    before = dataset(tmp_path, tokenizer=tokenizer)
    after = dataset(tmp_path, tokenizer=tokenizer, task=NLITask(**change))
    assert after[0]["input_ids"].tolist() != before[0]["input_ids"].tolist()
    assert len(cache_files(tmp_path)) == 2


def test_other_content_settings_or_tokenizer_use_another_cache(tmp_path, tokenizer):
    dataset(tmp_path, tokenizer=tokenizer)
    changed = dataset(tmp_path, [("Another", "text", "neutral")], tokenizer=tokenizer)
    assert tokenizer.decode(changed[0]["input_ids"]) == prompt_of("Another", "text") + "2"
    dataset(tmp_path, tokenizer=tokenizer, max_length=20)
    other = deepcopy(tokenizer)
    other.add_tokens(["cat"])
    dataset(tmp_path, tokenizer=other)
    assert len(cache_files(tmp_path)) == 4


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_torn_cache_is_written_again(keep, tmp_path, tokenizer):
    first = all_ids(dataset(tmp_path, tokenizer=tokenizer))
    (path,) = cache_files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert all_ids(dataset(tmp_path, tokenizer=tokenizer)) == first
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path, tokenizer):
    (tmp_path / CACHE).write_text("a file in the way")
    with pytest.warns(UserWarning, match="no cache written"):
        assert len(dataset(tmp_path, tokenizer=tokenizer)) == 3


def load_in_a_process(folder):
    return all_ids(XNLIDataset("train", "en", str(Path(folder) / "train.{lang}.tsv")))


@pytest.mark.all
def test_two_processes_at_once_leave_one_whole_cache(tmp_path):
    write_train(tmp_path, [(f"p {i}", f"h {i}", "neutral") for i in range(500)])
    with processes().Pool(2) as pool:
        one, two = pool.map(load_in_a_process, [tmp_path] * 2)
    assert one == two and len(one) == 500
    assert len(cache_files(tmp_path)) == 1
