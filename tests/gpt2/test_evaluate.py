"""Evaluation: the predictions of a plain loop, one prompt at a time."""

import copy
import os

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

import gpt2.evaluate
from gpt2.evaluate import answer, compute_accuracy, evaluate_gpt2_xnli, predict
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
    """A plain loop over transformers' model: the text of the most probable next token."""
    with torch.no_grad():
        return [
            tokenizer.decode(reference[0](dataset[i]["input_ids"][None]).logits[0, -1].argmax())
            for i in range(len(dataset))
        ]


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("budget", [200, 1024])
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
    assert preds == [one_by_one[i].strip().lower() for i in order]
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
    predictions = predict(reference[1], tokenizer, train, progress=False)
    assert preds == predictions["prediction"].tolist() and labels == train.labels


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
        preds[0]
        == tokenizer.decode(expected[0, ids.size(1) :], skip_special_tokens=True).strip().lower()
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


def test_a_common_premise_is_read_once_and_few_pads_are(reference, dataset):
    model, read = reference[1], []
    hook = model.gpt_layers[0].interm_dense.register_forward_hook(
        lambda _, inputs, __: read.append(inputs[0].shape[:2].numel())
    )
    answer(model, [dataset[i]["input_ids"] for i in range(len(dataset))], [])
    hook.remove()
    plain = sum(len(dataset[i]["input_ids"]) for i in range(len(dataset)))
    assert sum(read) < 0.75 * plain


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


def test_predictions_hold_texts_ids_and_probabilities(reference, dataset, tokenizer):
    table = predict(reference[1], tokenizer, dataset, progress=False)
    assert table["pair_id"].tolist() == dataset.data["pair_id"].tolist()
    assert table["label"].tolist() == dataset.labels
    prompt = dataset[7]["input_ids"]
    with torch.no_grad():
        p = reference[0](prompt[None]).logits[0, -1].softmax(-1)
    digits = [tokenizer(d)["input_ids"][0] for d in "012"]
    found = table.loc[7, ["p(0)", "p(1)", "p(2)"]].tolist()
    assert found == pytest.approx(p[digits].tolist(), rel=1e-3)


def test_accuracy_needs_as_many_predictions_as_labels():
    assert compute_accuracy(["0", "1"], ["0", "2"]) == 0.5
    with pytest.raises(ValueError, match="1 predictions for 2 labels"):
        compute_accuracy(["0"], ["0", "1"])
    with pytest.raises(ValueError, match="no labels"):
        compute_accuracy([], [])


def test_accuracy_strips_and_lowers():
    assert compute_accuracy([" 0", "Neutral\n", "1"], ["0", "neutral", "2"]) == 2 / 3


def test_evaluation_prints_the_accuracy(reference, dataset, tokenizer, capsys):
    loader = DataLoader(Subset(dataset, range(6)), 2, collate_fn=XNLIDataset.collate_fn)
    accuracy, *_ = evaluate_gpt2_xnli(reference[1], tokenizer, loader)
    shown = capsys.readouterr()
    assert f"accuracy {accuracy:.4f} on 6 pairs" in shown.out and "6/6" in shown.err


def test_a_loader_without_pairs_or_without_the_collate_function_is_named(reference, tokenizer):
    rows = XNLIDataset.in_folder(SAMPLE, "dev", "en", tokenizer=tokenizer, subset=3, verbose=False)
    with pytest.raises(ValueError, match="no labels, so there is no accuracy"):
        evaluate_gpt2_xnli(reference[1], tokenizer, iter([]))
    for loader in (DataLoader(rows, batch_size=1), rows):
        with pytest.raises(
            ValueError, match="no label_strs; give DataLoader the data set's collat"
        ):
            evaluate_gpt2_xnli(reference[1], tokenizer, loader)
