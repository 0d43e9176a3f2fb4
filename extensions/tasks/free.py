"""Tasks whose answer is free text: one line that the model generates behind the prompt.

    Context: ... Question: Where does the Vey rise? Answer:  near Tarn <|endoftext|>
    └──────────────── prompt ─────────────────────────────┘ └── learned, generated ─┘

A prediction is the first line of the greedy continuation; the loss is that of the right answer's
tokens. A pretrained model that never learned to stop is cut at the end of its line.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from console import progress_bar
from extensions.tasks import FileTask
from gpt2.evaluate import GPU_TOKEN_BUDGET, TOKEN_BUDGET
from gpt2.generate import generate
from gpt2.loss import next_token_loss
from gpt2.prompts import continuations
from gpt2.samplers import BatchesByLength
from gpt2.tasks import PromptDataset
from utils import in_evaluation_mode


class FreeDataset(PromptDataset):
    """Prompts with free answers; of several right ones, a line each, the first is learned."""

    def _start(self, task: "FreeTask", *settings) -> None:
        super()._start(task, *settings)
        self.longest_answer = min(task.max_answer, self.max_length // 4)

    def _answers(self, encoded: dict[str, np.ndarray]) -> tuple[list[str], list[list[int]]]:
        labels = [text.strip() for text in self.data["label"]]
        first = [text.partition("\n")[0] for text in labels]
        return labels, free_answers(self.tokenizer, self.task.prompt, first, self.longest_answer)


class FreeTask(FileTask):
    """A task without labels; its relatives have `max_answer`, the most tokens of an answer (of a
    model with few positions a quarter of them)."""

    max_answer: int
    rows_of = FreeDataset

    def predict(self, model, tokenizer, dataset, *, progress: bool = True) -> pd.DataFrame:
        """Return pair_id, label, prediction (texts), and loss, the right answer's nats."""
        return pd.DataFrame(
            {
                "pair_id": dataset.pair_ids,
                "label": dataset.labels,
                "prediction": generated_lines(model, tokenizer, dataset, progress),
                "loss": answer_losses(model, dataset),
            }
        )


def free_answers(tokenizer, template: str, texts: Sequence[str], most: int) -> list[list[int]]:
    """Return the tokens that follow a prompt for each text: at most `most`, end-of-text the last
    where the tokenizer has one."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    tokens = continuations(tokenizer, template, [f" {text}" for text in texts])
    return [ids[: most - len(end)] + end for ids in tokens]


def generated_lines(model, tokenizer, dataset: FreeDataset, progress: bool) -> list[str]:
    """Return the line that the model generates greedily for each prompt."""
    device, eos = next(model.parameters()).device, tokenizer.eos_token_id
    settings = {"max_new_tokens": dataset.longest_answer, "eos": -1 if eos is None else eos}
    lines: dict[int, str] = {}
    with progress_bar(total=len(dataset), unit="prompt", disable=not progress) as bar:
        # Many rows on a CPU, too: each new token reads all weights, however many rows there are.
        for rows in _batches(dataset, GPU_TOKEN_BUDGET):
            prompts = [dataset.prompt(row) for row in rows]
            masks = [torch.ones_like(prompt) for prompt in prompts]
            ids, mask = (pad_sequence(x, batch_first=True).to(device) for x in (prompts, masks))
            new = generate(model, ids, mask, **settings)
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            for row, text in zip(rows, texts, strict=True):
                lines[row] = text.strip().partition("\n")[0].strip()
            bar.update(len(rows))
    return [lines[row] for row in range(len(dataset))]


@torch.no_grad()
@in_evaluation_mode
def answer_losses(model, dataset: FreeDataset) -> list[float]:
    """Return -log P of each row's right answer, in nats."""
    device, losses = next(model.parameters()).device, {}
    budget = TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    for rows in _batches(dataset, budget):
        batch = dataset.collate_fn([dataset.answered(row) for row in rows])
        batch = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "labels")}
        parts = next_token_loss(model, batch, reduction="none").float().cpu()
        parts = parts.split([len(dataset.answers[row]) for row in rows])
        losses.update(zip(rows, (part.sum().item() for part in parts), strict=True))
    return [losses[row] for row in range(len(dataset))]


def _batches(dataset: FreeDataset, budget: int) -> BatchesByLength:
    return BatchesByLength(dataset.lengths + dataset.longest_answer, budget)
