"""Capture sees what the model computes, changes no bit, and leaves nothing behind."""

import pytest
import torch
from torch import nn

from config import GPT2Config
from extensions.interpret.capture import capture, last_positions, of_each
from extensions.interpret.checks import check_model, check_place, encode
from gpt2.cache import KeyValueCache
from gpt2.evaluate import answer, predict
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset
from tests import SAMPLE
from tests.conftest import TINY

IDS = torch.arange(60).view(3, 20) % 100
LEFT = torch.ones_like(IDS).index_fill(1, torch.arange(4), 0)  # pads on the left


def hooks_of(model) -> int:
    """How many hooks there are in all modules."""
    return sum(
        len(hooks)
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
    )


def tiny(**settings) -> GPT2Model:
    torch.manual_seed(0)
    return GPT2Model(GPT2Config(**TINY, initializer_range=0.2, **settings)).eval()


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("mask", [None, LEFT])
def test_it_changes_no_output_bit(attn_implementation, mask):
    model = tiny(attn_implementation=attn_implementation)
    expected = model(IDS, mask)["last_hidden_state"]
    with capture(model):
        found = model(IDS, mask)["last_hidden_state"]
    assert torch.equal(found, expected)
    assert torch.equal(model(IDS, mask)["last_hidden_state"], expected)


def test_it_changes_no_bit_of_a_cached_call_and_of_gradients(tiny_model):
    def run() -> list[torch.Tensor]:
        tiny_model.zero_grad()
        tiny_model(IDS)["last_token"].sum().backward()
        cache = KeyValueCache()
        tiny_model(IDS[:, :12], None, cache)
        rest = tiny_model(IDS[:, 12:], None, cache)["last_hidden_state"]
        return [rest, *(p.grad.clone() for p in tiny_model.parameters() if p.grad is not None)]

    expected = run()
    with capture(tiny_model):
        found = run()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_parts_are_those_of_the_model(tiny_model):
    with capture(tiny_model) as seen:
        output = tiny_model(IDS)
    assert len(seen.states) == 4 and len(seen.weights) == len(seen.neurons) == 3
    assert torch.equal(seen.states[0], tiny_model.embed(IDS))
    assert torch.equal(tiny_model.final_layer_norm(seen.states[-1]), output["last_hidden_state"])
    assert seen.last.tolist() == [19, 19, 19]
    for i, layer in enumerate(tiny_model.gpt_layers):
        x = layer.attention_layer_norm(seen.states[i])
        value = layer.self_attention.transform(x, layer.self_attention.value)
        context = (seen.weights[i] @ value).transpose(1, 2).flatten(2)
        torch.testing.assert_close(context, seen.contexts[i], rtol=0, atol=1e-5)
        middle = seen.states[i] + layer.attention_dense(seen.contexts[i])
        written = middle + layer.out_dense(seen.neurons[i])
        torch.testing.assert_close(written, seen.states[i + 1], rtol=0, atol=1e-5)


