"""A task is data: another prompt, other label words, columns or languages in one place."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from config import FINETUNE_TOY, GPT2Config
from experiments.baseline import hypothesis_only
from experiments.evaluation import Evaluation
from experiments.finetuning import finetune
from gpt2.evaluate import predict
from gpt2.loss import IGNORED
from gpt2.model import GPT2Model
from gpt2.tasks import PromptDataset, Task
from gpt2.xnli import NLITask, XNLIDataset
from tests import SAMPLE, few_pairs
from tests.small import save_small_gpt2

WORDS = {"entailment": " Yes", "contradictory": " No", "neutral": " Maybe"}
LONG_WORDS = {"entailment": " Yes indeed", "contradictory": " No", "neutral": " That may well be"}
NAMED = NLITask(prompt="Sentence {premise} Sentence {hypo} Is", labels=WORDS)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPT2Config(**shape, max_position_embeddings=256, initializer_range=0.2)
    return GPT2Model(config).eval()


def log_prob(model, prompt, answer):
    """Return log P(answer | prompt), one token after the other, without a cache."""
    total = 0.0
    for n, token in enumerate(answer):
        ids = torch.cat([prompt, torch.tensor(answer[:n], dtype=torch.long)])[None]
        logits = model.hidden_state_to_token(model(ids)["last_token"])[0]
        total += logits.log_softmax(-1)[token].item()
    return total


# ---- Prompts and labels ------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [WORDS, LONG_WORDS, {"entailment": "0", "neutral": "1"}])
@pytest.mark.parametrize("prompt", ["Sentence {premise} Sentence {hypo} Is", "{hypo} | {premise}:"])
def test_items_are_the_prompt_and_the_labels_words(prompt, labels, tokenizer):
    task = NLITask(prompt=prompt, labels=labels)
    rows = task.dataset(SAMPLE, "train", "fr", tokenizer=tokenizer, verbose=False)
    assert set(rows.data["label"]) == set(labels) and len(rows) > 100
    for i in range(0, len(rows), 37):
        row, item = rows.data.iloc[i], rows[i]
        text = prompt.format(premise=row["premise"], hypo=row["hypo"])
        whole = tokenizer(text + labels[row["label"]])["input_ids"]
        answer = len(whole) - len(tokenizer(text)["input_ids"])
        assert item["input_ids"].tolist() == whole
        assert item["labels"].tolist() == [IGNORED] * (len(whole) - answer) + whole[-answer:]
        assert item["label_str"] == rows.labels[i] == labels[row["label"]].strip()


@pytest.mark.parametrize("labels", [WORDS, LONG_WORDS])
def test_labels_are_scored_by_the_sum_of_log_probabilities(model, labels, tokenizer):
    task = NLITask(labels=labels)
    rows = task.dataset(SAMPLE, "test", "en", tokenizer=tokenizer, subset=12, verbose=False)
    table = predict(model, tokenizer, rows, progress=False)
    words = [word.strip() for word in labels.values()]
    for i in range(12):
        expected = [log_prob(model, rows.prompt(i), tokens) for tokens in rows.label_tokens]
        got = torch.tensor(table.loc[i, [f"p({word})" for word in words]].tolist()).log()
        torch.testing.assert_close(got, torch.tensor(expected), atol=1e-4, rtol=1e-4)
        if labels is LONG_WORDS:
            assert table["prediction"][i] == words[max(range(3), key=expected.__getitem__)]
    assert Evaluation(table, task).by_pair("loss").notna().all()


@pytest.mark.all
@pytest.mark.parametrize("labels", [WORDS, LONG_WORDS])
def test_other_label_words_are_learned_and_evaluated(labels, tmp_path):
    """On the pairs it was trained on, a model must say the right words, and be counted right."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    shape = {"hidden_size": 64, "num_attention_heads": 4}
    weights = save_small_gpt2(tmp_path / "base", **shape, **still)
    task = replace(NAMED, labels=labels)
    settings = replace(FINETUNE_TOY, subset=12.0, epochs=15, learning_rate=4e-3)
    data = few_pairs(tmp_path / "data", 12)
    where = {"weights": weights, "data": data, "runs": tmp_path, "progress": False}
    run = finetune(settings, task=task, **where)
    rows = task.dataset(data, "train", "en", tokenizer=run.tokenizer, subset=12, verbose=False)
    evaluation = run.evaluate(run.model(), rows, progress=False)
    assert evaluation.accuracy > 0.9 and evaluation.share_without_label == 0
    assert evaluation.confusion().to_numpy().trace() == round(12 * evaluation.accuracy)
    assert evaluation.per_class()["support"].sum() == 12
    assert run.evaluation("test", progress=False).task == task


