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

    def random(self, purpose: int = 0) -> np.random.Generator:
        """Random numbers of this epoch, of their own for every purpose."""
        # Not named `generator`: accelerate takes a sampler's attribute of that name for torch's.
        return np.random.default_rng([self.seed, self.epoch, purpose])

    def __iter__(self) -> Iterator[int]:
        return iter(self.random().permutation(self.count).tolist())

    def __len__(self) -> int:
        return self.count


class MixedRows(ShuffledRows):
    """Rows of several data sets, one after the other in a ConcatDataset, mixed with a temperature.

    Of `sizes` n₁, n₂, ... an epoch of `count` rows takes shares proportional to n^(1/T) (Devlin et
    al. 2019 smooth multilingual data like this): T = 1 is in proportion, a large T in equal parts.
    A data set of more rows than its share gives others each epoch, one of fewer repeats them.
    """

    def __init__(
        self, sizes: Sequence[int], count: int | None = None, temperature: float = 1.0, seed=0
    ):
        count = sum(sizes) if count is None else count
        if temperature < 1:
            raise ValueError(f"temperature must be at least 1 (in proportion), got {temperature}")
        super().__init__(count, seed)
        self.sizes = np.asarray(sizes)
        weights = self.sizes ** (1 / temperature)
        exact = count * weights / weights.sum()
        self.shares = np.floor(exact).astype(int)
        rest = count - self.shares.sum()  # to those that lost most by rounding down
        self.shares[np.argsort(self.shares - exact, kind="stable")[:rest]] += 1

    def __iter__(self) -> Iterator[int]:
        starts = np.cumsum([0, *self.sizes[:-1]])
        rows = []
        for i, (start, size, share) in enumerate(zip(starts, self.sizes, self.shares, strict=True)):
            # Epoch after epoch each data set goes on through rounds of all its rows.
            first, last = self.epoch * share, (self.epoch + 1) * share
            for turn in range(first // size, -(-last // size)):
                order = np.random.default_rng([self.seed, turn, 1000 + i]).permutation(size)
                rows.append(start + order[max(first - turn * size, 0) : max(last - turn * size, 0)])
        return iter(self.random().permutation(np.concatenate(rows)).tolist())


class BatchesByLength(Sampler[list[int]]):
    """Batches of rows of similar lengths, `token_budget` tokens each at most, pads included.

    A row longer than the budget is a batch of its own. Rows of one length meet in another order
    each epoch, and so do the batches; how many there are stays the same.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, token_budget: int, seed: int = 0):
        self.sampler = ShuffledRows(len(lengths), seed)  # by this name accelerate sets its epoch
        self.lengths = np.asarray(lengths)
        if token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, got {token_budget}")
        self.ends = []  # of each batch, in the order of lengths
        begin = 0
        for row, length in enumerate(np.sort(self.lengths)):
            if row > begin and (row + 1 - begin) * length > token_budget:
                self.ends.append(row)
                begin = row
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
