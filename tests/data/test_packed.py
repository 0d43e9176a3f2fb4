"""Reading packed shards: rows, shuffled batches by rank, restarts, a pretraining run."""

from itertools import chain

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st

from config import GPT2Config
from data.documents import open_source
from data.packed import (
    GlobalBatches,
    PackedDataset,
    Permutation,
    ShuffledOrder,
    packed_loader,
)
from data.packing import pack
from experiments.cli import main
from gpt2.model import GPT2Model
from gpt2.text import text_loader
from gpt2.train import train
from optim import AdamW
from tests.data.packs import END, TEXTS, tokens_of, write


@pytest.fixture
def packed(here, letters, tmp_path):
    """A folder of 625 tokens in shards of 64, whose rows have 8."""
    source = open_source([str(write(tmp_path, "a.txt"))])
    pack(source, tmp_path / "packed", letters, length=8, shard_tokens=64)
    return tmp_path / "packed"


@pytest.mark.parametrize("length", [None, 2, 8, 13, 64, 200, 10_000])
def test_rows_of_any_length_hold_every_token_once(length, packed):
    rows, tokens = PackedDataset(packed, length), tokens_of(packed)
    width = length or 8
    assert len(rows) == -(-len(tokens) // width)
    ids, masks = (torch.stack(part) for part in zip(*rows, strict=True))
    assert ids.dtype == masks.dtype == torch.int64 and ids.shape[1] == width
    assert ids[masks.bool()].tolist() == tokens.tolist()
    assert masks[:-1].all() and (ids[~masks.bool()] == END).all()
    assert torch.equal(rows[-1][0], ids[-1])
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_the_last_rows_are_held_out(packed):
    rows = PackedDataset(packed)
    first, last = rows.split(5)
    assert (len(first), len(last)) == (len(rows) - 5, 5)
    assert torch.equal(last[0][0], rows[len(rows) - 5][0])
    assert len({rows.fingerprint, first.fingerprint, last.fingerprint}) == 3
    assert first.fingerprint == PackedDataset(packed).split(5)[0].fingerprint
    batch = next(iter(text_loader(last, 5)))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (5, 8)
    for count in (0, len(rows)):
        with pytest.raises(ValueError, match="leaves one part empty"):
            rows.split(count)


def test_what_is_no_packed_folder_is_said(packed, tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest.json in it"):
        PackedDataset(tmp_path)
    with pytest.raises(ValueError, match="length must be at least 2, got 1"):
        PackedDataset(packed, 1)
    with pytest.raises(ValueError, match='packed with the tokenizer "letters'):
        PackedDataset(packed).check_tokenizer(tokenizer)
    (packed / "shard-00001.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"shard-00001.bin: missing or of another size"):
        PackedDataset(packed)


# ---- The order ---------------------------------------------------------------------------------


@given(count=st.integers(0, 400), key=st.text(max_size=5))
def test_a_permutation_is_a_bijection(count, key):
    order = Permutation(count, key)
    assert sorted(order) == list(range(count)) and len(order) == count


@given(count=st.integers(1, 2**62), data=st.data())
def test_a_permutation_of_any_size_stays_inside(count, data):
    places = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=20))
    order = Permutation(count, "0 0")
    found = [order[place] for place in places]
    assert len(set(found)) == len(places) and all(0 <= place < count for place in found)
    with pytest.raises(IndexError):
        order[count]


def test_a_permutation_looks_like_a_random_one():
    """Where a place goes is uniform over keys, and places next to each other go apart."""
    count, keys = 12, 6000
    table = np.array([list(Permutation(count, str(key))) for key in range(keys)])
    for place in range(count):
        counts = np.bincount(table[:, place], minlength=count)
        assert ((counts - keys / count) ** 2 / (keys / count)).sum() < 40  # chi-squared, p = 4e-5
    steps = np.bincount((table[:, 1] - table[:, 0]) % count, minlength=count)[1:]
    expected = keys / (count - 1)
    assert ((steps - expected) ** 2 / expected).sum() < 40
    order = np.array(list(Permutation(5000, "7 0")))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.06
    assert len({tuple(row) for row in table}) > 5990


def test_seed_and_epoch_decide_the_order():
    def order(seed, epoch):
        rows = ShuffledOrder(50, seed)
        rows.set_epoch(epoch)
        return list(rows)

    assert order(3, 1) == order(3, 1) and sorted(order(3, 1)) == list(range(50))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert order(0, 0)[:6] == [38, 37, 48, 16, 39, 29]  # in every version and on every machine


@given(data=st.data())
def test_all_ranks_together_make_the_same_batches(data):
    count, batch = data.draw(st.integers(24, 300)), data.draw(st.sampled_from([12, 24]))
    seed, ranks = data.draw(st.integers(0, 5)), data.draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    alone = list(GlobalBatches(count, batch, seed))
    rows = [row for rows in alone for row in rows]
    assert len(set(rows)) == len(rows) == count - count % batch and max(rows) < count
    parts = [list(GlobalBatches(count, batch, seed, rank, ranks)) for rank in range(ranks)]
    assert together(parts) == alone


def together(parts) -> list[list[int]]:
    """The batches that ranks make together."""
    return [list(chain(*step)) for step in zip(*parts, strict=True)]


@given(data=st.data())
def test_a_restart_continues_at_the_next_batch_with_any_number_of_ranks(data):
    count, batch, epochs = data.draw(st.integers(12, 60)), 12, 3

    def batches(ranks, start=0):
        """All that the ranks see from there on, epoch by epoch."""
        parts = [GlobalBatches(count, batch, 1, rank, ranks, start) for rank in range(ranks)]
        for epoch in range(parts[0].sampler.epoch, epochs):
            for part in parts:
                part.set_epoch(epoch)
            yield from together(parts)

    whole = list(batches(1))
    seen = data.draw(st.integers(0, len(whole) - 1))
    assert list(batches(data.draw(st.sampled_from([1, 2, 3, 4])), seen * batch)) == whole[seen:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3}, "3 rows make no step of 1 · 4; lower"),
        ({"accumulate": 100}, "rows make no step of 100 · 4; lower accumulate"),
        ({"world_size": 3}, "must divide batch_size"),
        ({"rank": 2, "world_size": 2}, "ranks count from 0"),
        ({"start": 6}, "start=6 is not the end of a batch"),
    ],
)
def test_shares_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GlobalBatches(**{"count": 100, "batch_size": 4, **arguments})


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_loading_processes_change_nothing(packed):
    rows = PackedDataset(packed)
    alone, two = (
        [batch["input_ids"] for batch in packed_loader(rows, 4, 7, num_workers=workers)]
        for workers in (0, 2)
    )
    assert torch.equal(torch.stack(alone), torch.stack(two))


