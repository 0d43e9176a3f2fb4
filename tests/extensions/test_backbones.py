"""extensions.backbones: every family predicts and generates as transformers does directly."""

import json

import pytest
import torch
import transformers
from torch import nn

from extensions import lora
from extensions.backbones import load_backbone
from gpt2.evaluate import answer, predict
from gpt2.fertility import compute_fertility
from gpt2.generate import generate
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from gpt2.train import train
from gpt2.xnli import XNLIDataset
from optim import AdamW
from tests.extensions.families import BOS, CONFIGS, EOS, VOCABULARY, prompts, small_tokenizer
from tests.hugging_face import batch_of, reference_model

FAMILIES = pytest.mark.parametrize("backbone", CONFIGS, indirect=True)


# ---- As transformers computes it ---------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_states_and_logits_equal_those_of_each_text_alone(backbone, side):
    ours, _, theirs = backbone
    ids, mask = batch_of([24, 9, 17], 24, VOCABULARY, side)
    outputs = ours(ids, mask)
    logits = ours.hidden_state_to_token(outputs["last_hidden_state"])
    for row in range(len(ids)):
        real = mask[row].bool()
        expected = theirs(ids[row][real][None]).logits[0]
        torch.testing.assert_close(logits[row][real], expected, rtol=1e-4, atol=1e-4)
        last = ours.hidden_state_to_token(outputs["last_token"][row])
        torch.testing.assert_close(last, expected[-1], rtol=1e-4, atol=1e-4)
    states = theirs.get_decoder()(ids[:1]).last_hidden_state
    torch.testing.assert_close(ours(ids[:1])["last_hidden_state"], states)


@FAMILIES
@torch.no_grad()
def test_predictions_with_shared_premises_equal_those_one_by_one(backbone, recwarn):
    ours, _, theirs = backbone
    tokens, log_probs = answer(ours, prompts(), [5, 6, 7])
    logits = torch.cat([theirs(text[None]).logits[:, -1] for text in prompts()])
    assert len(logits.argmax(dim=-1).unique()) > 1
    assert torch.equal(tokens, logits.argmax(dim=-1))
    expected = logits.log_softmax(dim=-1)[:, [5, 6, 7]]
    torch.testing.assert_close(log_probs, expected, rtol=1e-4, atol=1e-4)
    assert not [w for w in recwarn if "as a whole" in str(w.message)]  # the cache was used


@FAMILIES
def test_greedy_text_equals_transformers_generate(backbone):
    ours, _, theirs = backbone
    ids, mask = batch_of([8, 5], 8, VOCABULARY, "left")
    ids[0, 0] = BOS  # no end-of-text, of which transformers would guess that it is a pad
    settings = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": EOS, "eos_token_id": EOS}
    expected = theirs.generate(ids, attention_mask=mask, **settings)[:, 8:]
    assert generate(ours, ids, mask, max_new_tokens=24).tolist() == expected.tolist()
    right, real = batch_of([8, 5], 8, VOCABULARY, "right")
    right[0, 0] = BOS
    right[1, :5] = ids[1, 3:]
    right[0] = ids[0]
    assert generate(ours, right, real, max_new_tokens=24).tolist() == expected.tolist()


