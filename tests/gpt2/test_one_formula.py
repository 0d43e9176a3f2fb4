"""Your model is the model that is measured: whoever edits it gets exactly that model everywhere.

Each edit is made to a plain model; then evaluation, generation and the loss must be those of the
edited model's own forward, and hooks must see (B, T, hidden).
"""

import copy
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune

from config import GPT2Config
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.layer import GPT2Layer
from gpt2.loss import IGNORED, next_token_loss
from gpt2.model import GPT2Model
from gpt2.train import train
from optim import AdamW
from utils import processor

VOCAB = 83


def make_model(cls=GPT2Model, **changes) -> GPT2Model:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=48, initializer_range=0.3, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=0, **changes,
    )  # fmt: skip
    return cls(config).eval()


def prompts() -> list[torch.Tensor]:
    """Threes with a common beginning, of several lengths."""
    generator = torch.Generator().manual_seed(1)

    def draw(n):
        return torch.randint(1, VOCAB, (n,), generator=generator)

    beginnings = [draw(n) for n in (5, 9, 12, 3)]
    return [torch.cat([start, draw(n)]) for start in beginnings for n in (2, 4, 7)]


# ---- The edits ---------------------------------------------------------------------------------


def attention_only(self, hidden_states, attention_mask, cache=None):
    """A block without its feed-forward half."""
    context = self.self_attention(self.attention_layer_norm(hidden_states), attention_mask, cache)
    return self.add(hidden_states, context, self.attention_dense, self.attention_dropout)


def identity(self, hidden_states, attention_mask):
    """A block that does nothing, as a student's first try, and knows of no cache."""
    return hidden_states


def bidirectional(self, key, query, value, attention_mask):
    """An attention that sees what follows: the mistake of a missing causal mask."""
    weights = (query @ key.transpose(-1, -2) / query.size(-1) ** 0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


class Subclass(GPT2Model):
    def encode(self, hidden_states, attention_mask, cache=None):
        return super().encode(hidden_states.flip(-1), attention_mask, cache)


def patched_class(monkeypatch):
    monkeypatch.setattr(GPT2Layer, "forward", attention_only)
    return make_model()


def patched_class_without_cache(monkeypatch):
    monkeypatch.setattr(GPT2Layer, "forward", identity)
    return make_model()


def patched_instance(monkeypatch):
    model = make_model()
    model.gpt_layers[1].forward = types.MethodType(attention_only, model.gpt_layers[1])
    return model


def missing_causal_mask(monkeypatch):
    model = make_model()
    for layer in model.gpt_layers:
        attention = layer.self_attention
        attention.attention = types.MethodType(bidirectional, attention)
    return model


def subclass(monkeypatch):
    return make_model(Subclass)


def patched_encode(monkeypatch):
    model = make_model()
    encode = model.encode
    model.encode = lambda hidden, mask, cache=None: encode(hidden.flip(-1), mask, cache)
    return model


def patched_projection(monkeypatch):
    model = make_model()
    project = model.hidden_state_to_token
    model.hidden_state_to_token = lambda hidden: project(hidden.flip(-1))
    return model


def hook(monkeypatch):
    model = make_model()
    for layer in model.gpt_layers:
        layer.interm_af.register_forward_hook(lambda _, inputs, output: output.flip(-1))
    return model


def hook_on_linear(monkeypatch):
    model = make_model()
    model.gpt_layers[0].out_dense.register_forward_hook(lambda _, inputs, output: output * 0.5)
    model.gpt_layers[1].interm_dense.register_forward_pre_hook(lambda _, inputs: (-inputs[0],))
    return model


def pruned(monkeypatch):
    model = make_model()
    prune.l1_unstructured(model.gpt_layers[0].interm_dense, "weight", amount=0.7)
    prune.random_structured(model.gpt_layers[2].out_dense, "weight", amount=0.5, dim=0)
    return model


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def parametrized(monkeypatch):
    model = make_model()
    parametrize.register_parametrization(model.gpt_layers[1].out_dense, "weight", Doubled())
    parametrize.register_parametrization(model.word_embedding, "weight", Doubled())
    return model


def quantized(monkeypatch):
    torchao = pytest.importorskip("torchao.quantization")
    model = make_model()
    torchao.quantize_(model, torchao.Int8DynamicActivationInt8WeightConfig())
    return model


def lora(monkeypatch):
    peft = pytest.importorskip("peft")
    model = make_model()
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    return peft.inject_adapter_in_model(config, model).eval()


def removed_layer(monkeypatch):
    model = make_model()
    del model.gpt_layers[1]
    return model


def eager(monkeypatch):
    return make_model(attn_implementation="eager")


EDITS = [
    patched_class, patched_class_without_cache, patched_instance, missing_causal_mask, subclass,
    patched_encode, patched_projection, hook, hook_on_linear, pruned, parametrized, quantized,
    lora, removed_layer, eager,
]  # fmt: skip
SAME = (eager,)  # edits that change no number
UNTRAINABLE = (quantized,)


@pytest.fixture(params=EDITS, ids=lambda edit: edit.__name__)
def edited(request, monkeypatch):
    """An edited model; the edit changes what the model computes, or the test would show nothing."""
    ids = prompts()[3][None]
    before = make_model()(ids)["last_token"]
    before = make_model().hidden_state_to_token(before).detach()
    model = request.param(monkeypatch)
    after = model.hidden_state_to_token(model(ids)["last_token"]).detach()
    if request.param not in SAME:
        assert (after - before).abs().max() > 1e-3
    model.trainable = request.param not in UNTRAINABLE
    model.sees_pads = request.param is missing_causal_mask
    model.rounding = 1e-4
    if request.param is quantized:  # where a last bit differs by the batch's shape, a step of int8
        model.rounding = 2e-3 if "avx512" in processor() else 5e-2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the model's forward")
        yield model


# ---- What must hold ----------------------------------------------------------------------------


@torch.no_grad()
def test_evaluation_is_the_plain_forward_prompt_by_prompt(edited):
    texts = prompts()
    tokens, log_probs = answer(edited, texts, range(VOCAB))
    for i, text in enumerate(texts):
        state = edited(text[None])["last_hidden_state"][:, -1]
        expected = edited.hidden_state_to_token(state)[0].log_softmax(-1)
        torch.testing.assert_close(log_probs[i], expected, rtol=0, atol=edited.rounding)
        assert expected.max() - expected[tokens[i]] <= 2 * edited.rounding


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right", "alone"])
def test_generation_is_the_plain_loop(edited, side):
    """Past the number of tokens after which weights are packed."""
    if edited.sees_pads and side != "alone":
        pytest.skip("this model's own answer depends on pads")
    texts = prompts()[3:5] if side != "alone" else prompts()[4:5]
    texts = [text[:9] for text in texts]
    texts[0] = texts[0][:7] if side != "alone" else texts[0]
    ids = nn.utils.rnn.pad_sequence(
        texts, batch_first=True, padding_side=side.replace("alone", "left")
    )
    real = [torch.ones(len(text), dtype=torch.long) for text in texts]
    mask = nn.utils.rnn.pad_sequence(
        real, batch_first=True, padding_side=side.replace("alone", "left")
    )
    new = generate(edited, ids, mask, max_new_tokens=20, eos=-1)
    for text, got in zip(texts, new, strict=True):
        for n, token in enumerate(got):
            state = edited(torch.cat([text, got[:n]])[None])["last_hidden_state"][:, -1]
            logits = edited.hidden_state_to_token(state)[0]
            assert logits.max() - logits[token] < 1e-2


def test_the_loss_is_that_of_the_models_own_logits(edited):
    ids = nn.utils.rnn.pad_sequence(prompts(), batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(p) for p in prompts()], batch_first=True)
    labels = ids.masked_fill((mask == 0) | (torch.arange(ids.size(1)) % 3 == 0), IGNORED)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    logits = edited.hidden_state_to_token(edited(ids, mask)["last_hidden_state"])
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(next_token_loss(edited, batch), expected, rtol=1e-4, atol=1e-4)
    if not edited.trainable:
        return
    losses = []  # of the training loop, before its first step
    frozen = copy.copy(batch)
    history = train(
        edited,
        [frozen],
        AdamW(edited.parameters(), lr=0.0),
        callbacks=[lambda p: losses.append(p.loss)],
    )
    assert history[0].loss == pytest.approx(expected.item(), rel=1e-4)


