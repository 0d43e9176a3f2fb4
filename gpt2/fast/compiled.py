"""A model's blocks through torch.compile: fewer and larger kernels, for a GPU."""

import torch
from torch import nn


class CompiledBlocks:
    """A context in which what stands in a model's ModuleLists runs compiled.

    Equal blocks are compiled once for all of them and for every shape of a batch, when they first
    run. They compute the same, except that dropout draws other numbers. Weights keep their names,
    and outside the context the model is as it was.
    """

    def __init__(self, model: nn.Module):
        lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
        self.forwards = {
            block: torch.compile(block.forward, dynamic=True)
            for part in lists
            for block in part
            if "forward" not in vars(block)  # one of its own would be lost afterwards
        }

    def __enter__(self):
        for block, forward in self.forwards.items():
            block.forward = forward

    def __exit__(self, *error):
        for block in self.forwards:
            del block.forward
