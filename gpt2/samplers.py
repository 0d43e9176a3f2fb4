"""Which rows make a batch: shuffled by seed and epoch, and, as an option, of similar lengths."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class ShuffledRows(Sampler[int]):
    """Yield row numbers in an order that follows from seed and epoch alone.

    So an interrupted epoch can be resumed. `set_epoch` picks the epoch, from 0; accelerate calls
    it. With `sample` an epoch has at most so many of the rows, others each time.
    """

    def __init__(self, count: int, seed: int = 0, sample: int | None = None):
        self.count, self.seed, self.epoch = count, seed, 0
        self.length = count if sample is None else min(sample, count)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def random(self, purpose: int = 0) -> np.random.Generator:
        """Return this epoch's random generator, a different one for each purpose."""
        # Not named `generator`: accelerate takes a sampler's attribute of that name for torch's.
        return np.random.default_rng([self.seed, self.epoch, purpose])

    def __iter__(self) -> Iterator[int]:
        return iter(self.random().permutation(self.count)[: self.length].tolist())

    def __len__(self) -> int:
        return self.length


class BatchesByLength(Sampler[list[int]]):
    """Yield batches of rows of similar lengths, of at most `token_budget` tokens, pads included,
    and, where it is given, at most `batch_size` rows.

    A row longer than the budget is a batch of its own. Each epoch shuffles the rows of one length
    and the batches; the number of batches stays the same.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        token_budget: int,
        seed: int = 0,
        batch_size: int | None = None,
    ):
        self.sampler = ShuffledRows(len(lengths), seed)  # by this name accelerate sets its epoch
        self.lengths = np.asarray(lengths)
        if token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, got {token_budget}")
        self.ends = []  # of each batch, in the order of lengths
        start = 0
        for row, length in enumerate(np.sort(self.lengths)):
            full = (row + 1 - start) * length > token_budget or row - start == batch_size
            if row > start and full:
                self.ends.append(row)
                start = row
        if len(lengths):
            self.ends.append(len(lengths))

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = np.fromiter(self.sampler, dtype=np.int64)
        by_length = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]
        batches = np.split(by_length, self.ends[:-1])
        for batch in self.sampler.random(purpose=1).permutation(len(batches)):
            yield batches[batch].tolist()

    def __len__(self) -> int:
        return len(self.ends)
