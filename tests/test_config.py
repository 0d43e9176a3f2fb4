"""Configurations: defaults, both libraries' names, and errors that name the field."""

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from config import ACTIVATIONS, TOY_PRETRAINING, GPT2Config, TrainingSettings


def test_the_defaults_are_hugging_faces_gpt2():
    ours, theirs = GPT2Config(), transformers.GPT2Config()
    assert ours.vocab_size == theirs.vocab_size
    assert ours.hidden_size == theirs.n_embd
    assert ours.num_hidden_layers == theirs.n_layer
    assert ours.num_attention_heads == theirs.n_head
    assert ours.intermediate_size == 4 * theirs.n_embd
    assert ours.max_position_embeddings == theirs.n_positions
    assert ours.layer_norm_eps == theirs.layer_norm_epsilon
    assert ours.pad_token_id == theirs.eos_token_id == 50256


def test_the_toy_preset_has_the_handouts_numbers():
    toy = TOY_PRETRAINING
    assert (toy.batch_size, toy.epochs, toy.learning_rate, toy.weight_decay) == (4, 3, 1e-3, 1e-4)
    assert toy.correct_bias and toy.max_len == 128
    config = GPT2Config(**toy.model)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (128, 2, 4)


@given(
    heads=st.integers(1, 8),
    width=st.integers(1, 32),
    layers=st.integers(1, 9),
    wide=st.none() | st.integers(1, 300),
    dropout=st.floats(0, 0.99),
)
def test_a_configuration_comes_back_from_its_file_unchanged(
    tmp_path_factory, heads, width, layers, wide, dropout
):
    folder = tmp_path_factory.mktemp("config")
    config = GPT2Config(
        hidden_size=heads * width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=wide,
        hidden_dropout_prob=dropout,
        note="kept",
    )
    config.save_pretrained(folder)
    again = GPT2Config.from_pretrained(folder)
    assert again == config and again.note == "kept"
    theirs = transformers.GPT2Config.from_pretrained(folder)
    assert (theirs.n_embd, theirs.n_layer, theirs.n_head) == (heads * width, layers, heads)
    assert theirs.n_inner == config.intermediate_size


def test_hugging_faces_file_is_read(tmp_path):
    transformers.GPT2Config(n_embd=96, n_layer=5, n_head=6, resid_pdrop=0.3).save_pretrained(
        tmp_path
    )
    config = GPT2Config.from_pretrained(tmp_path)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (96, 5, 6)
    assert config.intermediate_size == 384 and config.hidden_dropout_prob == 0.3


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_comes_back_from_either_librarys_file(activation, tmp_path):
    transformers.GPT2Config(activation_function=activation).save_pretrained(tmp_path / "theirs")
    config = GPT2Config.from_pretrained(tmp_path / "theirs")
    assert config.activation_function == activation
    config.save_pretrained(tmp_path / "ours")
    assert (
        transformers.GPT2Config.from_pretrained(tmp_path / "ours").activation_function == activation
    )


def test_activation_is_given_by_keyword_only():
    assert GPT2Config().activation_function == "gelu_new"
    with pytest.raises(TypeError):
        GPT2Config(*[1] * 11, "sdpa", "relu")


def test_padding_is_the_checkpoints_own_end_of_text(tmp_path):
    for pad, expected in ((None, 7), (3, 3)):
        transformers.GPT2Config(vocab_size=9, eos_token_id=7, pad_token_id=pad).save_pretrained(
            tmp_path
        )
        assert GPT2Config.from_pretrained(tmp_path).pad_token_id == expected


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Put a config.json into a cache of the hub, offline; the working directory is empty."""

    def put(repository, **settings):
        folder = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
        (folder / "snapshots" / "0").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0")
        (folder / "snapshots" / "0" / "config.json").write_text(json.dumps(settings))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return put


def test_a_hub_name_is_read_from_the_cache(cached):
    cached("openai-community/gpt2-medium", n_embd=1024, n_layer=24, n_head=16)
    cached("owner/name", n_embd=64, n_head=4)
    assert GPT2Config.from_pretrained("gpt2-medium").num_hidden_layers == 24
    assert GPT2Config.from_pretrained("owner/name").hidden_size == 64
    with pytest.raises(ConnectionError, match='"gpt2" is no local folder'):
        GPT2Config.from_pretrained("gpt2")


def test_the_folder_gpt2_means_the_hub_until_it_has_a_config(cached):
    cached("openai-community/gpt2", n_embd=768)
    Path("gpt2").mkdir()
    assert GPT2Config.from_pretrained("gpt2").hidden_size == 768
    GPT2Config(hidden_size=24).save_pretrained("gpt2")
    assert GPT2Config.from_pretrained("gpt2").hidden_size == 24


def test_a_path_without_a_config_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json there; give a folder"):
        GPT2Config.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a folder here nor a model"):
        GPT2Config.from_pretrained(tmp_path / "nothing" / "here")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads=7 does not divide hidden_size=768"),
        ({"hidden_size": -768}, "hidden_size must be a whole number of at least 1, got -768"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be"),
        ({"vocab_size": 50257.0}, "vocab_size must be"),
        ({"max_position_embeddings": True}, "max_position_embeddings must be"),
        ({"intermediate_size": 0}, "intermediate_size must be"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob must be"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob must be"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps must be"),
        ({"layer_norm_eps": True}, "layer_norm_eps must be"),
        ({"hidden_dropout_prob": "0.1"}, "hidden_dropout_prob must be"),
        ({"attn_implementation": "flash"}, 'attn_implementation must be one of "eager", "sdpa"'),
        ({"activation_function": "silu"}, 'activation_function must be one of "gelu_new", '),
    ],
)
def test_a_bad_combination_names_the_field(bad, message):
    with pytest.raises(ValueError, match=message):
        GPT2Config(**bad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bloom"}, "model_type is 'bloom', but GPT-2 has 'gpt2'"),
        ({"activation_function": "silu"}, "activation_function must be one of"),
        ({"scale_attn_by_inverse_layer_idx": True}, "layer_idx is True, but GPT-2 has False"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config is "),
    ],
)
def test_a_checkpoint_of_other_mathematics_is_refused(settings, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        GPT2Config.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}", b"[]"])
def test_a_broken_config_file_is_a_clear_error(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json: .*; give a whole checkpoint of GPT-2"):
        GPT2Config.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("n_embd", "hidden_size"),
        ("resid_pdrop", "hidden_dropout_prob"),
        ("hidden_droput_prob", "hidden_dropout_prob"),
        ("num_attention_head", "num_attention_heads"),
    ],
)
def test_another_librarys_name_or_a_typo_is_not_swallowed(given, meant):
    with pytest.raises(
        ValueError, match=f"{given}= is not a setting of GPT2Config; write {meant}="
    ):
        GPT2Config(**{given: 0.0})


def test_training_settings_are_checked():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        TrainingSettings(batch_size=0, epochs=1, learning_rate=1e-3, weight_decay=0)
