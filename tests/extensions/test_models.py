"""Other models on the same task: each with its own tokenizer, its numbers those of its run."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from config import FINETUNE_BEST
from experiments.transfer import results_table
from extensions.lora import attach
from extensions.models import ModelStudy, relation_table
from extensions.plots import plot_premiums
from gpt2.xnli import NLITask
from tests import SAMPLE
from tests.small import SHAPE, save_small_gpt2, small_tokenizer

SETTINGS = replace(FINETUNE_BEST, subset=12.0, epochs=1, token_budget=400, precision="float32")


TASK = NLITask(languages=("en", "de", "th"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_small_gpt2(folder / "gpt", max_position_embeddings=256)
    vocabulary = {"vocab_size": len(small_tokenizer()), "num_key_value_heads": 1}
    llama = LlamaConfig(**SHAPE, **vocabulary, intermediate_size=32)
    LlamaForCausalLM(llama).save_pretrained(folder / "llama")
    small_tokenizer().save_pretrained(folder / "llama")
    names = [str(folder / "gpt"), str(folder / "llama"), f"de={folder / 'gpt'}"]
    return ModelStudy(SETTINGS, names, data=SAMPLE, runs=folder / "runs", seeds=(0,), task=TASK)


@pytest.mark.all
def test_every_model_is_tested_in_all_languages_or_in_its_own(study):
    results = study.results()
    english, other, german = study.models
    assert [r.lang for r in results if r.setting == english] == ["en", "de", "th"]
    assert [r.lang for r in results if r.setting == other] == ["en", "de", "th"]
    assert [r.lang for r in results if r.setting == german] == ["de"]
    assert study.run(german, 0).settings.languages == ("de",)
    folders = {study.run(model, 0).path for model in study.models}
    assert len(folders) == 3
    table = results_table(results).set_index(["setting", "language"])
    saved = study.run(other, 0).evaluation("test", "de")
    assert table.loc[(other, "de"), "accuracy"] == saved.accuracy


@pytest.mark.all
def test_premiums_and_costs_are_of_each_models_own_tokenizer(study):
    transfers = study.transfers(study.results())
    assert list(transfers) == study.models[:2]
    first, second = transfers.values()
    assert first.loc["th", "premium"] > 3 and first.loc["en", "premium"] == 1
    pd.testing.assert_series_equal(first["premium"].sort_index(), second["premium"].sort_index())
    costs = study.costs()
    model = study.run(study.models[1], 0).model()
    assert costs.loc[study.models[1], "parameters"] == sum(p.numel() for p in model.parameters())
    labels = plot_premiums(transfers).axes[0].get_legend_handles_labels()[1]
    assert labels == study.models[:2]


@pytest.mark.all
def test_lora_trains_its_factors_alone(study):
    (name,) = names = study.models[1:2]
    where = {key: study.where[key] for key in ("data", "runs", "task")}
    low_rank = ModelStudy(SETTINGS, names, prepare=partial(attach, rank=2), **where)
    assert low_rank.run(name, 0).path != study.run(name, 0).path
    costs, full = low_rank.costs().loc[name], study.costs().loc[name]
    factors = costs["parameters"] - full["parameters"]
    assert costs["trained"] == factors > 0 and full["trained"] == full["parameters"]


def test_the_relation_is_spearmans_over_the_other_languages():
    table = pd.DataFrame(
        {"accuracy": [0.9, 0.6, 0.5, 0.4], "premium": [1, 1.5, 2, 4], "fertility": [1, 3, 2, 4]},
        index=["en", "fr", "de", "th"],
    )
    found = relation_table({"m": table}).loc["m"]
    assert found["rho premium"] == pytest.approx(-1)
    assert found["rho fertility"] == pytest.approx(-0.5)
