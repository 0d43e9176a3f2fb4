"""The checks of sections 3.4 to 4.3: the loss, steps of training, generation, fine-tuning."""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.generate import generate_gpt2
from gpt2.loss import next_token_loss
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from gpt2.xnli import XNLIDataset
from grading.checks.cases import NO_DROPOUT, SMALL, case, small_model
from grading.checks.findings import Findings
from optim.adamw import AdamW

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
TRAIN_FILE = SAMPLE / "XNLI-MT-1.0" / "multinli" / "multinli.train.en.tsv"
STEPS = {"lr": 1e-2, "weight_decay": 1e-2, "eps": 1e-2}  # so large an ε: rounding counts less
DIGITS = {"entailment": "0", "contradictory": "1", "neutral": "2"}


def check_loss(findings: Findings) -> None:
    """next_token_loss against transformers' logits, token by token (section 3.4)."""
    all_learn = True
    for name in ("padded on the right", "padded on the left", "sum", "none"):
        given = case(f"loss: {name}")
        batch = given.inputs["ids"], given.inputs["mask"]
        reduction = name if name in ("sum", "none") else "mean"
        got, learns = findings.observe(_loss, batch, reduction)
        all_learn &= learns
        what = f'reduction="{name}"' if name == reduction else f"loss, {name}"
        if not findings.close(
            what, got, given.expected, hints=given.mistakes, hint="compare with section 3.4",
            atol=1e-3 if name == "sum" else 1e-4,
        ):  # fmt: skip
            return
    findings.true(
        "a gradient reaches the embedding",
        all_learn,
        "none",
        "a gradient",
        "keep the loss in the graph (no .item(), no .detach())",
    )


def _loss(batch, reduction: str = "mean") -> tuple[Tensor, bool]:
    """Return the loss, and whether a gradient comes back from it."""
    model = small_model(**NO_DROPOUT)
    loss = next_token_loss(model, batch, reduction=reduction)
    if not loss.requires_grad:
        return loss, False
    return loss, bool(torch.autograd.grad(loss.sum(), model.word_embedding.weight)[0].any())


def check_pretraining_step(findings: Findings) -> None:
    """The losses of `train`: four steps of one batch, and two of two batches (3.4)."""
    for accumulate in (1, 2):
        given = case(f"steps: {accumulate}")
        if not findings.close(
            f"losses with {accumulate} batch{'es' * (accumulate > 1)} a step",
            findings.observe(_losses, given.inputs["batches"], accumulate),
            given.expected,
            hints=given.mistakes,
            hint="one step from the gradient of its batches alone; AdamW has its own check",
            atol=1e-3,
        ):
            return


def _losses(rows: Tensor, accumulate: int) -> Tensor:
    model = small_model(**NO_DROPOUT)
    batches = [(row, torch.ones_like(row)) for row in rows]
    history = train(model, batches, AdamW(model.parameters(), **STEPS), accumulate=accumulate)
    return torch.tensor([progress.loss for progress in history])


class Words:
    """A tokenizer of numbers: "5 17" is two tokens."""

    pad_token_id = SMALL["pad_token_id"]

    all_special_tokens = ()

    def __init__(self, eos: int = -1):
        self.eos_token_id = eos

    def __len__(self) -> int:
        return SMALL["vocab_size"]

    def get_vocab(self) -> dict[str, int]:
        return {str(token): token for token in range(len(self))}

    def decode(self, ids, skip_special_tokens: bool = True) -> str:
        special = (self.eos_token_id, self.pad_token_id) if skip_special_tokens else ()
        return " ".join(str(int(i)) for i in ids if int(i) not in special)


def check_generation(findings: Findings) -> None:
    """generate_gpt2, greedy, against transformers' most probable tokens (section 4.1)."""
    words = Words()
    texts = [case(f"generation: {number}") for number in range(3)]
    for given in texts:
        prompt, whole = given.inputs["prompt"], given.expected.tolist()
        length = len(prompt)
        for new in (1, 12):
            got, mode_kept = findings.observe(_generate, words, prompt[None], new)
            expected = words.decode(whole[: length + new])
            slips = {
                "max_gen_length counts new tokens": whole[: max(length, new)],
                "one token too few": whole[: length + new - 1],
                "one token too many": whole[: length + new + 1],
                "the prompt belongs to the text": whole[length : length + new],
            }
            hint = next(
                (text for text, ids in slips.items() if got == words.decode(ids)),
                "the model must read the newest token before the next is chosen, with dropout off",
            )
            name = f"{new} new after {length}"
            if not findings.true(name, got == expected, repr(got), repr(expected), hint):
                return
    findings.true(
        "the model's mode is restored",
        mode_kept,
        "evaluation",
        "training",
        "generation needs evaluation mode; restore training mode afterwards",
    )
    prompts = [given.inputs["prompt"] for given in texts]
    rows = torch.stack([F.pad(p, (5 - len(p), 0), value=words.pad_token_id) for p in prompts])
    mask = (rows != words.pad_token_id).long()
    got, _ = findings.observe(_generate, words, rows, 6, mask)
    expected = [words.decode(t.expected[: len(p) + 6]) for t, p in zip(texts, prompts, strict=True)]
    findings.true(
        "a padded batch",
        got == expected,
        f"{got}",
        f"{expected}",
        "each row must give the same text as alone: check mask, positions and cache",
    )
    whole, length = texts[0].expected.tolist(), len(prompts[0])
    end = int(texts[0].inputs["end"])  # its third new token: what if that is end-of-text?
    first = whole.index(end, length) if end in whole[length:] else len(whole)
    expected = words.decode([token for token in whole[:first] if token != end])
    got, _ = findings.observe(_generate, Words(eos=end), prompts[0][None], 12)
    findings.true(
        "the text ends at end-of-text",
        got == expected,
        repr(got),
        repr(expected),
        "generate nothing after end-of-text",
    )


