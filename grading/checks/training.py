"""The checks of training (3.4, 4.2, 4.3), and of what the sizes of GPT-2 cost."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from grading.checks.cases import (
    LEARNING_RATE,
    NO_DROPOUT,
    TRAINING,
    Case,
    case,
    cases,
    small_model,
)
from grading.checks.findings import Findings
from grading.checks.shapes import short

GRAPH = "keep states and logits in the graph (no .item(), no .data, no .detach())"
MODE = "whoever trains has set training mode: leave out model.eval()"
DIGITS = {"entailment": "0", "contradictory": "1", "neutral": "2"}
PAIRS = (  # premise, hypothesis, label
    ("A man plays a guitar.", "A man makes music.", "entailment"),
    ("Two dogs run.", "All animals are asleep.", "contradictory"),
    ("She reads in room A:2.", "She reads a novel.", "neutral"),  # with the label's own token
)
TOO_LONG, LONGEST = ("word " * 300, "word " * 300, "neutral"), 64


def check_loss(findings: Findings) -> None:
    """next_token_loss against transformers' logits, token by token (section 3.4).

    The padding token is end-of-text: at the end of each text, and once inside, it is a label.
    """
    all_learn = in_training = True
    for given in cases("loss"):
        got, gradient, learned, training = findings.observe(_loss, given)
        all_learn, in_training = all_learn and learned, in_training and training
        atol = 1e-3 if given.what == "sum" else 1e-4
        findings.case(given, got, "compare with section 3.4", f"loss, {given.what}", atol)
        if given.what == "labels" and learned:
            gradients = case("gradient of the loss")
            findings.case(gradients, gradient, GRAPH, "gradient of the embedding", atol=1e-4)
    what = "a gradient reaches the embeddings, and the projection"
    findings.holds(what, all_learn, "none", "a gradient", GRAPH)
    findings.holds("mode afterwards", in_training, "evaluation", "training", MODE)


def _loss(given: Case) -> tuple[Tensor, Tensor, bool, bool]:
    """Return the loss, its gradient for the embedding, whether one comes back from it, also through
    the projection, and whether the model is in training mode afterwards."""
    from gpt2.loss import next_token_loss

    model = small_model(**NO_DROPOUT).train()
    batch = ids, mask = given.inputs["ids"], given.inputs["mask"]
    if given.what == "labels":
        batch = {"input_ids": ids, "attention_mask": mask, "labels": given.inputs["labels"]}
    reduction = given.what if given.what in ("sum", "none") else "mean"
    loss = torch.as_tensor(next_token_loss(model, batch, reduction=reduction))
    if not loss.requires_grad:
        return loss, torch.zeros(0), False, model.training
    embeddings = model.word_embedding.weight, model.pos_embedding.weight
    settings = {"allow_unused": True, "materialize_grads": True}
    tokens, places = torch.autograd.grad(loss.sum(), embeddings, **settings)
    others = tokens.index_fill(0, ids.flatten(), 0)  # are reached by the projection alone
    return loss, tokens, bool(others.any() and places.any()), model.training


def check_pretraining_step(findings: Findings) -> None:
    """The steps of `train`, of seven uneven batches, one, two and three to a step (3.4)."""
    hint = "one step from the mean over all labels of its batches"
    for given in cases("steps"):
        what = f"losses with {given.what} a step, and a bias after them"
        got, kind = findings.observe(_train, given)
        findings.case(given, got, hint, what, atol=1e-3)
        findings.equal("kind of `loss`", kind, "float", hint="a Python float (.item()), no tensor")
    given = case("all settings")
    got, in_bf16, training = findings.observe(_train_with_all_settings, given)
    hint = "the loss is `loss_fn`'s; gradients are clipped between the two parts of the exercise, "
    hint += "and none is left for the next epoch"
    findings.case(given, got, hint, "with another loss, clipping, a schedule, 2 epochs", atol=1e-3)
    hint = "call `loss_fn` inside `with _autocast(accelerator, precision):`"
    findings.holds("precision of the loss", in_bf16, "float32", "that of `precision`", hint)
    findings.holds("mode afterwards", training, "evaluation", "training", MODE)


def _train(given: Case) -> tuple[Tensor, str]:
    from gpt2.train import train

    model, optimizer = _model_and_optimizer()
    history = train(model, _batches(given), optimizer, accumulate=given.inputs["accumulate"].item())
    losses = [progress.loss for progress in history]
    return _losses_and_bias(list(map(float, losses)), model), type(losses[-1]).__name__


def _batches(given: Case) -> list[tuple[Tensor, Tensor]]:
    return list(zip(given.inputs["ids"], given.inputs["masks"], strict=True))


def _train_with_all_settings(given: Case) -> tuple[Tensor, bool, bool]:
    """Return losses and bias, whether a loss is computed in the precision that is asked for, and
    whether the model is in training mode afterwards."""
    from gpt2.loss import next_token_loss
    from gpt2.train import train

    in_bf16: list[bool] = []

    def loss_fn(model, batch, reduction="mean"):
        in_bf16.append(torch.is_autocast_enabled(next(model.parameters()).device.type))
        return TRAINING["factor"] * next_token_loss(model, batch, reduction=reduction)

    model, optimizer = _model_and_optimizer()
    settings = {"epochs": TRAINING["epochs"], "max_grad_norm": TRAINING["clip"]}
    settings |= {"accumulate": given.inputs["accumulate"].item(), "loss_fn": loss_fn}
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, TRAINING["decay"])
    history = train(model, _batches(given), optimizer, scheduler=schedule, **settings)
    result = _losses_and_bias([float(progress.loss) for progress in history], model)
    model, optimizer = _model_and_optimizer()
    train(model, _batches(given)[:1], optimizer, loss_fn=loss_fn, precision="bf16")
    return result, any(in_bf16[-1:]), model.training


def check_finetuning(findings: Findings) -> None:
    """Three steps on two batches, and one on a batch padded on the left (section 4.3)."""
    given, other = case("fine-tuning step"), case("fine-tuning step: pads on the left")
    hint = "project, shift, cross-entropy without -100, backward, step: once each"
    got, training = findings.observe(_finetune, given)
    findings.case(given, got, hint, "losses of three steps, and a bias after them", atol=1e-3)
    got, _ = findings.observe(_finetune, other)
    findings.case(other, got, "the model needs attention_mask to know pads", atol=1e-3)
    findings.holds("mode afterwards", training, "evaluation", "training", MODE)


def _finetune(given: Case) -> tuple[Tensor, bool]:
    from exercises.finetuning import finetuning_step

    model, optimizer = _model_and_optimizer()
    batches, losses = (given.inputs[name] for name in ("ids", "masks", "labels")), []
    for ids, mask, labels in zip(*batches, strict=True):
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        losses.append(float(finetuning_step(model, batch, optimizer)))
    return _losses_and_bias(losses, model), model.training


def _model_and_optimizer():
    model = small_model(**NO_DROPOUT).train()
    return model, torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)


def _losses_and_bias(losses: list[float], model) -> Tensor:
    """Return one after the other; the bias tells whether the last step was taken."""
    return torch.tensor([*losses, *model.final_layer_norm.bias.tolist()])


def check_labels(findings: Findings) -> None:
    """The training items: the prompt, its digit, and a label at the digit alone (4.2, 4.3)."""
    from gpt2.tokenizer import load_tokenizer

    tokenizer = load_tokenizer("gpt2")
    *items, cut, batch = findings.observe(_items)
    for item, (premise, hypothesis, label) in zip(items, PAIRS, strict=True):
        prompt = f"Premise: {premise}\nHypothesis: {hypothesis}\nLabel:"
        expected = [*tokenizer(prompt)["input_ids"], *tokenizer(DIGITS[label])["input_ids"]]
        got, show = item["input_ids"].tolist(), lambda ids: repr(tokenizer.decode(ids))
        kinds = [item[name].dtype for name in ("input_ids", "labels")]
        findings.equal("kinds of ids and labels", kinds, [torch.int64] * 2, hint="torch.long")
        right, hint = min(got) >= 0, "labels are a copy: the ids stay as they are"
        findings.holds("ids of a pair", right, f"{min(got)}", "no -100", hint)
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
