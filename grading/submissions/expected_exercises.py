"""Cases of exercises/: steps of fine-tuning, and what sizes of GPT-2 cost. For instructors."""

import torch
import torch.nn.functional as F
import transformers
from torch.utils.flop_counter import FlopCounterMode

from config import GPT2Config
from exercises.accounting import SIZES
from grading.checks.by_hand import SHAPE, STEP
from grading.checks.cases import SMALL
from grading.checks.model import hugging_face_model


def finetuning(cases, reference) -> None:
    """Three steps on two batches in which the pad also occurs as a token, and as an answer."""
    pad = SMALL["pad_token_id"]
    ids = torch.randint(pad, (2, 3, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [6], [4]])).long().expand(2, 3, 9)
    ids[:, :, 2], ids[0, 2, 3] = pad, pad
    ids = ids.masked_fill(mask == 0, pad)
    labels = torch.full_like(ids, -100)
    for row, answer in enumerate((2, 1, 1)):  # so many tokens are labels, the last of the row
        end = int(mask[0, row].sum())
        labels[:, row, end - answer : end] = ids[:, row, end - answer : end]

    def steps(labels, shift=1, forget=True, step=1.0, reduction="mean"):
        model = hugging_face_model(GPT2Config(**SMALL), spread=0.4)
        model.load_state_dict(reference.state_dict())
        losses = []
        for i in (0, 1, 0):
            logits = model(ids[i], attention_mask=mask[i]).logits[:, : 9 - shift].flatten(0, 1)
            loss = F.cross_entropy(logits, labels[i, :, shift:].flatten(), reduction=reduction)
            losses.append(loss.item())
            if forget:
                model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= step * STEP * p.grad
        return torch.tensor(losses), model.transformer.wte.weight

    losses, weights = steps(labels)
    slips = {
        "position i predicts token i + 1, not token i": {"shift": 0},
        "clear the gradients of the step before": {"forget": False},
        "nothing is learned: call the optimizer after the backward pass": {"step": 0.0},
        "the loss grows": {"step": -1.0},
        "the mean over the labels, not their sum": {"reduction": "sum"},
    }
    mistakes = {text: steps(labels, **slip)[0] for text, slip in slips.items()}
    mistakes["only the labels count, not the whole text"] = steps(ids.masked_fill(mask == 0, -100))[
        0
    ]
    mistakes["-100 marks what is ignored, not the padding token"] = steps(
        labels.masked_fill(labels == pad, -100)
    )[0]
    cases.add("fine-tuning: losses", {"ids": ids, "mask": mask, "labels": labels}, losses, mistakes)
    cases.add("fine-tuning: weights", {}, weights)


def accounting(cases) -> None:
    """Parameters of transformers' models, and torch's count of the operations of their products."""
    d, more = (int(torch.randint(low, low + 9, ())) for low in (8, 30))
    others = {"vocab_size": 90 + more, "max_position_embeddings": more, "num_hidden_layers": 3}
    others |= {"hidden_size": 4 * d, "num_attention_heads": 4, "intermediate_size": more}
    configs = [*SIZES.values(), GPT2Config(**others, pad_token_id=0)]
    tokens = [1024] * len(SIZES) + [more - 5]
    counts, operations = [], []
    for config, T in zip(configs, tokens, strict=True):
        one, two = (_costs(config, layers, T) for layers in (1, 2))
        L = config.num_hidden_layers
        counts.append(one[0] + (L - 1) * (two[0] - one[0]))
        operations.append(one[1] + (L - 1) * (two[1] - one[1]))
    shapes = torch.tensor([[getattr(config, name) for name in SHAPE] for config in configs])
    V, P, d, L, _, f = shapes.T
    count, T, forward = (torch.tensor(column) for column in (counts, tokens, operations))
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
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        theirs = transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_position_embeddings,
            n_embd=config.hidden_size,
            n_layer=layers,
            n_head=config.num_attention_heads,
            n_inner=config.intermediate_size,
            attn_implementation="eager",
            bos_token_id=0,
            eos_token_id=0,
        )
        model = transformers.GPT2LMHeadModel(theirs)
        model(torch.zeros(1, T, dtype=torch.long))
    return model.transformer.num_parameters(), counter.get_total_flops()
