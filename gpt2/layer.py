"""One transformer block: attention, then a feed-forward network, each added to its input."""

from jaxtyping import Float
from torch import Tensor, nn

from gpt2.attention import CausalSelfAttention, LayerCache


class GPT2Layer(nn.Module):
    """A pre-norm transformer block (handout section 3.2).

    H' = H + Dropout(W_O · SelfAttn(LayerNorm(H)))
    H'' = H' + Dropout(W_2 · GELU(W_1 · LayerNorm(H')))
    """

    def __init__(self, config):
        super().__init__()
        self.self_attention = CausalSelfAttention(config)
        self.attention_dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.attention_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.interm_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        # GPT-2 was trained with the tanh form; the exact GELU is off by up to 5e-4 a unit.
        self.interm_af = nn.GELU(approximate="tanh")
        self.out_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.out_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.out_dropout = nn.Dropout(config.hidden_dropout_prob)

    def add(
        self,
        input: Float[Tensor, "B T hidden"],
        output: Float[Tensor, "B T width"],
        dense_layer: nn.Module,
        dropout: nn.Module,
    ) -> Float[Tensor, "B T hidden"]:
        """The residual connection: `output` goes through the dense layer and dropout first."""
        # BEGIN SOLUTION add
        return input + dropout(dense_layer(output))
        # END SOLUTION

    def forward(
        self,
        hidden_states: Float[Tensor, "B T hidden"],
        attention_mask: Float[Tensor, "#B 1 1 S"] | None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B T hidden"]:
        """The block's output; mask and cache as in `CausalSelfAttention`."""
        # BEGIN SOLUTION layer forward
        attended = self.self_attention(
            self.attention_layer_norm(hidden_states), attention_mask, cache
        )
        hidden_states = self.add(
            hidden_states, attended, self.attention_dense, self.attention_dropout
        )
        widened = self.interm_af(self.interm_dense(self.out_layer_norm(hidden_states)))
        return self.add(hidden_states, widened, self.out_dense, self.out_dropout)
        # END SOLUTION
