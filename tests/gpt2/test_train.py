"""The training loop: accumulation, reproducibility, callbacks, and stopping in time."""

from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from gpt2.checkpoints import Checkpoints, Progress
from gpt2.loss import next_token_loss
from gpt2.samplers import ShuffledRows
from gpt2.train import train
from optim.adamw import AdamW
from tests.hugging_face import batch_of, small_model
from tests.processes import together


def make_model(dropout=0.0, dtype=torch.float64):
    return small_model(dtype, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)


def uneven_batches(count=6):
    """Batches of two rows whose numbers of tokens differ widely."""
    batches = []
    for i in range(count):
        ids, mask = batch_of([3 + 4 * i, 2 + i], 3 + 4 * i, 50)
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def joined(batches):
    """The same rows in one batch."""
    width = max(b["input_ids"].size(1) for b in batches)
    pad = nn.functional.pad
    return {
        name: torch.cat([pad(b[name], (0, width - b[name].size(1))) for b in batches])
        for name in ("input_ids", "attention_mask")
    }


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(model, loader, lr=1e-2, **settings):
    # eps keeps the update smooth, so that a rounding error in a gradient stays one
    optimizer = AdamW(model.parameters(), lr=lr, eps=1e-3)
    return train(model, loader, optimizer, accelerator=Accelerator(cpu=True), **settings)


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_accumulating_uneven_batches_equals_one_batch_of_all_their_rows(accumulate):
    batches = uneven_batches(6)
    parts, whole = make_model(), make_model()
    accumulated = run(parts, batches, accumulate=accumulate, epochs=2)
    groups = [joined(batches[i : i + accumulate]) for i in range(0, 6, accumulate)]
    at_once = run(whole, groups, epochs=2)
    assert [p.num_labels for p in accumulated] == [p.num_labels for p in at_once]
    assert [p.loss for p in accumulated] == pytest.approx([p.loss for p in at_once], abs=1e-10)
    assert torch.allclose(weights(parts), weights(whole), atol=1e-9)


def test_averaging_the_batches_instead_would_be_caught():
    batches = uneven_batches(2)
    whole, averaged = make_model(), make_model()
    run(whole, [joined(batches)])
    run(
        averaged,
        batches,
        accumulate=2,
        loss_fn=lambda model, batch, reduction: next_token_loss(model, batch) / 2,
        count_fn=lambda batch: 0.5,
    )
    assert not torch.allclose(weights(whole), weights(averaged), atol=1e-5)


def test_the_same_seed_gives_the_same_bits_with_dropout():
    results = []
    for _ in range(2):
        model = make_model(dropout=0.1, dtype=torch.float32)
        torch.manual_seed(5)
        run(model, uneven_batches(), epochs=2)
        results.append(weights(model))
    assert torch.equal(*results)


def test_it_equals_a_plain_loop_written_out():
    model, plain = make_model(), make_model()
    run(model, uneven_batches(), epochs=2)
    optimizer = AdamW(plain.parameters(), lr=1e-2, eps=1e-3)
    for batch in uneven_batches() * 2:
        optimizer.zero_grad()
        next_token_loss(plain, batch).backward()
        optimizer.step()
    assert torch.equal(weights(model), weights(plain))


def test_callbacks_are_called_after_every_step_in_order():
    heard = []
    history = run(make_model(), uneven_batches(5), epochs=3, accumulate=2, callbacks=[heard.append])
    assert heard == history and all(isinstance(p, Progress) for p in heard)
    assert [p.step for p in heard] == list(range(1, 10)) and heard[0].total_steps == 9
    assert [p.epoch for p in heard] == [1] * 3 + [2] * 3 + [3] * 3
    assert [p.step for p in heard if p.ends_epoch] == [3, 6, 9]
    assert all(a.seconds <= b.seconds for a, b in pairwise(heard))


def test_a_scheduler_steps_once_per_optimizer_step():
    model = make_model()
    optimizer = AdamW(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-3 / (1 + step))
    history = train(
        model,
        uneven_batches(6),
        optimizer,
        accumulate=2,
        scheduler=scheduler,
        accelerator=Accelerator(cpu=True),
    )
    assert [p.learning_rate for p in history] == pytest.approx([1e-3, 5e-4, 1e-3 / 3])


