"""A notebook written for the course's starter runs on imports from this project."""

import inspect
import json
import math
import os
import subprocess
import sys

import pytest
import torch
import transformers

import config
import gpt2
import optim
import utils
from gpt2.tokenizer import install_tokenizer_files
from tests import ROOT, SAMPLE

NOTEBOOK = ROOT / "tests" / "course_notebook" / "course.py"
REQUIRED = inspect.Parameter.empty
VOCABULARY = 50257
LANGUAGES = ("en", "de", "zh")  # of the notebook


# ---- Names, order and defaults of parameters -----------------------------------------------------


CONTRACT = {  # what: the parameters with their defaults, in order
    config.GPT2Config: {
        "vocab_size": VOCABULARY,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": None,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 1024,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 50256,
    },
    config.GPT2Config.from_pretrained: {"name_or_path": REQUIRED},
    gpt2.CausalSelfAttention: {"config": REQUIRED},
    gpt2.CausalSelfAttention.transform: {"x": REQUIRED, "linear_layer": REQUIRED},
    gpt2.CausalSelfAttention.attention: {
        "key": REQUIRED,
        "query": REQUIRED,
        "value": REQUIRED,
        "attention_mask": REQUIRED,
    },
    gpt2.CausalSelfAttention.forward: {"hidden_states": REQUIRED, "attention_mask": REQUIRED},
    gpt2.GPT2Layer: {"config": REQUIRED},
    gpt2.GPT2Layer.add: {
        "input": REQUIRED,
        "output": REQUIRED,
        "dense_layer": REQUIRED,
        "dropout": REQUIRED,
    },
    gpt2.GPT2Layer.forward: {"hidden_states": REQUIRED, "attention_mask": REQUIRED},
    gpt2.GPT2Model: {"config": REQUIRED},
    gpt2.GPT2Model.embed: {"input_ids": REQUIRED},
    gpt2.GPT2Model.encode: {"hidden_states": REQUIRED, "attention_mask": REQUIRED},
    gpt2.GPT2Model.forward: {"input_ids": REQUIRED, "attention_mask": None},
    gpt2.GPT2Model.hidden_state_to_token: {"hidden_state": REQUIRED},
    gpt2.GPT2Model.from_pretrained: {"model": "gpt2", "d": None, "l": None, "num_heads": None},
    optim.AdamW: {
        "params": REQUIRED,
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.0,
        "correct_bias": True,
    },
    utils.model_size_to_params: {"name": REQUIRED},
    utils.get_extended_attention_mask: {"attention_mask": REQUIRED, "dtype": REQUIRED},
    utils.get_parameter_dtype: {"module": REQUIRED},
    gpt2.TextDataset: {"filepath": REQUIRED, "tokenizer": REQUIRED, "max_len": REQUIRED},
    gpt2.next_token_loss: {"model": REQUIRED, "batch": REQUIRED, "reduction": "mean"},
    gpt2.generate_gpt2: {
        "model": REQUIRED,
        "tokenizer": REQUIRED,
        "input_ids": REQUIRED,
        "max_gen_length": 50,
        "device": None,
        "attention_mask": None,
    },
    gpt2.XNLIDataset: {
        "split": "train",
        "lang": "en",
        "train_path_template": "XNLI-MT-1.0/multinli/multinli.train.{lang}.tsv",
        "test_path": "XNLI-1.0/xnli.test.tsv",
        "dev_path": "XNLI-1.0/xnli.dev.tsv",
        "tokenizer": None,
        "max_length": 1024,
        "subset": 1.0,
    },
    gpt2.XNLIDataset.collate_fn: {"batch": REQUIRED},
    gpt2.compute_accuracy: {"preds": REQUIRED, "labels": REQUIRED},
    gpt2.evaluate_gpt2_xnli: {
        "model": REQUIRED,
        "tokenizer": REQUIRED,
        "dataloader": REQUIRED,
        "max_gen_length": 1,
        "device": None,
    },
    gpt2.compute_fertility: {"dataset": REQUIRED, "tokenizer": REQUIRED, "max_samples": None},
}


@pytest.mark.parametrize("function", CONTRACT, ids=lambda function: function.__qualname__)
def test_parameters_have_the_handouts_names_order_and_defaults(function):
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    expected = CONTRACT[function]
    first, more = parameters[: len(expected)], parameters[len(expected) :]
    assert {p.name: p.default for p in first} == expected
    assert [p.name for p in first] == list(expected)
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in first)
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    assert all(p.default is not REQUIRED or p.kind in variable for p in more)


