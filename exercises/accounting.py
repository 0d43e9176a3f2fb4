"""What the four sizes of GPT-2 cost, by formula (TODO-10 and TODO-11, beyond the handout).

V tokens, P positions, L layers of width d, feed-forward width f.
"""

from config import GPT2Config

SIZES = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16),
    "gpt2-large": GPT2Config(hidden_size=1280, num_hidden_layers=36, num_attention_heads=20),
    "gpt2-xl": GPT2Config(hidden_size=1600, num_hidden_layers=48, num_attention_heads=25),
}


def count_parameters(config: GPT2Config) -> int:
    """Return how many parameters a `GPT2Model` of this shape has, without making one."""
    # BEGIN SOLUTION parameter count
    V, P, L = config.vocab_size, config.max_position_embeddings, config.num_hidden_layers
    d, f = config.hidden_size, config.intermediate_size
    attention = 4 * (d * d + d)  # query, key, value, output: weights and biases
    feed_forward = (d * f + f) + (f * d + d)
    norm = 2 * d
    return V * d + P * d + L * (attention + feed_forward + 2 * norm) + norm
    # END SOLUTION


def training_costs(config: GPT2Config, parameters: int, T: int) -> tuple[int, int]:
    """Return the operations of a training step on one text of T tokens, and the bytes it needs.

    Operations are those of matrix products alone, 2·n·k·m for (n, k) times (k, m); every position
    is projected to the vocabulary, and the backward pass takes twice the operations of the forward
    pass. Bytes are those of float32 weights, their gradients and AdamW's two moments.
    """
    # BEGIN SOLUTION training costs
    d, f = config.hidden_size, config.intermediate_size
    linear = 2 * T * (4 * d * d + 2 * d * f)
    attention = 2 * (2 * T * T * d)  # queries · keys, weights · values
    forward = config.num_hidden_layers * (linear + attention) + 2 * T * d * config.vocab_size
    return 3 * forward, 4 * 4 * parameters
    # END SOLUTION
