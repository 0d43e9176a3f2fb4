"""Prefix-tuning: learned keys and values before every text (Li & Liang 2021, arXiv 2101.00190).

A prompt steers a model through the keys and values that its tokens leave in each layer. Here these
are trained directly, as P positions that no token needs to stand for; all weights stay frozen:

    softmax(Q·[K_P; K]ᵀ/√d)·[V_P; V]        K_P, V_P: (P, d) for each head and layer

    layer i    K_P V_P │ k₁ v₁   k₂ v₂   k₃ v₃
               learned │ of the text's tokens, whose positions start at P
               ────────┴──────────────────────
                 what the cache gives attention

A cache of the caller's stores only the text: its length, masks and rows are as without a prefix.

Keys far from those of real words train badly (the paper's section 7.4), so the prefix starts as
what a text leaves in the cache: the model then computes what it would after this text.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from extensions import adapter_files, adapters
from extensions.adapter_files import save
from gpt2.cache import KeyValueCache
from utils import in_evaluation_mode

__all__ = ["attach", "detach", "load", "save"]
METHOD, FILE_NAME = "PREFIX_TUNING", "prompt_embeddings"


class Prefix(nn.Module):
    """The learned keys and values in peft's layout, (P, layers·2·hidden): key, value, key, ..."""

    def __init__(self, values: Tensor):
        super().__init__()
        self.prompt_embeddings = nn.Parameter(values)

    @property
    def length(self) -> int:
        """How many positions the prefix has."""
        return self.prompt_embeddings.size(0)

    def layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return key and value of a layer, (B, h, P, d), for keys `like` (B, h, T, d)."""
        h, d = like.size(1), like.size(3)
        parts = rearrange(self.prompt_embeddings, "P (part h d) -> part h P d", h=h, d=d)
        key, value = parts[2 * index : 2 * index + 2].to(like.dtype)
        return key.expand(len(like), -1, -1, -1), value.expand(len(like), -1, -1, -1)


class PrefixedCache:
    """What the model sees of a cache: the prefix, then what the cache holds."""

    def __init__(self, prefix: Prefix, cache: KeyValueCache):
        self.prefix, self.cache = prefix, cache

    @property
    def length(self) -> int:
        return self.prefix.length + self.cache.length

    @length.setter
    def length(self, length: int) -> None:
        self.cache.length = length - self.prefix.length

    def layer(self, index: int) -> "PrefixedLayer":
        return PrefixedLayer(self, index)


class PrefixedLayer:
    """The same for one layer."""

    def __init__(self, cache: PrefixedCache, index: int):
        self.cache, self.index = cache, index

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.cache.cache.layer(self.index).extend(key, value)
        prefix_key, prefix_value = self.cache.prefix.layer(self.index, like=key)
        return torch.cat([prefix_key, key], dim=2), torch.cat([prefix_value, value], dim=2)


def attach(model: nn.Module, length: int = 16, *, ids: Tensor | None = None) -> None:
    """Put a prefix of `length` positions before every text, and train nothing else.

    It starts as what the text `ids` (length,) leaves in the cache, by default random tokens.
    Texts have `length` positions fewer to themselves. Raises ValueError for a bad length.
    """
    positions = model.config.max_position_embeddings
    if ids is None and 1 <= length < positions:
        ids = torch.randint(model.config.vocab_size, (length,))
    if ids is None or not 1 <= len(ids) < positions:
        raise ValueError(f"length must be 1 to {positions - 1}, this model's positions less one")
    _attach(model, _keys_and_values(model, ids))


def load(model: nn.Module, folder) -> None:
    """Attach a saved prefix, ours or peft's."""
    config, tensors = adapter_files.read(model, folder, METHOD, "num_virtual_tokens")
    sizes = model.config.num_hidden_layers * 2 * model.config.hidden_size
    values = torch.empty(config["num_virtual_tokens"], sizes)
    adapter_files.fill({FILE_NAME: values}, tensors, folder)
    _attach(model, values)


def detach(model: nn.Module) -> None:
    """Give back the model without a prefix, bit for bit."""
    adapters.detach(model)
    model.prefix.hook.remove()
    del model.prefix


def _attach(model: nn.Module, values: Tensor) -> None:
    config = {
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": len(values),
        "token_dim": model.config.hidden_size,
        "num_transformer_submodules": 1,
        "num_attention_heads": model.config.num_attention_heads,
        "num_layers": model.config.num_hidden_layers,
        "prefix_projection": False,
    }
    adapters.start(model, METHOD, "default", config, {FILE_NAME: f"prefix.{FILE_NAME}"})
    model.prefix = Prefix(values.to(model.word_embedding.weight))
    model.prefix.hook = model.register_forward_pre_hook(_after_the_prefix, with_kwargs=True)
    adapters.switch(model, "default")


def _after_the_prefix(model, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return the arguments with which the model's own forward reads on after the prefix."""
    input_ids, mask, cache = _arguments(*args, **kwargs)
    cache = PrefixedCache(model.prefix, KeyValueCache() if cache is None else cache)
    if mask is None:
        mask = torch.ones(len(input_ids), cache.cache.length + input_ids.size(1)).to(input_ids)
    return (input_ids, F.pad(mask, (model.prefix.length, 0), value=1), cache), {}


def _arguments(input_ids, attention_mask=None, cache=None) -> tuple:
    return input_ids, attention_mask, cache


@torch.no_grad()
@in_evaluation_mode
def _keys_and_values(model: nn.Module, ids: Tensor) -> Tensor:
    """Return what a text (P,) leaves in the cache, (P, layers·2·hidden)."""
    cache = KeyValueCache()
    model(ids[None].to(model.word_embedding.weight.device), None, cache)
    layers = [cache.layer(i) for i in range(len(model.gpt_layers))]
    parts = torch.cat([part for layer in layers for part in (layer.key, layer.value)])
    return rearrange(parts, "part h P d -> P (part h d)")
