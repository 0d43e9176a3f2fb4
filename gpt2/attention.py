"""Causal self-attention (handout section 3.2).

Shapes: B rows, T positions, h heads, d width of a head, hidden = h·d. With a cache the T new
positions attend to S >= T, those before them and themselves; otherwise S = T.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from gpt2.cache import LayerCache


def causal_mask(
    T: int, S: int, padding_mask: Tensor | None = None, *, dtype=torch.float32, device=None
) -> Tensor:
    """Return M_causal + M_pad: 0 where a query may look, the smallest number of `dtype` elsewhere.

    The T queries are the last of the S positions. `padding_mask` (B, 1, 1, S) is M_pad, as
    `utils.get_extended_attention_mask` makes it. The result is (T, S), or (B, 1, T, S) with it.
    """
    # BEGIN SOLUTION attention
    smallest = torch.finfo(dtype).min  # finite: a row that sees nothing has no NaN
    mask = torch.full((T, S), smallest, dtype=dtype, device=device).triu(S - T + 1)
    return mask if padding_mask is None else torch.minimum(mask, padding_mask)
    # END SOLUTION


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no position sees a later one.

    `attn_implementation` of the configuration picks how it is computed: "eager" is the formula,
    "sdpa" torch's fused kernel for the same, which does not store the (B, h, T, S) weights.
    """

    def __init__(self, config):
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.attn_implementation = config.attn_implementation
        self.query = nn.Linear(config.hidden_size, self.all_head_size)
        self.key = nn.Linear(config.hidden_size, self.all_head_size)
        self.value = nn.Linear(config.hidden_size, self.all_head_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def transform(self, x: Tensor, linear_layer: nn.Module) -> Tensor:
        """Project x (B, T, hidden) and split it into heads, (B, h, T, d)."""
        return rearrange(linear_layer(x), "B T (h d) -> B h T d", h=self.num_attention_heads)

    def attention_weights(
        self, key: Tensor, query: Tensor, attention_mask: Tensor | None
    ) -> Tensor:
        """Return softmax(QKᵀ/√d + M_causal + M_pad), (B, h, T, S); each row sums to 1.

        `attention_mask` is M_pad (B, 1, 1, S), M_causal + M_pad (B, 1, T, S), or None: no pads.
        """
        # BEGIN SOLUTION attention
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1))  # (B, h, T, S)
        return (scores + self._complete_mask(key, query, attention_mask)).softmax(dim=-1)
        # END SOLUTION

    def attention(
        self, key: Tensor, query: Tensor, value: Tensor, attention_mask: Tensor | None
    ) -> Tensor:
        """Return the weighted values, heads merged, (B, T, hidden)."""
        # BEGIN SOLUTION attention
        T, S = query.size(-2), key.size(-2)
        if self.attn_implementation == "eager":
            weights = self.dropout(self.attention_weights(key, query, attention_mask))
            context = weights @ value  # (B, h, T, d)
        else:
            mask, is_causal = None, False
            if attention_mask is not None or 1 < T < S:
                mask = self._complete_mask(key, query, attention_mask)
            elif T > 1:
                is_causal = True
            context = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=self.dropout.p if self.training else 0.0,
                is_causal=is_causal,
            )
        return rearrange(context, "B h T d -> B T (h d)")
        # END SOLUTION

    def _complete_mask(self, key: Tensor, query: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return M_causal + M_pad in the query's dtype; a mask with T rows already is both."""
        T, S = query.size(-2), key.size(-2)
        if attention_mask is None or attention_mask.size(-2) != T:
            attention_mask = causal_mask(
                T, S, attention_mask, dtype=query.dtype, device=query.device
            )
        if attention_mask.dtype != query.dtype:  # autocast, or a cache of another dtype
            smallest = torch.finfo(query.dtype).min  # a narrower dtype rounds the mask to -inf
            attention_mask = attention_mask.to(query.dtype).clamp(min=smallest)
        return attention_mask

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        """Attend from each of the T positions of `hidden_states` (B, T, hidden); same shape back.

        With a `cache` the positions follow those that it holds, and are added to it.
        """
        key = self.transform(hidden_states, self.key)
        query = self.transform(hidden_states, self.query)
        value = self.transform(hidden_states, self.value)
        if cache is not None:
            key, value = cache.extend(key, value)
        context = self.attention(key, query.to(key.dtype), value, attention_mask)
        return context.to(hidden_states.dtype)  # a cache may store another dtype
