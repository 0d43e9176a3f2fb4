"""The logit lens ends in the model's own answer, and finds where it appears."""

import pytest
import torch

from extensions.interpret.lens import appearance, appears_in, label_lens, lens_table
from gpt2.evaluate import answer
from tests.conftest import TINY

IDS = [torch.arange(5, 5 + n) for n in (4, 9, 17, 9)]


def test_the_last_state_is_the_models_answer_the_first_the_embedding(tiny_model):
    lens = label_lens(tiny_model, IDS, [1, 2, 3])
    assert lens.shape == (4, 1 + TINY["num_hidden_layers"], 3)
    torch.testing.assert_close(
        lens[:, -1], answer(tiny_model, IDS, [1, 2, 3])[1], rtol=0, atol=1e-4
    )
    state = tiny_model.final_layer_norm(tiny_model.embed(IDS[2][None])[0, -1])
    by_hand = tiny_model.hidden_state_to_token(state).log_softmax(-1)[[1, 2, 3]]
    torch.testing.assert_close(lens[2, 0], by_hand, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("best", "state"),
    [([0, 0, 0], 0), ([1, 0, 0], 1), ([1, 2, 0], 2), ([0, 1, 0], 2), ([2, 2, 2], 0)],
)
def test_the_answer_appears_where_it_stays(best, state):
    lens = torch.nn.functional.one_hot(torch.tensor([best]), 3).float()
    assert appears_in(lens).tolist() == [state]


def test_the_interval_is_around_the_mean():
    lens = torch.nn.functional.one_hot(torch.tensor([[0, 0, 0], [1, 1, 0]] * 30), 3).float()
    mean, low, high = appearance(lens)
    assert mean == 1 and 0.7 < low < 1 < high < 1.3
    assert appearance(lens[::2]) == (0, 0, 0)


def test_the_table_has_accuracy_and_agreement_by_state():
    best = torch.tensor([[0, 1, 1], [2, 2, 2], [0, 0, 2]])
    lens = torch.nn.functional.one_hot(best, 3).float().mul(5).log_softmax(-1)
    table = lens_table(lens, ["1", "2", "0"])
    assert table["accuracy"].round(3).tolist() == [0.667, 1.0, 0.667]
    assert table["as in the end"].round(3).tolist() == [0.333, 0.667, 1.0]
    assert (table["low"] <= table["accuracy"]).all() and (table["high"] >= table["accuracy"]).all()
    torch.testing.assert_close(table["P(any label)"].tolist(), [1.0] * 3, rtol=0, atol=1e-5)