@pytest.mark.parametrize("family", ["llama", "opt", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_sdpa_and_bfloat16_see_no_padding_either(family, dtype, folders):
    ours, _ = load_backbone(folders(family), attn_implementation="sdpa", dtype=dtype)
    ids, mask = batch_of([24, 9], 24, VOCABULARY, "left")
    state, alone = ours(ids, mask)["last_token"][1], ours(ids[1:, 15:])["last_token"][0]
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    assert state.isfinite().all() and (state - alone).norm() <= tolerance * alone.norm()


@FAMILIES
def test_the_configuration_says_what_the_project_reads(backbone):
    ours, tokenizer, _ = backbone
    assert (ours.config.vocab_size, ours.config.pad_token_id) == (
        VOCABULARY,
        tokenizer.pad_token_id,
    )
    assert ours.config.eos_token_id == tokenizer.eos_token_id == EOS
    assert ours.config.max_position_embeddings >= 128
    json.dumps(ours.config.to_dict())


# ---- Saved and loaded --------------------------------------------------------------------------


@FAMILIES
def test_a_saved_model_is_loaded_here_and_there_bit_for_bit(backbone, tmp_path):
    ours, tokenizer, theirs = backbone
    ours.save_pretrained(tmp_path, tokenizer)
    again, its_tokenizer = load_backbone(tmp_path)
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.to_dict() == ours.config.to_dict()
    assert its_tokenizer("the pair").input_ids == tokenizer("the pair").input_ids
    for name, tensor in ours.causal.state_dict().items():
        assert torch.equal(tensor, again.causal.state_dict()[name])
        assert torch.equal(tensor, there.state_dict()[name])
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_a_save_that_fails_leaves_the_old_files(folders, tmp_path, monkeypatch):
    ours, tokenizer = load_backbone(folders("llama"))
    ours.save_pretrained(tmp_path, tokenizer)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_, **__):
        raise OSError("disk full")

    with torch.no_grad():
        ours.causal.lm_head.weight.add_(1)
    monkeypatch.setattr(type(tokenizer), "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        ours.save_pretrained(tmp_path, tokenizer)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_gpt2_is_our_own_model(tmp_path):
    reference_model(vocab_size=VOCABULARY).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    model, tokenizer = load_backbone(tmp_path, attn_implementation="eager")
    assert type(model) is GPT2Model and model.config.attn_implementation == "eager"
    assert tokenizer.bos_token == "<s>"


# ---- Trained, adapted, evaluated ---------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    """Four pairs, each twice, as a train and a test set of a tokenizer."""
    pairs = [f"the pair {i}\tthe pair {j}" for i in range(2) for j in range(2)]
    labels = ["entailment", "neutral", "contradictory", "neutral"]
    lines = [f"{pair}\t{label}" for pair, label in zip(pairs, labels, strict=True)] * 2
    path = tmp_path / "train.en.tsv"
    path.write_text("\n".join(["premise\thypo\tlabel", *lines]) + "\n")

    def get(split, tokenizer):
        more = {"max_length": 128, "verbose": False, "tokenizer": tokenizer}
        return XNLIDataset(split, "en", *[str(path)] * 3, **more)

    return get


@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_it_learns_the_rows_it_is_trained_on(family, precision, adapted, folders, rows):
    torch.manual_seed(0)
    model, tokenizer = load_backbone(folders(family))
    if adapted:
        lora.attach(model, rank=8)
    data = rows("train", tokenizer)
    loader = torch.utils.data.DataLoader(data, batch_size=8, collate_fn=data.collate_fn)
    weights = [p for p in model.parameters() if p.requires_grad]
    history = train(model, loader, AdamW(weights, lr=3e-3), epochs=12, precision=precision)
    assert history[-1].loss < 0.8 * history[0].loss
    predictions = predict(model, tokenizer, rows("test", tokenizer), progress=False)
    assert predictions[["p(0)", "p(1)", "p(2)"]].sum(axis=1).between(0.01, 1).all()
    assert compute_fertility(data, tokenizer) > 1


@FAMILIES
def test_the_loss_equals_that_of_transformers_own_labels(backbone):
    ours, _, theirs = backbone
    ids, mask = batch_of([24, 24], 24, VOCABULARY)
    expected = theirs(ids, labels=ids).loss
    torch.testing.assert_close(next_token_loss(ours, (ids, mask)), expected)


@FAMILIES
def test_lora_is_on_every_linear_layer_of_the_blocks_alone(backbone, tmp_path):
    ours, tokenizer, _ = backbone
    ids = batch_of([9], 9, VOCABULARY)[0]
    before = ours(ids)["last_hidden_state"]
    linear = [n for n, m in ours.named_modules() if isinstance(m, nn.Linear)]
    lora.attach(ours, rank=2)
    chosen = set(ours.attached.configs["default"]["target_modules"])
    outside = [name for name in linear if name not in chosen]
    assert all(name.rpartition(".")[2] in ("lm_head", "embed_out", "project_in", "project_out")
               for name in outside)  # fmt: skip
    assert len(chosen) >= 4 * 3
    assert torch.equal(ours(ids)["last_hidden_state"], before)
    with pytest.raises(ValueError, match="detach what was attached"):
        ours.save_pretrained(tmp_path, tokenizer)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    moved = ours(ids)["last_hidden_state"]
    lora.save(ours, tmp_path)
    lora.detach(ours)
    assert torch.equal(ours(ids)["last_hidden_state"], before)
    lora.load(ours, tmp_path)
    assert torch.equal(ours(ids)["last_hidden_state"], moved) and not torch.equal(moved, before)
