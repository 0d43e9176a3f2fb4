"""Predictions for NLI prompts and their accuracy (handout sections 4.2 and 4.3).

The prediction is the one token that the model generates after the prompt, over the whole
vocabulary. What prompts have in common, such as a premise, the model reads once.
"""

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from console import memory_errors, progress_bar
from gpt2.cache import KeyValueCache, reads_in_parts
from gpt2.fast import faster
from gpt2.generate import generate
from gpt2.loss import IGNORED
from utils import check_numbers, in_evaluation_mode

TOKEN_BUDGET, GPU_TOKEN_BUDGET = 1024, 16384  # rows times positions that a batch may have
PROJECTED = 64  # last states that are projected to the vocabulary at a time
ENOUGH = 128  # tokens of a batch with which a CPU's matrix product reaches its speed


def compute_accuracy(preds: Sequence[str], labels: Sequence[str]) -> float:
    """Return the share of predictions that equal their label, white space and case aside.

    Raises ValueError for lists of unequal length, or without a label.
    """
    if len(labels) == 0:
        raise ValueError("no labels, so there is no accuracy")
    if len(preds) != len(labels):
        raise ValueError(f"{len(preds)} predictions for {len(labels)} labels: they must match")
    pairs = zip(preds, labels, strict=True)
    return sum(a.strip().lower() == b.strip().lower() for a, b in pairs) / len(labels)


def evaluate_gpt2_xnli(
    model, tokenizer, dataloader, max_gen_length=1, device=None
) -> tuple[float, list[str], list[str]]:
    """Return accuracy, predictions and labels in the loader's order; print the accuracy.

    A prediction is the text that the model generates greedily after the prompt, stripped and in
    lower case; it may be no label at all. The loader's batches are only a source of prompts.
    """
    prompts, labels = [], []
    for batch in dataloader:
        if "label_strs" not in batch:
            raise ValueError("a batch has no label_strs; give DataLoader the data set's collate_fn")
        mask = batch["attention_mask"].bool()
        if "labels" in batch:  # a train loader: the digit is not part of the prompt
            mask &= batch["labels"] == IGNORED
        prompts.extend(ids[real] for ids, real in zip(batch["input_ids"], mask, strict=True))
        labels.extend(batch["label_strs"])
    if device is not None:
        model = model.to(device)
    if max_gen_length == 1:
        texts = prompts and _texts(answer(model, prompts, [], progress=True)[0], tokenizer)
    else:
        device = next(model.parameters()).device
        settings = {"max_new_tokens": max_gen_length, "eos": tokenizer.eos_token_id}
        bar = progress_bar(prompts, unit="pair")
        tokens = (generate(model, ids[None].to(device), **settings)[0] for ids in bar)
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    preds = [text.strip().lower() for text in texts]
    accuracy = compute_accuracy(preds, labels)
    print(f"accuracy {accuracy:.4f} on {len(labels):,} pairs")
    return accuracy, preds, labels


def predict(model, tokenizer, dataset, *, progress: bool = True) -> pd.DataFrame:
    """Return the predictions for a PromptDataset such as XNLIDataset, a row an item.

    Columns: pair_id, label and prediction (texts), and p(<label>) of each label, the probability
    of its tokens behind the prompt. Labels of one token are predicted over the whole vocabulary; of
    labels with several tokens the most probable one is.
    """
    columns = {"pair_id": dataset.pair_ids, "label": dataset.labels}
    prompts = [dataset.prompt(i) for i in range(len(dataset))]
    tokens, log_probs = score_labels(model, prompts, dataset.label_tokens, progress=progress)
    labels = [text.strip() for text in dataset.task.labels.values()]
    if dataset.longest_answer == 1:
        spelled = {label.lower(): label for label in labels}
        texts = (text.strip().lower() for text in _texts(tokens, tokenizer))
        columns["prediction"] = [spelled.get(text, text) for text in texts]
    else:
        columns["prediction"] = [labels[best] for best in log_probs.argmax(dim=1)]
    for label, column in zip(labels, log_probs.double().exp().T, strict=True):
        columns[f"p({label})"] = column.numpy()
    return pd.DataFrame(columns)


def _texts(tokens: Tensor, tokenizer) -> list[str]:
    return tokenizer.batch_decode([[token] for token in tokens.tolist()], skip_special_tokens=True)


# ---- Next tokens -------------------------------------------------------------------------------


