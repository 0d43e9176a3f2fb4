"""The checks of sections 3.4 to 4.3, and of what the sizes of GPT-2 cost."""

import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from grading.checks.cases import LEARNING_RATE, NO_DROPOUT, SMALL, Case, case, cases, small_model
from grading.checks.findings import Findings
from grading.checks.shapes import short

LOOP = "at each step: the mask, the model, the last state's logits, the most probable token, append"
GENERATED = {  # cases, and what a wrong text says
    "12 tokens after 5": LOOP,
    "12 tokens after 1": LOOP,
    "1 token after 1": LOOP,
    "end-of-text": "generate nothing after end-of-text",
    "a padded batch": "each row gives the same text as alone: the mask hides its pads, and a row "
    "that has ended waits for the others",
}
DIGITS = {"entailment": "0", "contradictory": "1", "neutral": "2"}
PAIRS = (  # premise, hypothesis, label
    ("A man plays a guitar.", "A man makes music.", "entailment"),
    ("Two dogs run.", "All animals are asleep.", "contradictory"),
    ("She reads in a park.", "She reads a novel.", "neutral"),
)
TOO_LONG, LONGEST = ("word " * 300, "word " * 300, "neutral"), 64


def check_loss(findings: Findings) -> None:
    """next_token_loss against transformers' logits, token by token (section 3.4).

    The padding token is end-of-text: at the end of each text, and once inside, it is a label.
    """
    all_learn = True
    for given in cases("loss"):
        got, learned = findings.observe(_loss, given)
        all_learn &= learned
        atol = 1e-3 if given.what == "sum" else 1e-4
        findings.case(given, got, "compare with section 3.4", f"loss, {given.what}", atol)
    hint = "keep states and logits in the graph (no .item(), no .data, no .detach())"
    what = "a gradient reaches the embeddings, and the projection"
    findings.holds(what, all_learn, "none", "a gradient", hint)


def _loss(given: Case) -> tuple[Tensor, bool]:
    """Return the loss, and whether a gradient comes back from it, also through the projection."""
    from gpt2.loss import next_token_loss

    model = small_model(**NO_DROPOUT)
    batch = ids, mask = given.inputs["ids"], given.inputs["mask"]
    if given.what == "labels":
        batch = {"input_ids": ids, "attention_mask": mask, "labels": given.inputs["labels"]}
    reduction = given.what if given.what in ("sum", "none") else "mean"
    loss = torch.as_tensor(next_token_loss(model, batch, reduction=reduction))
    if not loss.requires_grad:
        return loss, False
    embeddings = model.word_embedding.weight, model.pos_embedding.weight
    settings = {"allow_unused": True, "materialize_grads": True}
    tokens, places = torch.autograd.grad(loss.sum(), embeddings, **settings)
    tokens = tokens.index_fill(0, ids.flatten(), 0)  # others are reached by the projection alone
    return loss, bool(tokens.any() and places.any())


def check_pretraining_step(findings: Findings) -> None:
    """The steps of `train`, of seven uneven batches, one, two and three to a step (3.4)."""
    hint = "one step from the mean over all labels of its batches"
    for given in cases("steps"):
        what = f"losses with {given.what} a step, and a bias after them"
        got, kind = findings.observe(_train, given)
        findings.case(given, got, hint, what, atol=1e-3)
        findings.equal("kind of `loss`", kind, "float", hint="a Python float (.item()), no tensor")


def _train(given: Case) -> tuple[Tensor, str]:
    from gpt2.train import train

    model, optimizer = _model_and_optimizer()
    batches = list(zip(given.inputs["ids"], given.inputs["masks"], strict=True))
    history = train(model, batches, optimizer, accumulate=given.inputs["accumulate"].item())
    losses = [progress.loss for progress in history]
    return _losses_and_bias(list(map(float, losses)), model), type(losses[-1]).__name__


def check_finetuning(findings: Findings) -> None:
    """Three steps on two batches (section 4.3)."""
    given = case("fine-tuning step")
    hint = "project, shift, cross-entropy without -100, backward, step: once each"
    what = "losses of three steps, and a bias after them"
    findings.case(given, findings.observe(_finetune, given), hint, what, atol=1e-3)


def _finetune(given: Case) -> Tensor:
    from exercises.finetuning import finetuning_step

    model, optimizer = _model_and_optimizer()
    batches, losses = (given.inputs[name] for name in ("ids", "masks", "labels")), []
    for ids, mask, labels in zip(*batches, strict=True):
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        losses.append(float(finetuning_step(model, batch, optimizer)))
    return _losses_and_bias(losses, model)


def _model_and_optimizer():
    model = small_model(**NO_DROPOUT)
    return model, torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)


def _losses_and_bias(losses: list[float], model) -> Tensor:
    """Return one after the other; the bias tells whether the last step was taken."""
    return torch.tensor([*losses, *model.final_layer_norm.bias.tolist()])


def words(end: int):
    """Return a tokenizer of numbers: "0517" is two tokens, 5 and 17; `end` is end-of-text."""
    vocabulary = {f"{token:02d}": token for token in range(SMALL["vocab_size"])}
    model = Tokenizer(WordLevel(vocabulary, unk_token="00"))
    model.decoder = ByteLevel()  # puts nothing between tokens
    end, pad = f"{end:02d}", f"{SMALL['pad_token_id']:02d}"
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token=end, pad_token=pad)


def check_generation(findings: Findings) -> None:
    """generate_gpt2 against transformers' most probable tokens (section 4.1), and sampling."""
    for what, hint in GENERATED.items():
        given = case(f"generation: {what}")
        findings.case(given, findings.observe(_generate, given), hint)
    given = case("generation: 12 tokens after 5")
    sampled, cold = findings.observe(_sampled, given)
    hint = "where `choose` is not None, it chooses from the logits, with the settings' temperature"
    got, expected = "the same text every time", "different texts"
    findings.holds("do_sample draws", len(set(sampled)) != 1, got, expected, hint)
    got, expected = "others", "the most probable tokens"
    findings.holds("a temperature near 0", len(set(cold)) < 2, got, expected, hint)


