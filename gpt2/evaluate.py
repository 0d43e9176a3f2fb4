"""What a model answers to NLI prompts, and how sure one can be of its accuracy.

Handout sections 4.2 and 4.3: the one generated token, over the whole vocabulary, is the answer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from gpt2.fast.linear import fast_linears
from gpt2.generate import generate
from gpt2.loss import IGNORED
from gpt2.shortcuts import has_its_own_blocks, last_token
from gpt2.xnli import LABEL2ID
from utils import in_evaluation_mode

DIGITS = [str(label) for label in LABEL2ID.values()]
TOKEN_BUDGET = 4096  # columns of a batch times its rows


def compute_accuracy(preds: Sequence[str], labels: Sequence[str]) -> float:
    """The share of predictions that equal their label; ValueError for lists of unequal length."""
    if len(labels) == 0:
        raise ValueError("no labels, so no accuracy")
    if len(preds) != len(labels):
        raise ValueError(f"{len(preds)} predictions for {len(labels)} labels: they must match")
    return sum(pred == label for pred, label in zip(preds, labels, strict=True)) / len(labels)


def evaluate_gpt2_xnli(
    model, tokenizer, dataloader, max_gen_length=1, device=None
) -> tuple[float, list[str], list[str]]:
    """Accuracy, predictions and labels, in the loader's order.

    A prediction is the text that the model generates greedily after the prompt, without white
    space around it; it may be no label at all. The loader's batches are only a source of prompts:
    they are sorted by length and share the work on common premises, whatever the batch size.
    """
    prompts, labels = [], []
    for batch in dataloader:
        mask = batch["attention_mask"].bool()
        if "labels" in batch:  # a train loader: the digit is no part of the prompt
            mask &= batch["labels"] == IGNORED
        prompts.extend(ids[real] for ids, real in zip(batch["input_ids"], mask, strict=True))
        labels.extend(batch["label_strs"])
    if device is not None:
        model = model.to(device)
    if max_gen_length == 1:
        tokens = answer(model, prompts, [])[0].tolist()
        texts = tokenizer.batch_decode([[token] for token in tokens], skip_special_tokens=True)
    else:
        texts = [
            tokenizer.decode(
                generate(
                    model,
                    prompt[None].to(next(model.parameters()).device),
                    max_new_tokens=max_gen_length,
                    eos=tokenizer.eos_token_id,
                )[0],
                skip_special_tokens=True,
            )
            for prompt in prompts
        ]
    preds = [text.strip() for text in texts]
    return compute_accuracy(preds, labels), preds, labels


# ---- Answers -----------------------------------------------------------------------------------


@torch.no_grad()
@in_evaluation_mode
def answer(
    model, prompts: Sequence[Tensor], label_tokens: Sequence[int], *, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """The likeliest next token of each prompt [N], and log P of each label token [N, labels].

    `prompts` are ids [T_i]. What prompts have in common at their beginning, such as a premise, is
    read once. Float32 answers equal those of one prompt at a time; the model's mode is put back.
    """
    device = next(model.parameters()).device
    tokens = torch.empty(len(prompts), dtype=torch.long)
    log_probs = torch.empty(len(prompts), len(label_tokens))
    shared = has_its_own_blocks(model)
    bar = tqdm(total=len(prompts), unit="pair", ncols=100, disable=not progress)
    for batch in _batches(prompts):
        ids = torch.nn.utils.rnn.pad_sequence([prompts[i] for i in batch], batch_first=True).cpu()
        lengths = torch.tensor([len(prompts[i]) for i in batch])
        mask = torch.arange(ids.size(1)) < lengths[:, None]
        with fast_linears(model):
            if shared:
                last = last_token(model, ids, mask)
            else:
                last = model(ids.to(device), mask.long().to(device))["last_token"]
            logits = model.hidden_state_to_token(last).float()
        tokens[batch] = logits.argmax(dim=-1).cpu()
        if label_tokens:
            log_probs[batch] = logits.log_softmax(dim=-1)[:, list(label_tokens)].cpu()
        bar.update(len(batch))
    bar.close()
    return tokens, log_probs


def _batches(prompts: Sequence[Tensor]) -> Iterator[list[int]]:
    """Places of prompts: those of one premise together, then by length, cut at the token budget."""
    newline = 198  # ends the premise in GPT-2's vocabulary; any common beginning would do
    texts = [prompt.tolist() for prompt in prompts]
    premises = [tuple(text[: text.index(newline)] if newline in text else text) for text in texts]
    longest: dict[tuple, int] = defaultdict(int)
    for premise, text in zip(premises, texts, strict=True):
        longest[premise] = max(longest[premise], len(text))
    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: (longest[premises[i]], texts[i])):
        if batch and (len(batch) + 1) * longest[premises[i]] > TOKEN_BUDGET:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


# ---- Results -----------------------------------------------------------------------------------
