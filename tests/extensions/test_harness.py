"""The harness's rule: a plain loop over transformers' model gives the same, one text at a time."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import processors

from experiments.evaluation import Evaluation
from extensions import harness
from extensions.backbones import Backbone
from extensions.harness import CORRECTED, WORDS, candidates, zero_shot
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset
from tests import SAMPLE

PROBABILITIES = ["p(0)", "p(1)", "p(2)"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Hugging Face's GPT-2 with random weights and the real vocabulary, and ours with the same."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=24, n_layer=2, n_head=2, n_positions=160, initializer_range=0.3
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = tmp_path_factory.mktemp("reference")
    model.save_pretrained(folder)
    return model, GPT2Model.from_pretrained(folder)


def rows_of(lang="en", pairs=5.0):
    return XNLIDataset.in_folder(SAMPLE, "dev", lang, subset=pairs, verbose=False)


def of_texts(*pairs, lang="en"):
    """Return rows that have these texts, as (premise, hypothesis)."""
    data = pd.DataFrame(pairs, columns=["premise", "hypo"])
    return SimpleNamespace(lang=lang, data=data.assign(label="neutral", pair_id="1"))


@torch.no_grad()
def one_by_one(model, tokenizer, rows, start, whole=False):
    """Return p(0), p(1), p(2) of each pair from a loop over single texts.

    The harness scores either the tokens after the context, or, in its task's version 0, the
    `whole` text.
    """
    right, *words = WORDS[rows.lang]
    results = []
    for premise, hypo in zip(rows.data["premise"], rows.data["hypo"], strict=True):
        context = f"{premise}, {right}?"
        sums = []
        for word in words:
            ids = start + tokenizer.encode(f"{context} {word}, {hypo}", add_special_tokens=False)
            first = len(start + tokenizer.encode(context, add_special_tokens=False))
            log_probs = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
            positions = range(1 if whole else first, len(ids))
            sums.append(sum(log_probs[i - 1, ids[i]].item() for i in positions))
        results.append(np.exp(sums - np.logaddexp.reduce(sums)))
    return np.array(results)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("whole", [False, True])
def test_probabilities_equal_a_one_by_one_loop_over_transformers_model(
    lang, whole, reference, tokenizer
):
    rows = rows_of(lang, 3.0)
    result = zero_shot(reference[1], tokenizer, rows, progress=False)
    start = [tokenizer.eos_token_id]
    expected = one_by_one(reference[0], tokenizer, rows, start, whole)
    np.testing.assert_allclose(result[PROBABILITIES], expected, atol=1e-4)
    assert result["prediction"].tolist() == [str(best) for best in expected.argmax(axis=1)]


def test_another_family_of_models_gives_what_transformers_gives(tokenizer):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50257,
        "hidden_size": 24,
        "n_layer": 2,
        "n_head": 2,
        "initializer_range": 0.3,
    }
    model = transformers.BloomForCausalLM(transformers.BloomConfig(**sizes)).eval()
    rows = rows_of("en", 3.0)
    result = zero_shot(Backbone(model), tokenizer, rows, progress=False)
    expected = one_by_one(model, tokenizer, rows, [tokenizer.eos_token_id])
    np.testing.assert_allclose(result[PROBABILITIES], expected, atol=1e-4)


def test_a_text_starts_with_the_tokenizers_own_token(reference, tokenizer):
    with_bos = copy.deepcopy(tokenizer)
    bos = with_bos.convert_tokens_to_ids("!")
    with_bos.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="! $A", special_tokens=[("!", bos)]
    )
    rows = rows_of("en", 3.0)
    result = zero_shot(reference[1], with_bos, rows, progress=False)
    expected = one_by_one(reference[0], with_bos, rows, [bos])
    np.testing.assert_allclose(result[PROBABILITIES], expected, atol=1e-4)
    plain = zero_shot(reference[1], tokenizer, rows, progress=False)
    assert not np.allclose(result[PROBABILITIES], plain[PROBABILITIES], atol=1e-4)


def test_batches_and_padding_are_invisible(reference, tokenizer, monkeypatch):
    tables = []
    for budget in (1, 5000):  # every text alone, and all together
        monkeypatch.setattr(harness, "TOKEN_BUDGET", budget)
        tables.append(zero_shot(reference[1], tokenizer, rows_of(), progress=False))
    pd.testing.assert_frame_equal(*tables, atol=1e-5, rtol=0)


def test_the_evaluation_takes_the_predictions(reference, tokenizer):
    rows = rows_of()
    result = zero_shot(reference[1], tokenizer, rows, progress=False)
    assert result["pair_id"].tolist() == rows.data["pair_id"].tolist()
    assert result["label"].tolist() == rows.labels
    np.testing.assert_allclose(result[PROBABILITIES].sum(axis=1), 1)
    evaluation = Evaluation(result)
    assert 0 <= evaluation.interval[0] <= evaluation.accuracy <= evaluation.interval[1] <= 1
    assert evaluation.loss > 0


def test_a_model_that_continues_with_one_word_predicts_its_digit(reference, tokenizer):
    model = copy.deepcopy(reference[1])
    for digit, word in enumerate([" Yes", " No", " Also"]):
        (token,) = tokenizer.encode(word)

        def only(hidden, token=token):
            logits = torch.zeros(*hidden.shape[:-1], model.config.vocab_size)
            logits[..., token] = 20.0
            return logits

        model.hidden_state_to_token = only
        result = zero_shot(model, tokenizer, rows_of("en", 3.0), progress=False)
        assert set(result["prediction"]) == {str(digit)}


@pytest.mark.parametrize("lang", WORDS)
def test_every_language_asks_in_its_own_words(lang):
    rows = of_texts(("A b.", "C d."), lang=lang)
    right, yes, no, also = WORDS[lang]
    contexts, texts = candidates(rows)
    assert contexts == [f"A b., {right}?"]
    assert texts == [f"A b., {right}? {word}, C d." for word in (yes, no, also)]
    assert len({right, yes, no, also}) == 4


def test_the_corrections_change_one_word_of_three_languages():
    changed = {
        lang: [i for i, word in enumerate(words) if CORRECTED[lang][i] != word]
        for lang, words in WORDS.items()
    }
    assert {lang: at for lang, at in changed.items() if at} == {"ar": [2], "el": [1], "es": [3]}


def test_the_corrected_arabic_word_changes_only_the_contradiction():
    (context,), published = candidates(of_texts(("A b.", "C d."), lang="ar"))
    (same,), corrected = candidates(of_texts(("A b.", "C d."), lang="ar"), "corrected")
    assert context == same
    assert [a == b for a, b in zip(published, corrected, strict=True)] == [True, False, True]
    assert "رقم" in published[1] and "لا" in corrected[1]


def test_long_pairs_lose_the_start_of_the_premise_and_are_counted(reference, tokenizer, capsys):
    end = "a man sees a dog " * 40
    rows = of_texts(("one " * 150 + end, "A dog."), ("two " * 150 + end, "A dog."), ("A.", "B."))
    result = zero_shot(reference[1], tokenizer, rows, progress=False)
    assert "2 of 3 pairs lost the premise's start (160 positions)\n" in capsys.readouterr().out
    np.testing.assert_allclose(result.loc[0, PROBABILITIES].tolist(), result.loc[1, PROBABILITIES])
    short = zero_shot(reference[1], tokenizer, of_texts(("A.", "B.")), progress=False)
    np.testing.assert_allclose(
        result.loc[2, PROBABILITIES].tolist(), short.loc[0, PROBABILITIES].tolist(), atol=1e-6
    )
    assert capsys.readouterr().out == ""


def test_the_models_mode_is_restored(reference, tokenizer):
    model = copy.deepcopy(reference[1]).train()
    first, second = (zero_shot(model, tokenizer, rows_of(), progress=False) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)  # without dropout
    assert model.training


def test_missing_words_are_named(reference, tokenizer):
    rows = rows_of()
    with pytest.raises(ValueError, match="no best words for en; give them in WORDS"):
        zero_shot(reference[1], tokenizer, rows, words="best")
    rows.lang = "id"
    with pytest.raises(ValueError, match="no published words for id; give them in WORDS"):
        zero_shot(reference[1], tokenizer, rows)


def test_the_command_prints_published_figures_for_their_model(
    reference, tokenizer, monkeypatch, capsys
):
    monkeypatch.setattr(harness, "load_backbone", lambda name: (reference[1], tokenizer))
    harness.main("facebook/xglm-564M", SAMPLE, ("en", "sw"), "dev", most=5)
    header, english, swahili = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "language"
    assert english.startswith("en ") and english.endswith("5  48.3%")
    assert swahili.startswith("sw ") and swahili.endswith("5  36.1%")
    harness.main("gpt2", SAMPLE, ("en",), "dev", most=5)
    assert capsys.readouterr().out.splitlines()[1].endswith(" 5")
