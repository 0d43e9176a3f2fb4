"""The checks of sections 3.4 to 4.3: the loss, steps of training, generation, fine-tuning."""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from gpt2.generate import generate_gpt2
from gpt2.loss import next_token_loss
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from gpt2.xnli import XNLIDataset
from grading.cases import NO_DROPOUT, SMALL, case, small_model
from grading.findings import Findings
from optim.adamw import AdamW

SAMPLE = Path(__file__).parent.parent / "data" / "sample"
STEPS = {"lr": 1e-2, "weight_decay": 1e-2, "eps": 1e-2}  # so large an ε: rounding counts less
DIGITS = {"entailment": "0", "contradictory": "1", "neutral": "2"}


def check_loss(findings: Findings) -> None:
    """next_token_loss against transformers' logits, token by token (section 3.4)."""
    model = small_model(**NO_DROPOUT)
    for side in ("right", "left"):
        given = case(f"loss: padded on the {side}")
        got = next_token_loss(model, (given.inputs["ids"], given.inputs["mask"]))
        if not findings.close(
            f"loss, padded on the {side}", got, given.expected, hints=given.mistakes,
            hint="compare with section 3.4", atol=1e-4,
        ):  # fmt: skip
            return
    weight = model.word_embedding.weight
    findings.true(
        "a gradient reaches the embedding",
        got.requires_grad and torch.autograd.grad(got, weight)[0].any(),
        "none",
        "a gradient",
        "the loss must stay in the graph (no .item(), no .detach())",
    )


def check_pretraining_step(findings: Findings) -> None:
    """The losses of four optimizer steps of `train`, the last two on seen batches (3.4)."""
    given, model = case("steps"), small_model(**NO_DROPOUT)
    batches = [(row, torch.ones_like(row)) for row in given.inputs["batches"]]
    history = train(model, batches, AdamW(model.parameters(), **STEPS))
    findings.close(
        "the losses of four steps",
        torch.tensor([progress.loss for progress in history]),
        given.expected,
        hints=given.mistakes,
        hint="one step a batch, from that batch's gradient alone; AdamW has a check of its own",
        atol=1e-3,
    )


class Words:
    """A tokenizer of numbers, for generation: "5 17" is two tokens."""

    pad_token_id = SMALL["pad_token_id"]

    def __init__(self, eos: int = -1):
        self.eos_token_id = eos

    def decode(self, ids, skip_special_tokens: bool = True) -> str:
        special = (self.eos_token_id, self.pad_token_id) if skip_special_tokens else ()
        return " ".join(str(int(i)) for i in ids if int(i) not in special)


def check_generation(findings: Findings) -> None:
    """generate_gpt2, greedy, against transformers' likeliest tokens (section 4.1)."""
    model, words = small_model().train(), Words()
    texts = [case(f"generation: {number}") for number in range(3)]
    for given in texts:
        prompt, whole = given.inputs["prompt"], given.expected.tolist()
        length = len(prompt)
        for new in (1, 12):
            got = generate_gpt2(model, words, prompt[None], max_gen_length=new)
            expected = words.decode(whole[: length + new])
            slips = {
                "max_gen_length counts new tokens": whole[: max(length, new)],
                "one token too few": whole[: length + new - 1],
                "one token too many": whole[: length + new + 1],
                "the prompt belongs to the text": whole[length : length + new],
            }
            hint = next(
                (text for text, ids in slips.items() if got == words.decode(ids)),
                "is the newest token read before the next is chosen, with dropout off?",
            )
            name = f"{new} new after {length}"
            if not findings.true(name, got == expected, repr(got), repr(expected), hint):
                return
    findings.true(
        "the model's mode is put back",
        model.training,
        "evaluation",
        "training",
        "generation needs evaluation mode, and training goes on afterwards",
    )
    prompts = [given.inputs["prompt"] for given in texts]
    rows = torch.stack([F.pad(p, (5 - len(p), 0), value=words.pad_token_id) for p in prompts])
    mask = (rows != words.pad_token_id).long()
    got = generate_gpt2(model, words, rows, max_gen_length=6, attention_mask=mask)
    expected = [words.decode(t.expected[: len(p) + 6]) for t, p in zip(texts, prompts, strict=True)]
    findings.true(
        "a padded batch",
        got == expected,
        f"{got}",
        f"{expected}",
        "every row is to come out as it does alone: mask, positions, cache",
    )
    whole, length = texts[0].expected.tolist(), len(prompts[0])
    end = whole[length + 2]
    first = whole.index(end, length)  # where generation ends, if this token is end-of-text
    expected = words.decode([token for token in whole[:first] if token != end])
    got = generate_gpt2(model, Words(eos=end), prompts[0][None], max_gen_length=12)
    findings.true(
        "it ends with end-of-text",
        got == expected,
        repr(got),
        repr(expected),
        "nothing comes after end-of-text",
    )


def check_finetuning_step(findings: Findings) -> None:
    """What fine-tuning learns from: the prompt, and a loss at its digit alone (4.2, 4.3)."""
    tokenizer = load_tokenizer("gpt2")
    rows = XNLIDataset.in_folder(SAMPLE, "train", "en", tokenizer=tokenizer)
    data = rows.data
    one_of_each = data["label"].drop_duplicates().index.tolist()
    items = [rows[i] for i in one_of_each]
    for i, item in zip(one_of_each, items, strict=True):
        prompt = f"Premise: {data['premise'][i]}\nHypothesis: {data['hypo'][i]}\nLabel:"
        digit = DIGITS[data["label"][i]]
        expected = [*tokenizer(prompt)["input_ids"], *tokenizer(digit)["input_ids"]]
        got = item["input_ids"].tolist()
        texts = (repr(tokenizer.decode(ids)) for ids in (got, expected))
        if not findings.true(f"pair {i}", got == expected, *texts, "see section 4.2"):
            return
        labelled = (item["labels"] != -100).nonzero().flatten().tolist()
        findings.true(
            f"what is learnt of pair {i}",
            labelled == [len(got) - 1] and item["labels"][-1] == got[-1],
            f"labels at {labelled}",
            f"at [{len(got) - 1}]",
            "only the digit's token is a label",
        )
    batch = XNLIDataset.collate_fn(items)
    pads = batch["attention_mask"] == 0
    findings.true(
        "pads are no labels",
        (batch["labels"][pads] == -100).all(),
        "labels at pads",
        "-100",
        "what fills a row up must not be learnt",
    )
    given = case("loss: labels")
    names = {"ids": "input_ids", "mask": "attention_mask", "labels": "labels"}
    got = next_token_loss(
        small_model(**NO_DROPOUT), {names[key]: x for key, x in given.inputs.items()}
    )
    findings.close(
        "the loss of a batch", got, given.expected, hints=given.mistakes,
        hint="the mean over the labels of the batch, pads left out", atol=1e-4,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.tsv"
        path.write_text(f"premise\thypo\tlabel\n{'word ' * 300}\t{'word ' * 300}\tneutral\n")
        short = XNLIDataset(
            "train", "en", train_path_template=str(path), tokenizer=tokenizer, max_length=64
        )[0]["input_ids"]
    text = tokenizer.decode(short)
    findings.true(
        "a pair that is too long",
        len(short) <= 64 and text.endswith("\nLabel:2"),
        f"{len(short)} tokens that end in {text[-20:]!r}",
        f"at most 64 that end in {chr(10) + 'Label:2'!r}",
        "cut premise and hypothesis, never the label",
    )