def score_labels(
    model, prompts: Sequence[Tensor], labels: Sequence[Sequence[int]], *, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the most probable next token of each prompt (N,), and log P of each label's tokens
    behind it (N, labels): the sum over its tokens."""
    starts = sorted({tuple(tokens[:n]) for tokens in labels for n in range(len(tokens))})
    wanted = sorted({token for tokens in labels for token in tokens})
    texts = [torch.cat([ids, ids.new_tensor(start)]) for ids in prompts for start in starts]
    tokens, log_probs = answer(model, texts, wanted, progress=progress)
    log_probs = log_probs.view(len(prompts), len(starts), len(wanted))
    sums = [
        sum(
            log_probs[:, starts.index(tuple(tokens[:n])), wanted.index(token)]
            for n, token in enumerate(tokens)
        )
        for tokens in labels
    ]
    return tokens.view(len(prompts), -1)[:, 0], torch.stack(sums, dim=1)


@torch.no_grad()
@in_evaluation_mode
def answer(
    model, prompts: Sequence[Tensor], label_tokens: Sequence[int], *, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the most probable next token of each prompt (N,), and log P of each label token
    (N, labels).

    `prompts` are ids (T_i,). Each batch goes through the model's own forward: first what prompts
    have in common, then, with the cache, the rest of each. A model whose forward does not give
    the same in two parts (checked first, on one prompt) reads whole prompts, of equal length.
    """
    device = next(model.parameters()).device
    states: dict[int, Tensor] = {}  # of each prompt, (hidden,)
    bar = progress_bar(total=len(prompts), unit="pair", disable=not progress)
    with faster(model), bar, memory_errors("lower gpt2.evaluate.TOKEN_BUDGET (GPU_TOKEN_BUDGET)"):
        for rows, state in _last_states(model, prompts, device):
            states.update(zip(rows, state, strict=True))
            bar.update(len(rows))
        tokens, log_probs = [], []
        for start in range(0, len(prompts), PROJECTED):
            rows = [states[i] for i in range(start, min(start + PROJECTED, len(prompts)))]
            logits = model.hidden_state_to_token(torch.stack(rows)).float()
            tokens.append(logits.argmax(dim=-1).cpu())
            log_probs.append(logits.log_softmax(dim=-1)[:, list(label_tokens)].cpu())
    return torch.cat(tokens), check_numbers(torch.cat(log_probs))


def _last_states(model, prompts: Sequence[Tensor], device) -> Iterator[tuple[list[int], Tensor]]:
    """Yield rows of `prompts` and the hidden states (rows, hidden) at their last tokens."""
    longest = max(prompts, key=len, default=torch.empty(0))
    half = len(longest) // 2
    if half and not reads_in_parts(model, longest[None].to(device), half):
        lengths = sorted((len(prompt), row) for row, prompt in enumerate(prompts))
        for part in _under_budget(lengths, 0, device, enough=0):
            rows = [row for _, row in part]
            yield rows, model(*_padded([prompts[row] for row in rows], device))["last_token"]
        return
    enough = ENOUGH if device.type == "cpu" else GPU_TOKEN_BUDGET
    for groups in _under_budget(sorted(_groups(prompts)), 0, device, GPU_TOKEN_BUDGET):
        ids, shared_mask = _padded([prompts[rows[0]][:n] for n, rows in groups], device)
        cache, shared = KeyValueCache(), ids.size(1)
        if shared:  # it is 0 where every prompt has one token
            model(ids, shared_mask, cache)
        rests = [(len(prompts[i]) - n, i, g) for g, (n, rows) in enumerate(groups) for i in rows]
        for part in _under_budget(sorted(rests), shared, device, enough):
            rows, group = [i for _, i, _ in part], torch.tensor([g for *_, g in part]).to(device)
            ids, mask = _padded([prompts[i][-rest:] for rest, i, _ in part], device)
            mask = torch.cat([shared_mask[group], mask], dim=1)
            yield rows, model(ids, mask, cache.select(group))["last_token"]


def _padded(rows: list[Tensor], device) -> tuple[Tensor, Tensor]:
    """Return ids and mask of rows, (B, T) each, padded on the right with what the mask hides."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = pad_sequence([row.cpu() for row in rows], batch_first=True)
    mask = (torch.arange(ids.size(1)) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def _under_budget(rows: Sequence[tuple], shared: int, device, enough: int) -> Iterator[list[tuple]]:
    """Yield the rows, sorted by their first entry, the length, in batches under the budget.

    A batch with `enough` tokens also ends where rows become longer, so that few have pads.
    """
    budget = TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    batch: list[tuple] = []
    for row in rows:
        full = (len(batch) + 1) * (shared + row[0]) > budget
        longer = bool(batch) and row[0] > batch[-1][0]
        if batch and (full or (longer and len(batch) * batch[-1][0] >= enough)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _groups(prompts: Sequence[Tensor]) -> list[tuple[int, list[int]]]:
    """Return groups of prompts, each with how many first tokens its prompts have in common.

    Neighbours in lexical order form a group while they have at least a third of their tokens in
    common. At least one token of each is left to be read after them.
    """
    texts = [prompt.tolist() for prompt in prompts]
    groups: list[tuple[int, list[int]]] = []
    before: list[int] = []
    for i in sorted(range(len(texts)), key=texts.__getitem__):
        alone = len(texts[i]) - 1
        common = min(_common(before, texts[i]), alone, *(n for n, _ in groups[-1:]))
        if 3 * common >= len(texts[i]) > 1:
            groups[-1] = (common, [*groups[-1][1], i])
        else:
            groups.append((alone, [i]))
        before = texts[i]
    return groups


def _common(a: list[int], b: list[int]) -> int:
    """Return how many first tokens two texts have in common."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
