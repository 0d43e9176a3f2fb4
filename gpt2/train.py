"""The one training loop, for pretraining and fine-tuning alike. It knows nothing of GPT-2."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, gather_object, send_to_device
from torch.utils.data import DataLoader
from tqdm import tqdm

from gpt2.checkpoints import Checkpoints, Progress
from gpt2.fast.compiled import CompiledBlocks
from gpt2.fast.linear import fast_linears
from gpt2.loss import count_labels, next_token_loss
from utils import get_random_state, keep_freed_memory, random_state_kept, set_random_state


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
    precision: str = "float32",
    compile: bool = False,
    scheduler=None,
    callbacks: Iterable[Callable[[Progress], None]] = (),
    checkpoints: Checkpoints | None = None,
    accelerator: Accelerator | None = None,
) -> list[Progress]:
    """Train `model` in place; returns one Progress per optimizer step.

    `loss_fn(model, batch, num_labels)` gives the batch's summed loss divided by `num_labels`, and
    `count_fn(batch)` how many labels it has; by default next_token_loss and count_labels, and
    whoever gives one gives both. `accumulate` batches make one step, whose gradient
    is that of the mean over all their label tokens, however unevenly they are spread over the
    batches, and over the processes of `accelerate launch`.

    `scheduler` steps once per optimizer step. Every callback hears of every step. The accelerator
    decides device and processes; by default whatever this machine has. With `precision="bf16"`
    matrices are multiplied in bfloat16, while weights, gradients and their sums stay float32.
    With `compile` the model's blocks are torch.compile's (`CompiledBlocks`): for a GPU, and a
    training of more than the minute that this takes.

    With `checkpoints`, the whole state is saved when one is due and after every epoch, before the
    callbacks hear of that step. The same call in a new process then goes on from there, after the
    callbacks have heard of that step again, and ends at the same bits. The loader's order must
    follow from its `set_epoch` or from torch's global generator.

    Under a launcher each process takes every n-th batch; accelerate repeats some rows where they
    don't come out even.

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
    if precision not in ("float32", "bf16"):
        raise ValueError(f'precision must be "float32" or "bf16", got {precision!r}')
    if accelerator is None:  # a copy from pinned memory goes on beside what the host does next
        copies = DataLoaderConfiguration(non_blocking=getattr(loader, "pin_memory", False))
        accelerator = Accelerator(dataloader_config=copies)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    bare = accelerator.unwrap_model(model)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    faster = CompiledBlocks(model) if compile else fast_linears(model)
    steps_per_epoch = math.ceil(len(loader) / accumulate)
    total_steps = epochs * steps_per_epoch
    history: list[Progress] = []
    state = checkpoints.load() if checkpoints is not None else None
    if state is not None:
        bare.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler is not None:
            scheduler.load_state_dict(state["scheduler"])
        history = [Progress(**step) for step in state["history"]]
        for callback in callbacks:
            callback(history[-1])
    started = time.perf_counter() - (history[-1].seconds if history else 0.0)
    model.train()
    optimizer.zero_grad()  # whatever an earlier call or trial has left
    for epoch in range(len(history) // steps_per_epoch + 1, epochs + 1):
        skip = len(history) % steps_per_epoch * accumulate
        if state is not None:
            # The order of an epoch that was left in the middle is drawn again from its beginning.
            _restore_random_state(accelerator, state["epoch_random" if skip else "random"])
        epoch_random = get_random_state()
        for batches in _groups(accelerator, loader, accumulate, epoch, skip):
            if state is not None and skip:
                _restore_random_state(accelerator, state["random"])
            state = None
            num_labels = _over_processes(accelerator, sum(map(count_fn, batches)))
            num_tokens = _over_processes(accelerator, sum(map(_count_tokens, batches)))
            if num_labels == 0:
                raise ValueError(f"no token of step {len(history) + 1} has a label to learn from")
            loss = 0.0
            # BEGIN SOLUTION pretraining step
            for i, batch in enumerate(batches, start=1):
                last = i == len(batches)
                with nullcontext() if last else accelerator.no_sync(model):
                    with faster, _autocast(accelerator, precision):
                        part = loss_fn(model, batch, num_labels)
                    # Parallel training averages gradients, but this part is already a share.
                    accelerator.backward(part * accelerator.num_processes)
                loss += part.item()
            # END SOLUTION
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
            # BEGIN SOLUTION pretraining step
            optimizer.step()
            optimizer.zero_grad()
            # END SOLUTION
            if scheduler is not None:
                scheduler.step()
            history.append(
                Progress(
                    step=len(history) + 1,
                    total_steps=total_steps,
                    epoch=epoch,
                    loss=loss,
                    num_labels=num_labels,
                    num_tokens=num_tokens,
                    learning_rate=learning_rate,
                    seconds=time.perf_counter() - started,
                    memory=_memory(accelerator),
                    ends_epoch=len(history) + 1 == epoch * steps_per_epoch,
                )
            )
            if checkpoints is not None and _main_says(accelerator, checkpoints.due(history[-1])):
                states = {
                    "epoch_random": gather_object([epoch_random]),
                    "random": gather_object([get_random_state()]),
                }
                if accelerator.is_main_process:
                    states["model"] = bare.state_dict()
                    states["optimizer"] = optimizer.state_dict()
                    states["scheduler"] = scheduler.state_dict() if scheduler is not None else None
                    states["history"] = list(map(asdict, history))
                    checkpoints.save(history[-1], states)
            with random_state_kept():  # what callbacks draw must not change what dropout draws
                for callback in callbacks:
                    callback(history[-1])
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # take autocast off again
    return history


class ProgressBar:
    """A callback that draws one text bar: last loss, mean since the bar began, learning rate,
    memory, tokens a second.

    What `note()` returns is shown at its end.
    """

    def __init__(
        self,
        description: str = "training",
        every: int = 20,
        note: Callable[[], str] = str,
    ):
        self.description = description
        self.every = every
        self.note = note
        self.bar = None

    def __call__(self, progress: Progress) -> None:
        if self.bar is None or progress.step == 1:
            self.bar = tqdm(
                total=progress.total_steps,
                initial=progress.step - 1,
                desc=self.description,
                unit="step",
                ncols=140,
            )
            self.heard, self.total_loss = 0, 0.0
            self.since, self.tokens = progress.seconds, -progress.num_tokens
        self.heard += 1
        self.total_loss += progress.loss
        self.tokens += progress.num_tokens
        finished = progress.step == progress.total_steps
        if finished or progress.step % self.every == 0:
            shown = [
                f"epoch {progress.epoch}",
                f"loss {progress.loss:.3f}",
                f"mean {self.total_loss / self.heard:.3f}",
                f"lr {progress.learning_rate:.1e}",
                f"{progress.memory / 2**30:.1f} GiB",
            ]
            if self.tokens > 0:
                speed = self.tokens / (progress.seconds - self.since)
                shown.append(f"{speed:,.0f} tokens/s")
            self.since, self.tokens = progress.seconds, 0
            self.bar.set_postfix_str(", ".join(filter(None, [*shown, self.note()])), refresh=False)
            self.bar.update(progress.step - self.bar.n)
        if finished:
            self.bar.close()


def _groups(accelerator, loader, size: int, epoch: int, skip: int) -> Iterator[list]:
    """The batches of an epoch (from 1) after the first `skip`, `size` at a time; the last group
    may be smaller."""
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch - 1)
    if skip and isinstance(loader, DataLoader):
        batches = iter(accelerator.skip_first_batches(loader, skip))
    else:
        batches = islice(loader, skip, None)
    while group := list(islice(batches, size)):
        yield send_to_device(group, accelerator.device)  # a list of batches is not prepared


