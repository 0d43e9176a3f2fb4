"""What GPT2Model computes, in less time, in two cases: prompts that share their beginnings, and
one new token after many.

Both say the formulas of `layer.py` and `attention.py` once more; tests hold them equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.attention import CausalSelfAttention, KeyValueCache
from gpt2.fast_linear import pack, packed_linear, packs
from gpt2.layer import GPT2Layer
from gpt2.model import GPT2Model
from utils import get_parameter_dtype

BLOCKS = (GPT2Model, GPT2Layer, CausalSelfAttention)
LEAVES = (nn.ModuleList, nn.Embedding, nn.Dropout, nn.LayerNorm, nn.Linear, nn.GELU)


def has_its_own_blocks(model) -> bool:
    """Whether `last_token` does all that the model does: its blocks are ours, without a hook."""
    return type(model) is GPT2Model and all(
        _is_untouched(part, BLOCKS)
        for layer in model.gpt_layers
        for part in (model, layer, layer.self_attention)
    )


def has_its_own_layers(model) -> bool:
    """Whether `OneToken` does: all its layers are torch's own, too, with nothing put between."""
    return type(model) is GPT2Model and all(
        _is_untouched(part, BLOCKS + LEAVES) for part in model.modules()
    )


def _is_untouched(module: nn.Module, types: tuple[type, ...]) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in types and not hooks


def last_token(model: GPT2Model, ids: Tensor, mask: Tensor) -> Tensor:
    """`model(ids, mask)["last_token"]` [B, hidden] of rows padded on the right, in less time.

    Only attention sees the rows [B, T]. All else sees N of their B·T cells: no pads, and nothing
    twice that a row has in common with the row before; after the last attention the B ends alone.
    """
    same = torch.zeros_like(mask)  # up to here, the row is the one before
    same[1:] = ((ids[1:] == ids[:-1]) & mask[:-1]).cumprod(dim=1)
    new = mask & ~same
    cells = new.flatten().nonzero().squeeze(1)  # [N]
    number = new.flatten().cumsum(dim=0).view_as(ids) - 1
    # A cell that is not new repeats the nearest new one above it; a pad may be anything.
    states = number.where(new, 0).cummax(dim=0).values  # [B, T], each of the N
    ends = torch.arange(len(ids)) * ids.size(1) + mask.sum(dim=1) - 1  # [B], each of the B·T
    device = next(model.parameters()).device
    ids, cells, states, ends = (x.to(device) for x in (ids, cells, states, ends))

    hidden = model.embed(ids).flatten(0, 1)[None, cells]  # [1, N, hidden]
    for layer in model.gpt_layers:
        attention, normed = layer.self_attention, layer.attention_layer_norm(hidden)
        key, query, value = (
            attention.transform(linear(normed)[0, states], nn.Identity())  # [B, h, T, d]
            for linear in (attention.key, attention.query, attention.value)
        )
        attended = attention.attention(key, query, value, None).flatten(0, 1)  # [B·T, hidden]
        if layer is model.gpt_layers[-1]:
            hidden, cells = hidden[:, states.flatten()[ends]], ends
        hidden = layer.add(
            hidden, attended[None, cells], layer.attention_dense, layer.attention_dropout
        )
        widened = layer.interm_af(layer.interm_dense(layer.out_layer_norm(hidden)))
        hidden = layer.add(hidden, widened, layer.out_dense, layer.out_dropout)
    return model.final_layer_norm(hidden)[0]


class OneToken:
    """One new token a row through a model that has read others, on a CPU.

    Reading the weights from memory takes nearly all the time of such a step. So they are copied
    once into the order in which oneDNN reads them quickest, a layer's queries, keys and values as
    one matrix. The copies are of the weights as they are when this is made.
    """

    def __init__(self, model: GPT2Model, rows: int):
        """`rows` is the batch size that the order is chosen for; others work, too."""
        self.model, self.rows = model, rows
        self.weights = []
        for layer in model.gpt_layers:
            parts = layer.self_attention
            parts = (parts.query, parts.key, parts.value)
            qkv = (torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
            others = (layer.attention_dense, layer.interm_dense, layer.out_dense)
            pairs = (qkv, *((part.weight, part.bias) for part in others))
            self.weights.append([(pack(weight, rows), bias) for weight, bias in pairs])
        self.vocabulary = pack(model.word_embedding.weight, rows)

    @staticmethod
    def takes(model) -> bool:
        """Whether this model's steps can be computed like this."""
        return (
            has_its_own_layers(model)
            and model.word_embedding.weight.device.type == "cpu"
            and packs(get_parameter_dtype(model))
            and all(layer.interm_af.approximate == "tanh" for layer in model.gpt_layers)
            and all(m.bias is not None for m in model.modules() if isinstance(m, nn.Linear))
        )

    def hidden_state(self, ids: Tensor, mask: Tensor, cache: KeyValueCache) -> Tensor:
        """`model(ids, mask, cache)["last_hidden_state"]`; ids [B, 1], mask [B, S] to [B, 1, d]."""
        model, config = self.model, self.model.config
        positions = mask.sum(dim=1) - 1
        visible = None if mask.all() else mask[:, None, None].bool()  # [B, 1, 1, S]
        hidden = model.word_embedding(ids[:, 0]) + model.pos_embedding(positions)  # [B, hidden]
        for layer, weights, kept in zip(model.gpt_layers, self.weights, cache.layers, strict=True):
            qkv, dense, widen, narrow = weights
            normed = layer.attention_layer_norm(hidden)
            heads = packed_linear(normed, *qkv).view(len(ids), 3, config.num_attention_heads, 1, -1)
            query, key, value = heads.unbind(dim=1)  # [B, h, 1, d]
            key, value = kept.extend(key, value)
            attended = F.scaled_dot_product_attention(query.to(key.dtype), key, value, visible)
            hidden = hidden + packed_linear(attended.flatten(1).to(hidden.dtype), *dense)
            widened = packed_linear(layer.out_layer_norm(hidden), *widen, gelu=True)
            hidden = hidden + packed_linear(widened, *narrow)
        return model.final_layer_norm(hidden)[:, None]

    def logits(self, hidden_state: Tensor) -> Tensor:
        """`model.hidden_state_to_token(hidden_state)`; [B, hidden] to [B, vocab]."""
        return packed_linear(hidden_state, self.vocabulary)
