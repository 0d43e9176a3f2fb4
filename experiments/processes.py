"""Several processes of one launcher (torchrun, accelerate launch): who has which rows."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch.utils.data import DataLoader

from gpt2.loss import count_labels
from gpt2.tasks import PromptDataset, Task


@contextmanager
def launched() -> Iterator[None]:
    """Let the processes of a launcher know each other without a GPU, too, and one of them print.

    Without this variable accelerate takes each process on a CPU for the only one.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "1")
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def from_main(value: Any) -> Any:
    """Return in every process what the main process has given."""
    (value,) = broadcast_object_list([value])
    return value


def placed(model, sharded: bool) -> tuple[Accelerator, Callable]:
    """Return the accelerator that trains a model, and a function that gives the whole model.

    `sharded` processes hold a part of it each (experiments.sharding).
    """
    if not sharded:
        return Accelerator(), lambda: model
    from experiments.sharding import ShardingAccelerator, shard  # takes a second to import

    return ShardingAccelerator(), shard(model)


class IdleBatch(dict):
    """A batch whose rows other processes have; it takes part in the exchange and counts nothing."""


class SharedBatches:
    """A loader's batches, of which each process has every n-th row.

    So a step is the same whatever the number of processes. One for which a batch has no row gets
    an IdleBatch. It is no DataLoader, which accelerate would give out batch by batch.
    """

    def __init__(self, loader: DataLoader):
        state = PartialState()
        self.loader, self.process, self.shares = loader, state.process_index, state.num_processes

    def set_epoch(self, epoch: int) -> None:
        self.loader.batch_sampler.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict]:
        for rows in self.loader.batch_sampler:
            share = rows[self.process :: self.shares]
            batch = self.loader.collate_fn([self.loader.dataset[i] for i in share or rows[:1]])
            yield batch if share else IdleBatch(batch)


def shared_out(loader: DataLoader, loss_fn: Callable) -> tuple[Iterable[dict], dict]:
    """Return this process's batches, and `train`'s arguments that count its rows alone."""
    if PartialState().num_processes == 1:
        return loader, {"loss_fn": loss_fn}

    def loss(model, batch, reduction: str = "mean"):
        return loss_fn(model, batch, reduction=reduction) * (not isinstance(batch, IdleBatch))

    def count(batch) -> int:
        return 0 if isinstance(batch, IdleBatch) else count_labels(batch)

    return SharedBatches(loader), {"loss_fn": loss, "count_fn": count}


def predict_together(task: Task, model, tokenizer, rows: PromptDataset, **settings) -> pd.DataFrame:
    """Return `task.predict` of all rows, in their order, in every process.

    Each process predicts a block of neighbouring rows, as those may have a premise in common.
    """
    state = PartialState()
    if state.num_processes == 1:
        return task.predict(model, tokenizer, rows, **settings)
    ends = [len(rows) * i // state.num_processes for i in range(state.num_processes + 1)]
    block = Block(rows, *ends[state.process_index : state.process_index + 2])
    predicted = [task.predict(model, tokenizer, block, **settings)] if len(block) else []
    return pd.concat(gather_object(predicted), ignore_index=True)


class Block:
    """Neighbouring rows of a PromptDataset, as a data set to be predicted."""

    def __init__(self, rows: PromptDataset, start: int, end: int):
        self.rows, self.places = rows, range(start, end)

    def __len__(self) -> int:
        return len(self.places)

    def __getattr__(self, name: str):
        value = getattr(self.rows, name)
        a_row_each = name in ("pair_ids", "labels", "answers", "lengths", "lengths_with_answer")
        return value[self.places.start : self.places.stop] if a_row_each else value

    def prompt(self, index: int) -> torch.Tensor:
        return self.rows.prompt(self.places[index])

    def answered(self, index: int) -> dict:
        return self.rows.answered(self.places[index])
