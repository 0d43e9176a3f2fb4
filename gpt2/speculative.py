"""Speculative decoding: guess several tokens cheaply, let the model check them in one pass.

The text is greedy's own: a guess is kept only while it is what the model would have chosen
(Leviathan et al. 2023; looking up in the prompt: Saxena 2023).
"""

from torch import Tensor

from gpt2.decoding import Context, Decoding

GUESSES = 5  # tokens a draft model runs ahead
LONGEST_MATCH = 3  # tokens that are looked for in the text so far


def speculate(context: Context, max_new_tokens: int, eos: int, decoding: Decoding) -> Tensor:
    """The greedy continuation of one row, ids [1, new]."""
    draft = None
    if decoding.draft_model is not None:
        ours, theirs = context.model.config, decoding.draft_model.config
        for name in ("vocab_size", "max_position_embeddings"):
            if getattr(theirs, name) < getattr(ours, name):
                raise ValueError(
                    f"draft_model has {name}={getattr(theirs, name)}, "
                    f"but the model has {getattr(ours, name)}"
                )
        draft = Context(decoding.draft_model, context.ids, context.mask, context.capacity, decoding)
    prompt = context.ids.size(1)
    end = prompt + max_new_tokens
    while context.ids.size(1) < end:
        before = context.ids.size(1)
        room = end - before - 1  # the check itself yields one more token
        if draft is not None:
            guesses = _ask(draft, context.ids, min(GUESSES, room))
        else:
            guesses = look_up(context.ids, min(decoding.prompt_lookup, room))
        context.append(guesses)
        hidden = context.read()[:, -(guesses.size(1) + 1) :]
        chosen = context.model.hidden_state_to_token(hidden).argmax(dim=-1)  # [1, guesses + 1]
        wrong = (chosen[:, :-1] != guesses).long().cumsum(dim=1)
        accepted = int((wrong == 0).sum())
        context.truncate(before + accepted)
        context.append(chosen[:, accepted : accepted + 1])
        new = context.ids[0, prompt:]
        if (new == eos).any():
            return new[: int((new == eos).nonzero()[0]) + 1][None]
    return context.ids[:, prompt:]


def look_up(ids: Tensor, count: int) -> Tensor:
    """Up to `count` tokens that followed the last tokens of `ids` [1, S] where they stood before.

    The longest match wins, and of equals the latest; nothing ([1, 0]) without one.
    """
    sequence = ids[0]
    for size in range(min(LONGEST_MATCH, len(sequence) - 1), 0, -1):
        windows = sequence[:-1].unfold(0, size, 1)
        matches = (windows == sequence[-size:]).all(dim=1).nonzero()
        if len(matches) and count > 0:
            start = int(matches[-1]) + size
            return ids[:, start : start + count]
    return ids[:, :0]


def _ask(draft: Context, ids: Tensor, count: int) -> Tensor:
    """The draft model's greedy continuation of `ids` by `count` tokens."""
    agreed = min(draft.ids.size(1), ids.size(1))
    same = (draft.ids[0, :agreed] == ids[0, :agreed]).long().cumprod(dim=0)
    draft.truncate(int(same.sum()))
    if draft.cache is not None:  # the last token must be read again for what follows it
        draft.cache.truncate(min(draft.cache.length, ids.size(1) - 1))
    draft.append(ids[:, draft.ids.size(1) :])
    for _ in range(count):
        draft.append(draft.next_logits().argmax(dim=-1, keepdim=True))
    return draft.ids[:, ids.size(1) :]