def _generate(words: Words, rows: Tensor, new: int, mask=None) -> tuple[str | list[str], bool]:
    """Return the text of a model in training mode, and whether it is still in that mode."""
    model = small_model().train()
    text = generate_gpt2(model, words, rows, max_gen_length=new, attention_mask=mask)
    return text, model.training


def check_finetuning_step(findings: Findings) -> None:
    """The training items: the prompt, its digit, and a label at the digit alone (4.2, 4.3)."""
    tokenizer = load_tokenizer("gpt2")
    items, batch = findings.observe(_first_pairs)
    for number, (item, pair) in enumerate(zip(items, _one_of_each_label(), strict=True)):
        premise, hypothesis, label = pair
        prompt = f"Premise: {premise}\nHypothesis: {hypothesis}\nLabel:"
        expected = [*tokenizer(prompt)["input_ids"], *tokenizer(DIGITS[label])["input_ids"]]
        got = item["input_ids"].tolist()
        texts = (repr(tokenizer.decode(ids)) for ids in (got, expected))
        if not findings.true(f"pair {number}", got == expected, *texts, "see section 4.2"):
            return
        labelled = (item["labels"] != -100).nonzero().flatten().tolist()
        findings.true(
            f"labels of pair {number}",
            labelled == [len(got) - 1] and item["labels"][-1] == got[-1],
            f"labels at {labelled}",
            f"at [{len(got) - 1}]",
            "only the digit's token is a label",
        )
    pads = batch["attention_mask"] == 0
    findings.true(
        "pads have no labels",
        (batch["labels"][pads] == -100).all(),
        "labels at pads",
        "-100",
        "padding must not count in the loss",
    )
    given = case("loss: labels")
    names = {"ids": "input_ids", "mask": "attention_mask", "labels": "labels"}
    got, _ = findings.observe(_loss, {names[key]: x for key, x in given.inputs.items()})
    findings.close(
        "the loss of a batch", got, given.expected, hints=given.mistakes,
        hint="the mean over the labels of the batch, pads left out", atol=1e-4,
    )  # fmt: skip
    short = findings.observe(_pair_too_long)
    text = tokenizer.decode(short)
    findings.true(
        "a pair that is too long",
        len(short) <= 64 and text.endswith("\nLabel:2"),
        f"{len(short)} tokens ending in {text[-20:]!r}",
        f"at most 64 ending in {chr(10) + 'Label:2'!r}",
        "cut premise and hypothesis, never the label",
    )


def _one_of_each_label() -> list[list[str]]:
    """Return premise, hypothesis and label of each label's first pair in the embedded file."""
    lines = TRAIN_FILE.read_text(encoding="utf-8").split("\n")[1:]
    first = {}
    for line in filter(None, lines):
        pair = line.split("\t")
        first.setdefault(pair[2], pair)
    return list(first.values())


def _first_pairs() -> tuple[list[dict], dict]:
    """Return the items of the same pairs, and their batch."""
    rows = XNLIDataset.in_folder(
        SAMPLE, "train", "en", tokenizer=load_tokenizer("gpt2"), verbose=False
    )
    texts = rows.data[["premise", "hypo", "label"]].values.tolist()
    items = [rows[texts.index(pair)] for pair in _one_of_each_label()]
    return items, XNLIDataset.collate_fn(items)


def _pair_too_long() -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.tsv"
        path.write_text(f"premise\thypo\tlabel\n{'word ' * 300}\t{'word ' * 300}\tneutral\n")
        return XNLIDataset(
            "train",
            "en",
            train_path_template=str(path),
            tokenizer=load_tokenizer("gpt2"),
            max_length=64,
            verbose=False,
        )[0]["input_ids"]
