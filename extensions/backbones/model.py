"""A causal model of transformers with the interface of GPT2Model."""

import inspect
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from extensions.backbones.cache import CacheAdapter, pads_first
from gpt2.cache import KeyValueCache
from gpt2.model import GPTPreTrainedModel

ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}  # layers with keys


class Backbone(GPTPreTrainedModel):
    """A causal model of transformers with the interface of GPT2Model."""

    def __init__(self, causal: nn.Module):
        super().__init__(causal.config.get_text_config())
        self.causal = causal
        if getattr(self.config, "max_position_embeddings", None) is None:  # BLOOM has no table
            limit = getattr(self.config, "max_seq_len", None)  # MPT's
            self.config.max_position_embeddings = limit or getattr(self.config, "seq_length", 2048)
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
        attention_mask, position_ids = self._complete_input(input_ids, attention_mask, cache)
        more = {"position_ids": position_ids} if self.takes_positions else {}
        mask = attention_mask
        if cache is not None:
            if other := {*(getattr(self.config, "layer_types", None) or ())} - ATTENTION:
                raise TypeError(f"its layers of type {min(other)} keep a state and no keys")
            order = pads_first(attention_mask, cache.length)
            more["past_key_values"] = CacheAdapter(cache, order)
            mask = mask if order is None else mask.take_along_dim(order, dim=1)
        hidden_states = self.decoder(
            input_ids=input_ids, attention_mask=mask, use_cache=cache is not None, **more
        ).last_hidden_state
        if cache is not None:
            cache.length += input_ids.size(1)
        return self._output(hidden_states, attention_mask)

    def hidden_state_to_token(self, hidden_state: Tensor) -> Tensor:
        """Return the logits (..., vocab) by the model's own output layer."""
        logits = self.causal.get_output_embeddings()(hidden_state)
        if factor := getattr(self.config, "logit_scale", None):  # Cohere
            logits = logits * factor
        if divisor := getattr(self.config, "logits_scaling", None):  # Granite
            logits = logits / divisor
        if cap := getattr(self.config, "final_logit_softcapping", None):  # Gemma 2
            logits = cap * torch.tanh(logits / cap)
        return logits

    def save_pretrained(self, folder, tokenizer=None) -> None:
        """Write a folder that `load_backbone` and transformers' Auto classes read.

        An error leaves the old files as they were. Raises ValueError for a model with weights
        that its configuration does not say, such as an adapter's.
        """
        with torch.device("meta"):
            expected = type(self.causal)(self.causal.config).state_dict().keys()
        if other := expected ^ self.causal.state_dict().keys():
            raise ValueError(
                f"the model cannot be saved: {min(other)} is not what its configuration says; "
                "detach what was attached"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as temporary:
            with quiet():
                self.causal.save_pretrained(temporary, max_shard_size="1000GB")
            if tokenizer is not None:
                tokenizer.save_pretrained(temporary)
            for file in Path(temporary).iterdir():
                file.replace(Path(folder) / file.name)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars, and warnings of libraries that transformers only tries to import."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
