"""One transformer block: attention, then a feed-forward network, each added to its input."""

from torch import Tensor, nn

from gpt2.attention import CausalSelfAttention
from gpt2.cache import LayerCache

ACTIVATIONS = {
    # GPT-2 was trained with the tanh form; the exact GELU differs by up to 5e-4 a unit.
    "gelu_new": lambda: nn.GELU(approximate="tanh"),
    "gelu": nn.GELU,
    "relu": nn.ReLU,
}


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
        self.interm_af = ACTIVATIONS[config.activation_function]()
        self.out_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.out_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.out_dropout = nn.Dropout(config.hidden_dropout_prob)

    def add(
        self, input: Tensor, output: Tensor, dense_layer: nn.Module, dropout: nn.Module
    ) -> Tensor:
        """Return input + Dropout(W · output), the residual connection: (B, T, hidden)."""
        # BEGIN SOLUTION add
        return input + dropout(dense_layer(output))
        # END SOLUTION

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        """Return the block's output, (B, T, hidden); mask and cache as in `CausalSelfAttention`."""
        # BEGIN SOLUTION layer forward
        context = self.self_attention(
            self.attention_layer_norm(hidden_states), attention_mask, cache
        )
        hidden_states = self.add(
            hidden_states, context, self.attention_dense, self.attention_dropout
        )
        widened = self.interm_af(self.interm_dense(self.out_layer_norm(hidden_states)))
        return self.add(hidden_states, widened, self.out_dense, self.out_dropout)
        # END SOLUTION
