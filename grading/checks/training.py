"""The checks of sections 3.4 to 4.2: the loss, steps of training, generation, labels."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from grading.checks.cases import BATCH, LEARNING_RATE, NO_DROPOUT, SMALL, case, small_model
from grading.checks.findings import Findings
from grading.checks.shapes import short

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
TRAIN_FILE = SAMPLE / "XNLI-MT-1.0" / "multinli" / "multinli.train.en.tsv"
LOSSES = {"right": "mean", "left": "mean", "full length": "mean", "sum": "sum", "none": "none"}
STEPS = {1: "1 batch", 2: "2 batches", 3: "3 batches"}
DIGITS = {"entailment": "0", "contradictory": "1", "neutral": "2"}


def check_loss(findings: Findings) -> None:
    """next_token_loss against transformers' logits, token by token (section 3.4).

    The padding token is end-of-text: at the end of each text, and once inside, it is a label.
    """
    all_learn = True
    for name, reduction in LOSSES.items():
        given = case(f"loss: {name}")
        batch = given.inputs["ids"], given.inputs["mask"]
        got, learns = findings.observe(_loss, batch, reduction)
        all_learn &= learns
        what = f'reduction="{name}"' if name == reduction else f"loss, padded: {name}"
        atol = 1e-3 if name == "sum" else 1e-4
        findings.case(what, got, given, hint="compare with section 3.4", atol=atol)
    hint = "keep the loss in the graph (no .item(), no .detach())"
    findings.true("a gradient reaches the embedding", all_learn, "none", "a gradient", hint)


def _loss(batch, reduction: str = "mean") -> tuple[Tensor, bool]:
    """Return the loss, and whether a gradient comes back from it."""
    from gpt2.loss import next_token_loss

    model = small_model(**NO_DROPOUT)
    loss = next_token_loss(model, batch, reduction=reduction)
    if not loss.requires_grad:
        return loss, False
    return loss, bool(torch.autograd.grad(loss.sum(), model.word_embedding.weight)[0].any())


def check_pretraining_step(findings: Findings) -> None:
    """The losses of `train`, of seven uneven batches, in steps of one, two and three (3.4)."""
    for accumulate, batches in STEPS.items():
        given = case(f"steps: {accumulate}")
        got = findings.observe(_losses, given.inputs["ids"], given.inputs["masks"], accumulate)
        hint = "one step from the mean over all labels of its batches"
        findings.case(f"losses with {batches} a step", got, given, hint=hint, atol=1e-3)


def _losses(ids: Tensor, masks: Tensor, accumulate: int) -> Tensor:
    from gpt2.train import train

    model = small_model(**NO_DROPOUT)
    batches = list(zip(ids, masks, strict=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    history = train(model, batches, optimizer, accumulate=accumulate)
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
    """generate_gpt2 against transformers' most probable tokens (section 4.1), and sampling."""
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
            findings.equal(f"{new} new after {length}", got, expected, hint=hint)
    hint = "generation needs evaluation mode; restore training mode afterwards"
    what = "the model's mode is restored"
    findings.true(what, mode_kept, "evaluation", "training", hint)
    first = texts[0].inputs["prompt"]
    until = Words(eos=int(texts[0].inputs["end"]))  # its third new token, as end-of-text
    got, _ = findings.observe(_generate, until, first[None], 12)
    expected = _until(until, texts[0].expected.tolist(), len(first))
    hint = "generate nothing after end-of-text"
    findings.equal("the text ends at end-of-text", got, expected, hint=hint)
    batch = case("generation: a padded batch")
    rows, mask = batch.inputs["ids"], batch.inputs["mask"]
    lengths = [len(text.inputs["prompt"]) for text in texts]
    for what, tokenizer, hint in (
        ("a padded batch", words, "each row must give the same text as alone: check the mask"),
        ("a padded batch in which a row ends", until, "a row that has ended waits for the others"),
    ):
        right = [
            [_until(tokenizer, row, n) for row, n in zip(ids.tolist(), lengths, strict=True)]
            for ids in (batch.expected, *batch.also)
        ]
        got, _ = findings.observe(_generate, tokenizer, rows, 6, mask)
        findings.equal(what, got, *right, hint=hint)
    greedy = words.decode(texts[2].expected[: lengths[2] + 6].tolist())
    sampled = findings.observe(_sampled, words, texts[2].inputs["prompt"][None])
    drawn = not sampled or set(sampled) != {greedy}
    hint = "with settings.do_sample draw(...) from the probabilities, or refuse it"
    findings.true("do_sample draws", drawn, "the greedy text every time", "different texts", hint)


