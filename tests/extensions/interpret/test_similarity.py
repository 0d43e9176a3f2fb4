"""CKA and retrieval: 1 for what is the same up to a rotation, low for shuffled pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extensions.interpret.similarity import alignment, linear_cka, retrieval


def matrix(seed, n=200, d=8):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 99), st.floats(0.1, 10), st.floats(-5, 5))
def test_cka_of_a_rotation_is_1_and_of_shuffled_pairs_is_low(seed, scale, shift):
    x = matrix(seed)
    rotation, _ = torch.linalg.qr(matrix(seed + 100, 8, 8))
    y = scale * x @ rotation + shift
    assert linear_cka(x, y) == pytest.approx(1, abs=1e-5)
    assert linear_cka(x, y.roll(1, dims=0)) < 0.3
    assert linear_cka(x, matrix(seed + 200)) < 0.3
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))


def test_cka_agrees_with_its_definition_by_grams():
    x, y = matrix(0, 30), matrix(1, 30) + matrix(0, 30)
    centre = torch.eye(30) - 1 / 30
    k, m = (centre @ each @ each.T @ centre for each in (x, y))
    expected = (k * m).sum() / (k.norm() * m.norm())
    assert linear_cka(x, y) == pytest.approx(expected.item(), abs=1e-4)


def test_retrieval_finds_noisy_translations_and_not_shuffled_ones():
    x = matrix(0, d=32)
    y = x + 0.3 * matrix(1, d=32) + 7  # another language, somewhere else
    assert retrieval(x, y) > 0.95
    assert retrieval(x, y.roll(1, dims=0)) == 0
    assert retrieval(x, matrix(2, d=32)) < 0.05


def test_the_table_has_a_row_for_every_language_and_state():
    states = {"en": matrix(0, 60, 16).unflatten(1, (2, 8))}
    states |= {"de": states["en"] + 0.1, "xx": matrix(1, 60, 16).unflatten(1, (2, 8))}
    table = alignment(states).set_index(["language", "state"])
    assert table.index.tolist() == [("de", 0), ("de", 1), ("xx", 0), ("xx", 1)]
    assert (table.loc["de", "CKA"] > 0.999).all() and (table.loc["de", "retrieval"] == 1).all()
    assert (table["CKA shuffled"] < 0.5).all() and (table["retrieval shuffled"] < 0.2).all()
    with pytest.raises(ValueError, match="states has no 'fr' to compare with; it has en, de, xx"):
        alignment(states, pivot="fr")
    with pytest.raises(ValueError, match="at least 3 rows that are pairs, got 60 and 2"):
        linear_cka(states["en"][:, 0], states["de"][:2, 0])