def test_the_task_is_part_of_a_runs_identity(tmp_path):
    save_small_gpt2(tmp_path / "base")
    settings = replace(FINETUNE_TOY, subset=8.0, epochs=1)
    where = {"weights": tmp_path / "base", "data": SAMPLE, "runs": tmp_path, "progress": False}
    changes = ({}, {"prompt": NAMED.prompt}, {"labels": WORDS}, {"labels": LONG_WORDS})
    paths = {finetune(settings, task=NLITask(**change), **where).path for change in changes}
    assert len(paths) == 4


def test_another_language_and_other_columns_need_only_the_task(tmp_path, tokenizer):
    task = NLITask(
        labels={"entailment": "0", "other": "1"},
        languages=("hr",),
        columns={"premise": ("tekst",), "hypo": ("tvrdnja",), "label": ("oznaka",)},
        spellings={"neutral": "other", "contradiction": "other"},
    )
    folder = tmp_path / "XNLI-MT-1.0" / "multinli"
    folder.mkdir(parents=True)
    lines = ["oznaka\ttvrdnja\ttekst", "neutral\tKiša pada.\tVani je oblačno."]
    lines += ["entailment\tPas spava.\tMali pas spava.", "unsure\tA\tB"]
    (folder / "multinli.train.hr.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = task.dataset(tmp_path, "train", *task.languages, tokenizer=tokenizer, verbose=False)
    assert rows.labels == ["1", "0"] and rows.skipped == [[4, "label 'unsure'"]]
    prompt = "Premise: Vani je oblačno.\nHypothesis: Kiša pada.\nLabel:1"
    assert tokenizer.decode(rows[0]["input_ids"]) == prompt


def test_the_baseline_follows_the_task(tokenizer):
    common = {"tokenizer": tokenizer, "verbose": False}
    pairs = []
    for task in (NLITask(), NAMED):
        train, test = (task.dataset(SAMPLE, split, "en", **common) for split in ("train", "test"))
        pairs.append(hypothesis_only(train, test))
    assert pairs[0].accuracy == pairs[1].accuracy
    assert set(pairs[1].predictions["prediction"]) <= {"Yes", "No", "Maybe"}
    assert pairs[0].loss == pytest.approx(pairs[1].loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "no fields"}, "prompt must have fields in braces, got 'no fields'"),
        ({"prompt": "{premise} {claim}"}, "columns says nothing of claim"),
        ({"labels": {"a": "0"}}, "labels must be two or more different texts"),
        ({"labels": {"a": "Yes", "b": " yes"}}, "labels must be two or more different texts"),
        ({"labels": {"a": "0", "b": " "}}, "labels must be two or more different texts"),
        ({"languages": "en"}, r'languages must be a tuple such as \("en",\), got \'en\''),
    ],
)
def test_a_wrong_task_is_one_clear_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        NLITask(**change)


def test_a_tasks_parts_have_a_fixed_order():
    task = NLITask("{premise} {hypo}", WORDS, NLITask().columns, ("en", "hr"))
    assert task.labels == WORDS and task.languages == ("en", "hr")
    assert task.describe()["prompt"] == "{premise} {hypo}"


def test_a_files_labels_that_the_task_does_not_have_are_skipped(tokenizer):
    task = NLITask(labels={"yes": "0", "no": "1"})
    with pytest.raises(ValueError, match=r"no usable row, .* skipped .*labels are \['yes', 'no'\]"):
        XNLIDataset.in_folder(SAMPLE, "dev", "en", task=task, tokenizer=tokenizer)


@pytest.mark.parametrize(
    "row", [("b", "maybe"), ("b", None), ("b", " n"), ("b", "N"), (None, "n"), (np.nan, "y")]
)
def test_a_row_without_a_text_or_with_an_unknown_label_is_refused(row, tokenizer):
    task = Task(prompt="{x}\nA:", labels={"y": "Yes", "n": "No"})
    data = pd.DataFrame([("a", "n"), row, ("c", "n")], columns=["x", "label"])
    with pytest.raises(ValueError, match=r"en train: no text or no label of \['y', 'n'\] in \{'x'"):
        PromptDataset(data.assign(pair_id=["1", "2", "3"]), task, tokenizer, "train", "en")


@pytest.mark.parametrize("prompt", ["{premise:.20} {hypo}", "{premise} {hypo!r}"])
def test_a_prompt_with_a_format_is_refused(prompt):
    """Of which truncation could not tell where a text starts and ends."""
    with pytest.raises(ValueError, match=r"prompt must have names alone in braces; '.*' has"):
        NLITask(prompt=prompt)
