"""Causal self-attention: the handout's formula, and torch's fused kernel for the same thing.

Shapes: B batch, T positions, h heads, d width of a head, hidden = h·d. With a cache the T new
positions attend to S ≥ T, themselves and those before; else S = T.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerCache:
    """The keys and values of one layer's positions so far, in memory that is taken once.

    `key` and `value` are [B, h, capacity, d], of which the first `length` positions are filled.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device):
        self.key = torch.empty(shape, dtype=dtype, device=device)
        self.value = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new positions; returns all keys and values up to them, [B, h, S, d]."""
        start, end = self.length, self.length + key.size(2)
        if end > self.key.size(2):
            raise ValueError(f"the cache has room for {self.key.size(2)} positions, not {end}")
        self.key[:, :, start:end], self.value[:, :, start:end] = key, value
        self.length = end
        return self.key[:, :, :end], self.value[:, :, :end]


class KeyValueCache:
    """A LayerCache for every layer of a model, which read one text together."""

    def __init__(self, config, batch_size: int, capacity: int, *, dtype=torch.float32, device=None):
        heads = config.num_attention_heads
        shape = (batch_size, heads, capacity, config.hidden_size // heads)
        self.layers = [LayerCache(shape, dtype, device) for _ in range(config.num_hidden_layers)]

    @property
    def length(self) -> int:
        return self.layers[0].length

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        for layer in self.layers:
            layer.length = length

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, which may repeat."""
        for layer in self.layers:
            layer.key, layer.value = layer.key[rows], layer.value[rows]


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no position sees a later one (handout section 3.2)."""

    def __init__(self, config):
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.attn_implementation = config.attn_implementation
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def transform(
        self, x: Float[Tensor, "B T hidden"], linear_layer: nn.Module
    ) -> Float[Tensor, "B h T d"]:
        """`linear_layer(x)` cut into heads."""
        return linear_layer(x).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)

    def attention(
        self,
        key: Float[Tensor, "B h S d"],
        query: Float[Tensor, "B h T d"],
        value: Float[Tensor, "B h S d"],
        attention_mask: Float[Tensor, "#B 1 1 S"] | None,
    ) -> Float[Tensor, "B T hidden"]:
        """softmax(QKᵀ/√d + M_causal + M_pad)·V, and the heads merged again.

        `attention_mask` is M_pad, to be added: 0 keeps, the dtype's minimum drops. It is None
        where causality alone hides all there is to hide.
        """
        # BEGIN SOLUTION attention
        attend = self._formula if self.attn_implementation == "eager" else self._fast
        return attend(key, query, value, attention_mask).transpose(1, 2).flatten(2)

    def _formula(self, key, query, value, attention_mask):
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1))  # [B, h, T, S]
        scores = scores.masked_fill(_future(query, key), -torch.inf)
        if attention_mask is not None:
            scores = scores + attention_mask
        # Each query still has its own key or a finite mask value: no row is all -inf, none NaN.
        weights = self.dropout(scores.softmax(dim=-1))
        return weights @ value  # [B, h, T, d]

    def _fast(self, key, query, value, attention_mask):
        T, S = query.size(-2), key.size(-2)
        mask, is_causal = None, False
        if attention_mask is not None:
            # Under autocast the mask may be wider than the query: its minimum must not become -inf.
            mask = attention_mask.clamp(min=torch.finfo(query.dtype).min).to(query.dtype)
            mask = mask.masked_fill(_future(query, key), -torch.inf)  # [B, 1, T, S]
        elif T == S:
            is_causal = True
        elif T > 1:  # a single new position has no future to hide
            mask = ~_future(query, key)
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout.p if self.training else 0.0,
            is_causal=is_causal,
        )
        # END SOLUTION

    def forward(
        self,
        hidden_states: Float[Tensor, "B T hidden"],
        attention_mask: Float[Tensor, "#B 1 1 S"] | None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B T hidden"]:
        """What each position gathers from itself and those before it; the mask as above."""
        key = self.transform(hidden_states, self.key)
        query = self.transform(hidden_states, self.query)
        value = self.transform(hidden_states, self.value)
        if cache is not None:
            key, value = cache.extend(key, value)
        attended = self.attention(key, query.to(key.dtype), value, attention_mask)
        return attended.to(hidden_states.dtype)  # a cache may be of another type


# BEGIN SOLUTION NO PROMPT
def _future(query: Tensor, key: Tensor) -> Tensor:
    """[T, S]: true where the key's position is later than the query's; the last ones coincide."""
    T, S = query.size(-2), key.size(-2)
    return torch.ones(T, S, dtype=torch.bool, device=query.device).triu(1 + S - T)
    # END SOLUTION
