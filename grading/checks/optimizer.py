"""The check of section 3.3: AdamW.step, in float64.

Four forms are right. Epsilon is added to the corrected root, as in the handout, or to the
uncorrected one, as in section 2 of Kingma and Ba's paper: the course's optimizer_test.npy was made
that way, and differs by 6e-8 from it and by 6e-7 from the handout's formula. The decay takes the
updated parameter, or the one of the step before, as the handout's last formula says.
"""

import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from grading.checks.cases import case
from grading.checks.findings import Findings

OPTIMIZER_TEST = Path(__file__).parents[2] / "optimizer_test.npy"
PLAIN = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "correct_bias": True}
SETTINGS = {
    "without bias correction": {**PLAIN, "correct_bias": False, "weight_decay": 0.3},
    "with bias correction": PLAIN,
    "a large epsilon": {**PLAIN, "eps": 0.5, "betas": (0.7, 0.95)},
    "weight decay": {**PLAIN, "weight_decay": 0.3},
}
GROUPS = ({**PLAIN, "weight_decay": 0.2}, {**PLAIN, "lr": 0.3, "betas": (0.8, 0.9), "eps": 0.1})


# The fused kernel of optim.fused would hide a wrong formula.
@patch.dict(os.environ, {"GPT2_FAST": "0"})
def check_optimizer(findings: Findings) -> None:
    """AdamW.step, one hyper-parameter at a time, and the handout's optimizer_test.npy."""
    for name, hyper in SETTINGS.items():
        given = case(f"AdamW: {name}")
        got = findings.observe(_steps, given.inputs["gradients"], hyper)
        findings.case(given, got, "compare with section 3.3, line by line", atol=1e-6)
    first, second = case("group 0"), case("group 1")
    pairs = zip((first.expected, *first.also), (second.expected, *second.also), strict=True)
    right = [torch.stack([one, torch.ones_like(one), other]) for one, other in pairs]
    got = findings.observe(_two_groups, first.inputs["gradients"])
    hint = "every group has hyper-parameters, every parameter a state of its own; without a "
    hint += "gradient there is no change, and with one of zeros there is"
    findings.close("groups, and a parameter without a gradient", got, *right, hint=hint)
    got, right = findings.observe(regression_weights), torch.from_numpy(np.load(OPTIMIZER_TEST))
    hint = "right for a few steps but not for 1,000: check what the state holds between steps"
    findings.close("optimizer_test.npy", got, right, hint=hint, atol=1e-4)


def _adamw(parameters, **hyper):
    from optim.adamw import AdamW

    return AdamW(parameters, **hyper)


def _steps(gradients: Tensor, hyper: dict) -> Tensor:
    """Return ones after a step for each gradient, in float64."""
    theta = nn.Parameter(torch.ones_like(gradients[0]))
    optimizer = _adamw([theta], **hyper)
    for gradient in gradients:
        theta.grad = gradient.clone()
        optimizer.step()
    return theta.detach()


def _two_groups(gradients: Tensor) -> Tensor:
    """Return three vectors of ones in two groups after these steps; the second has no gradient."""
    parameters = [nn.Parameter(torch.ones_like(gradients[0])) for _ in range(3)]
    first, second = GROUPS
    groups = [{"params": parameters[:2], **first}, {"params": parameters[2:], **second}]
    optimizer = _adamw(groups, **PLAIN)
    for gradient in gradients:
        parameters[0].grad, parameters[2].grad = gradient.clone(), gradient.clone()
        optimizer.step()
    return torch.stack([p.detach() for p in parameters])


def regression_weights(optimizer_class=_adamw) -> Tensor:
    """Return the weight [2, 3] of the handout's linear regression after 1,000 steps (3.3)."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    hyper = {"lr": 1e-3, "weight_decay": 1e-4, "correct_bias": True}
    optimizer = optimizer_class(model.parameters(), **hyper)
    for _ in range(1000):
        optimizer.zero_grad()
        x = torch.FloatTensor(rng.uniform(size=[3]))
        target = torch.stack([x[0] + x[1], -x[2]])
        ((target - model(x)) ** 2).sum().backward()
        optimizer.step()
    return model.weight.detach()