def test_the_training_loop_takes_the_loader_and_each_epoch_its_order(packed):
    config = GPT2Config(257, 8, 1, 1, max_position_embeddings=8, pad_token_id=END)
    model, rows = GPT2Model(config), PackedDataset(packed)
    seen = []

    def loss(model, batch, reduction):
        seen.append(batch["input_ids"])
        return model(batch["input_ids"], batch["attention_mask"])["last_hidden_state"].sum()

    loader = packed_loader(rows, 16, 5)
    train(model, loader, AdamW(model.parameters()), epochs=2, loss_fn=loss)
    expected = packed_loader(rows, 16, 5)
    for epoch in range(2):
        expected.batch_sampler.set_epoch(epoch)
        for batch in expected:
            assert torch.equal(seen.pop(0).cpu(), batch["input_ids"])
    assert not seen


def test_accelerates_processes_share_the_same_batches_out():
    alone = list(GlobalBatches(100, 5, 1))
    parts = [BatchSamplerShard(GlobalBatches(100, 5, 1), 4, rank) for rank in range(4)]
    assert together(parts) == [list(chain(*alone[i : i + 4])) for i in range(0, 20, 4)]


# ---- A run -------------------------------------------------------------------------------------


def test_pretrain_takes_packed_folders(here, tmp_path, capsys):
    for name in "ab":
        source = open_source([str(write(tmp_path, f"{name}.txt", TEXTS * 4))])
        pack(source, tmp_path / name, length=8, shard_tokens=160)
    shape = ["--hidden-size", "16", "--num-hidden-layers", "1", "--num-attention-heads", "2"]
    command = [
        "pretrain",
        "--epochs",
        "1",
        *shape,
        "--max-len",
        "16",
        "--runs",
        str(tmp_path / "runs"),
    ]
    main([*command, "--text", str(tmp_path / "a")])
    assert "held_out_loss" in capsys.readouterr().out
    assert list(tmp_path.glob("runs/toy_pretraining-*/model/model.safetensors"))
    main([*command, "--text", str(tmp_path / "a"), str(tmp_path / "b")])
    lines = capsys.readouterr().out.splitlines()[-4:-1]
    assert [line.split()[0] for line in lines] == ["all", "a", "b"]
    with pytest.raises(SystemExit):
        main([*command, "--text", str(tmp_path / "a"), str(tmp_path / "b.txt")])
    assert "pack the files" in capsys.readouterr().err


def test_pretrain_refuses_another_tokenizers_tokens(packed, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--text", str(packed), "--runs", str(tmp_path / "runs")])
    assert "pack the text again" in capsys.readouterr().err
