"""The one training loop, for pretraining and fine-tuning alike; it knows nothing of GPT-2."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

import torch
from accelerate import Accelerator

from console import ctrl_c_noted, memory_errors
from gpt2.checkpoints import Checkpoints, Progress, TrainingState, preserved_random_state
from gpt2.fast import faster, memory_reused
from gpt2.loss import count_labels, next_token_loss
from utils import over_processes

MEMORY = "lower batch_size or token_budget, and raise accumulate for the same steps"
RECENT, MARGIN = 20, 2.0  # steps, nats: above twice the first loss and MARGIN for as long


def train(
    model,
    loader,
    optimizer,
    *,
    epochs: int = 1,
    loss_fn: Callable = next_token_loss,
    count_fn: Callable = count_labels,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    precision: str = "float32",
    scheduler=None,
    callbacks: Iterable[Callable[[Progress], None]] = (),
    checkpoints: Checkpoints | None = None,
    accelerator: Accelerator | None = None,
) -> list[Progress]:
    """Train `model` in place; return one Progress per optimizer step.

    `loss_fn(model, batch, reduction="sum")` gives a batch's summed loss, `count_fn(batch)` over how
    many labels. `accumulate` batches make one step, whose gradient is that of the mean over all
    their labels, however unevenly they are spread over batches and processes. `scheduler` steps
    once per optimizer step; every callback is called after every step. With `precision="bf16"`
    matrices are multiplied in bfloat16, while weights, gradients and sums stay float32.

    With `checkpoints` the whole state is saved when one is due and after every epoch, before the
    callbacks of that step. The same call in a new process resumes there, after calling the
    callbacks for that step again, and ends at the same bits. The loader's order must follow from
    its `set_epoch` or torch's global generator. Ctrl-C ends it after a step that is saved.

    Raises FloatingPointError when the loss is not finite, before it reaches the weights, or stays
    far above the first step's; MemoryError where a batch does not fit; and ValueError for an
    optimizer of another model, an empty loader or a step without a label.
    """
    _check_arguments(model, loader, optimizer, epochs, accumulate, precision)
    accelerator = accelerator or Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps_per_epoch = math.ceil(len(loader) / accumulate)
    state = TrainingState(checkpoints, accelerator, model, optimizer, scheduler)
    history = state.restore()
    _call(callbacks, history)
    started = time.perf_counter() - (history[-1].seconds if history else 0.0)
    model.train()
    optimizer.zero_grad()  # whatever an earlier call has left
    with memory_reused(accelerator.device), memory_errors(MEMORY), ctrl_c_noted(state.stop):
        for epoch in range(len(history) // steps_per_epoch + 1, epochs + 1):
            done = len(history) % steps_per_epoch
            for batches in state.batches(loader, accumulate, epoch, done):
                num_labels = over_processes(accelerator, sum(map(count_fn, batches)))
                num_tokens = over_processes(accelerator, sum(map(_count_tokens, batches)))
                if num_labels == 0:
                    raise ValueError(f"no token of step {len(history) + 1} has a label")
                loss = 0.0
                # BEGIN SOLUTION pretraining step
                for number, batch in enumerate(batches, 1):
                    # Processes exchange gradients once a step, with its last batch.
                    is_last = number == len(batches)
                    alone = nullcontext() if is_last else accelerator.no_sync(model)
                    with alone, faster(model), _autocast(accelerator, precision):
                        part = loss_fn(model, batch, reduction="sum") / num_labels
                    # Processes average their gradients, but each part is already a share.
                    accelerator.backward(part * accelerator.num_processes)
                    loss += part.item()
                # END SOLUTION
                loss = over_processes(accelerator, loss)
                _check_loss(loss, history, optimizer)
                if max_grad_norm is not None:
                    accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
                learning_rate = float(optimizer.param_groups[0]["lr"])
                # BEGIN SOLUTION pretraining step
                optimizer.step()
                optimizer.zero_grad()
                # END SOLUTION
                if scheduler is not None:
                    scheduler.step()
                step, seconds = len(history) + 1, time.perf_counter() - started
                totals = (step, epochs * steps_per_epoch, epoch, loss, num_labels, num_tokens)
                ends_epoch = step == epoch * steps_per_epoch
                history.append(Progress(*totals, learning_rate, seconds, ends_epoch))
                state.save(history)
                _call(callbacks, history)
                state.end_if_interrupted(history)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # remove accelerate's autocast
    return history


def _check_arguments(model, loader, optimizer, epochs, accumulate, precision) -> None:
    parameters = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in parameters for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("the optimizer holds no parameter of this model; make a new one for it")
    if len(loader) == 0:
        raise ValueError("the loader has no batch to train on")
    if epochs < 1 or accumulate < 1:
        raise ValueError(f"epochs and accumulate must be at least 1, got {epochs} and {accumulate}")
    if precision not in ("float32", "bf16"):
        raise ValueError(f'precision must be "float32" or "bf16", got {precision!r}')


def _call(callbacks: Iterable[Callable[[Progress], None]], history: list[Progress]) -> None:
    with preserved_random_state():  # what callbacks draw must not change what dropout draws
        for callback in callbacks if history else ():
            callback(history[-1])


def _check_loss(loss: float, history: list[Progress], optimizer) -> None:
    least = min([*(progress.loss for progress in history[1 - RECENT :]), loss])
    worst = 2 * history[0].loss + MARGIN if len(history) >= RECENT else math.inf
    if math.isfinite(loss) and least <= worst:
        return
    optimizer.zero_grad()
    what = f"was at least {least:.1f} for {RECENT} steps" if math.isfinite(loss) else f"is {loss}"
    raise FloatingPointError(
        f"training diverged: the loss {what} at step {len(history) + 1}; lower the learning rate, "
        "warm it up, or clip gradients (max_grad_norm=1.0)"
    )


def _autocast(accelerator: Accelerator, precision: str):
    # accelerate has one precision for a whole process; torch's own context is free to change.
    if precision == "bf16":
        return torch.autocast(accelerator.device.type, torch.bfloat16)
    return accelerator.autocast()


def _count_tokens(batch) -> int:
    if isinstance(batch, Mapping) and "attention_mask" in batch:
        return int(batch["attention_mask"].sum())
    return 0
