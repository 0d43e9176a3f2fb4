"""GPT-2: embeddings, a stack of blocks, and the projection back to the vocabulary."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import GPT2Config
from gpt2 import weights
from gpt2.attention import causal_mask
from gpt2.cache import KeyValueCache
from gpt2.layer import GPT2Layer
from utils import get_extended_attention_mask, get_position_ids


class GPTPreTrainedModel(nn.Module):
    """Configuration, initialization, input and output, apart from the architecture."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.config = config

    def init_weights(self) -> None:
        """Draw every weight from N(0, std²); norms start at 1, biases at 0 (handout 3.2)."""
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)

    def _complete_input(self, input_ids: Tensor, attention_mask, cache) -> tuple[Tensor, Tensor]:
        """Return the mask (B, S), ones by default, and the positions (B, T); check them all."""
        (B, T), positions = input_ids.shape, self.config.max_position_embeddings
        S = T if cache is None else cache.length + T
        if T == 0:
            raise ValueError("input_ids is [B, 0]: there must be at least one token to read")
        if attention_mask is None:
            attention_mask = torch.ones(B, S, dtype=torch.long, device=input_ids.device)
        if attention_mask.shape != (B, S):
            raise ValueError(
                f"attention_mask is {list(attention_mask.shape)}, but must be [{B}, {S}], "
                "a column for each position that was read and each of input_ids"
            )
        position_ids = get_position_ids(attention_mask)[:, S - T :]
        on_cpu = input_ids.device.type == "cpu"  # on a GPU a check would wait for every kernel
        if _is_traced() or not (on_cpu or S > positions):
            return attention_mask, position_ids
        if (longest := int(position_ids.max()) + 1) > positions:
            raise ValueError(
                f"input_ids reaches {longest} positions, but this model has {positions}; cut the "
                "text, and pass a mask of 0 and 1"
            )
        outside = (input_ids < 0) | (input_ids >= self.config.vocab_size)
        if on_cpu and outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise ValueError(
                f"input_ids[{row}, {column}] = {input_ids[row, column].item()} is outside the "
                f"vocabulary (0 to {self.config.vocab_size - 1}); use this model's own tokenizer"
            )
        return attention_mask, position_ids

    def _output(self, hidden_states: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the states (B, T, hidden) and, of each row, the one at its last token."""
        B, T, _ = hidden_states.shape
        rows, columns = (torch.arange(n, device=hidden_states.device) for n in (B, T))
        last_column = (columns * (attention_mask[:, -T:] != 0)).argmax(dim=1)
        return {"last_hidden_state": hidden_states, "last_token": hidden_states[rows, last_column]}


class GPT2Model(GPTPreTrainedModel):
    """GPT-2 as published (Radford et al. 2019; handout section 3.2), with random weights.

    `GPT2Model.from_pretrained` loads trained ones.
    """

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.embed_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.gpt_layers = nn.ModuleList(GPT2Layer(config) for _ in range(config.num_hidden_layers))
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.init_weights()

    def embed(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Return Dropout(E_token(x) + E_pos(p)), (B, T, hidden); p is 0, 1, 2, ... by default."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.size(1), device=input_ids.device).unsqueeze(0)
        # BEGIN SOLUTION embed
        return self.embed_dropout(self.word_embedding(input_ids) + self.pos_embedding(position_ids))
        # END SOLUTION

    def encode(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Run the blocks on (B, T, hidden); the mask (B, S) is 1 for a token, 0 for a pad."""
        T = hidden_states.size(1)
        S = T if cache is None else cache.length + T
        mask = None
        if attention_mask is not None and not _padded_on_the_right(attention_mask):
            mask = get_extended_attention_mask(attention_mask, hidden_states.dtype)
        if mask is not None or 1 < T < S:  # once for all layers; None: causality hides every pad
            mask = causal_mask(T, S, mask, dtype=hidden_states.dtype, device=hidden_states.device)
        for i, layer in enumerate(self.gpt_layers):
            layer_cache = () if cache is None else (cache.layer(i),)
            hidden_states = layer(hidden_states, mask, *layer_cache)
        return hidden_states

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> dict[str, Tensor]:
        """Return the hidden states after the last block for ids (B, T).

        `last_hidden_state` is (B, T, hidden), `last_token` (B, hidden) the state at each row's last
        token. `attention_mask` (B, T) is 1 for a token and 0 for a pad; without it every id is a
        token. With a `cache`, input_ids continue what it holds and are added to it; the mask
        (B, S) then covers both. Raises ValueError for ids or shapes that this model cannot read.
        """
        attention_mask, position_ids = self._complete_input(input_ids, attention_mask, cache)
        more = () if cache is None else (cache,)
        hidden_states = self.embed(input_ids, position_ids)
        hidden_states = self.encode(hidden_states, attention_mask, *more)
        hidden_states = self.final_layer_norm(hidden_states)
        if cache is not None:
            cache.length += input_ids.size(1)
        return self._output(hidden_states, attention_mask)

    def hidden_state_to_token(self, hidden_state: Tensor) -> Tensor:
        """Return the logits H·E_tokenᵀ, (..., vocab), with the embedding's own weights."""
        # BEGIN SOLUTION hidden_state_to_token
        return F.linear(hidden_state, self.word_embedding.weight)
        # END SOLUTION

    @classmethod
    def from_pretrained(cls, model="gpt2", d=None, l=None, num_heads=None, **settings):  # noqa: E741
        """Load a trained GPT-2, in evaluation mode, from the Hugging Face hub or a local folder.

        `model` is a hub name ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "owner/name") or a
        folder with config.json and weights (safetensors or .bin, sharded or not). `d`, `l` and
        `num_heads`, if given, must agree with the checkpoint. `settings` override dropout rates
        and attn_implementation. Raises FileNotFoundError or ConnectionError where there is no such
        checkpoint, and ValueError where it is not a complete GPT-2.
        """
        return weights.load(cls, model, d=d, l=l, num_heads=num_heads, **settings)

    def save_pretrained(self, folder, tokenizer=None) -> None:
        """Write config.json, model.safetensors and, if given, the tokenizer, as Hugging Face does.

        `GPT2Model.from_pretrained(folder)` gives the same bits, and transformers' Auto classes load
        the folder. Raises ValueError for a model with weights that the format cannot hold.
        """
        weights.save(self, folder, tokenizer)


def _padded_on_the_right(attention_mask: Tensor) -> bool:
    """Return whether causality alone keeps every token from seeing a pad, as far as is known."""
    return not _is_traced() and bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())


def _is_traced() -> bool:  # by torch.compile, export or jit.trace, for inputs not known yet
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
