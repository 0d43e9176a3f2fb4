"""LoRA, rsLoRA and DoRA: the numbers and files of peft; merging."""

import copy
import json

import peft
import pytest
import torch
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file

from extensions import lora
from gpt2.evaluate import answer
from gpt2.loss import next_token_loss
from tests.extensions.methods import move
from tests.hugging_face import batch_of, small_model

VARIANTS = {
    "lora": ({"rank": 3, "alpha": 12}, {"r": 3, "lora_alpha": 12}),
    "rslora": (
        {"rank": 4, "alpha": 8, "rslora": True},
        {"r": 4, "lora_alpha": 8, "use_rslora": True},
    ),
    "dora": ({"rank": 2, "dora": True}, {"r": 2, "lora_alpha": 16, "use_dora": True}),
}
TARGETS = ["query", "value", "interm_dense", "out_dense"]
VOCAB = 50


def base():
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = small_model(initializer_range=0.3, **changes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    return model


def outputs(model):
    return model(*batch_of([5, 9, 2], 9, VOCAB))["last_hidden_state"]


def gradients(model) -> dict[str, torch.Tensor]:
    """The gradients of what is trained, by the names of a file."""
    next_token_loss(model, batch_of([5, 9, 2], 9, VOCAB)).backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return {name.replace(".adapters.default", ""): grad for name, grad in found.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_equal_pefts(variant, tmp_path):
    ours_settings, theirs_settings = VARIANTS[variant]
    ours = base()
    lora.attach(ours, targets=TARGETS, **ours_settings)
    move(ours)
    lora.save(ours, tmp_path)
    config = peft.LoraConfig(target_modules=TARGETS, **theirs_settings)
    theirs = peft.inject_adapter_in_model(config, base()).eval()
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights = {name.removeprefix("base_model.model."): t for name, t in weights.items()}
    assert not set_peft_model_state_dict(theirs, weights).unexpected_keys
    torch.testing.assert_close(outputs(ours), outputs(theirs), rtol=0, atol=1e-5)
    assert (outputs(ours) - outputs(base())).abs().max() > 0.1
    expected = {
        name.replace(".default", "").replace("vector.weight", "vector"): grad
        for name, grad in gradients(theirs).items()
    }
    found = gradients(ours)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_peft_loads_our_files(variant, tmp_path, recwarn):
    ours = base()
    lora.attach(ours, targets=TARGETS, **VARIANTS[variant][0])
    move(ours)
    lora.save(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(base(), tmp_path)
    assert not [w for w in recwarn if "adapter" in str(w.message) or "keyword" in str(w.message)]
    torch.testing.assert_close(outputs(theirs), outputs(ours), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("targets", [TARGETS, "all-linear", r".*\.1\..*(key|attention_dense)"])
def test_we_load_pefts_files(variant, targets, tmp_path):
    config = peft.LoraConfig(target_modules=targets, **VARIANTS[variant][1])
    theirs = peft.get_peft_model(base(), config).eval()
    move(theirs)
    theirs.save_pretrained(tmp_path)
    ours = base()
    lora.load(ours, tmp_path)
    torch.testing.assert_close(outputs(ours), outputs(theirs), rtol=0, atol=1e-5)
    again = base()
    lora.save(ours, tmp_path / "again")
    lora.load(again, tmp_path / "again")
    assert torch.equal(outputs(again), outputs(ours))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rank_pattern": {"query": 1}}, "rank_pattern"),
        ({"alpha_pattern": {"query": 1}}, "alpha_pattern"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"modules_to_save": ["out_dense"]}, "modules_to_save"),
    ],
)
def test_a_variant_of_pefts_that_is_not_computed_is_refused(settings, key, tmp_path):
    config = peft.LoraConfig(r=2, target_modules=["query", "key"], **settings)
    peft.get_peft_model(base(), config).save_pretrained(tmp_path)
    ours = base()
    with pytest.raises(ValueError, match=f"{key}=.* is not computed here; load it with peft"):
        lora.load(ours, tmp_path)
    assert not hasattr(ours, "attached")


def test_a_file_without_a_lora_is_refused(tmp_path):
    ours = base()
    lora.attach(ours)
    lora.save(ours, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        lora.load(base(), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        lora.load(base(), tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_merging_changes_no_output_and_does_not_drift(variant):
    model = small_model().eval()  # weights of GPT-2's own scale
    lora.attach(model, **VARIANTS[variant][0])
    move(model, 0.02)
    before, state = outputs(model), copy.deepcopy(model.state_dict())
    lora.merge(model)
    merged = outputs(model)
    assert 0 < (merged - before).abs().max() <= 1e-6
    for _ in range(100):
        lora.unmerge(model)
        lora.merge(model)
    assert torch.equal(outputs(model), merged)
    lora.unmerge(model)
    assert torch.equal(outputs(model), before)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_merging_changes_large_weights_by_rounding_alone(variant):
    model = base().double()
    lora.attach(model, **VARIANTS[variant][0])
    move(model)
    before = outputs(model)
    lora.merge(model)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=1e-12)


def test_merging_twice_is_refused():
    model = base()
    with pytest.raises(ValueError, match="no LoRA is active; call attach"):
        lora.merge(model)
    lora.attach(model)
    with pytest.raises(ValueError, match="not merged; call merge"):
        lora.unmerge(model)
    lora.merge(model)
    with pytest.raises(ValueError, match="merged already; call unmerge"):
        lora.merge(model)


def test_a_merged_adapter_is_saved_switched_and_detached_as_any(tmp_path):
    model = base()
    lora.attach(model)
    move(model)
    factors = outputs(model)
    lora.merge(model)
    merged = outputs(model)
    lora.save(model, tmp_path)
    loaded = base()
    lora.load(loaded, tmp_path)
    assert torch.equal(outputs(loaded), factors)
    lora.switch(model, None)
    assert torch.equal(outputs(model), outputs(base()))
    lora.attach(model, rank=2, name="second")
    lora.merge(model)
    lora.switch(model, "default")
    assert torch.equal(outputs(model), merged)
    lora.detach(model)
    assert torch.equal(outputs(model), outputs(base()))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), base().parameters(), strict=True)
    )


def test_dropout_acts_in_training_only():
    model = base()
    lora.attach(model, dropout=0.5)
    move(model)
    assert torch.equal(outputs(model), outputs(model))
    model.train()
    assert not torch.equal(outputs(model), outputs(model))


def test_a_merged_model_is_evaluated_with_the_fast_kernels():
    model = base()
    lora.attach(model)
    move(model)
    prompts = [torch.arange(1, n) for n in range(5, 30)]
    before = answer(model, prompts, range(VOCAB))[1]
    lora.merge(model)
    torch.testing.assert_close(answer(model, prompts, range(VOCAB))[1], before, rtol=0, atol=1e-4)


def test_the_configuration_has_pefts_keys_and_the_fingerprint(tmp_path):
    model = base()
    lora.attach(model, rank=2, targets="query", rslora=True)
    lora.save(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["auto_mapping"].pop("base_fingerprint") == model.attached.base
    assert (config["r"], config["use_rslora"]) == (2, True)
    assert config["target_modules"][0] == "gpt_layers.0.self_attention.query"
    assert config.keys() <= vars(peft.LoraConfig()).keys()