def test_clipping_bounds_the_gradient():
    norms = []

    class Recorder(torch.optim.SGD):
        def step(self, *args):
            gradients = [p.grad for g in self.param_groups for p in g["params"]]
            norms.append(torch.norm(torch.stack([g.norm() for g in gradients])).item())

    model = make_model()
    train(
        model,
        uneven_batches(3),
        Recorder(model.parameters(), lr=0.1),
        max_grad_norm=0.01,
        accelerator=Accelerator(cpu=True),
    )
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights():
    model = make_model()
    before = []

    def explode(model, batch, reduction):
        if len(before) == 2:
            return next_token_loss(model, batch, reduction) * float("nan")
        before.append(weights(model))
        return next_token_loss(model, batch, reduction)

    with pytest.raises(FloatingPointError, match="loss is nan at step 3; lower the learning rate"):
        run(model, uneven_batches(), loss_fn=explode)
    assert weights(model).isfinite().all()


def test_the_loop_knows_nothing_of_gpt2():
    """A regression, with a loss and a count of its own."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    xs = torch.randn(40, 3)
    batches = [{"x": x, "y": x @ torch.tensor([[1.0], [-2.0], [0.5]])} for x in xs.split(4)]

    def squared_error(model, batch, reduction):
        return nn.functional.mse_loss(model(batch["x"]), batch["y"], reduction=reduction)

    history = run(
        model,
        batches,
        lr=5e-2,
        epochs=40,
        loss_fn=squared_error,
        count_fn=lambda batch: len(batch["y"]),
    )
    assert history[-1].loss < 1e-3 < history[0].loss


def test_gradients_left_over_from_before_do_not_leak_in():
    clean, spoiled = make_model(), make_model()
    (-1000 * next_token_loss(spoiled, uneven_batches()[0])).backward()
    for model in (clean, spoiled):
        run(model, uneven_batches())
    assert torch.equal(weights(clean), weights(spoiled))


def test_what_can_not_train_is_a_clear_error():
    model, other = make_model(), make_model()
    with pytest.raises(ValueError, match="holds no parameter of this model"):
        train(model, uneven_batches(), AdamW(other.parameters()))
    with pytest.raises(ValueError, match="no batch to train on"):
        run(model, [])
    (batch,) = uneven_batches(1)
    unlabelled = {**batch, "labels": torch.full_like(batch["input_ids"], -100)}
    with pytest.raises(ValueError, match="no token of step 2 has a label"):
        run(model, [batch, unlabelled])


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"accumulate": 0}])
def test_zero_epochs_or_batches_are_a_clear_error(bad):
    with pytest.raises(ValueError, match="epochs and accumulate must be at least 1"):
        run(make_model(), uneven_batches(), **bad)


def train_in_bf16():
    model = make_model(dtype=torch.float32)
    forward, accelerator = model.forward, Accelerator(cpu=True, mixed_precision="bf16")
    optimizer = AdamW(model.parameters(), lr=1e-2)
    history = train(model, uneven_batches(), optimizer, epochs=3, accelerator=accelerator)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.forward == forward
    print(history[-1].loss)


@pytest.mark.all
def test_bf16_ends_close_to_float32_and_leaves_the_model_as_it_was(tmp_path):
    """In a process of its own: accelerate keeps one precision per process."""
    done = together(1, train_in_bf16, output=tmp_path / "printed")
    assert done.returncode == 0, done.stderr
    half = float(done.stdout)
    model = make_model(dtype=torch.float32)
    history = train(
        model,
        uneven_batches(),
        AdamW(model.parameters(), lr=1e-2),
        epochs=3,
        accelerator=Accelerator(cpu=True),
    )
    assert half == pytest.approx(history[-1].loss, rel=0.05)
    assert half < history[0].loss


class Killed(Exception):
    pass


def stop_after(step):
    def callback(progress):
        if progress.step == step:
            raise Killed

    return callback


class EverySteps(Checkpoints):
    """Checkpoints that are due by the number of steps, the same in every run."""

    def __init__(self, folder, steps):
        super().__init__(folder)
        self.steps = steps

    def due(self, progress):
        return progress.ends_epoch or progress.step % self.steps == 0


class Resumable:
    """A training with dropout, a schedule and accumulation, which can be stopped at any step."""

    def __init__(self, folder, make_loader):
        self.folder, self.make_loader = folder, make_loader

    def __call__(self, *callbacks, every_steps=1, accumulate=2):
        model = make_model(dropout=0.1, dtype=torch.float32)
        torch.manual_seed(7)  # as whoever starts a run does, in every process
        optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        history = train(
            model,
            self.make_loader(),
            optimizer,
            epochs=3,
            accumulate=accumulate,
            scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
            callbacks=callbacks,
            checkpoints=EverySteps(self.folder, every_steps),
            accelerator=Accelerator(cpu=True),
        )
        return weights(model), [(p.step, p.loss, p.learning_rate) for p in history]


def ordered_by_epoch():
    return torch.utils.data.DataLoader(
        rows_of(uneven_batches(5)), batch_size=2, sampler=ShuffledRows(10, seed=3)
    )


def ordered_by_the_global_generator():
    return torch.utils.data.DataLoader(rows_of(uneven_batches(5)), batch_size=2, shuffle=True)


LOADERS = [lambda: uneven_batches(5), ordered_by_epoch, ordered_by_the_global_generator]


@pytest.mark.parametrize("make_loader", LOADERS, ids=["list", "by epoch", "global generator"])
@pytest.mark.parametrize("every_steps", [1, 2])
def test_stopped_after_any_step_it_ends_at_the_same_bits(tmp_path, make_loader, every_steps):
    expected = Resumable(tmp_path / "whole", make_loader)()
    assert len(expected[1]) == 9
    for step in range(every_steps, 9, every_steps + 1):
        stopped = Resumable(tmp_path / str(step), make_loader)
        with pytest.raises(Killed):
            stopped(stop_after(step), every_steps=every_steps)
        got = stopped(every_steps=every_steps)
        assert torch.equal(got[0], expected[0]) and got[1] == expected[1]


def test_stopped_after_every_step_it_ends_at_the_same_bits(tmp_path):
    expected = Resumable(tmp_path / "whole", ordered_by_epoch)()
    often = Resumable(tmp_path / "often", ordered_by_epoch)
    for step in range(1, 9):
        with pytest.raises(Killed):
            often(stop_after(step))
    got = often()
    assert torch.equal(got[0], expected[0]) and got[1] == expected[1]


def test_resuming_calls_the_callbacks_for_the_last_step_again(tmp_path):
    run_it = Resumable(tmp_path, ordered_by_epoch)
    with pytest.raises(Killed):
        run_it(stop_after(4))
    heard = []
    run_it(lambda p: heard.append(p.step))
    assert heard == [4, 5, 6, 7, 8, 9]
    heard.clear()
    run_it(lambda p: heard.append(p.step))
    assert heard == [9]


def test_steps_of_other_batches_than_the_checkpoints_are_refused(tmp_path):
    run_it = Resumable(tmp_path, ordered_by_epoch)
    with pytest.raises(Killed):
        run_it(stop_after(4))
    with pytest.raises(ValueError, match="the checkpoint's steps have 2 batches, now 1; keep"):
        run_it(accumulate=1)


def test_what_a_callback_draws_changes_nothing(tmp_path):
    expected = Resumable(tmp_path / "quiet", ordered_by_epoch)()
    drawn = Resumable(tmp_path / "drawing", ordered_by_epoch)(lambda p: torch.rand(p.step))
    assert torch.equal(drawn[0], expected[0])


def test_a_corrupt_last_checkpoint_costs_steps_but_no_bits(tmp_path):
    expected = Resumable(tmp_path / "whole", ordered_by_epoch)()
    stopped = Resumable(tmp_path / "stopped", ordered_by_epoch)
    with pytest.raises(Killed):
        stopped(stop_after(5))
    last = max((tmp_path / "stopped").glob("checkpoint-*.pt"))
    last.write_bytes(last.read_bytes()[:-100])
    heard = []
    with pytest.warns(UserWarning, match="damaged"):
        got = stopped(lambda p: heard.append(p.step))
    assert heard[0] == 4 and torch.equal(got[0], expected[0])


def test_bf16_may_follow_float32_in_one_process():
    whole, half = make_model(dtype=torch.float32), make_model(dtype=torch.float32)
    first = run(whole, uneven_batches(), epochs=2)
    second = run(half, uneven_batches(), epochs=2, precision="bf16")
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert second[-1].loss == pytest.approx(first[-1].loss, rel=0.05)
    assert not torch.equal(weights(whole), weights(half))


def test_tokens_are_counted_without_pads():
    history = run(make_model(), uneven_batches(3), accumulate=3)
    assert history[0].num_tokens == sum(int(b["attention_mask"].sum()) for b in uneven_batches(3))


def rows_of(batches):
    whole = joined(batches)
    return [{name: rows[i] for name, rows in whole.items()} for i in range(len(whole["input_ids"]))]
