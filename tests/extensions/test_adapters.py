"""What must hold for every parameter-efficient method."""

import copy
import json
from functools import partial

import pytest
import torch
from torch import nn

from experiments.identity import describe
from extensions import adapters, lora
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.loss import IGNORED, next_token_loss
from gpt2.train import train
from optim import AdamW
from tests.extensions.methods import BY_NAME, METHODS, attach, move
from tests.hugging_face import batch_of, small_model

VOCAB = 50


@pytest.fixture
def model():
    """A model whose weights are far from zero, without dropout."""
    return small_model(
        initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).eval()


def outputs(model, side="right"):
    return model(*batch_of([5, 9, 2], 9, VOCAB, side))["last_hidden_state"]


def snapshot(model):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    modules = {name: sorted(vars(module)) for name, module in model.named_modules()}
    return state, trained, modules


def assert_same_bits(before, after):
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def prompts():
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randint(1, VOCAB, (n,), generator=generator) for n in (5, 9, 3)]
    ends = [torch.randint(1, VOCAB, (n,), generator=generator) for n in (2, 4, 7)]
    return [torch.cat([start, end]) for start in starts for end in ends]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "prefix"])
def test_a_model_starts_unchanged(model, method):
    before = outputs(model)
    attach(model, method)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_only_what_the_method_adds_or_names(model, method):
    base = copy.deepcopy(model)
    module = attach(model, method)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    batches = [batch_of([9, 9], 9, VOCAB)] * 3
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    losses = [p.loss for p in train(model, batches, optimizer, epochs=4)]
    assert losses[-1] < losses[0]
    after = model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == own
    module.detach(model)
    assert_same_bits(base.state_dict(), model.state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_detach_gives_back_the_untouched_model(model, method):
    model.word_embedding.requires_grad_(False)
    before, expected = snapshot(model), outputs(model)
    module = attach(model, method)
    move(model)
    assert (outputs(model) - expected).abs().max() > 1e-2
    module.detach(model)
    after = snapshot(model)
    assert_same_bits(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.equal(outputs(model), expected)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load_only_the_methods_own_parameters(model, method, tmp_path):
    fresh = copy.deepcopy(model)
    module = attach(model, method)
    move(model)
    module.save(model, tmp_path)
    module.load(fresh, tmp_path)
    assert torch.equal(outputs(fresh), outputs(model))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert [p for p in fresh.parameters() if p.requires_grad]
    size = (tmp_path / "adapter_model.safetensors").stat().st_size
    numbers = sum(p.numel() for p in trained)
    assert 4 * numbers <= size <= 4 * numbers + 200 * (len(trained) + 2)
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize("method", METHODS)
def test_another_base_is_refused_and_stays_untouched(model, method, tmp_path):
    module = attach(model, method)
    module.save(model, tmp_path)
    other = small_model()
    before = snapshot(other)
    with pytest.raises(ValueError, match="made for another base; load the model"):
        module.load(other, tmp_path)
    config = tmp_path / "adapter_config.json"
    content = json.loads(config.read_text())
    del content["auto_mapping"]  # as peft's files: then the shapes must fit
    config.write_text(json.dumps(content))
    wider = small_model(hidden_size=24)
    with pytest.raises(ValueError, match="has shape"):
        module.load(wider, tmp_path)
    assert snapshot(other)[1:] == before[1:] and not hasattr(wider, "attached")
    config.write_text(json.dumps({"peft_type": content["peft_type"]}))
    if method not in ("ia3", "bitfit"):
        with pytest.raises(ValueError, match=r"has no \w+; save the adapter again"):
            module.load(other, tmp_path)
    content["peft_type"] = "OTHER"
    config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="peft_type is OTHER, but must be"):
        module.load(other, tmp_path)
    config.unlink()
    with pytest.raises(FileNotFoundError, match="give the folder of a saved adapter"):
        module.load(other, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_one_method_at_a_time(model, method):
    module = attach(model, method)
    other = "ia3" if method != "ia3" else "bitfit"
    with pytest.raises(ValueError, match=r"the model has .* attached as default; detach it"):
        attach(model, other)
    with pytest.raises(ValueError, match="attached as default; detach it"):
        attach(model, method)
    module.detach(model)
    for call in (module.detach, partial(module.save, folder="nowhere")):
        with pytest.raises(ValueError, match="no adapter attached; call attach"):
            call(model)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_what_is_attached(model, method):
    models = [model, copy.deepcopy(model)]
    for each in models:
        torch.manual_seed(5)
        attach(each, method)
    assert_same_bits(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_is_independent(model, method):
    module = attach(model, method)
    copied, expected = copy.deepcopy(model), outputs(model)
    move(copied)
    assert torch.equal(outputs(model), expected)
    different = outputs(copied)
    assert (different - expected).abs().max() > 1e-2
    module.detach(model)
    assert torch.equal(outputs(copied), different)
    module.detach(copied)
    assert torch.equal(outputs(copied), outputs(model))


@torch.no_grad()
@pytest.mark.parametrize(
    ("method", "implementation"), [*((method, "sdpa") for method in METHODS), ("prefix", "eager")]
)
def test_evaluation_generation_and_loss_are_the_plain_forward(method, implementation):
    shape = {"initializer_range": 0.3, "attn_implementation": implementation}
    model = small_model(**shape).eval()
    attach(model, method)
    move(model)
    tokens, log_probs = answer(model, prompts(), range(VOCAB))

    def logits_after(text):
        state = model(text[None])["last_hidden_state"][:, -1]
        return model.hidden_state_to_token(state)[0]

    for i, text in enumerate(prompts()):
        expected = logits_after(text).log_softmax(-1)
        torch.testing.assert_close(log_probs[i], expected, rtol=0, atol=1e-4)
        assert expected.max() - expected[tokens[i]] <= 2e-4
    for side in ("left", "right"):
        texts = prompts()[:3]
        ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_side=side)
        ones = [torch.ones_like(text) for text in texts]
        mask = nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)
        for settings in ({}, {"use_cache": False}):
            new = generate(model, ids, mask, max_new_tokens=14, eos=-1, **settings)
            for text, row in zip(texts, new, strict=True):
                for n, token in enumerate(row):
                    logits = logits_after(torch.cat([text, row[:n]]))
                    assert logits.max() - logits[token] < 1e-3
    ids, mask = batch_of([5, 9, 2], 9, VOCAB)
    labels = ids.masked_fill(mask == 0, IGNORED)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    logits = model.hidden_state_to_token(outputs(model))
    expected = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(next_token_loss(model, batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_by_autocast_and_by_weights(model, method):
    attach(model, method)
    move(model, 0.1)
    expected = outputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        ids, mask = batch_of([5, 9, 2], 9, VOCAB)
        next_token_loss(model, (ids, mask)).backward()
        rounded = outputs(model)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert ((rounded - expected).norm() / expected.norm()) < 0.1
    narrow = model.to(torch.bfloat16)
    assert outputs(narrow).dtype == torch.bfloat16
    generate(narrow, ids[:1], max_new_tokens=3)


@pytest.mark.parametrize("method", BY_NAME)
def test_adapters_are_switched_by_name(model, method):
    base = outputs(model)
    module = attach(model, method)
    move(model, seed=1)
    first = outputs(model)
    attach(model, method, name="second")
    move(model, seed=2)
    second = outputs(model)
    assert min((a - b).abs().max() for a, b in ((base, first), (first, second))) > 1e-2
    for name, expected in (("default", first), (None, base), ("second", second)):
        module.switch(model, name)
        assert torch.equal(outputs(model), expected)
        trained = [own for own, p in model.named_parameters() if p.requires_grad]
        assert bool(trained) == (name is not None)
        assert all(f".adapters.{name}." in own for own in trained)
    with pytest.raises(
        ValueError, match="no adapter is named 'third'; choose from default, second"
    ):
        module.switch(model, "third")


@pytest.mark.parametrize("method", BY_NAME)
def test_one_of_several_adapters_is_saved_and_loaded_by_name(model, method, tmp_path):
    fresh = copy.deepcopy(model)
    module = attach(model, method)
    attach(model, method, name="second")
    move(model)
    module.save(model, tmp_path, "second")
    attach(fresh, method)
    module.load(fresh, tmp_path, "other")
    assert torch.equal(outputs(fresh), outputs(model))
    with pytest.raises(ValueError, match="no adapter is named 'third'"):
        module.save(model, tmp_path, "third")


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("querry", "query"),
        ("gpt_layers.0.attention_desne", "gpt_layers.0.attention_dense"),
        ("attention_layer_norm", "attention_dense"),
        ("zzz", "query, key, value, attention_dense, interm_dense, out_dense"),
    ],
)
@pytest.mark.parametrize("method", BY_NAME)
def test_a_target_that_matches_nothing_is_refused_with_near_names(model, method, target, near):
    before = snapshot(model)
    with pytest.raises(ValueError, match=f"{target}' matches no linear layer; near .*{near}"):
        METHODS[method][0].attach(model, targets=(target,))
    assert snapshot(model)[1:] == before[1:]


def test_targets_are_full_names_or_their_ends(model):
    lora.attach(model, targets=["gpt_layers.1.out_dense", "self_attention.key"])
    wrapped = [n for n, m in model.named_modules() if isinstance(m, adapters.Wrapped)]
    assert wrapped == [
        "gpt_layers.0.self_attention.key",
        "gpt_layers.1.self_attention.key",
        "gpt_layers.1.out_dense",
    ]
    lora.attach(model, targets="query", name="second")
    assert len(wrapped) + 2 == sum(isinstance(m, adapters.Wrapped) for m in model.modules())
    with pytest.raises(ValueError, match="targets= is empty"):
        lora.attach(model, targets=(), name="third")
    with pytest.raises(ValueError, match=r"name='a\.b' must be a word"):
        lora.attach(model, name="a.b")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("lora", {"rank": 0}, "rank must be at least 1, got 0"),
        ("bottleneck", {"width": 0}, "width must be at least 1, got 0"),
        ("prefix", {"length": 0}, "length must be 1 to 47"),
        ("prefix", {"length": 48}, "length must be 1 to 47"),
        ("prefix", {"ids": torch.ones(60, dtype=torch.long)}, "length must be 1 to 47"),
        ("last_layers", {"layers": 0}, "layers must be 1 to 2, which this model has, got 0"),
        ("last_layers", {"layers": 3}, "layers must be 1 to 2, which this model has, got 3"),
    ],
)
def test_a_bad_size_is_refused_in_one_sentence(model, method, settings, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method][0].attach(model, **settings)
    assert not hasattr(model, "attached")


