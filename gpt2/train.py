"""The one training loop, for pretraining and fine-tuning alike. It knows nothing of GPT-2."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
from accelerate import Accelerator
from tqdm import tqdm

from gpt2.loss import count_labels, next_token_loss


@dataclass(frozen=True)
class Progress:
    """What one optimizer step leaves behind, for callbacks and for the curve."""

    step: int  # from 1, over all epochs
    total_steps: int
    epoch: int  # from 1
    loss: float  # mean over the label tokens of the step, in nats
    num_labels: int
    learning_rate: float
    seconds: float  # since training began
    ends_epoch: bool


def train(
    model,
    loader,
    optimizer,
    *,
    epochs: int = 1,
    loss_fn: Callable | None = None,
    count_fn: Callable | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    scheduler=None,
    callbacks: Iterable[Callable[[Progress], None]] = (),
    accelerator: Accelerator | None = None,
) -> list[Progress]:
    """Train `model` in place; returns one Progress per optimizer step.

    `loss_fn(model, batch, num_labels)` gives the batch's summed loss divided by `num_labels`, and
    `count_fn(batch)` how many labels it has; by default next_token_loss and count_labels, and
    whoever gives one gives both. `accumulate` batches make one step, whose gradient
    is that of the mean over all their label tokens, however unevenly they are spread over the
    batches, and over the processes of `accelerate launch`.

    `scheduler` steps once per optimizer step. Every callback hears of every step. The accelerator
    decides device, precision and processes; by default whatever this machine has, in float32.

    Raises FloatingPointError when the loss stops being a number, before it reaches the weights,
    and ValueError for an optimizer of another model, an empty loader or a step without a label.
    """
    if (loss_fn is None) != (count_fn is None):
        raise ValueError("give loss_fn and count_fn together: both must mean the same labels")
    loss_fn, count_fn = loss_fn or next_token_loss, count_fn or count_labels
    ours = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in ours for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("the optimizer holds no parameter of this model; make it anew for it")
    if len(loader) == 0:
        raise ValueError("the loader has no batch to train on")
    if epochs < 1 or accumulate < 1:
        raise ValueError(f"epochs and accumulate must be at least 1, got {epochs} and {accumulate}")
    accelerator = accelerator or Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps_per_epoch = math.ceil(len(loader) / accumulate)
    history: list[Progress] = []
    started = time.perf_counter()
    model.train()
    optimizer.zero_grad()  # whatever an earlier call or trial has left
    for epoch in range(1, epochs + 1):
        for batches in _groups(loader, accumulate):
            num_labels = _over_processes(accelerator, sum(map(count_fn, batches)))
            if num_labels == 0:
                raise ValueError(f"no token of step {len(history) + 1} has a label to learn from")
            loss = 0.0
            for i, batch in enumerate(batches, start=1):
                last = i == len(batches)
                with nullcontext() if last else accelerator.no_sync(model), accelerator.autocast():
                    part = loss_fn(model, batch, num_labels)
                    # Parallel training averages gradients, but this part is already a share.
                    accelerator.backward(part * accelerator.num_processes)
                loss += part.item()
            loss = _over_processes(accelerator, loss)
            if not math.isfinite(loss):
                optimizer.zero_grad()
                raise FloatingPointError(
                    f"the loss is {loss} at step {len(history) + 1}; lower the learning rate, "
                    "warm it up, or clip gradients (max_grad_norm=1.0)"
                )
            if max_grad_norm is not None:
                accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            learning_rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
            history.append(
                Progress(
                    step=len(history) + 1,
                    total_steps=epochs * steps_per_epoch,
                    epoch=epoch,
                    loss=loss,
                    num_labels=num_labels,
                    learning_rate=learning_rate,
                    seconds=time.perf_counter() - started,
                    ends_epoch=len(history) + 1 == epoch * steps_per_epoch,
                )
            )
            for callback in callbacks:
                callback(history[-1])
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # take autocast off again
    return history


class ProgressBar:
    """A callback that draws one text bar: the mean loss so far, the last one, the speed."""

    def __init__(self, description: str = "training", every: int = 20):
        self.description = description
        self.every = every

    def __call__(self, progress: Progress) -> None:
        if progress.step == 1:
            self.total_loss = 0.0
            self.bar = tqdm(
                total=progress.total_steps, desc=self.description, unit="step", ncols=100
            )
        self.total_loss += progress.loss
        finished = progress.step == progress.total_steps
        if finished or progress.step % self.every == 0:
            mean = self.total_loss / progress.step
            self.bar.set_postfix_str(
                f"epoch {progress.epoch}, loss {progress.loss:.3f}, mean {mean:.3f}", refresh=False
            )
            self.bar.update(progress.step - self.bar.n)
        if finished:
            self.bar.close()


class AtEpochEnds:
    """A callback that keeps what `measure()` returns after each epoch, by step, in `values`."""

    def __init__(self, measure: Callable[[], float]):
        self.measure = measure
        self.values: dict[int, float] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.ends_epoch:
            self.values[progress.step] = self.measure()


def _groups(loader, size: int) -> Iterator[list]:
    """The loader's batches, `size` at a time; the last group may be smaller."""
    batches = iter(loader)
    while group := list(islice(batches, size)):
        yield group


def _over_processes(accelerator: Accelerator, number):
    """The sum of `number` over all processes."""
    if accelerator.num_processes == 1:
        return number
    tensor = torch.tensor(number, device=accelerator.device)
    return accelerator.reduce(tensor, reduction="sum").item()