@pytest.mark.parametrize("function", ["GPT2Config", "generate_gpt2"])
def test_further_keywords_are_accepted_where_the_handout_does(function):
    kinds = [p.kind for p in inspect.signature(getattr(gpt2, function)).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD in kinds


# ---- Attributes and return values ----------------------------------------------------------------


ATTRIBUTES = {
    gpt2.CausalSelfAttention: "query key value dropout num_attention_heads attention_head_size "
    "all_head_size",
    gpt2.GPT2Layer: "self_attention attention_dense attention_layer_norm attention_dropout "
    "interm_dense interm_af out_dense out_layer_norm out_dropout",
    gpt2.GPT2Model: "word_embedding pos_embedding embed_dropout gpt_layers final_layer_norm config",
}


@pytest.mark.parametrize("module", ATTRIBUTES, ids=lambda module: module.__name__)
def test_modules_have_the_handouts_attributes(module, tiny_config):
    made = module(tiny_config)
    assert [name for name in ATTRIBUTES[module].split() if not hasattr(made, name)] == []


def test_results_have_the_handouts_form(tiny_model, tiny_config):
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 100]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    hidden = tiny_config.hidden_size
    output = tiny_model(ids, mask)
    assert output["last_hidden_state"].shape == (2, 3, hidden)
    assert torch.equal(output["last_token"][1], output["last_hidden_state"][1, 1])
    assert tiny_model.hidden_state_to_token(output["last_token"]).shape == (2, 101)
    attention, x = tiny_model.gpt_layers[0].self_attention, torch.randn(2, 3, hidden)
    assert attention(x, None).shape == (2, 3, hidden)
    assert attention.transform(x, attention.query).shape == (2, 3, 3, hidden // 3)
    assert attention.all_head_size == 3 * attention.attention_head_size == hidden
    extended = utils.get_extended_attention_mask(mask, torch.float16)
    assert extended.shape == (2, 1, 1, 3) and extended.dtype == torch.float16
    assert utils.get_parameter_dtype(tiny_model) == torch.float32
    assert gpt2.XNLIDataset.LABEL2ID == {"entailment": 0, "contradictory": 1, "neutral": 2}
    assert gpt2.XNLIDataset.ID2LABEL == {0: "entailment", 1: "contradictory", 2: "neutral"}
    assert gpt2.compute_accuracy([" 1", "Yes", "x"], ["1", "yes", "0"]) == pytest.approx(2 / 3)


def test_wrong_shapes_name_the_field():
    with pytest.raises(ValueError, match="num_attention_heads"):
        config.GPT2Config(hidden_size=10, num_attention_heads=3)
    assert config.GPT2Config(hidden_size=20, num_attention_heads=2).intermediate_size == 80


# ---- A whole notebook ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The handout's folder: pretrain.txt, XNLI-1.0 and XNLI-MT-1.0, a few rows of each language."""
    folder = tmp_path_factory.mktemp("course")
    lines = (ROOT / "pretrain.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "pretrain.txt").write_text("".join(lines[:24]), encoding="utf-8")
    for source in SAMPLE.rglob("*.tsv"):
        header, *rows = source.read_text(encoding="utf-8").splitlines(keepends=True)
        if "train" in source.name:
            rows = rows[:12]
        else:  # one file for all languages
            rows = [[row for row in rows if row.startswith(f"{lang}\t")][:12] for lang in LANGUAGES]
            rows = [row for of_language in rows for row in of_language]
        target = folder / source.relative_to(SAMPLE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join([header, *rows]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The folder of a small GPT-2 with random weights, as Hugging Face saves it."""
    torch.manual_seed(0)
    shape = {"n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 128}
    folder = tmp_path_factory.mktemp("weights")
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "place", ["in the project folder", pytest.param("elsewhere", marks=pytest.mark.slow)]
)
def test_a_course_notebook_runs_on_imports_alone(place, data, weights, tmp_path):
    install_tokenizer_files()  # as setup does
    elsewhere = place == "elsewhere"
    path = {"PYTHONPATH": str(ROOT) if elsewhere else ""}
    command = [sys.executable, "-", "." if elsewhere else str(data), str(weights), str(tmp_path)]
    result = subprocess.run(  # from its input, as a notebook: imports look in the working folder
        command,
        input=NOTEBOOK.read_text(encoding="utf-8"),
        cwd=data if elsewhere else ROOT,
        env={**os.environ, **path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    *printed, last = result.stdout.splitlines()
    measured = json.loads(last)
    assert measured["ids"] == [1212, 318, 262, 3726, 286, 4277, 2457, 1628, 0]
    first, end = measured["pretraining"]
    assert first == pytest.approx(math.log(VOCABULARY), abs=0.3) and end < first - 0.5
    first, end = measured["fine-tuning"]
    assert end < first - 0.5
    assert all(text.startswith("The morning train") for text in measured["texts"])
    assert tuple(measured["zero-shot"]) == LANGUAGES
    assert measured["zero-shot"]["en"] == measured["test"]
    assert 1 < measured["fertility"]["en"] < measured["fertility"]["de"]
    assert sum(line.startswith("XNLI train en: 12 rows, 0 skipped") for line in printed) == 1
    assert f"accuracy {measured['test']:.4f} on 12 pairs" in printed
    assert (tmp_path / "best_model_en-de" / "model.pt").is_file()
