"""Muon against torch's own, and against a singular value decomposition."""

import pytest
import torch
from torch import nn

from optim import AdamW, Muon
from optim.muon import orthogonalized

SHAPES = [(8, 8), (24, 6), (6, 24), (1, 5)]


def gradients(shapes, steps):
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        scale = 10.0 ** (step % 7 - 3)
        yield [scale * torch.randn(shape, generator=generator) for shape in shapes]


def parameters(shapes):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def update(optimizer, weights, steps=30):
    for grads in gradients([w.shape for w in weights], steps):
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.95])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_matrices_are_updated_as_by_torchs_muon(decay, momentum):
    ours, theirs = parameters(SHAPES), parameters(SHAPES)
    hyper = {"lr": 0.02, "weight_decay": decay, "momentum": momentum}
    update(Muon(ours, **hyper), ours)
    update(torch.optim.Muon(theirs, **hyper, adjust_lr_fn="match_rms_adamw"), theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_the_others_are_updated_as_by_adamw():
    shapes = [(7,), (5, 3)]
    matrices, ours, alone = parameters([(4, 4)]), parameters(shapes), parameters(shapes)
    hyper = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    optimizer = Muon(matrices, ours, **hyper)
    matrices[0].grad = torch.ones(4, 4)
    update(optimizer, ours)
    update(AdamW(alone, **hyper), alone)
    for a, b in zip(ours, alone, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    made = u.T @ orthogonalized(matrix) @ vt.T
    off_diagonal = made - torch.diag(made.diagonal())
    assert off_diagonal.abs().max() < 1e-4
    assert ((made.diagonal() > 0.3) & (made.diagonal() < 1.3)).all()


def test_no_gradient_changes_nothing_and_a_zero_one_only_decays():
    (weight,) = parameters([(3, 4)])
    before = weight.detach().clone()
    optimizer = Muon([weight], lr=0.5, weight_decay=0.1)
    optimizer.step()
    assert torch.equal(weight, before)
    weight.grad = torch.zeros(3, 4)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), 0.95 * before)


def test_a_saved_state_continues_as_if_never_stopped():
    shapes = [(6, 4), (3,)]
    whole, stopped = parameters(shapes), parameters(shapes)
    make = {"lr": 0.01, "dtype": torch.float32}
    one, first = Muon(whole[:1], whole[1:], **make), Muon(stopped[:1], stopped[1:], **make)
    update(one, whole, 5)
    update(one, whole, 5)
    update(first, stopped, 5)
    second = Muon(stopped[:1], stopped[1:], **make)
    second.load_state_dict(first.state_dict())
    update(second, stopped, 5)
    for a, b in zip(whole, stopped, strict=True):
        assert torch.equal(a, b)


def test_schedules_reach_both_sorts():
    weights = parameters([(4, 4), (4,)])
    optimizer = Muon(weights[:1], weights[1:], lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrices": [torch.zeros(3)]}, r"matrices has a tensor of shape \(3,\)"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"lr": -1}, "lr must be a finite number of at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be a finite number"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Muon(**{"matrices": parameters([(2, 2)]), **arguments})
