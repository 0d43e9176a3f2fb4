"""Evaluation: the answers of a plain one-by-one loop, and statistics against known cases."""

import copy
import os

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from gpt2.shortcuts import last_token
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from torch.utils.data import DataLoader, Subset

import gpt2.evaluate
from config import GPT2Config
from gpt2.evaluate import (
    Evaluation,
    answer,
    compute_accuracy,
    evaluate,
    evaluate_gpt2_xnli,
    mcnemar,
    wilson_interval,
)
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset
from tests import SAMPLE


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Hugging Face's GPT-2 with random weights and the real vocabulary, and the folder it is in."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=48, n_layer=2, n_head=3, initializer_range=0.3)
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = tmp_path_factory.mktemp("reference")
    model.save_pretrained(folder)
    return model, GPT2Model.from_pretrained(folder)


REAL = os.environ.get("XNLI_DIR")
needs_real_data = pytest.mark.skipif(
    REAL is None, reason="set XNLI_DIR to the folder with XNLI-1.0, XNLI-MT-1.0"
)


@pytest.fixture(
    scope="module",
    params=["sample", pytest.param("real", marks=[pytest.mark.real_data, needs_real_data])],
)
def dataset(request, tokenizer):
    folder = SAMPLE if request.param == "sample" else REAL
    return XNLIDataset.in_folder(folder, "test", "en", tokenizer=tokenizer, subset=120.0)


@pytest.fixture(scope="module")
def one_by_one(reference, dataset, tokenizer):
    """A plain loop over transformers' model: the text of the likeliest next token."""
    with torch.no_grad():
        return [
            tokenizer.decode(reference[0](dataset[i]["input_ids"][None]).logits[0, -1].argmax())
            for i in range(len(dataset))
        ]


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("budget", [200, 4096])
def test_predictions_equal_a_one_by_one_loop_for_any_batch_size_and_order(
    batch_size, budget, reference, dataset, one_by_one, tokenizer, monkeypatch
):
    monkeypatch.setattr(gpt2.evaluate, "TOKEN_BUDGET", budget)
    assert len(set(one_by_one)) > 5
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(batch_size))
    loader = DataLoader(
        Subset(dataset, order.tolist()), batch_size, collate_fn=XNLIDataset.collate_fn
    )
    accuracy, preds, labels = evaluate_gpt2_xnli(reference[1], tokenizer, loader)
    assert preds == [one_by_one[i].strip() for i in order]
    assert labels == [dataset.labels[i] for i in order]
    assert accuracy == compute_accuracy(preds, labels)


def test_a_train_loader_does_not_show_the_answer(reference, tokenizer, tmp_path):
    folder = SAMPLE / "XNLI-MT-1.0" / "multinli"
    (tmp_path / "train.en.tsv").write_bytes((folder / "multinli.train.en.tsv").read_bytes())
    train = XNLIDataset(
        "train", "en", str(tmp_path / "train.{lang}.tsv"), tokenizer=tokenizer, subset=30
    )
    loader = DataLoader(train, 4, collate_fn=XNLIDataset.collate_fn)
    _, preds, labels = evaluate_gpt2_xnli(reference[1], tokenizer, loader)
    evaluation = evaluate(reference[1], tokenizer, train, progress=False)
    assert preds == evaluation.predictions["prediction"].tolist() and labels == train.labels


def test_more_than_one_token_is_generated_when_asked_for(reference, dataset, tokenizer):
    loader = DataLoader(Subset(dataset, range(4)), 2, collate_fn=XNLIDataset.collate_fn)
    _, preds, _ = evaluate_gpt2_xnli(reference[1], tokenizer, loader, max_gen_length=3)
    ids = dataset[0]["input_ids"][None]
    expected = reference[0].generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=3,
        do_sample=False,
        pad_token_id=50256,
    )
    assert (
        preds[0] == tokenizer.decode(expected[0, ids.size(1) :], skip_special_tokens=True).strip()
    )


@settings(max_examples=25)
@given(data=st.data())
def test_answers_are_those_of_each_prompt_alone_whatever_is_shared(data, reference):
    """Prompts with common premises, without a newline, equal ones, of any length."""
    token = st.integers(0, 50256).filter(lambda t: t != 198)
    premises = data.draw(st.lists(st.lists(token, min_size=1, max_size=6), min_size=1, max_size=3))
    prompts = data.draw(
        st.lists(
            st.builds(
                lambda premise, newline, rest: torch.tensor(premise + newline + rest),
                st.sampled_from(premises),
                st.sampled_from([[198], []]),
                st.lists(token, max_size=6),
            ),
            min_size=1,
            max_size=9,
        )
    )
    model = reference[1]
    tokens, log_probs = answer(model, prompts, [15, 16, 17])
    with torch.no_grad():
        for i, prompt in enumerate(prompts):
            logits = model.hidden_state_to_token(model(prompt[None])["last_token"])[0]
            assert torch.allclose(log_probs[i], logits.log_softmax(-1)[[15, 16, 17]], atol=1e-4)
            top = logits.topk(2)
            assert tokens[i] == top.indices[0] or top.values[0] - top.values[1] < 1e-4


