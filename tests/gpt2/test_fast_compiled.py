"""Compiled blocks compute what the blocks compute."""

import pytest
import torch
from accelerate import Accelerator
from torch._dynamo.utils import counters

from gpt2.checkpoints import Checkpoints
from gpt2.fast.compiled import CompiledBlocks
from gpt2.loss import next_token_loss
from gpt2.train import train
from optim.adamw import AdamW
from tests.hugging_face import batch_of, small_model
from utils import supports_compile

pytestmark = [
    pytest.mark.all,
    pytest.mark.skipif(not supports_compile(), reason="torch.compile needs a C++ compiler"),
]


@pytest.fixture(autouse=True)
def compiled_anew():
    yield
    torch.compiler.reset()


def make_model(dropout=0.0):
    return small_model(hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0).train()


def make_batch(lengths, side="right"):
    ids, mask = batch_of(lengths, max(lengths) + 1, 50, side)
    return {"input_ids": ids, "attention_mask": mask}


SHAPES = [[5, 9], [12, 7, 30], [17, 3, 8, 11]]


def computed(model, batch):
    """Hidden states at tokens, the loss, and every weight's gradient."""
    model.zero_grad()
    loss = next_token_loss(model, batch)
    loss.backward()
    hidden = model(**batch)["last_hidden_state"][batch["attention_mask"].bool()]
    return {"hidden": hidden, "loss": loss, **{n: p.grad for n, p in model.named_parameters()}}


def test_compiled_blocks_equal_the_plain_ones_and_are_compiled_once_for_all_shapes():
    model = make_model()
    batches = [make_batch(lengths) for lengths in SHAPES]
    expected = [computed(model, batch) for batch in batches]
    counters.clear()
    with CompiledBlocks(model):
        found = [computed(model, batch) for batch in batches]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


def test_rows_that_are_padded_on_the_left_are_as_well():
    model, batch = make_model(), make_batch([5, 9], side="left")
    expected = computed(model, batch)
    with CompiledBlocks(model):
        found = computed(model, batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_afterwards_the_model_is_as_before():
    model = make_model()
    names = list(model.state_dict())
    with pytest.raises(KeyError), CompiledBlocks(model):
        assert list(model.state_dict()) == names and any(
            "forward" in vars(m) for m in model.modules()
        )
        raise KeyError
    assert not any("forward" in vars(m) for m in model.modules())


def trained(dropout=0.0, callbacks=(), **settings):
    model = make_model(dropout)
    torch.manual_seed(7)
    optimizer = AdamW(model.parameters(), lr=1e-2, eps=1e-3)
    batches = [make_batch(lengths) for lengths in SHAPES]
    settings |= {"callbacks": callbacks, "accelerator": Accelerator(cpu=True)}
    history = train(model, batches, optimizer, epochs=2, **settings)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return weights, [progress.loss for progress in history]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_with_compiled_blocks_equals_training_without(precision):
    tolerance = {"rtol": 0, "atol": 1e-4 if precision == "float32" else 2e-2}
    expected = trained(precision=precision)
    counters.clear()
    found = trained(precision=precision, compile=True)
    assert counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(found, expected, **tolerance)


def test_stopped_with_dropout_it_ends_at_the_same_bits(tmp_path):
    def go(folder, *callbacks):
        kept = Checkpoints(tmp_path / folder, every_steps=1)
        return trained(0.1, callbacks, compile=True, checkpoints=kept)

    def stop(progress):
        if progress.step == 4:
            raise InterruptedError

    expected = go("whole")
    with pytest.raises(InterruptedError):
        go("stopped", stop)
    found = go("stopped")
    assert torch.equal(found[0], expected[0]) and found[1] == expected[1]
    assert expected[1] != trained(0.1)[1]  # other numbers are drawn
