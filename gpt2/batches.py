"""Which rows make a batch: shuffled by seed and epoch, and, as an option, of similar lengths."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class ShuffledRows(Sampler[int]):
    """Row numbers in an order that follows from seed and epoch alone.

    So an epoch that was left in the middle can be gone back to. `set_epoch` picks the epoch, from
    0; accelerate calls it.
    """

    def __init__(self, count: int, seed: int = 0):
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def generator(self, purpose: int = 0) -> np.random.Generator:
        """Random numbers of this epoch, of their own for every purpose."""
        return np.random.default_rng([self.seed, self.epoch, purpose])

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator().permutation(self.count).tolist())

    def __len__(self) -> int:
        return self.count


class BatchesByLength(Sampler[list[int]]):
    """Batches of rows of similar lengths, `token_budget` tokens each at most, pads included.

    A row longer than the budget is a batch of its own. Rows of one length meet in another order
    each epoch, and so do the batches; how many there are stays the same.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, token_budget: int, seed: int = 0):
        self.sampler = ShuffledRows(len(lengths), seed)
        self.lengths = np.asarray(lengths)
        if token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, got {token_budget}")
        self.ends = []  # of each batch, in the order of lengths
        begin = 0
        for row, length in enumerate(np.sort(self.lengths)):
            if row > begin and (row + 1 - begin) * length > token_budget:
                self.ends.append(row)
                begin = row
        self.ends.append(len(lengths))

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = np.fromiter(self.sampler, dtype=np.int64)
        by_length = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]
        batches = np.split(by_length, self.ends[:-1])
        for batch in self.sampler.generator(purpose=1).permutation(len(batches)):
            yield batches[batch].tolist()

    def __len__(self) -> int:
        return len(self.ends)
