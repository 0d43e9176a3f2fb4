"""The checks of exercises/: the fine-tuning step (4.3), and what the sizes of GPT-2 cost."""

import torch
from torch import Tensor

from grading.checks.cases import NO_DROPOUT, Case, case, small_model
from grading.checks.findings import Findings

STEP = 0.05  # of gradient descent, so that AdamW has its own check
SHAPE = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers")
SHAPE += ("num_attention_heads", "intermediate_size")


def check_finetuning(findings: Findings) -> None:
    """Three steps on two batches: losses and weights."""
    given = case("fine-tuning: losses")
    losses, weights = findings.observe(_steps, given)
    hint = "project, shift, cross-entropy without -100, backward, step: once each"
    findings.case("losses of three steps", losses, given, hint=hint, atol=1e-4)
    expected = case("fine-tuning: weights").expected
    findings.close("token embedding after them", weights, expected, hint=hint, atol=1e-4)


def _steps(given: Case) -> tuple[Tensor, Tensor]:
    from exercises.finetuning import finetuning_step

    model = small_model(**NO_DROPOUT)
    optimizer = torch.optim.SGD(model.parameters(), lr=STEP)
    names = {"ids": "input_ids", "mask": "attention_mask", "labels": "labels"}
    batches = [{name: given.inputs[key][i] for key, name in names.items()} for i in (0, 1, 0)]
    losses = [torch.as_tensor(finetuning_step(model, each, optimizer)).item() for each in batches]
    return torch.tensor(losses), model.word_embedding.weight.detach()


def check_parameters(findings: Findings) -> None:
    """count_parameters for the four sizes and two others, against transformers' models."""
    given = case("parameter count")
    counts = findings.observe(_counts, given)
    _compare(findings, given, "parameters", counts, 0)


def _counts(given: Case) -> list[int]:
    from exercises.accounting import count_parameters

    return [int(count_parameters(config)) for config in _configs(given)]


def check_training_costs(findings: Findings) -> None:
    """training_costs for the same sizes, against torch's count of operations."""
    given = case("training costs")
    costs = findings.observe(_costs, given)
    _compare(findings, given, "operations", [cost[0] for cost in costs], 0)
    _compare(findings, given, "bytes", [cost[1] for cost in costs], 1)


def _costs(given: Case) -> list[list[int]]:
    from exercises.accounting import training_costs

    inputs = given.inputs["parameters"].tolist(), given.inputs["tokens"].tolist()
    costs = map(training_costs, _configs(given), *inputs)
    return [[int(operations), int(size)] for operations, size in costs]


def _configs(given: Case) -> list:
    from config import GPT2Config

    shapes = given.inputs["shapes"].tolist()
    return [GPT2Config(**dict(zip(SHAPE, row, strict=True)), pad_token_id=0) for row in shapes]


def _compare(findings: Findings, given: Case, what: str, got: list[int], column: int) -> None:
    expected = given.expected[:, column].tolist()
    for i, (one, right) in enumerate(zip(got, expected, strict=True)):
        d, L = given.inputs["shapes"][i, 2:4].tolist()
        slips = (text for text, wrong in given.mistakes if wrong[i, column] == one)
        name = f"{what} of {L} layers of width {d}"
        findings.true(name, one == right, f"{one:,}", f"{right:,}", next(slips, ""))
