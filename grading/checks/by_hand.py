"""The checks of exercises/: the fine-tuning step (4.3), and what the sizes of GPT-2 cost."""

import torch
from torch import Tensor

from grading.checks.cases import BATCH, LEARNING_RATE, NO_DROPOUT, Case, case, small_model
from grading.checks.findings import Findings

SHAPE = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers")
SHAPE += ("num_attention_heads", "intermediate_size")


def check_finetuning(findings: Findings) -> None:
    """Three steps on two batches: losses and weights."""
    given = case("fine-tuning: losses")
    losses, weights = findings.observe(_steps, given)
    hint = "project, shift, cross-entropy without -100, backward, step: once each"
    findings.case("losses of three steps", losses, given, hint=hint, atol=1e-4)
    given = case("fine-tuning: weights")
    findings.case("token embedding after them", weights, given, hint=hint, atol=1e-4)


def _steps(given: Case) -> tuple[Tensor, Tensor]:
    from exercises.finetuning import finetuning_step

    model = small_model(**NO_DROPOUT)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    batches = [{name: given.inputs[key][i] for key, name in BATCH.items()} for i in (0, 1, 0)]
    losses = [torch.as_tensor(finetuning_step(model, each, optimizer)).item() for each in batches]
    return torch.tensor(losses), model.word_embedding.weight.detach()


def check_parameters(findings: Findings) -> None:
    """count_parameters for the four sizes and another, against transformers' models."""
    given = case("parameter count")
    _compare(findings, given, [[count] for count in findings.observe(_counts, given)], "parameters")


def _counts(given: Case) -> list[int]:
    from exercises.accounting import count_parameters

    return [int(count_parameters(config)) for config in _configs(given)]


def check_training_costs(findings: Findings) -> None:
    """training_costs for the same sizes, against torch's count of operations."""
    given = case("training costs")
    _compare(findings, given, findings.observe(_costs, given), "operations", "bytes")


def _costs(given: Case) -> list[list[int]]:
    from exercises.accounting import training_costs

    inputs = given.inputs["parameters"].tolist(), given.inputs["tokens"].tolist()
    costs = map(training_costs, _configs(given), *inputs)
    return [[int(operations), int(size)] for operations, size in costs]


def _configs(given: Case) -> list:
    from config import GPT2Config

    shapes = given.inputs["shapes"].tolist()
    return [GPT2Config(**dict(zip(SHAPE, row, strict=True)), pad_token_id=0) for row in shapes]


def _compare(findings: Findings, given: Case, got: list[list[int]], *columns: str) -> None:
    for column, what in enumerate(columns):
        for i, right in enumerate(given.expected[:, column].tolist()):
            d, L = given.inputs["shapes"][i, 2:4].tolist()
            one = got[i][column]
            slips = (text for text, wrong in given.mistakes if wrong[i, column] == one)
            name = f"{what} of {L} layers of width {d}"
            findings.equal(name, one, right, hint=next(slips, ""), show="{:,}".format)
