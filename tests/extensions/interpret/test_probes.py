"""Probes: chance for random labels, language at the embedding, control tasks."""

import numpy as np
import pytest
import torch

from data.miniature.files import sentences
from data.miniature.pairs import make_pairs
from experiments.statistics import wilson_interval
from extensions.interpret.probes import (
    Task,
    control_targets,
    last_states,
    mean_states,
    probe,
    probe_table,
    word_overlap,
)
from gpt2 import GPT2Config, GPT2Model
from gpt2.tokenizer import encode_texts

LANGUAGES = ("en", "de", "es", "sw")
GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def spoken(tokenizer):
    """The same sentences in four languages, and a model that has learned nothing."""
    torch.manual_seed(0)
    config = GPT2Config(hidden_size=48, num_hidden_layers=1, num_attention_heads=4)
    model = GPT2Model(config).eval()
    pairs = make_pairs("dev")[::3]
    texts = [sentences(pair, code)[0] for code in LANGUAGES for pair in pairs]
    states = mean_states(model, [torch.tensor(i) for i in encode_texts(tokenizer, texts)])
    return states, [code for code in LANGUAGES for _ in pairs], list(range(len(pairs))) * 4


@pytest.mark.parametrize("state", [0, 1])
def test_random_labels_stay_at_chance(spoken, state):
    states, _, groups = spoken
    right = total = 0
    for seed in range(6):
        labels = np.random.default_rng(seed).integers(3, size=len(states))
        found, n = probe(states[:, state], labels, groups, seed)
        right, total = right + found, total + n
    low, high = wilson_interval(right, total)
    assert low < 1 / 3 < high and high - low < 0.06


def test_language_is_found_at_the_embedding_layer(spoken):
    states, codes, groups = spoken
    right, n = probe(states[:, 0], codes, groups)
    assert right / n > 0.95


def test_what_the_states_hold_is_found_and_selective():
    x = torch.randn(600, 2, 20, generator=GENERATOR)
    y = (x[:, 1, 3] > 0).int().tolist()  # only in the second state
    types = torch.randint(200, (600,), generator=GENERATOR).tolist()
    table = probe_table(x, {"sign": Task(y, types)}, range(600)).set_index("state")
    assert table.loc[1, "accuracy"] > 0.9 > 0.7 > table.loc[0, "accuracy"]
    assert table.loc[1, "selectivity"] > 0.25 > abs(table.loc[0, "selectivity"])
    assert (table["low"] < table["accuracy"]).all()


def test_a_probe_that_knows_the_type_solves_the_control_task():
    types = [f"name {i % 5}" for i in range(300)]
    control = control_targets(types, ["a", "b", "c"] * 100)
    assert all(len({c for t, c in zip(types, control, strict=True) if t == u}) == 1 for u in types)
    assert control == control_targets(types, ["a", "b", "c"] * 100)  # the seed decides
    x = torch.nn.functional.one_hot(torch.arange(300) % 5).float()
    if len(set(control)) > 1:
        right, n = probe(x, control, range(300))
        assert right == n


def test_groups_are_never_split():
    """A state that names its group and nothing else is useless on other groups."""
    groups = [i // 3 for i in range(300)]
    x = torch.nn.functional.one_hot(torch.tensor(groups)).float()
    labels = torch.randint(2, (100,), generator=GENERATOR)[groups].tolist()
    right, n = probe(x, labels, groups)
    assert 0.3 < right / n < 0.7 and n == 150


def test_last_states_are_those_of_the_last_token(tiny_model):
    prompts = [torch.arange(3), torch.arange(8)]
    found = last_states(tiny_model, prompts)
    assert found.shape == (2, 4, 24)
    for state, prompt in zip(found, prompts, strict=True):
        expected = tiny_model(prompt[None])["last_token"][0]
        found_here = tiny_model.final_layer_norm(state[-1])
        torch.testing.assert_close(found_here, expected, rtol=0, atol=1e-4)


def test_word_overlap_ignores_case_and_marks():
    assert word_overlap(["Anna is here. Leo sings."], ["Is Leo here?"]) == [1.0]
    assert word_overlap(["Anna is here.", "x"], ["Anna sleeps.", ""]) == [0.5, 0.0]


def test_of_one_class_alone_a_probe_says_that_class():
    assert probe(torch.randn(20, 4), ["x"] * 20, range(20)) == (10, 10)
