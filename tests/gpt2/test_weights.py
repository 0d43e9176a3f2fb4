"""Loading and saving: parity both ways, clear errors, everything or nothing."""

import copy
import http.server
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune

from config import GPT2Config
from gpt2 import weights
from gpt2.layer import GPT2Layer
from gpt2.model import GPT2Model
from tests.hugging_face import batch_of, ours_from, reference_model

BATCH = batch_of([12, 7], 12, 101)


def logits(model):
    with torch.no_grad():
        return model.hidden_state_to_token(model(*BATCH)["last_hidden_state"])


@pytest.fixture(scope="module")
def reference():
    return reference_model()


@pytest.fixture
def folder(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def change_weights(folder):
    """Rewrite the folder's weights after a function has changed their dictionary."""

    def change(function):
        weights = load_file(folder / "model.safetensors")
        function(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return change


def test_a_saved_model_loads_in_transformers_and_here(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    ours = GPT2Model.from_pretrained(tmp_path)
    assert ours.config == tiny_model.config
    for (name, a), (_, b) in zip(
        tiny_model.state_dict().items(), ours.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    theirs, info = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        expected = theirs.eval()(BATCH[0], attention_mask=BATCH[1]).logits
    real = BATCH[1].bool()
    assert torch.allclose(logits(tiny_model)[real], expected[real], atol=1e-4)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_safetensors_and_bin_sharded_or_not_load_alike(kind, sharded, reference, tmp_path):
    expected = logits(ours_from(reference, tmp_path / "whole"))
    folder = tmp_path / "other"
    reference.save_pretrained(folder, max_shard_size="20KB" if sharded else "5GB")
    if kind == "bin":
        for path in list(folder.glob("*.safetensors")):
            torch.save(load_file(path), path.with_name(as_bin(path.name)))
            path.unlink()
        for index in list(folder.glob("*.index.json")):
            content = json.loads(index.read_text())
            content["weight_map"] = {k: as_bin(v) for k, v in content["weight_map"].items()}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(content))
            index.unlink()
    assert (len(list(folder.glob("*model*"))) > 2) == sharded
    assert torch.equal(logits(GPT2Model.from_pretrained(folder)), expected)


def as_bin(name):
    return name.replace("model", "pytorch_model").replace("safetensors", "bin")


def test_names_without_prefix_and_old_mask_buffers_load(reference, change_weights):
    def as_openai(weights):
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        for i in range(3):
            weights[f"h.{i}.attn.bias"] = torch.ones(1, 1, 64, 64)
            weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        weights["lm_head.weight"] = weights["wte.weight"].clone()

    ours = GPT2Model.from_pretrained(change_weights(as_openai))
    assert torch.equal(ours.word_embedding.weight, reference.transformer.wte.weight)


def test_half_precision_checkpoints_load_as_float32(reference, tmp_path):
    copy.deepcopy(reference).to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in GPT2Model.from_pretrained(tmp_path).parameters()} == {torch.float32}


def test_given_sizes_must_agree_with_the_checkpoint(folder):
    model = GPT2Model.from_pretrained(folder, d=24, l=3, num_heads=3, hidden_dropout_prob=0.0)
    assert model.config.hidden_size == 24 and model.config.hidden_dropout_prob == 0.0
    assert not model.training
    with pytest.raises(ValueError, match=r"hidden_size=768 does not agree with .* has 24"):
        GPT2Model.from_pretrained(folder, d=768)


def test_a_model_pt_loads_and_the_load_is_strict(tiny_model, tmp_path):
    state = tiny_model.state_dict()
    torch.save(state, tmp_path / "model.pt")
    fresh = GPT2Model(tiny_model.config)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(logits(fresh.eval()), logits(tiny_model))
    with pytest.raises(RuntimeError, match="extra"):
        fresh.load_state_dict({**state, "extra.weight": torch.ones(1)})
    del state["final_layer_norm.bias"]
    with pytest.raises(RuntimeError, match="final_layer_norm"):
        fresh.load_state_dict(state)


def test_a_missing_weight_is_named(change_weights):
    folder = change_weights(lambda weights: weights.pop("transformer.h.1.mlp.c_fc.bias"))
    with pytest.raises(ValueError, match=r"missing \['h\.1\.mlp\.c_fc\.bias'\]"):
        GPT2Model.from_pretrained(folder)


def test_a_misshapen_weight_is_named_with_both_shapes(change_weights):
    def spoil(weights):
        weights["transformer.wpe.weight"] = torch.zeros(63, 24)

    message = r"wpe\.weight has shape \[63, 24\], but config.json says \[64, 24\]"
    with pytest.raises(ValueError, match=message):
        GPT2Model.from_pretrained(change_weights(spoil))


def test_a_weight_too_many_is_named(change_weights):
    def add(weights):
        weights["transformer.h.3.ln_1.weight"] = torch.ones(24)

    with pytest.raises(ValueError, match=r"unexpected \['h\.3\.ln_1\.weight'\]"):
        GPT2Model.from_pretrained(change_weights(add))


def test_an_untied_projection_is_refused(change_weights):
    def untie(weights):
        weights["lm_head.weight"] = torch.zeros(101, 24)

    with pytest.raises(ValueError, match="differs from"):
        GPT2Model.from_pretrained(change_weights(untie))


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_a_corrupt_safetensors_file_is_a_clear_error(keep, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"not a whole safetensors file.*fetch it again"):
        GPT2Model.from_pretrained(folder)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, (str(Path(__file__).parent / "HARMED"),))


@pytest.mark.parametrize("save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_a_pickle_that_would_run_code_is_refused(save, folder):
    (folder / "model.safetensors").unlink()
    save({"transformer.wte.weight": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: not "):
        GPT2Model.from_pretrained(folder)
    assert not (Path(__file__).parent / "HARMED").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 half a zip"])
def test_a_corrupt_bin_file_is_a_clear_error(content, folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a whole torch file"):
        GPT2Model.from_pretrained(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_broken_index_is_a_clear_error(content, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json"):
        GPT2Model.from_pretrained(folder)


def test_a_missing_shard_or_no_weights_at_all_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights there"):
        GPT2Model.from_pretrained(folder)
    index = {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors, which is missing"):
        GPT2Model.from_pretrained(folder)


def test_a_folder_without_a_config_and_a_file_are_clear_errors(folder):
    with pytest.raises(ValueError, match="give the folder that holds it"):
        GPT2Model.from_pretrained(folder / "model.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json there"):
        GPT2Model.from_pretrained(folder)


def test_a_save_that_fails_leaves_the_old_checkpoint(tiny_model, tmp_path, monkeypatch):
    tiny_model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(weights, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full_disk)
    torch.nn.init.zeros_(tiny_model.word_embedding.weight)
    with pytest.raises(OSError, match="No space left"):
        tiny_model.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_unsavable_config_leaves_the_old_checkpoint(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    tiny_model.config.folder = tmp_path
    torch.nn.init.zeros_(tiny_model.word_embedding.weight)
    with pytest.raises(TypeError, match="not JSON serializable"):
        tiny_model.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_shapes_a_model_can_not_be_changed_on_loading(folder):
    with pytest.raises(ValueError, match="num_attention_heads= can't be changed on loading"):
        GPT2Model.from_pretrained(folder, num_attention_heads=4)
    with pytest.raises(ValueError, match="resid_pdrop= can't be changed"):
        GPT2Model.from_pretrained(folder, resid_pdrop=0.0)


@pytest.mark.parametrize("spoil", [torch.Tensor.char, lambda t: t * float("nan")])
def test_weights_that_are_no_finite_numbers_are_refused(spoil, change_weights):
    def change(weights):
        weights["transformer.ln_f.bias"] = spoil(weights["transformer.ln_f.bias"])

    with pytest.raises(ValueError, match=r"weight ln_f\.bias .* not finite numbers"):
        GPT2Model.from_pretrained(change_weights(change))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bin_file_cut_anywhere_is_a_clear_error(zipped, reference, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(reference.state_dict(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for keep in range(0, len(whole) - 1, len(whole) // 40):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=r"pytorch_model\.bin: not "):
            weights.read_weights(path)


# ---- The name table ----------------------------------------------------------------------------


@given(
    sizes=st.tuples(*[st.integers(1, 9)] * 3),
    layers=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4)),
)
def test_the_name_table_is_its_own_inverse(sizes, layers, shape):
    vocabulary, positions, wide = sizes
    config = GPT2Config(
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=shape[0],
        hidden_size=shape[0] * shape[1],
    )
    state = GPT2Model(config).state_dict()
    theirs = weights.to_hugging_face(state, config)
    again = weights.from_hugging_face(theirs, config)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
    with torch.device("meta"):
        reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config.to_dict()))
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    del shapes["lm_head.weight"]  # tied
    assert {name: tensor.shape for name, tensor in theirs.items()} == shapes


@pytest.mark.parametrize("stored", ["wte", "lm_head", "both"])
def test_the_tied_matrix_loads_from_either_name(stored, reference, change_weights):
    def rename(weights):
        matrix = weights.pop("transformer.wte.weight")
        if stored != "lm_head":
            weights["transformer.wte.weight"] = matrix
        if stored != "wte":
            weights["lm_head.weight"] = matrix.clone()

    ours = GPT2Model.from_pretrained(change_weights(rename))
    assert torch.equal(ours.word_embedding.weight, reference.transformer.wte.weight)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu"])
def test_every_activation_agrees_with_transformers(activation, tmp_path):
    reference = reference_model(
        activation_function=activation, n_inner=40, vocab_size=130, n_positions=12, spread=0.5
    )
    ours = ours_from(reference, tmp_path / "theirs")
    assert ours.config.activation_function == activation
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    real = BATCH[1].bool()
    for model in (reference, theirs):
        with torch.no_grad():
            expected = model(BATCH[0], attention_mask=BATCH[1]).logits[real]
        torch.testing.assert_close(logits(ours)[real], expected, rtol=1e-4, atol=1e-4)


def test_a_git_lfs_pointer_is_named_with_the_command(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "model.safetensors").write_bytes(pointer)
    with pytest.raises(ValueError, match=r"Git LFS pointer, with git lfs pull"):
        GPT2Model.from_pretrained(folder)


# ---- Everything is saved, or nothing -----------------------------------------------------------


def pruned(model):
    prune.random_unstructured(model.gpt_layers[1].interm_dense, "weight", 0.5)


def parametrized(model):
    parametrizations.weight_norm(model.gpt_layers[1].out_dense)


def adapted(model):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)


def with_another_norm_trained(model):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["query"], modules_to_save=["final_layer_norm"])
    peft.inject_adapter_in_model(config, model)


def quantized(model):
    torchao = pytest.importorskip("torchao")
    torchao.quantize_(model, torchao.quantization.Int8DynamicActivationInt8WeightConfig())


def with_a_head(model):
    model.classifier = nn.Linear(24, 3)


def with_a_scale(model):
    model.gpt_layers[0].scale = nn.Parameter(torch.ones(1))


def with_one_layer_more(model):
    model.gpt_layers.append(copy.deepcopy(model.gpt_layers[0]))


def with_one_layer_less(model):
    del model.gpt_layers[1]


def with_a_layer_skipped(model):
    model.gpt_layers[0] = nn.Identity()


def with_another_layer(model):
    class HalvedLayer(GPT2Layer):
        def forward(self, *inputs):
            return super().forward(*inputs) / 2

    model.gpt_layers[1] = HalvedLayer(model.config)


def with_a_compiled_layer(model):
    model.gpt_layers[1] = torch.compile(model.gpt_layers[1])


def with_a_recomputed_layer(model):
    model.gpt_layers[1] = checkpoint_wrapper(model.gpt_layers[1])


def with_another_linear(model):
    class ClampedLinear(nn.Linear):
        def forward(self, x):
            return super().forward(x).clamp(-1, 1)

    model.gpt_layers[1].out_dense = ClampedLinear(96, 24)


def with_another_activation(model):
    model.gpt_layers[1].interm_af = nn.ReLU()


def without_an_activation(model):
    model.gpt_layers[1].interm_af = nn.Identity()


def with_another_epsilon(model):
    model.final_layer_norm.eps = 1e-3


def with_activated_dropout(model):
    model.embed_dropout = nn.Tanh()


def with_more_heads_said(model):
    model.config.num_attention_heads = 4


def with_an_impossible_config(model):
    model.config.activation_function = "silu"


def without_a_bias(model):
    model.gpt_layers[0].interm_dense.bias = None


def with_one_token_more(model):
    model.word_embedding = nn.Embedding(102, 24)


def with_another_config(model):
    model.config.intermediate_size = 48


def without_numbers(model):
    model.final_layer_norm = model.final_layer_norm.to("meta")


def with_nan(model):
    nn.init.constant_(model.final_layer_norm.bias, float("nan"))


def of_integers(model):
    del model.final_layer_norm.bias
    model.final_layer_norm.register_buffer("bias", torch.zeros(24, dtype=torch.int8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            pruned,
            r"missing \['gpt_layers\.1\.interm_dense\.weight'\], .*weight_mask.*prune\.remove",
        ),
        (parametrized, r"missing \['gpt_layers\.1\.out_dense\.weight'\], .*remove_param"),
        (adapted, r"query\.base_layer.*merge_and_unload"),
        (with_another_norm_trained, r"modules_to_save.*merge_and_unload"),
        (quantized, r"weight gpt_layers\.0.* not a plain tensor.* before it is quantized"),
        (with_a_head, r"unexpected \['classifier\.bias', 'classifier\.weight'\]; .* torch\.save"),
        (with_a_scale, r"unexpected \['gpt_layers\.0\.scale'\];"),
        (with_one_layer_more, r"unexpected \['gpt_layers\.3\..*model\.config"),
        (with_one_layer_less, r"missing \['gpt_layers\.2\..*model\.config"),
        (with_a_layer_skipped, r"missing \['gpt_layers\.0\."),
        (with_another_layer, r"gpt_layers\.1 is HalvedLayer\(\), .* says GPT2Layer\(\)"),
        (with_a_compiled_layer, r"unexpected \['gpt_layers\.1\._orig_mod.*undo the change"),
        (with_a_recomputed_layer, r"gpt_layers\.1 is CheckpointWrapper\(\).*undo the change"),
        (with_another_linear, r"gpt_layers\.1\.out_dense is ClampedLinear"),
        (with_another_activation, r"interm_af is ReLU\(\), .* GELU\(approximate='tanh'\)"),
        (without_an_activation, r"interm_af is Identity\(\), .* GELU"),
        (with_another_epsilon, r"final_layer_norm is LayerNorm.*eps=0\.001.* eps=1e-05"),
        (with_activated_dropout, r"embed_dropout is Tanh\(\)"),
        (with_more_heads_said, r"self_attention is .*3 heads.* says .*4 heads"),
        (with_an_impossible_config, r"activation_function must be one of"),
        (without_a_bias, r"missing \['gpt_layers\.0\.interm_dense\.bias'\]"),
        (with_one_token_more, r"word_embedding\.weight has shape \[102, 24\].* says \[101, 24\]"),
        (with_another_config, r"interm_dense\.weight has shape \[96, 24\].* says \[48, 24\]"),
        (without_numbers, r"final_layer_norm\.weight is a Tensor on meta"),
        (with_nan, r"final_layer_norm\.bias \(torch\.float32\) has values .* not finite"),
        (of_integers, r"final_layer_norm\.bias \(torch\.int8\)"),
    ],
)
def test_a_model_that_is_not_its_config_is_refused(change, message, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    change(tiny_model)
    with pytest.raises(ValueError, match=message):
        tiny_model.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def merge_adapters(model):
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "get_base_layer"):
                child.merge()
                setattr(module, name, child.get_base_layer())


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (pruned, lambda model: prune.remove(model.gpt_layers[1].interm_dense, "weight")),
        (
            parametrized,
            lambda model: parametrize.remove_parametrizations(
                model.gpt_layers[1].out_dense, "weight"
            ),
        ),
        (adapted, merge_adapters),
        (
            with_one_layer_less,
            lambda model: setattr(model.config, "num_hidden_layers", 2),
        ),
    ],
)
def test_the_fix_that_the_error_names_saves_the_model(change, fix, tiny_model, tmp_path):
    change(tiny_model)
    expected = logits(tiny_model)
    fix(tiny_model)
    tiny_model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(GPT2Model.from_pretrained(tmp_path)), expected)


def test_a_merged_peft_model_is_saved(tiny_model, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False)
    merged = peft.get_peft_model(tiny_model, config).merge_and_unload()
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(GPT2Model.from_pretrained(tmp_path)), logits(merged))


def test_saving_leaves_random_states_and_weights_alone(tiny_model, tmp_path):
    state, before = torch.get_rng_state(), logits(tiny_model)
    tiny_model.train().save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state) and tiny_model.training
    assert torch.equal(logits(tiny_model.eval()), before)


def test_dropout_may_differ_from_the_config(tiny_model, tmp_path):
    tiny_model.embed_dropout = nn.Identity()
    tiny_model.gpt_layers[0].out_dropout.p = 0.5
    tiny_model.save_pretrained(tmp_path)
    assert torch.equal(logits(GPT2Model.from_pretrained(tmp_path)), logits(tiny_model))


def test_a_compiled_model_is_saved_as_it_is(tiny_model, tmp_path):
    torch.compile(tiny_model).save_pretrained(tmp_path)
    assert torch.equal(logits(GPT2Model.from_pretrained(tmp_path)), logits(tiny_model))


def test_layers_that_share_weights_are_saved_twice(tiny_model, tmp_path):
    tiny_model.gpt_layers[2] = tiny_model.gpt_layers[0]
    tiny_model.save_pretrained(tmp_path)
    assert torch.equal(logits(GPT2Model.from_pretrained(tmp_path)), logits(tiny_model))


# ---- What we save, other tools read ------------------------------------------------------------


def small_tokenizer(**special):
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "cat", "sees"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_transformers_loads_the_saved_tokenizer(tiny_model, tokenizer, tmp_path):
    tiny_model.save_pretrained(tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Premise: The cat sees.\nHypothesis: ∅ 𝄞"
    assert theirs(text)["input_ids"] == tokenizer(text)["input_ids"] != []
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_tokenizer_without_a_vocabulary_is_not_saved(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="has no vocabulary"):
        tiny_model.save_pretrained(tmp_path, transformers.GPT2TokenizerFast())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "special", [{"eos_token": "</s>"}, {"eos_token": "</s>", "bos_token": "<s>"}]
)
def test_transformers_stops_at_the_tokenizers_end_of_text(special, tmp_path):
    model = GPT2Model(GPT2Config(vocab_size=5, hidden_size=8, num_attention_heads=2)).eval()
    with torch.no_grad():
        model.word_embedding.weight.zero_()[2] = 1.0  # "</s>" has the only logit above 0
        model.final_layer_norm.bias.fill_(1.0)
    model.save_pretrained(tmp_path, small_tokenizer(**special))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = tokenizer("cat sees", return_tensors="pt")["input_ids"]
    assert theirs.generate(prompt, max_new_tokens=9, do_sample=False).tolist() == [[3, 4, 2]]
    assert theirs.config.bos_token_id == tokenizer.bos_token_id


@pytest.mark.parametrize(("vocabulary", "end_of_text"), [(50257, 50256), (101, None)])
def test_only_gpt2s_vocabulary_has_an_end_of_text_by_default(vocabulary, end_of_text, tmp_path):
    model = GPT2Model(GPT2Config(vocabulary, 8, 1, 1))
    model.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.config.eos_token_id == theirs.config.bos_token_id == end_of_text
    assert theirs.generation_config.eos_token_id == end_of_text
    assert GPT2Model.from_pretrained(tmp_path).config == model.config


# ---- The hub, by a server of our own -----------------------------------------------------------

LOAD = (
    "import sys, torch; from gpt2.model import GPT2Model;"
    "model = GPT2Model.from_pretrained(sys.argv[1]);"
    "print('weight', model.word_embedding.weight.double().sum().item())"
)


def in_subprocess(name, cache, **environment):
    """Load `name` in a fresh process, as the hub library reads its settings at import."""
    return subprocess.run(
        [sys.executable, "-c", LOAD, name],
        env={
            **os.environ,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def hub(folder):
    """An HTTP server that answers as the hub does for one repository, gpt2's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            prefix = "/openai-community/gpt2/resolve/main/"
            path = folder / self.path.removeprefix(prefix).split("?")[0]
            known = self.path.startswith(prefix)
            found = known and path.is_file()
            self.send_response(200 if found or self.path == "/" else 404)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            content = path.read_bytes() if found else b""
            self.send_header("ETag", f'"{path.name}-{len(content)}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_hub_is_read_once_then_the_cache_offline(hub, reference, tmp_path):
    expected = f"weight {reference.transformer.wte.weight.double().sum().item()}"
    online = in_subprocess("gpt2", tmp_path / "cache", HF_ENDPOINT=hub)
    assert expected in online.stdout, online.stderr
    offline = in_subprocess("gpt2", tmp_path / "cache", HF_ENDPOINT="http://127.0.0.1:9")
    assert expected in offline.stdout, offline.stderr


def test_a_name_that_the_hub_does_not_know_is_a_clear_error(hub, tmp_path):
    result = in_subprocess("someone/gpt2-typo", tmp_path / "cache", HF_ENDPOINT=hub)
    assert 'FileNotFoundError: "someone/gpt2-typo" is neither a folder here' in result.stderr


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_offline_and_not_cached_is_an_error_within_seconds(environment, tmp_path):
    before = time.perf_counter()
    result = in_subprocess("gpt2-medium", tmp_path / "cache", **environment)
    import_and_all = time.perf_counter() - before
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith('ConnectionError: "gpt2-medium" is no local folder')
    assert "give a local folder, or connect" in last_line
    assert "Traceback (most recent call last)" in result.stderr
    assert "During handling" not in result.stderr and "direct cause" not in result.stderr
    assert import_and_all < 60  # the hub library alone would retry for half a minute or more
