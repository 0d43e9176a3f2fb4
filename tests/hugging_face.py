"""GPT-2s with random weights, Hugging Face's and ours: references that need no download."""

import torch
import transformers

from config import GPT2Config
from gpt2.model import GPT2Model


def reference_model(
    *, n_embd=24, n_layer=3, n_head=3, n_positions=64, vocab_size=101, spread=0.1, **extra
):
    """A GPT2LMHeadModel whose every weight is drawn at random, biases and norms too."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=n_head,
        n_positions=n_positions,
        vocab_size=vocab_size,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
        **extra,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if ".ln_" in f".{name}" and "weight" in name else 0.0, spread)
    return model


def small_model(dtype=torch.float32, **changes) -> GPT2Model:
    """Ours with random weights, always the same, and a vocabulary of 50; dropout as by default."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 48,
    }
    return GPT2Model(GPT2Config(**{**shape, **changes})).to(dtype)


def ours_from(reference, folder, **settings) -> GPT2Model:
    """Our model with the reference's weights, by way of a folder on disk."""
    reference.save_pretrained(folder)
    return GPT2Model.from_pretrained(folder, **settings)


def batch_of(lengths, width, vocab_size, side="right"):
    """Random ids and their mask, [B, width], rows of the given lengths padded on one side."""
    generator = torch.Generator().manual_seed(sum(lengths))
    input_ids = torch.randint(1, vocab_size, (len(lengths), width), generator=generator)
    mask = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    if side == "left":
        mask = mask.flip(1)
    return input_ids.masked_fill(~mask, vocab_size - 1), mask.long()


def reference_positions(mask):
    """The position ids that transformers' generate gives a padded batch."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


BATCH = batch_of([12, 7], 12, 101)


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    """Our model's logits for BATCH."""
    return model.hidden_state_to_token(model(*BATCH)["last_hidden_state"])