def test_eager_and_sdpa_give_the_same_numbers():
    captured = []
    for name in ("eager", "sdpa"):
        model = tiny(attn_implementation=name)
        with capture(model) as seen, torch.no_grad():
            model(IDS, LEFT)
        captured.append(seen)
    for part in ("states", "weights", "contexts", "neurons"):
        for a, b in zip(*(getattr(seen, part) for seen in captured), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_with_a_cache_the_weights_are_those_of_the_whole_text(tiny_model):
    with capture(tiny_model) as whole:
        tiny_model(IDS)
    cache = KeyValueCache()
    with capture(tiny_model) as rest:
        tiny_model(IDS[:, :12], None, cache)
        tiny_model(IDS[:, 12:], None, cache)
    for a, b in zip(rest.weights, whole.weights, strict=True):
        torch.testing.assert_close(a, b[:, :, 12:], rtol=0, atol=1e-5)


def test_no_hook_is_left_after_an_exception(tiny_model):
    def fail(row, seen):
        raise KeyError(row)

    with pytest.raises(KeyError), capture(tiny_model):
        assert hooks_of(tiny_model) > 0
        raise KeyError
    with pytest.raises(KeyError):
        of_each(tiny_model.train(), list(IDS), fail)
    assert tiny_model.training  # as before
    with pytest.raises(ValueError, match="outside the vocabulary"), capture(tiny_model):
        tiny_model(IDS + 100)
    assert hooks_of(tiny_model) == 0
    assert not any("forward" in vars(module) for module in tiny_model.modules())


def test_no_pad_is_visible_and_batches_are_bounded(tiny_model, monkeypatch):
    monkeypatch.setattr("extensions.interpret.capture.TOKEN_BUDGET", 64)
    prompts = [IDS[i % 3, : 1 + (7 * i) % 20] for i in range(20)]
    sizes = []
    with tiny_model.register_forward_pre_hook(lambda m, inputs: sizes.append(inputs[0].numel())):
        together = of_each(tiny_model, prompts, lambda row, seen: (row, seen))
    assert max(sizes) <= 64 and len(sizes) < 20
    for row, (number, seen) in enumerate(together):
        assert number == row
        ((_, alone),) = of_each(tiny_model, [prompts[row]], lambda row, seen: (row, seen))
        for part in ("states", "weights", "contexts", "neurons"):
            for a, b in zip(getattr(seen, part), getattr(alone, part), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_activations_during_evaluation_equal_those_of_one_by_one_passes(tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    model = GPT2Model(config).eval()
    rows = XNLIDataset.in_folder(SAMPLE, "dev", tokenizer=tokenizer, subset=24.0, verbose=False)
    prompts = [row["input_ids"] for row in rows]
    prompts += [prompt[:-3] for prompt in prompts[:4]]  # what they have in common is read once
    alone = []
    for prompt in prompts:
        with capture(model) as seen, torch.no_grad():
            model(prompt[None])
        alone.append(torch.stack([part[0, -1] for part in seen.neurons]))
    found = last_positions(model, prompts, lambda seen: torch.stack(seen.neurons, dim=2))
    torch.testing.assert_close(found, torch.stack(alone), rtol=0, atol=1e-5)

    plain = predict(model, tokenizer, rows, progress=False)
    reads = []  # what an evaluation computes, seen while it runs
    with (
        capture(model) as seen,
        model.register_forward_hook(
            lambda *call: reads.append(
                torch.stack([n[torch.arange(len(n)), seen.last] for n in seen.neurons], dim=1)
            )
        ),
    ):
        watched = predict(model, tokenizer, rows, progress=False)
    assert watched.equals(plain)
    during = torch.cat(reads)
    for one in alone[:24]:
        assert (during - one).abs().amax(dim=(1, 2)).min() < 1e-5


def test_an_ended_evaluation_leaves_the_model_as_it_was(tiny_model):
    before = answer(tiny_model, list(IDS), [1, 2])[1]
    last_positions(tiny_model, list(IDS), lambda seen: seen.states[-1])
    assert torch.equal(answer(tiny_model, list(IDS), [1, 2])[1], before)
    assert hooks_of(tiny_model) == 0


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda m, t: check_place(m, 3), "there is no layer 3; the model has 0 to 2"),
        (lambda m, t: check_place(m, -1), "there is no layer -1; the model has 0 to 2"),
        (lambda m, t: check_place(m, 1, head=3), "layer 1 has no head 3; it has 0 to 2"),
        (lambda m, t: check_place(m, 0, neuron=96), "layer 0 has no neuron 96; it has 0 to 95"),
        (lambda m, t: encode(m, t, ""), "text is empty; give at least one character"),
        (lambda m, t: encode(m, t, "a b " * 25_000), r"text has \d+,\d+ tokens, but the model rea"),
        (lambda m, t: check_model(nn.Linear(2, 2)), "Linear has no word_embedding, so it is not G"),
        (lambda m, t: of_each(m, [], print), "prompts is empty; give at least one text"),
        (lambda m, t: last_positions(m, [IDS[0], IDS[0, :0]], print), "prompt 1 has no token"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(action, message, tiny_model, tokenizer):
    with pytest.raises(ValueError, match=message):
        action(tiny_model, tokenizer)


def test_a_model_with_other_blocks_is_refused(tiny_model):
    tiny_model.gpt_layers[1] = nn.Identity()
    with pytest.raises(ValueError, match="GPT2Model has no self_attention, so it is not GPT-2-sh"):
        of_each(tiny_model, list(IDS), print)
    tiny_model.gpt_layers = nn.ModuleList()
    with pytest.raises(ValueError, match="GPT2Model has no layer"), capture(tiny_model):
        pass
