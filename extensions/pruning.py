"""Weights set to zero: the smallest ones, or those that matter least with the inputs they get.

Half of a trained model's weights can often go. Both methods remove the same share s of every
matrix; they differ in what they call small (X are the inputs of the layer, K columns):

    magnitude   S[m, k] = |W[m, k]|                the lowest of the whole matrix
    Wanda       S[m, k] = |W[m, k]| · ‖X[:, k]‖₂    the lowest of each row m

      W            · ‖X‖        S, half of each row goes
    ┌  2  -1  .5 ┐  ┌ 1 ┐      ┌ 2   8   1 ┐        ┌  0  -1   0 ┐
    └ -1  .2   3 ┘  │ 8 │  ──► └ 1  1.6  6 ┘  ──►   └  0  .2   3 ┘
                    └ 2 ┘   a small weight of a large input stays

Wanda goes from the first block to the last, each with the inputs that the pruned ones before it
give. The matrices keep their shapes: bytes and time fall only with a sparse format or kernel, so
this shows how much of a model is needed.

Paper: Sun et al. 2024, "A Simple and Effective Pruning Approach for LLMs" (Wanda, ICLR); Han et al.
2015, "Learning both Weights and Connections" (magnitude).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from utils import in_evaluation_mode


@torch.no_grad()
def magnitude(model: nn.Module, sparsity: float) -> None:
    """Set the smallest weights of every nn.Linear to 0, in place: this share of each matrix.

    Raises ValueError for a sparsity outside [0, 1) or a model without plain linear layers.
    """
    for linear in _linears(model, sparsity).values():
        count = int(sparsity * linear.weight.numel())
        smallest = linear.weight.abs().flatten().argsort(stable=True)[:count]
        linear.weight.view(-1)[smallest] = 0


@torch.no_grad()
@in_evaluation_mode
def wanda(model: nn.Module, sparsity: float, calibration: Sequence[Tensor]) -> None:
    """Do as `magnitude`, by Wanda's score and row; `calibration` are texts (ids (T,)).

    Raises ValueError also without texts.
    """
    linears = _linears(model, sparsity)
    if len(calibration) == 0:
        raise ValueError("calibration has no texts; Wanda needs some, such as 64 training prompts")
    for i in range(len(model.gpt_layers)):
        block = {name: m for name, m in linears.items() if name.startswith(f"gpt_layers.{i}.")}
        norms = _input_norms(model, block, calibration)
        for name, linear in block.items():
            score = linear.weight.abs() * norms[name]  # (M, K)
            lowest = score.argsort(dim=1, stable=True)[:, : int(sparsity * score.size(1))]
            linear.weight.scatter_(1, lowest, 0.0)


def sparsity_of(model: nn.Module) -> float:
    """Return the share of zeros among the weights of all nn.Linear."""
    weights = [linear.weight for linear in _linears(model).values()]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def keep_zeros(model: nn.Module) -> None:
    """Keep the weights at 0 that are 0 now, in the training that follows.

    Their gradient becomes 0, and with it every moment, update and decay of AdamW.
    """
    for linear in _linears(model).values():
        linear.weight.register_hook(partial(torch.mul, (linear.weight != 0).to(linear.weight)))


def _input_norms(model, linears: dict[str, nn.Linear], calibration) -> dict[str, Tensor]:
    """Return ‖X[:, k]‖₂ (K,) of each layer's inputs; one text at a time, so there are no pads."""
    squares = dict.fromkeys(linears, 0.0)

    def add(name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
        squares[name] = squares[name] + inputs[0].flatten(0, -2).float().square().sum(dim=0)

    hooks = [m.register_forward_pre_hook(partial(add, name)) for name, m in linears.items()]
    for ids in calibration:
        model(ids[None].to(model.word_embedding.weight.device))
    for hook in hooks:
        hook.remove()
    return {name: total.sqrt() for name, total in squares.items()}


def _linears(model: nn.Module, sparsity: float = 0.0) -> dict[str, nn.Linear]:
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), the share of zeros, got {sparsity}")
    linears = {name: m for name, m in model.named_modules() if type(m) is nn.Linear}
    if not linears:
        raise ValueError("the model has no nn.Linear to prune; prune before quantizing")
    return linears
