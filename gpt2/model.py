"""GPT-2: embeddings, a stack of blocks, and the projection back to the vocabulary."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from config import GPT2Config
from gpt2 import weights
from gpt2.attention import KeyValueCache
from gpt2.layer import GPT2Layer
from utils import get_extended_attention_mask, get_parameter_dtype, get_position_ids


class GPTPreTrainedModel(nn.Module):
    """Initialisation and configuration, apart from the architecture."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.config = config

    def init_weights(self) -> None:
        """Draw every weight anew (handout section 3.2)."""
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)

    @property
    def dtype(self) -> torch.dtype:
        return get_parameter_dtype(self)


class GPT2Model(GPTPreTrainedModel):
    """GPT-2 as published (Radford et al. 2019; handout section 3.2), with random weights.

    `GPT2Model.from_pretrained` gives it trained ones.
    """

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.embed_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.gpt_layers = nn.ModuleList(GPT2Layer(config) for _ in range(config.num_hidden_layers))
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.register_load_state_dict_pre_hook(weights.drop_unused_course_weights)
        self.init_weights()

    def embed(
        self, input_ids: Int[Tensor, "B T"], position_ids: Int[Tensor, "#B T"] | None = None
    ) -> Float[Tensor, "B T hidden"]:
        """Dropout(E_token(x) + E_pos(p)).

        `position_ids` are 0, 1, 2, ... unless given. Raises ValueError for a sequence
        longer than the model has positions, or (on the CPU) an id outside the vocabulary.
        """
        T = input_ids.size(1)
        if T > self.config.max_position_embeddings:
            raise ValueError(
                f"input_ids has {T} columns, but this model has only "
                f"{self.config.max_position_embeddings} positions; cut the text"
            )
        if position_ids is None:
            position_ids = torch.arange(T, device=input_ids.device).unsqueeze(0)
        try:
            # BEGIN SOLUTION embed
            return self.embed_dropout(
                self.word_embedding(input_ids) + self.pos_embedding(position_ids)
            )
            # END SOLUTION
        except IndexError as error:
            outside = (input_ids < 0) | (input_ids >= self.config.vocab_size)
            if not outside.any():
                raise ValueError(
                    f"a text reaches position {int(position_ids.max())}, but this model has only "
                    f"{self.config.max_position_embeddings} positions; cut the text, and give a "
                    "mask of 0 and 1"
                ) from error
            row, column = outside.nonzero()[0].tolist()
            raise ValueError(
                f"input_ids[{row}, {column}] = {input_ids[row, column].item()} is outside the "
                f"vocabulary (0 to {self.config.vocab_size - 1}); "
                "tokenize with this model's own tokenizer"
            ) from error

    def encode(
        self,
        hidden_states: Float[Tensor, "B T hidden"],
        attention_mask: Tensor | None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "B T hidden"]:
        """Run the blocks; `attention_mask` [B, S] has 1 for a token and 0 for a pad."""
        mask = None
        if attention_mask is not None and not _padded_on_the_right(attention_mask):
            mask = get_extended_attention_mask(attention_mask, hidden_states.dtype)
        layer_caches = cache.layers if cache is not None else [None] * len(self.gpt_layers)
        for layer, layer_cache in zip(self.gpt_layers, layer_caches, strict=True):
            hidden_states = layer(hidden_states, mask, layer_cache)
        return hidden_states

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> dict[str, Tensor]:
        """The final hidden states; the mask has 1 for a token and 0 for a pad.

        Returns `last_hidden_state` [B, T, hidden] and `last_token` [B, hidden], the state at
        each row's last token. Without a mask every id counts as a token.

        With a `cache`, input_ids continue what it has read, and it reads them, too; the mask
        [B, S] then covers both.
        """
        B, T = input_ids.shape
        read = cache.length if cache is not None else 0
        if T == 0:
            raise ValueError("input_ids is [B, 0]: there must be at least one token to read")
        if attention_mask is None:
            attention_mask = torch.ones(B, read + T, dtype=torch.long, device=input_ids.device)
        elif attention_mask.shape != (B, read + T):
            raise ValueError(
                f"attention_mask is {list(attention_mask.shape)}, but input_ids is [{B}, {T}]"
                + (f" after {read} positions in the cache" if read else "")
                + f": the mask must be [{B}, {read + T}]"
            )
        hidden_states = self.embed(input_ids, get_position_ids(attention_mask)[:, read:])
        hidden_states = self.encode(hidden_states, attention_mask, cache)
        hidden_states = self.final_layer_norm(hidden_states)
        columns = torch.arange(T, device=input_ids.device)
        last_column = (columns * (attention_mask[:, read:] != 0)).argmax(dim=1)
        rows = torch.arange(B, device=input_ids.device)
        return {
            "last_hidden_state": hidden_states,
            "last_token": hidden_states[rows, last_column],
        }

    def hidden_state_to_token(
        self, hidden_state: Float[Tensor, "... hidden"]
    ) -> Float[Tensor, "... vocab"]:
        """Logits H·E_tokenᵀ, with the embedding's own weights."""
        # BEGIN SOLUTION hidden_state_to_token
        return F.linear(hidden_state, self.word_embedding.weight)
        # END SOLUTION

    @classmethod
    def from_pretrained(cls, model="gpt2", d=None, l=None, num_heads=None, **settings):  # noqa: E741
        """A trained GPT-2 in evaluation mode, from the Hugging Face hub or a local folder.

        `model` is a hub name ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "owner/name") or a
        folder that holds config.json and weights (safetensors or .bin, sharded or not). Sizes
        come from the checkpoint; `d`, `l` and `num_heads`, if given, must agree with it.
        `settings` override the configuration (dropout, attn_implementation).

        Raises FileNotFoundError or ConnectionError, saying what to do, where there is no such
        checkpoint, and ValueError where it is not a whole GPT-2.
        """
        return weights.load(cls, model, d=d, l=l, num_heads=num_heads, **settings)

    def save_pretrained(self, folder) -> None:
        """Write config.json and model.safetensors under Hugging Face's names.

        `transformers.GPT2LMHeadModel.from_pretrained(folder)` gives the same logits, and
        `GPT2Model.from_pretrained(folder)` the same bits.
        """
        weights.save(self, folder)


def _padded_on_the_right(attention_mask: Tensor) -> bool:
    """Whether causality alone keeps every token from seeing a pad."""
    return bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())
