"""Saving: everything or nothing, and what other tools read."""

import copy
from random import Random

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune

from config import GPT2Config
from gpt2.layer import GPT2Layer
from gpt2.model import GPT2Model
from tests.hugging_face import logits_of

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
    expected = logits_of(tiny_model)
    fix(tiny_model)
    tiny_model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(GPT2Model.from_pretrained(tmp_path)), expected)


def test_a_merged_peft_model_is_saved(tiny_model, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False)
    merged = peft.get_peft_model(tiny_model, config).merge_and_unload()
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(GPT2Model.from_pretrained(tmp_path)), logits_of(merged))


@pytest.mark.parametrize("flips", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_the_weights_is_refused(flips, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    path, random, refused = tmp_path / "model.safetensors", Random(flips), 0
    whole = path.read_bytes()
    for _ in range(flips):
        content = bytearray(whole)
        content[random.randrange(len(whole))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        try:
            again = GPT2Model.from_pretrained(tmp_path)
        except ValueError:
            refused += 1
        else:  # a bit of the header that says nothing of the weights
            assert torch.equal(logits_of(again), logits_of(tiny_model))
    assert refused >= 0.9 * flips


def test_saving_leaves_random_states_and_weights_alone(tiny_model, tmp_path):
    state, before = torch.get_rng_state(), logits_of(tiny_model)
    tiny_model.train().save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state) and tiny_model.training
    assert torch.equal(logits_of(tiny_model.eval()), before)


def test_dropout_may_differ_from_the_config(tiny_model, tmp_path):
    tiny_model.embed_dropout = nn.Identity()
    tiny_model.gpt_layers[0].out_dropout.p = 0.5
    tiny_model.save_pretrained(tmp_path)
    assert torch.equal(logits_of(GPT2Model.from_pretrained(tmp_path)), logits_of(tiny_model))


def test_a_compiled_model_is_saved_as_it_is(tiny_model, tmp_path):
    torch.compile(tiny_model).save_pretrained(tmp_path)
    assert torch.equal(logits_of(GPT2Model.from_pretrained(tmp_path)), logits_of(tiny_model))


def test_layers_that_share_weights_are_saved_twice(tiny_model, tmp_path):
    tiny_model.gpt_layers[2] = tiny_model.gpt_layers[0]
    tiny_model.save_pretrained(tmp_path)
    assert torch.equal(logits_of(GPT2Model.from_pretrained(tmp_path)), logits_of(tiny_model))


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
