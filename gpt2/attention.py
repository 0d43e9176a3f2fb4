"""Causal self-attention: the handout's formula, and torch's fused kernel for the same thing.

Shapes: B batch, T positions, h heads, d width of a head, hidden = h·d.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


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
        key: Float[Tensor, "B h T d"],
        query: Float[Tensor, "B h T d"],
        value: Float[Tensor, "B h T d"],
        attention_mask: Float[Tensor, "#B 1 1 T"] | None,
    ) -> Float[Tensor, "B T hidden"]:
        """softmax(QKᵀ/√d + M_causal + M_pad)·V, and the heads merged again.

        `attention_mask` is M_pad, to be added: 0 keeps, the dtype's minimum drops. It is None
        where causality alone hides all there is to hide.
        """
        attend = self._formula if self.attn_implementation == "eager" else self._fast
        return attend(key, query, value, attention_mask).transpose(1, 2).flatten(2)

    def _formula(self, key, query, value, attention_mask):
        T = query.size(-2)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1))  # [B, h, T, T]
        future = torch.ones(T, T, dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
        if attention_mask is not None:
            scores = scores + attention_mask
        # Each query still has its own key or a finite mask value: no row is all -inf, none NaN.
        weights = self.dropout(scores.softmax(dim=-1))
        return weights @ value  # [B, h, T, d]

    def _fast(self, key, query, value, attention_mask):
        dropout_p = self.dropout.p if self.training else 0.0
        if attention_mask is None:
            return F.scaled_dot_product_attention(
                query, key, value, dropout_p=dropout_p, is_causal=True
            )
        T = query.size(-2)
        future = torch.ones(T, T, dtype=torch.bool, device=query.device).triu(1)
        # Under autocast the mask may be wider than the query: its minimum must not become -inf.
        mask = attention_mask.clamp(min=torch.finfo(query.dtype).min).to(query.dtype)
        mask = mask.masked_fill(future, -torch.inf)  # [B, 1, T, T]
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout_p
        )

    def forward(
        self,
        hidden_states: Float[Tensor, "B T hidden"],
        attention_mask: Float[Tensor, "#B 1 1 T"] | None,
    ) -> Float[Tensor, "B T hidden"]:
        """What each position gathers from itself and those before it; the mask as above."""
        key = self.transform(hidden_states, self.key)
        query = self.transform(hidden_states, self.query)
        value = self.transform(hidden_states, self.value)
        return self.attention(key, query, value, attention_mask)
