"""Neurons: effect sizes, top examples, and LAPE, which finds planted neurons."""

import pytest
import torch
from scipy.stats import f_oneway

from extensions.interpret.capture import capture
from extensions.interpret.neurons import (
    active_shares,
    language_neurons,
    lape,
    separating_neurons,
    separation,
    top_examples,
)

PROMPTS = [
    torch.randint(100, (n,), generator=torch.Generator().manual_seed(n)) for n in range(1, 41)
]
LABELS = ["0", "1"] * 20


def last_neurons(model, layer):
    found = []
    for prompt in PROMPTS:
        with capture(model) as seen, torch.no_grad():
            model(prompt[None])
        found.append(seen.neurons[layer][0, -1])
    return torch.stack(found)


def test_separation_is_the_share_of_variance_between_labels(tiny_model, monkeypatch):
    monkeypatch.setattr("extensions.interpret.neurons.CHUNK", 23)  # streams
    found, means = separation(tiny_model, PROMPTS, LABELS)
    a = last_neurons(tiny_model, 1).numpy()
    F = f_oneway(a[::2], a[1::2]).statistic
    torch.testing.assert_close(found[1], torch.from_numpy(F / (F + 38)).float(), atol=1e-4, rtol=0)
    expected = torch.from_numpy(a[1::2].mean(axis=0))
    torch.testing.assert_close(means[1, 1], expected, atol=1e-5, rtol=0)


def test_a_planted_neuron_separates_and_is_confirmed_on_other_texts(tiny_model):
    labels = [str(int(prompt[-1] % 2)) for prompt in PROMPTS]
    read = []

    def plant(module, inputs, output):  # neuron 5 says whether the id is odd
        return output.index_copy(-1, torch.tensor([5]), (read[-1] % 2).float()[..., None])

    tiny_model.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    tiny_model.gpt_layers[0].interm_af.register_forward_hook(plant)
    table = separating_neurons(tiny_model, PROMPTS, labels, count=3)
    assert table.index[0] == (0, 5)
    assert table.iloc[0]["η² held out"] == pytest.approx(1, abs=1e-4)
    assert table.iloc[0][["mean 0", "mean 1"]].tolist() == [0, 1]


def test_noise_is_smaller_on_held_out_texts(tiny_model):
    table = separating_neurons(tiny_model, PROMPTS, LABELS, count=10)
    assert table["η² held out"].mean() < table["η² chosen by"].mean()


def test_top_examples_are_the_most_active_texts(tiny_model):
    a = last_neurons(tiny_model, 2)[:, 7]
    found = top_examples(tiny_model, PROMPTS, 2, 7, count=3)
    assert [row for _, row in found] == a.argsort(descending=True)[:3].tolist()
    with pytest.raises(ValueError, match="layer 2 has no neuron 96; it has 0 to 95"):
        top_examples(tiny_model, PROMPTS, 2, 96)


def test_active_shares_count_every_token_once(tiny_model):
    counts, tokens = 0, 0
    for prompt in PROMPTS:
        with capture(tiny_model) as seen, torch.no_grad():
            tiny_model(prompt[None])
        counts = counts + torch.stack([(part[0] > 0).sum(dim=0) for part in seen.neurons])
        tokens += len(prompt)
    torch.testing.assert_close(active_shares(tiny_model, PROMPTS), counts / tokens)


def test_lape_finds_planted_neurons():
    generator = torch.Generator().manual_seed(0)
    shares = 0.3 + 0.1 * torch.rand(3, 2, 50, generator=generator)
    shares[:, 0, :5] = torch.tensor([0.9, 0.01, 0.01])[:, None]  # of the first language
    shares[:, 1, 7] = torch.tensor([0.01, 0.8, 0.8])  # of the other two
    shares[:, 1, 9] = torch.tensor([0.002, 0.0, 0.0])  # hardly ever active: none's
    found = language_neurons(dict(zip("abc", shares, strict=True)), rate=0.06, active=0.9)
    found["a"][0].sort()
    assert found == {"a": {0: [0, 1, 2, 3, 4]}, "b": {1: [7]}, "c": {1: [7]}}
    assert lape(torch.ones(4, 1, 1)).item() == pytest.approx(torch.tensor(4.0).log().item())
    assert lape(torch.tensor([1.0, 0, 0]).view(3, 1, 1)).item() == 0
    with pytest.raises(ValueError, match=r"rate must be in \(0, 1\]"):
        language_neurons({"a": shares[0]}, rate=0)
