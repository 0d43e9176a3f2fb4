"""Text from a model, one token at a time (handout section 4.1)."""

import torch
from torch import Tensor


@torch.no_grad()
def generate(
    model, input_ids: Tensor, attention_mask: Tensor | None = None, *, max_new_tokens: int, eos: int
) -> Tensor:
    """The likeliest continuation of each row, token by token (greedy): ids [B, new], new ≤ max.

    `input_ids` [B, T] may be padded on either side if the mask says where. A row that has met
    `eos` goes on with `eos`. The model's training mode is put back afterwards.

    Raises ValueError when prompt and continuation don't fit the model's positions.
    """
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    input_ids, attention_mask = _align_right(input_ids, attention_mask)
    room = model.config.max_position_embeddings - int(attention_mask.sum(dim=1).max())
    if max_new_tokens > room:
        raise ValueError(
            f"the prompt leaves room for {max(room, 0)} of max_new_tokens={max_new_tokens} in "
            f"{model.config.max_position_embeddings} positions; shorten one of them"
        )
    was_training = model.training
    model.eval()
    new_tokens = input_ids[:, :0]
    finished = torch.zeros_like(input_ids[:, 0], dtype=torch.bool)
    for _ in range(max_new_tokens):
        last = model(input_ids, attention_mask)["last_token"]
        next_token = model.hidden_state_to_token(last).argmax(dim=-1).masked_fill(finished, eos)
        new_tokens = torch.cat([new_tokens, next_token[:, None]], dim=1)
        finished |= next_token == eos
        if finished.all():
            break
        input_ids = torch.cat([input_ids, next_token[:, None]], dim=1)
        attention_mask = torch.nn.functional.pad(attention_mask, (0, 1), value=1)
    model.train(was_training)
    return new_tokens


def generate_gpt2(
    model, tokenizer, input_ids, max_gen_length=50, device=None, attention_mask=None
) -> str | list[str]:
    """Prompt and continuation as text, special tokens left out: a str for one row, else a list.

    `input_ids` [B, T]; `max_gen_length` counts new tokens. Several rows need `attention_mask`,
    which tells pads from tokens.
    """
    input_ids = torch.as_tensor(input_ids)
    if input_ids.dim() == 1:
        input_ids = input_ids[None]
    if attention_mask is None:
        if len(input_ids) > 1:
            raise ValueError("several rows need an attention_mask: it tells pads from tokens")
        attention_mask = torch.ones_like(input_ids)
    device = device or next(model.parameters()).device
    input_ids, attention_mask = input_ids.to(device), torch.as_tensor(attention_mask).to(device)
    new_tokens = generate(
        model.to(device),
        input_ids,
        attention_mask,
        max_new_tokens=max_gen_length,
        eos=tokenizer.eos_token_id,
    )
    texts = [
        tokenizer.decode(torch.cat([row[mask.bool()], new]), skip_special_tokens=True)
        for row, mask, new in zip(input_ids, attention_mask, new_tokens, strict=True)
    ]
    return texts[0] if len(texts) == 1 else texts


def _align_right(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows with their tokens at the right edge, where the continuation follows."""
    order = attention_mask.long().argsort(dim=1, stable=True)  # pads first, order kept
    return input_ids.gather(1, order), attention_mask.gather(1, order)