def test_bitfit_trains_every_bias_and_last_layers_the_last(model):
    attach(model, "bitfit")
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 8 + 1 and all(name.endswith("bias") for name in trained)
    METHODS["bitfit"][0].detach(model)
    METHODS["last_layers"][0].attach(model, 1)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 16 + 2
    assert all(name.startswith(("gpt_layers.1.", "final_layer_norm.")) for name in trained)


@pytest.mark.parametrize("method", METHODS)
def test_finetune_can_prepare_a_model_with_it(model, method):
    module, settings = METHODS[method]
    prepare, fresh = partial(module.attach, **settings), copy.deepcopy(model)
    assert f"{module.__name__}.attach" in describe(prepare)
    for each in (model, fresh):
        prepare(each)
    move(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    fresh.load_state_dict(trained, strict=False)
    assert torch.equal(outputs(fresh), outputs(model))


def test_a_bottleneck_follows_each_half_of_a_block_before_the_residual(model):
    attach(model, "bottleneck")
    move(model)
    block, x = model.gpt_layers[0], torch.randn(1, 3, 16)
    for dense, hidden in ((block.attention_dense, x), (block.out_dense, torch.randn(1, 3, 64))):
        adapter, y = dense.adapters["default"], dense.base_layer(hidden)
        expected = x + y + adapter.up(block.interm_af(adapter.down(y)))
        torch.testing.assert_close(block.add(x, hidden, dense, block.out_dropout), expected)
    others = (block.interm_dense, block.self_attention.query)
    assert all(type(layer) is nn.Linear for layer in others)
