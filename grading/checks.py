"""Sanity checks: each prints what it got beside what it expected, and says whether it passed."""

import numpy as np
import torch
import transformers
from torch import nn

from config import GPT2Config
from gpt2 import checkpoint
from gpt2.model import GPT2Model
from optim.adamw import AdamW
from utils import get_position_ids

HIDDEN_STATE_TOLERANCE = 1e-4  # float32; the exact GELU, say, is off by more
WEIGHT_SPREAD = 0.1  # wider than GPT-2's 0.02, so that activations reach where a GELU bends


def check_model(config: GPT2Config | None = None) -> bool:
    """Hidden states against Hugging Face's GPT-2 with the same random weights (section 3.2).

    The batch has unequal rows, padded on the right and then on the left. By default the model
    has the 124M shape.
    """
    config = config or GPT2Config()
    torch.manual_seed(0)
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_inner=config.intermediate_size,
            n_positions=config.max_position_embeddings,
            layer_norm_epsilon=config.layer_norm_eps,
            initializer_range=WEIGHT_SPREAD,
        )
    ).eval()
    with torch.no_grad():  # fresh biases are 0 and norms 1, which would hide a mix-up
        for parameter in reference.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model = GPT2Model(config).eval()
    model.load_state_dict(checkpoint.from_hugging_face(reference.state_dict(), config))
    width = min(20, config.max_position_embeddings)
    input_ids = torch.randint(config.vocab_size, (3, width))
    passed = True
    for side in ("right", "left"):
        lengths = torch.tensor([[width], [width // 2], [1]])
        mask = (torch.arange(width) < lengths).long()
        mask = mask if side == "right" else mask.flip(1)
        with torch.no_grad():
            got = model(input_ids, mask)["last_hidden_state"]
            expected = reference.transformer(
                input_ids, attention_mask=mask, position_ids=get_position_ids(mask)
            ).last_hidden_state
        difference = (got - expected)[mask.bool()].abs().max().item()
        passed &= _report(
            f"hidden states, padded on the {side}",
            f"largest difference {difference:.1e}",
            f"below {HIDDEN_STATE_TOLERANCE:.0e}",
            difference < HIDDEN_STATE_TOLERANCE,
        )
    return passed


def regression_weights(optimizer_class=AdamW) -> np.ndarray:
    """The handout's linear regression: the weight [2, 3] after 1,000 steps, float32 (3.3)."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    optimizer = optimizer_class(model.parameters(), lr=1e-3, weight_decay=1e-4, correct_bias=True)
    for _ in range(1000):
        optimizer.zero_grad()
        x = torch.FloatTensor(rng.uniform(size=[3]))
        target = torch.stack([x[0] + x[1], -x[2]])
        ((target - model(x)) ** 2).sum().backward()
        optimizer.step()
    return model.weight.detach().numpy()


def check_optimizer(optimizer_class=AdamW, reference: str = "optimizer_test.npy") -> bool:
    """The weights of `regression_weights` against a stored solution (3.3)."""
    got, expected = regression_weights(optimizer_class), np.load(reference)
    return _report(
        "AdamW, weights after 1,000 steps",
        np.array2string(got, precision=6, separator=", ").replace("\n", ""),
        np.array2string(expected, precision=6, separator=", ").replace("\n", ""),
        np.allclose(got, expected, atol=1e-6, rtol=1e-4),
    )


def _report(what: str, got: str, expected: str, passed: bool) -> bool:
    print(f"[{'OK' if passed else 'FAIL'}] {what}\n     got      {got}\n     expected {expected}")
    return passed
