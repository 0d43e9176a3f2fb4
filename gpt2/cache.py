"""The key/value cache: what attention has already computed of the positions read so far."""

import warnings

import torch
from torch import Tensor


class LayerCache:
    """Store the keys and values of one layer, (B, h, S, d) each.

    `GPT2Model.encode` passes `cache.layer(i)` to layer i, whose attention calls `extend`.
    """

    def __init__(self, cache: "KeyValueCache"):
        self.cache = cache
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of T new positions, (B, h, T, d); return all, (B, h, S, d)."""
        self.key = self._append(self.key, key)
        self.value = self._append(self.value, value)
        end = self.cache.length + key.size(2)
        return self.key[:, :, :end], self.value[:, :, :end]

    def _append(self, stored: Tensor | None, new: Tensor) -> Tensor:
        new = new.to(self.cache.dtype or new.dtype)
        start, end = self.cache.length, self.cache.length + new.size(2)
        if stored is None:
            stored = new.new_empty(*new.shape[:2], self.cache.capacity, new.size(3))
        if end > stored.size(2):
            return torch.cat([stored[:, :, :start], new], dim=2)
        stored[:, :, start:end] = new
        return stored


class KeyValueCache:
    """Store what a model has read of B texts, so that `forward(new_ids, mask, cache)` continues.

    `length` counts the positions that all layers have read; `GPT2Model.forward` advances it.
    `capacity` reserves memory for so many positions at once; beyond it the memory is copied to
    grow. `dtype` is what keys and values are stored in (default: as they come).
    """

    def __init__(self, capacity: int = 0, dtype: torch.dtype | None = None):
        self.capacity, self.dtype = capacity, dtype
        self.length = 0
        self.layers: dict[int, LayerCache] = {}

    def layer(self, index: int) -> LayerCache:
        """Return the cache of layer `index`, made at its first use."""
        return self.layers.setdefault(index, LayerCache(self))

    def select(self, rows: Tensor) -> "KeyValueCache":
        """Return a cache of these rows of the batch, which may repeat; this one stays as it is."""
        chosen = KeyValueCache(self.capacity, self.dtype)
        chosen.length = self.length
        for index, layer in self.layers.items():
            if layer.key is not None:  # a patched block may do without attention
                copy = chosen.layer(index)
                copy.key, copy.value = layer.key[rows], layer.value[rows]
        return chosen


@torch.no_grad()
def reads_in_parts(model, ids: Tensor, split: int) -> bool:
    """Return whether a model gives the last token of one text (1, T) the same state in two parts.

    The first part has `split` tokens. It is no for a model whose forward takes no cache, or in
    which a position sees later ones: such a model must read every text as a whole. A warning says
    so. Equal means to rounding, by the measure of the weights' dtypes.
    """
    mask, cache = torch.ones_like(ids), KeyValueCache()
    whole = model(ids, mask)["last_token"]
    try:
        model(ids[:, :split], mask[:, :split], cache)
        parts = model(ids[:, split:], mask, cache)["last_token"]
        dtypes = {getattr(value, "dtype", None) for value in model.state_dict().values()}
        exact = dtypes <= {torch.float32, torch.float64}
        exact &= not torch.is_autocast_enabled(ids.device.type)
        tolerance = 1e-3 if exact else 0.1  # bfloat16, int8
        if (parts - whole).norm() <= tolerance * whole.norm():
            return True
        reason = "gives another result with a cache than without"
    except TypeError as error:
        reason = f"takes no cache ({error})"
    warnings.warn(
        f"the model's forward {reason}: it reads every text as a whole, which takes longer",
        stacklevel=3,
    )
    return False