@torch.no_grad()
def test_hooks_see_batches_of_positions(edited):
    shapes = []
    handle = edited.gpt_layers[0].register_forward_hook(
        lambda module, inputs, output: shapes.append((inputs[0].shape, output.shape))
    )
    answer(edited, prompts(), [])
    generate(edited, prompts()[0][None], max_new_tokens=3, eos=-1)
    handle.remove()
    assert shapes
    for before, after in shapes:
        assert before == after and len(before) == 3 and before[-1] == 32


@torch.no_grad()
def test_nothing_is_left_on_the_model(edited):
    state = {name: vars(module).copy() for name, module in edited.named_modules()}
    answer(edited, prompts(), [])
    generate(edited, prompts()[0][None], max_new_tokens=20, eos=-1)
    for name, module in edited.named_modules():
        assert vars(module).keys() == state[name].keys(), name
    copied = copy.deepcopy(edited) if edited.trainable else edited
    assert "forward" not in vars(copied.gpt_layers[0].self_attention.key)


def test_gpt2_fast_0_changes_no_result_beyond_rounding(monkeypatch):
    found = []
    for fast in ("1", "0"):
        monkeypatch.setenv("GPT2_FAST", fast)
        model = make_model()
        tokens, log_probs = answer(model, prompts(), range(VOCAB))
        text = generate(model, prompts()[0][None], max_new_tokens=25, eos=-1)
        batches = [(p[None], torch.ones_like(p)[None]) for p in prompts()]
        losses = [p.loss for p in train(model, batches, AdamW(model.parameters(), lr=1e-3))]
        found.append([tokens, log_probs, text, torch.tensor(losses)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