def _until(words: Words, row: list[int], prompt: int) -> str:
    """Return the text of a row up to the first end-of-text after the prompt; -1 is nothing."""
    end = words.eos_token_id
    stop = row.index(end, prompt) if end in row[prompt:] else len(row)
    return words.decode([token for token in row[:stop] if token >= 0])


def _generate(words: Words, rows: Tensor, new: int, mask=None) -> tuple[str | list[str], bool]:
    """Return the text of a model in training mode, and whether it is still in that mode."""
    from gpt2.generate import generate_gpt2

    model = small_model().train()
    text = generate_gpt2(model, words, rows, max_gen_length=new, attention_mask=mask)
    return text, model.training


def _sampled(words: Words, row: Tensor) -> list[str]:
    """Return six texts, drawn almost evenly; none where sampling is refused."""
    from gpt2.generate import generate_gpt2

    settings = {"max_gen_length": 6, "do_sample": True, "temperature": 9.0}
    generators = [torch.Generator().manual_seed(seed) for seed in range(6)]
    try:
        return [
            generate_gpt2(small_model(), words, row, **settings, generator=each)
            for each in generators
        ]
    except (NotImplementedError, TypeError, ValueError):
        return []


def check_labels(findings: Findings) -> None:
    """The training items: the prompt, its digit, and a label at the digit alone (4.2, 4.3)."""
    from gpt2.tokenizer import load_tokenizer

    tokenizer = load_tokenizer("gpt2")
    items, batch = findings.observe(_first_pairs)
    for number, (item, pair) in enumerate(zip(items, _one_of_each_label(), strict=True)):
        premise, hypothesis, label = pair
        prompt = f"Premise: {premise}\nHypothesis: {hypothesis}\nLabel:"
        expected = [*tokenizer(prompt)["input_ids"], *tokenizer(DIGITS[label])["input_ids"]]
        got = item["input_ids"].tolist()
        name, hint = f"pair {number}", "see section 4.2"
        findings.equal(name, got, expected, hint=hint, show=lambda ids: repr(tokenizer.decode(ids)))
        labels = [(i, token) for i, token in enumerate(item["labels"].tolist()) if token != -100]
        what, hint = f"place and label in {name}", "only the digit's token is a label"
        findings.equal(what, labels, [(len(got) - 1, got[-1])], hint=hint, show=short)
    labels = batch["labels"][batch["attention_mask"] == 0].unique().tolist()
    findings.equal("labels of pads", labels, [-100], hint="padding must not count in the loss")
    given = case("loss: labels")
    got, _ = findings.observe(_loss, {BATCH[key]: x for key, x in given.inputs.items()})
    hint = "the mean over the labels of the batch, pads left out"
    findings.case("the loss of a batch", got, given, hint=hint, atol=1e-4)
    cut = findings.observe(_pair_too_long)
    text = tokenizer.decode(cut)
    end, hint = "\nLabel:2", "cut premise and hypothesis, never the label"
    got, expected = f"{len(cut)} tokens ending in {text[-20:]!r}", f"at most 64 ending in {end!r}"
    fits = len(cut) <= 64 and text.endswith(end)
    findings.true("a pair that is too long", fits, got, expected, hint)


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
    from gpt2.tokenizer import load_tokenizer
    from gpt2.xnli import XNLIDataset

    rows = XNLIDataset.in_folder(
        SAMPLE, "train", "en", tokenizer=load_tokenizer("gpt2"), verbose=False
    )
    texts = rows.data[["premise", "hypo", "label"]].values.tolist()
    items = [rows[texts.index(pair)] for pair in _one_of_each_label()]
    return items, XNLIDataset.collate_fn(items)


def _pair_too_long() -> Tensor:
    from gpt2.tokenizer import load_tokenizer
    from gpt2.xnli import XNLIDataset

    settings = {"tokenizer": load_tokenizer("gpt2"), "max_length": 64, "verbose": False}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.tsv"
        path.write_text(f"premise\thypo\tlabel\n{'word ' * 300}\t{'word ' * 300}\tneutral\n")
        rows = XNLIDataset("train", "en", train_path_template=str(path), **settings)
        return rows[0]["input_ids"]