def _generate(given: Case) -> Tensor:
    """Return the tokens of each row's text, (B, longest), filled up with -1."""
    from gpt2.generate import generate_gpt2

    ids, mask, new, end = (given.inputs[name] for name in ("ids", "mask", "new", "end"))
    settings = {"max_gen_length": int(new), "attention_mask": mask}
    texts = generate_gpt2(small_model().train(), words(int(end)), ids, **settings)
    texts = [texts] if isinstance(texts, str) else texts
    rows = [torch.tensor([int(text[i : i + 2]) for i in range(0, len(text), 2)]) for text in texts]
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def _sampled(given: Case) -> list[list[str]]:
    """Return six texts, drawn almost evenly, and six of the most probable tokens; none where
    sampling is refused."""
    from gpt2.generate import generate_gpt2

    prompt = small_model(), words(SMALL["pad_token_id"]), given.inputs["ids"]
    settings = {"max_gen_length": 6, "do_sample": True}

    def drawn(seed: int, temperature: float) -> str:
        generator = torch.Generator().manual_seed(seed)
        text = generate_gpt2(*prompt, **settings, temperature=temperature, generator=generator)
        return str(text)

    try:
        return [[drawn(seed, temperature) for seed in range(6)] for temperature in (9.0, 1e-3)]
    except (NotImplementedError, TypeError, ValueError):
        return [[], []]


def check_labels(findings: Findings) -> None:
    """The training items: the prompt, its digit, and a label at the digit alone (4.2, 4.3)."""
    from gpt2.tokenizer import load_tokenizer

    tokenizer = load_tokenizer("gpt2")
    *items, cut, batch = findings.observe(_items)
    for item, (premise, hypothesis, label) in zip(items, PAIRS, strict=True):
        prompt = f"Premise: {premise}\nHypothesis: {hypothesis}\nLabel:"
        expected = [*tokenizer(prompt)["input_ids"], *tokenizer(DIGITS[label])["input_ids"]]
        got, show = item["input_ids"].tolist(), lambda ids: repr(tokenizer.decode(ids))
        findings.equal(f"a pair, {label}", got, expected, hint="see section 4.2", show=show)
        labels = [(i, token) for i, token in enumerate(item["labels"].tolist()) if token != -100]
        what, hint = f"place and label, {label}", "only the digit's token is a label"
        findings.equal(what, labels, [(len(got) - 1, got[-1])], hint=hint, show=short)
    real = batch["attention_mask"] == 1
    tokens = torch.cat([item["input_ids"] for item in (*items, cut)]).tolist()
    hint = "attention_mask is 1 at the tokens of an item, and 0 at pads"
    what = "tokens of a batch"
    findings.equal(what, batch["input_ids"][real].tolist(), tokens, hint=hint, show=short)
    labels = [*batch["labels"][real].tolist(), *batch["labels"][~real].unique().tolist()]
    right = [*torch.cat([item["labels"] for item in (*items, cut)]).tolist(), -100]
    hint = "the labels of all items; padding must not count in the loss"
    findings.equal("labels of a batch", labels, right, hint=hint, show=short)
    ids = cut["input_ids"].tolist()
    text, end = tokenizer.decode(ids), "\nLabel:2"
    labelled = cut["labels"].tolist() == [-100] * (len(ids) - 1) + ids[-1:]
    fits = len(ids) <= LONGEST and text.endswith(end) and labelled
    got = f"{len(ids)} tokens ending in {text[-20:]!r}"
    expected = f"at most {LONGEST} ending in {end!r}, its last one a label"
    hint = "cut premise and hypothesis, never the label"
    findings.true("a pair that is too long", fits, got, expected, hint)


def _items() -> list[dict]:
    """Return the items of these pairs and of one that is too long, and the batch of them all."""
    from gpt2.tokenizer import load_tokenizer
    from gpt2.xnli import XNLIDataset

    lines = ["\t".join(pair) for pair in (("premise", "hypo", "label"), *PAIRS, TOO_LONG)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.tsv"
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        settings = {"tokenizer": load_tokenizer("gpt2"), "max_length": LONGEST, "verbose": False}
        rows = XNLIDataset("train", "en", train_path_template=str(path), **settings)
        items = [rows[i] for i in range(len(rows))]
    return [*items, XNLIDataset.collate_fn(items)]


def check_parameters(findings: Findings) -> None:
    """count_parameters for the four sizes and another."""
    for given in cases("parameter count"):
        got = findings.observe(_count, given)
        findings.case(given, got, what=f"parameters of {given.what}")


def _count(given: Case) -> Tensor:
    from exercises.accounting import count_parameters

    return torch.tensor(int(count_parameters(_config(given))))


def check_training_costs(findings: Findings) -> None:
    """training_costs for the same sizes."""
    for given in cases("training costs"):
        got = findings.observe(_costs, given)
        findings.case(given, got, what=f"operations and bytes of {given.what}")


def _costs(given: Case) -> Tensor:
    from exercises.accounting import training_costs

    parameters, T = given.inputs["parameters"].item(), given.inputs["T"].item()
    return torch.tensor([int(cost) for cost in training_costs(_config(given), parameters, T)])


def _config(given: Case):
    from config import GPT2Config

    V, P, d, L, f = (given.inputs[name].item() for name in ("V", "P", "d", "L", "f"))
    return GPT2Config(V, d, L, d // 8, f, max_position_embeddings=P, pad_token_id=0)