def _autocast(accelerator: Accelerator, precision: str):
    # accelerate has one precision for a whole process; torch's own context is free to change.
    if precision == "bf16":
        return torch.autocast(accelerator.device.type, torch.bfloat16)
    return accelerator.autocast()


def _count_tokens(batch) -> int:
    if isinstance(batch, Mapping) and "attention_mask" in batch:
        return int(batch["attention_mask"].sum())
    return 0


def _memory(accelerator: Accelerator) -> int:
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated(accelerator.device)
    return psutil.Process().memory_info().rss


def _restore_random_state(accelerator: Accelerator, states: list[dict]) -> None:
    if len(states) != accelerator.num_processes:
        raise ValueError(
            f"the checkpoint is of {len(states)} processes, this training has "
            f"{accelerator.num_processes}; go on with as many"
        )
    set_random_state(states[accelerator.process_index])


def _main_says(accelerator: Accelerator, answer: bool) -> bool:
    """The main process's answer, for all: their clocks differ."""
    return bool(_over_processes(accelerator, int(answer and accelerator.is_main_process)))


def _over_processes(accelerator: Accelerator, number):
    """The sum of `number` over all processes."""
    if accelerator.num_processes == 1:
        return number
    tensor = torch.tensor(number, device=accelerator.device)
    return accelerator.reduce(tensor, reduction="sum").item()
