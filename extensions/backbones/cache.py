"""Our key/value cache as transformers' attention layers see one."""

import torch
from torch import Tensor
from transformers import Cache

from gpt2.cache import KeyValueCache


class CacheAdapter(Cache):
    """Our cache as transformers' models see one; every layer keeps every position.

    They measure distances in slots: those of a sliding window, or of ALiBi. So the pads between
    what the cache holds and what is read now are moved to the front: `order` (B, S) or None.
    """

    is_compileable = False

    def __init__(self, cache: KeyValueCache, order: Tensor | None):
        super().__init__(layers=[])
        self.cache, self.order = cache, order

    def update(self, key_states, value_states, layer_idx, *_, **__) -> tuple[Tensor, Tensor]:
        states = self.cache.layer(layer_idx).extend(key_states, value_states)
        if self.order is None:
            return states
        return tuple(state.take_along_dim(self.order[:, None, :, None], dim=2) for state in states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.cache.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.cache.length + query_length, 0


def pads_first(attention_mask: Tensor, start: int) -> Tensor | None:
    """Return the order of slots (B, S) in which the pads of the first `start` are in front.

    None where they are there already.
    """
    slots = torch.arange(attention_mask.size(1), device=attention_mask.device)
    key = torch.where(slots < start, attention_mask != 0, 2)  # the others stay behind them
    order = key.argsort(dim=1, stable=True)
    return None if (order == slots).all() else order
