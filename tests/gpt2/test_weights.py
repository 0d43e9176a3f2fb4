"""Loading: parity with transformers, every stored form, clear errors."""

import copy
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from config import GPT2Config
from gpt2 import weights
from gpt2.model import GPT2Model
from tests.hugging_face import BATCH, logits_of, ours_from, reference_model


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
    assert torch.allclose(logits_of(tiny_model)[real], expected[real], atol=1e-4)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_safetensors_and_bin_sharded_or_not_load_alike(kind, sharded, reference, tmp_path):
    expected = logits_of(ours_from(reference, tmp_path / "whole"))
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
    assert torch.equal(logits_of(GPT2Model.from_pretrained(folder)), expected)


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
    assert torch.equal(logits_of(fresh.eval()), logits_of(tiny_model))
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

    def full_disk(weights, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_tensors", full_disk)
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


def test_a_flipped_bit_of_a_tensor_or_its_entry_is_a_clear_error(reference, tmp_path):
    """torch itself reads all of these without an error, and other numbers."""
    path = tmp_path / "pytorch_model.bin"
    torch.save(reference.state_dict(), path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = [e for e in archive.infolist() if "/data/" in e.filename]
    for entry in entries:
        name, start = entry.filename.encode(), entry.header_offset
        in_directory = whole.rindex(b"PK\x01\x02", 0, whole.rindex(name))
        padding = int.from_bytes(whole[start + 28 : start + 30], "little")
        in_tensor = start + 30 + len(name) + padding
        for at, bit in ((in_directory + 38, 0x10), (in_tensor, 1)):
            damaged = bytearray(whole)
            damaged[at] ^= bit
            path.write_bytes(damaged)
            torch.load(path, weights_only=True)
            with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a whole torch file"):
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
        torch.testing.assert_close(logits_of(ours)[real], expected, rtol=1e-4, atol=1e-4)


def test_a_git_lfs_pointer_is_named_with_the_command(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "model.safetensors").write_bytes(pointer)
    with pytest.raises(ValueError, match=r"Git LFS pointer, with git lfs pull"):
        GPT2Model.from_pretrained(folder)
