"""Beam search: the most probable sequence among those that a few running ones lead to."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2.cache import KeyValueCache
from gpt2.decoding import penalize_repetition


class BeamSearch:
    """Choose next tokens such that a few sequences of each prompt run on; keep the finished ones.

    Every step extends each of `num_beams` running sequences by every token and ranks them by
    summed log-probability. A sequence that ends with `eos` among the best `num_beams` is finished,
    with its sum divided by length ** length_penalty as its score. A prompt is done when it has
    `num_beams` of them and the best running one would score no higher if it ended now. (The rules
    of `transformers.generate` with early_stopping=False.)
    """

    def __init__(self, ids: Tensor, cache: KeyValueCache | None, max_new_tokens, eos, decoding):
        self.prompt, self.cache, self.decoding = ids.size(1), cache, decoding
        self.max_new_tokens, self.eos = max_new_tokens, eos
        B = len(ids) // decoding.num_beams
        # All beams of a prompt begin alike: only the first may extend at the first step.
        self.sums = torch.full((B, decoding.num_beams), -1e9, device=ids.device)
        self.sums[:, 0] = 0.0
        self.finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(B)]
        self.done = [False] * B

    def __call__(self, logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the next token of each running sequence, (B·beams, 1); all `eos` when done.

        The rows of `ids` (B·beams, S) and of the cache become those of the sequences that run on.
        """
        (B, beams), length = self.sums.shape, ids.size(1) - self.prompt + 1
        scores = logits.log_softmax(dim=-1)
        scores = penalize_repetition(scores, ids, mask, self.decoding.repetition_penalty)
        totals = (self.sums.view(-1, 1) + scores).view(B, -1)
        best, index = totals.topk(2 * beams)  # at most `beams` of them end with eos
        beam, token = index // scores.size(-1), index % scores.size(-1)
        keep = torch.zeros(B, beams, dtype=torch.long, device=ids.device)  # ranks that run on
        for row, tokens in enumerate(token.tolist()):
            running = [rank for rank, each in enumerate(tokens) if each != self.eos][:beams]
            for rank, each in enumerate(tokens[:beams]):
                if (each == self.eos or length == self.max_new_tokens) and not self.done[row]:
                    before = ids[row * beams + int(beam[row, rank]), self.prompt :].tolist()
                    score = best[row, rank].item() / length**self.decoding.length_penalty
                    self.finished[row].append((score, [*before, each]))
            keep[row] = torch.tensor(running)
            self.finished[row] = sorted(self.finished[row], key=lambda entry: -entry[0])[:beams]
            if len(self.finished[row]) == beams:
                hope = best[row, running[0]].item() / length**self.decoding.length_penalty
                self.done[row] = self.done[row] or hope <= self.finished[row][-1][0]
        if all(self.done):
            return torch.full_like(ids[:, :1], self.eos)
        self.sums = best.gather(1, keep)
        rows = torch.arange(B, device=ids.device)[:, None] * beams + beam.gather(1, keep)
        ids.copy_(ids[rows.flatten()])
        if self.cache is not None:
            self.cache.layers = self.cache.select(rows.flatten()).layers
            for layer in self.cache.layers.values():
                layer.cache = self.cache
        return token.gather(1, keep).view(-1, 1)

    def best(self) -> Tensor:
        """Return the best continuation of each prompt, ids (B, new), filled up with `eos`."""
        sequences = [torch.tensor(entries[0][1]) for entries in self.finished]
        return pad_sequence(sequences, True, self.eos).to(self.sums.device)
