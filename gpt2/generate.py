"""Text from a model: greedy, sampling, beam search (handout section 4.1)."""

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.beam import BeamSearch
from gpt2.cache import KeyValueCache, reads_in_parts
from gpt2.decoding import Decoding, aligned, next_token
from gpt2.fast import faster
from gpt2.tokenizer import check_tokenizer
from utils import check_numbers, get_parameter_dtype, in_evaluation_mode


@torch.no_grad()
@in_evaluation_mode
def generate(
    model,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int = 50,
    eos: int | None = None,
    **decoding,
) -> Tensor:
    """Return the continuation of each row of ids (B, T): (B, new), new at most `max_new_tokens`.

    Rows may be padded on either side if the mask says where. `decoding` are the fields of
    `Decoding`; greedy without any. A row that has generated `eos` is filled up with it, and the
    loop ends when all have; by default `eos` is the configuration's `eos_token_id`, else its
    `pad_token_id`, which in GPT-2 is end-of-text. The model's training mode is restored.

    Raises ValueError when prompt and continuation do not fit the model's positions.
    """
    settings = Decoding(**decoding)
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids must be [B, T], got {list(input_ids.shape)}")
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if input_ids.shape != attention_mask.shape or not (attention_mask.sum(dim=1) > 0).all():
        raise ValueError("every row needs a token, and attention_mask the shape of input_ids")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if eos is None:
        eos = getattr(model.config, "eos_token_id", None)
        eos = model.config.pad_token_id if eos is None else eos
    positions = model.config.max_position_embeddings
    longest = int(attention_mask.sum(dim=1).max())
    if longest + max_new_tokens - 1 > positions:  # the last new token is chosen but never read
        raise ValueError(
            f"a prompt of {longest} tokens leaves room for {max(0, positions + 1 - longest)} of "
            f"max_new_tokens={max_new_tokens} in {positions} positions; shorten one of them"
        )
    use_cache = settings.use_cache and max_new_tokens > 1
    if use_cache:
        text = input_ids[:1, attention_mask[0].bool()]
        text = text if text.size(1) > 1 else text.repeat(1, 2)  # read in two parts
        use_cache = reads_in_parts(model, text, text.size(1) - 1)
    ids, mask = aligned(input_ids, attention_mask)
    cache = choose = None
    if use_cache:
        dtype = get_parameter_dtype(model)
        if ids.device.type == "cpu" and dtype in (torch.bfloat16, torch.float16):
            dtype = torch.float32  # attention of one new token is 5 times as fast on a CPU
        cache = KeyValueCache(longest + max_new_tokens, dtype)
    if settings.num_beams > 1:
        ids, mask = (rows.repeat_interleave(settings.num_beams, dim=0) for rows in (ids, mask))
        choose = BeamSearch(ids, cache, max_new_tokens, eos, settings)
    elif settings.do_sample or settings.repetition_penalty != 1.0:
        choose = partial(next_token, settings)
    with faster(model):
        new_tokens = token_by_token(model, ids, mask, max_new_tokens, eos, cache, choose)
    return choose.best() if settings.num_beams > 1 else new_tokens


def token_by_token(model, ids, mask, max_new_tokens, eos, cache=None, choose=None) -> Tensor:
    """Return what a model appends to `ids` (B, T), of which all rows end in the last column.

    `cache` keeps what was read, if given; `choose(logits, ids, mask)` returns the next tokens
    (B, 1), if given: greedy otherwise. A finished row is filled up with `eos`: (B, new).
    """
    # BEGIN SOLUTION generation
    prompt, finished = ids.size(1), torch.zeros_like(ids[:, :1], dtype=torch.bool)
    for _ in range(max_new_tokens):
        mask = F.pad(mask, (0, ids.size(1) - mask.size(1)), value=1)  # new tokens are no pads
        read, more = (0, ()) if cache is None else (cache.length, (cache,))
        hidden = model(ids[:, read:], mask, *more)["last_hidden_state"][:, -1]
        logits = check_numbers(model.hidden_state_to_token(hidden).float())  # (B, vocab)
        token = logits.argmax(dim=-1, keepdim=True)
        if choose is not None:  # sampling or beam search, which may reorder the rows of ids
            token = choose(logits, ids, mask)
        token = token.masked_fill(finished, eos)
        ids = torch.cat([ids, token], dim=1)
        finished |= token == eos
        if finished.all():
            break
    return ids[:, prompt:]
    # END SOLUTION


def generate_gpt2(
    model, tokenizer, input_ids, max_gen_length=50, device=None, attention_mask=None, **decoding
) -> str | list[str]:
    """Return prompt and continuation as text, special tokens removed: str for one row, else a list.

    `input_ids` is (B, T) or (T,); `max_gen_length` counts new tokens; `decoding` as in `Decoding`.
    Without an `attention_mask` every id is a token; several rows with the padding token need one.
    """
    check_tokenizer(tokenizer)
    if max_gen_length < 1:
        raise ValueError(f"max_gen_length must be at least 1, got {max_gen_length}")
    if isinstance(input_ids, str | Mapping):
        raise TypeError(
            "input_ids must be token ids; tokenize first: "
            'tokenizer(text, return_tensors="pt")["input_ids"]'
        )
    input_ids = torch.atleast_2d(torch.as_tensor(input_ids))
    if attention_mask is None:
        if len(input_ids) > 1 and tokenizer.pad_token_id in input_ids.unique().tolist():
            raise ValueError("rows with padding need an attention_mask: it tells pads from tokens")
        attention_mask = torch.ones_like(input_ids)
    attention_mask = torch.atleast_2d(torch.as_tensor(attention_mask))
    device = device or next(model.parameters()).device
    input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
    eos = tokenizer.eos_token_id
    new_tokens = generate(
        model.to(device),
        input_ids,
        attention_mask,
        max_new_tokens=max_gen_length,
        eos=-1 if eos is None else eos,  # a tokenizer without one: the text ends by its length
        **decoding,
    )
    texts = [
        tokenizer.decode(torch.cat([row[mask.bool()], new]), skip_special_tokens=True)
        for row, mask, new in zip(input_ids, attention_mask, new_tokens, strict=True)
    ]
    return texts[0] if len(texts) == 1 else texts
