"""What a model answers to NLI prompts, and how sure one can be of its accuracy.

Handout sections 4.2 and 4.3: the one generated token, over the whole vocabulary, is the answer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix
from torch import Tensor
from tqdm import tqdm

from gpt2.fast_linear import fast_linears
from gpt2.generate import generate
from gpt2.loss import IGNORED
from gpt2.shortcuts import has_its_own_blocks, last_token
from gpt2.xnli import LABEL2ID
from utils import atomic_write, in_evaluation_mode

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


@dataclass(frozen=True)
class Evaluation:
    """The answers to a data set and what follows from them.

    `predictions` has a row a pair: pair_id, label and prediction (texts), and the probability of
    each digit. Accuracy counts an answer that is no label as wrong.
    """

    predictions: pd.DataFrame

    def save(self, path) -> None:
        """Write the predictions as a CSV file, whole or not at all."""
        with atomic_write(path) as temporary:
            self.predictions.to_csv(temporary, index=False)

    @classmethod
    def load(cls, path) -> "Evaluation":
        """What `save` wrote."""
        texts = dict.fromkeys(("pair_id", "label", "prediction"), str)
        # The other parser rounds the last digit of some numbers.
        return cls(pd.read_csv(path, dtype=texts, keep_default_na=False, engine="python"))

    @property
    def accuracy(self) -> float:
        return compute_accuracy(
            self.predictions["prediction"].tolist(), self.predictions["label"].tolist()
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        correct = int((self.predictions["prediction"] == self.predictions["label"]).sum())
        return wilson_interval(correct, len(self.predictions))

    @property
    def loss(self) -> float:
        """Mean of -log P(label) over the pairs, in nats; P over the whole vocabulary."""
        gold = self.predictions["label"].astype(int).to_numpy()
        p = self._probabilities[np.arange(len(gold)), gold]
        return float(-np.log(p.clip(np.finfo(p.dtype).tiny)).mean())

    @property
    def share_without_label(self) -> float:
        """How often the answer is none of the three digits."""
        return float((~self.predictions["prediction"].isin(DIGITS)).mean())

    @property
    def accuracy_among_labels(self) -> float:
        """Accuracy when only the three digits are allowed as an answer."""
        best = self._probabilities.argmax(axis=1)
        return float((best == self.predictions["label"].astype(int)).mean())

    def per_class(self) -> pd.DataFrame:
        """Precision, recall, F1 and support of each label."""
        report = classification_report(
            self.predictions["label"],
            self.predictions["prediction"],
            labels=DIGITS,
            target_names=list(LABEL2ID),
            output_dict=True,
            zero_division=0.0,
        )
        return pd.DataFrame({name: report[name] for name in LABEL2ID}).T

    def confusion(self) -> pd.DataFrame:
        """Counts, gold labels by answers; the last column holds answers that are no label."""
        answers = self.predictions["prediction"].where(
            self.predictions["prediction"].isin(DIGITS), "no label"
        )
        counts = confusion_matrix(self.predictions["label"], answers, labels=[*DIGITS, "no label"])
        return pd.DataFrame(counts[:3], list(LABEL2ID), [*LABEL2ID, "no label"])

    def confident_errors(self, data: pd.DataFrame, count: int = 10) -> pd.DataFrame:
        """The wrong answers that the model is surest of, among the three labels, surest first.

        `data` is the data set's: the columns premise, hypo and label are joined with the answer
        and its probability. Raises ValueError for another data set's.
        """
        if data["pair_id"].tolist() != self.predictions["pair_id"].tolist():
            raise ValueError("data holds other pairs than these answers are to")
        share = self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
        table = data[["premise", "hypo", "label"]].assign(
            answer=[list(LABEL2ID)[best] for best in share.argmax(axis=1)],
            probability=share.max(axis=1),
        )
        wrong = table[table["answer"] != table["label"]]
        return wrong.sort_values("probability", ascending=False).head(count)

    def calibration_error(self, bins: int = 10) -> float:
        """Expected calibration error (Guo et al. 2017) of the three-way probabilities."""
        share = self._probabilities / self._probabilities.sum(axis=1, keepdims=True)
        confidence, best = share.max(axis=1), share.argmax(axis=1)
        correct = best == self.predictions["label"].astype(int).to_numpy()
        which = np.minimum((confidence * bins).astype(int), bins - 1)
        gaps = [
            abs(correct[which == b].mean() - confidence[which == b].mean()) * (which == b).mean()
            for b in range(bins)
            if (which == b).any()
        ]
        return float(sum(gaps))

    @property
    def _probabilities(self) -> np.ndarray:
        return self.predictions[[f"p({digit})" for digit in DIGITS]].to_numpy()


def evaluate(model, tokenizer, dataset, *, progress: bool = True) -> Evaluation:
    """The Evaluation of a model on an XNLIDataset."""
    prompts = [dataset[i]["input_ids"] for i in range(len(dataset))]
    if dataset.split == "train":
        prompts = [prompt[:-1] for prompt in prompts]
    tokens, log_probs = answer(model, prompts, dataset.digits, progress=progress)
    texts = tokenizer.batch_decode([[token] for token in tokens.tolist()], skip_special_tokens=True)
    predictions = pd.DataFrame(
        {
            "pair_id": dataset.data["pair_id"],
            "label": dataset.labels,
            "prediction": [text.strip() for text in texts],
        }
    )
    for column, digit in enumerate(DIGITS):
        predictions[f"p({digit})"] = log_probs[:, column].double().exp().numpy()
    return Evaluation(predictions)


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion."""
    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first: Evaluation, second: Evaluation) -> float:
    """Exact two-sided p-value of the hypothesis that both are right equally often.

    The evaluations must be of the same pairs, in any order; else ValueError.
    """
    a, b = (
        (e.predictions.set_index("pair_id").pipe(lambda t: t["prediction"] == t["label"]))
        for e in (first, second)
    )
    if not a.index.is_unique or set(a.index) != set(b.index):
        raise ValueError("a paired test needs the same pairs in both evaluations")
    b = b.loc[a.index]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)
