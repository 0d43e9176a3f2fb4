"""Cases of exercises/accounting.py: what sizes of GPT-2 cost. For instructors."""

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from config import GPT2Config
from exercises.accounting import SIZES
from grading.checks.by_hand import SHAPE
from grading.checks.model import hugging_face_config


def accounting(cases) -> None:
    """Parameters of transformers' models, and torch's count of the operations of their products."""
    more = int(torch.randint(30, 90, ()))
    other = {"vocab_size": 90 + more, "max_position_embeddings": more, "num_hidden_layers": 3}
    other |= {"hidden_size": 40, "num_attention_heads": 4, "intermediate_size": more}
    configs = [*SIZES.values(), GPT2Config(**other, pad_token_id=0)]
    tokens = [1024] * len(SIZES) + [more - 5]
    costs = []
    for config, T in zip(configs, tokens, strict=True):
        one, two = (torch.tensor(_costs(config, layers, T)) for layers in (1, 2))
        costs.append(one + (config.num_hidden_layers - 1) * (two - one))
    shapes = torch.tensor([[getattr(config, name) for name in SHAPE] for config in configs])
    V, P, d, L, _, f = shapes.T
    (count, forward), T = torch.stack(costs).T, torch.tensor(tokens)
    wrong = {
        "the output projection is the embedding: it has no weights of its own": V * d,
        "a linear layer has a bias": -L * (5 * d + f),
        "a norm has a weight and a bias; two norms a layer, and one after the last": -(
            (2 * L + 1) * 2 * d
        ),
        "the final layer norm": -2 * d,
        "the embedding of positions": -P * d,
        "the output of attention has weights, too": -L * (d * d + d),
    }
    cases.add(
        "parameter count",
        {"shapes": shapes},
        count[:, None],
        {text: (count + more)[:, None] for text, more in wrong.items()},
    )
    wrong = {
        "the backward pass takes twice as many as the forward pass": forward,
        "the backward pass comes on top of the forward pass": 2 * forward,
        "a multiplication and an addition each count": 3 * forward // 2,
        "the projection to the vocabulary": 3 * (forward - 2 * T * d * V),
        "queries times keys, and weights times values": 3 * (forward - 4 * L * T * T * d),
    }
    sizes = {"gradients and AdamW's moments count, too": 4, "AdamW has two moments": 12}
    costs = {text: torch.stack([more, 0 * count], dim=1) for text, more in wrong.items()}
    costs |= {text: torch.stack([0 * T, each * count], dim=1) for text, each in sizes.items()}
    cases.add(
        "training costs",
        {"shapes": shapes, "parameters": count, "tokens": T},
        torch.stack([3 * forward, 16 * count], dim=1),
        costs,
    )


def _costs(config: GPT2Config, layers: int, T: int) -> tuple[int, int]:
    """Return parameters and operations of the forward pass of transformers' model."""
    changes = {"num_hidden_layers": layers, "attn_implementation": "eager"}
    settings = hugging_face_config(GPT2Config(**vars(config) | changes))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = transformers.GPT2LMHeadModel(settings)
        model(torch.zeros(1, T, dtype=torch.long))
    return model.transformer.num_parameters(), counter.get_total_flops()