@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=9),
    attn_implementation=st.sampled_from(["sdpa", "eager"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, "autocast"]),
)
def test_sharing_beginnings_changes_no_state_and_no_token_is_read_twice(
    prompts, attn_implementation, dtype
):
    """Over three ids, of which 0 is also what pads a row, rows begin alike by chance."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=3,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        attn_implementation=attn_implementation,
        initializer_range=0.3,
    )
    model = GPT2Model(config).eval()
    if dtype == torch.bfloat16:
        model.to(dtype)
    prompts = [torch.tensor(prompt) for prompt in sorted(prompts)]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
    mask = torch.arange(ids.size(1)) < lengths[:, None]
    read = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "autocast"):
        expected = model(ids, mask.long())["last_token"]
        hook = model.gpt_layers[0].out_dense.register_forward_hook(
            lambda _, inputs, __: read.append(inputs[0].size(1))
        )
        states = last_token(model, ids, mask)
        hook.remove()
    atol = 1e-5 if dtype == torch.float32 else 0.1
    assert states.dtype == expected.dtype and torch.allclose(states, expected, atol=atol)
    beginnings = {tuple(p[: n + 1].tolist()) for p in prompts for n in range(len(p))}
    assert read == [len(beginnings)]


def test_a_common_premise_is_read_once_and_a_pad_never(reference, dataset):
    model, read = reference[1], []
    hook = model.gpt_layers[0].interm_dense.register_forward_hook(
        lambda _, inputs, __: read.append(inputs[0].size(1))
    )
    answer(model, [dataset[i]["input_ids"] for i in range(len(dataset))], [])
    hook.remove()
    plain = sum(len(dataset[i]["input_ids"]) for i in range(len(dataset)))
    assert sum(read) < 0.6 * plain


def test_what_is_added_to_a_block_counts(reference, dataset):
    """A hook, here one that takes the last block out, is not lost on the way to a faster answer."""
    model = copy.deepcopy(reference[1])
    prompts = [dataset[i]["input_ids"] for i in range(12)]
    before = answer(model, prompts, [])[0].tolist()
    hook = model.gpt_layers[1].register_forward_hook(lambda _, inputs, __: inputs[0])
    hooked = answer(model, prompts, [])[0].tolist()
    hook.remove()
    assert answer(model, prompts, [])[0].tolist() == before != hooked
    del model.gpt_layers[1]
    assert answer(model, prompts, [])[0].tolist() == hooked


def test_the_report_fits_its_predictions(reference, dataset, tokenizer):
    evaluation = evaluate(reference[1], tokenizer, dataset, progress=False)
    table = evaluation.predictions
    assert table["pair_id"].tolist() == dataset.data["pair_id"].tolist()
    assert (
        evaluation.confusion().to_numpy().sum()
        == len(dataset)
        == evaluation.per_class()["support"].sum()
    )
    assert evaluation.share_without_label == 1 - table["prediction"].isin(["0", "1", "2"]).mean()
    assert 0 <= evaluation.accuracy <= evaluation.interval[1]


def made_up(labels, predictions, probabilities=None, ids=None):
    table = pd.DataFrame({"label": list(labels), "prediction": list(predictions)})
    table["pair_id"] = ids if ids is not None else range(len(table))
    probabilities = np.full((len(table), 3), 1 / 3) if probabilities is None else probabilities
    for i in range(3):
        table[f"p({i})"] = np.asarray(probabilities)[:, i]
    return Evaluation(table)


def test_measures_of_a_table_computed_by_hand():
    probabilities = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.2], [0.2, 0.1, 0.1], [0.1, 0.5, 0.1]]
    evaluation = made_up("0120", ["0", "2", "the", "1"], probabilities)
    assert evaluation.accuracy == 0.25
    assert evaluation.share_without_label == 0.25
    assert evaluation.accuracy_among_labels == 0.25
    assert evaluation.confusion().to_numpy().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert evaluation.per_class().loc["entailment", ["precision", "recall"]].tolist() == [1.0, 0.5]
    # confidences .8 right; .5, .5, 5/7 wrong: gaps in the bins of .5 (two), .7 and .8
    expected = 0.5 * 2 / 4 + (5 / 7) / 4 + 0.2 / 4
    assert evaluation.calibration_error() == pytest.approx(expected)


def test_accuracy_needs_as_many_predictions_as_labels():
    assert compute_accuracy(["0", "1"], ["0", "2"]) == 0.5
    with pytest.raises(ValueError, match="1 predictions for 2 labels"):
        compute_accuracy(["0"], ["0", "1"])
    with pytest.raises(ValueError, match="no labels"):
        compute_accuracy([], [])


def test_the_interval_is_wilsons_and_covers_as_often_as_it_says():
    low, high = wilson_interval(10, 40)
    assert (low, high) == pytest.approx((0.1419, 0.4019), abs=5e-4)  # Wilson 1927, by hand
    for p in (0.34, 0.6, 0.8):
        n = 500
        inside = [
            k for k in range(n + 1) if wilson_interval(k, n)[0] <= p <= wilson_interval(k, n)[1]
        ]
        assert binom.pmf(inside, n, p).sum() == pytest.approx(0.95, abs=0.012)


def test_mcnemar_counts_only_pairs_on_which_the_two_differ():
    labels = "0" * 20
    first = made_up(labels, "0" * 18 + "11")
    second = made_up(labels, "0" * 10 + "1" * 8 + "00")
    # 8 against 2 among 10: P(X ≥ 8) = 56/1024, twice
    assert mcnemar(first, second) == pytest.approx(2 * 56 / 1024)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0
    shuffled = Evaluation(second.predictions.sample(frac=1.0, random_state=0))
    assert mcnemar(first, shuffled) == mcnemar(first, second)
    with pytest.raises(ValueError, match="same pairs"):
        mcnemar(first, made_up(labels, labels, ids=range(1, 21)))
