"""Beam search: the most probable sequence among those that a few running ones lead to."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2.decoding import Context, Decoding


def beam_search(context: Context, max_new_tokens: int, eos: int, decoding: Decoding) -> Tensor:
    """Return the best continuation of each row, ids (B, new), filled up with `eos`.

    Every step extends each of `num_beams` running sequences by every token and ranks them by
    summed log-probability. A sequence that ends with `eos` among the best `num_beams` is finished,
    with its sum divided by length ** length_penalty as its score. A row is done when it has
    `num_beams` of them and the best running one would score no higher if it ended now. (The rules
    of `transformers.generate` with early_stopping=False.)
    """
    B, beams = len(context.ids), decoding.num_beams
    prompt = context.ids.size(1)
    device = context.ids.device
    context.select(torch.arange(B, device=device).repeat_interleave(beams))
    # All beams of a row begin alike: only the first may extend at the first step.
    sums = torch.full((B, beams), -1e9, device=device)
    sums[:, 0] = 0.0
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(B)]
    done = [False] * B
    for length in range(1, max_new_tokens + 1):
        scores = context.next_logits().log_softmax(dim=-1)
        scores = context.penalize_repetition(scores, decoding.repetition_penalty)
        totals = (sums.view(-1, 1) + scores).view(B, -1)
        best, index = totals.topk(2 * beams)  # at most `beams` of them end with eos
        beam, token = index // scores.size(-1), index % scores.size(-1)
        keep = torch.zeros(B, beams, dtype=torch.long, device=device)  # ranks that run on
        for row in range(B):
            running = []
            for rank, next_token in enumerate(token[row].tolist()):
                ends = next_token == eos
                if not ends and len(running) < beams:
                    running.append(rank)
                if rank < beams and (ends or length == max_new_tokens) and not done[row]:
                    tokens = context.ids[row * beams + int(beam[row, rank]), prompt:].tolist()
                    score = best[row, rank].item() / length**decoding.length_penalty
                    finished[row].append((score, [*tokens, next_token]))
            keep[row] = torch.tensor(running)
            finished[row] = sorted(finished[row], key=lambda entry: -entry[0])[:beams]
            if len(finished[row]) == beams:
                hope = best[row, running[0]].item() / length**decoding.length_penalty
                done[row] = done[row] or hope <= finished[row][-1][0]
        if all(done) or length == max_new_tokens:
            break
        sums = best.gather(1, keep)
        rows = torch.arange(B, device=device)[:, None] * beams + beam.gather(1, keep)
        context.select(rows.flatten())
        context.append(token.gather(1, keep).view(-1, 1))
    sequences = [torch.tensor(entries[0][1], device=device) for entries in finished]
    return pad_sequence(sequences, batch_first=True, padding_value=eos)
