"""Which rows make a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.samplers import BatchesByLength, ShuffledRows

lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=50)


@given(st.integers(0, 100), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_is_every_row_once_in_an_order_of_its_own(count, seed, epoch):
    first, again = ShuffledRows(count, seed), ShuffledRows(count, seed)
    first.set_epoch(epoch)
    list(again)  # an earlier epoch leaves no trace
    again.set_epoch(epoch)
    assert list(first) == list(again) and sorted(first) == list(range(count))


def test_seeds_and_epochs_differ():
    orders = set()
    for seed in range(3):
        rows = ShuffledRows(50, seed)
        for epoch in range(3):
            rows.set_epoch(epoch)
            orders.add(tuple(rows))
    assert len(orders) == 9


@given(lengths_of_rows, st.integers(1, 200), st.integers(0, 3))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget, epoch):
    batches = BatchesByLength(lengths, budget, seed=1)
    batches.sampler.set_epoch(epoch)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert sorted(row for batch in drawn for row in batch) == list(range(len(lengths)))
    for batch in drawn:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_by_length_have_at_most_batch_size_rows(batch_size):
    lengths = np.random.default_rng(0).integers(5, 20, size=300)
    sizes = [len(batch) for batch in BatchesByLength(lengths, 400, batch_size=batch_size)]
    assert sum(sizes) == 300 and max(sizes) == min(batch_size, 57)


def test_batches_by_length_waste_far_less_than_random_ones():
    lengths = np.random.default_rng(0).integers(5, 100, size=2000)
    batches = BatchesByLength(lengths, token_budget=1000)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    by_chance = sum(len(rows) * lengths[rows].max() for rows in np.split(np.arange(2000), 125))
    assert padded < 1.05 * lengths.sum() < by_chance / 1.5


def test_batches_change_with_the_epoch_and_are_not_sorted():
    batches = BatchesByLength([1 + i % 7 for i in range(140)], 40)
    first = list(batches)
    batches.sampler.set_epoch(1)
    assert sorted(map(sorted, first)) != sorted(map(sorted, batches))
    widths = [len(batch) for batch in first]
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)


def test_a_sample_has_its_number_of_rows_and_others_each_epoch():
    rows = ShuffledRows(90, seed=2, sample=30)
    first = list(rows)
    rows.set_epoch(1)
    assert len(rows) == len(set(first)) == 30 and set(first) != set(rows) <= set(range(90))
    assert sorted(ShuffledRows(5, sample=9)) == [0, 1, 2, 3, 4]


def test_a_budget_below_one_is_refused():
    with pytest.raises(ValueError, match="token_budget must be at least 1, got 0"):
        BatchesByLength([3, 4], 0)
