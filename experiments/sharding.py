"""Shard a model over the processes of a launcher (FSDP2): each holds a part of every tensor.

Weights, gradients and moments then take the memory of one process divided by their number; a block
is whole only while it computes. Files of a sharded run are those of any other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

from accelerate import Accelerator, PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


class ShardingAccelerator(Accelerator):
    """accelerate's, for a model that `shard` has prepared already, and on processors, too."""

    def prepare_model(self, model: nn.Module, *_, **__) -> nn.Module:
        """Return the model as it is."""
        return model

    def prepare_optimizer(self, optimizer: Optimizer, *_, **__) -> Optimizer:
        """Let the optimizer save and load whole tensors."""
        optimizer.register_state_dict_post_hook(_gather_moments)
        optimizer.register_load_state_dict_pre_hook(_distribute_moments)
        return super().prepare_optimizer(optimizer)

    @contextmanager
    def no_sync(self, model: nn.Module) -> Iterator[None]:
        """Keep the gradients of this backward pass in each process."""
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)


def shard(model: nn.Module) -> Callable[[], nn.Module]:
    """Shard a model in place; return a function that gives a whole copy with the weights of now.

    Every process has to call that function when one does, and likewise `state_dict()` and
    `load_state_dict()`, which give and take whole tensors, as before. Raises RuntimeError where
    there is one process alone.
    """
    state = PartialState()
    if state.num_processes == 1:
        raise RuntimeError("one process alone has nothing to shard; start several with torchrun")
    copy = deepcopy(model).to(state.device)
    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    model.to(state.device)
    for blocks in [each for each in model.modules() if isinstance(each, nn.ModuleList)]:
        for block in blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    numbers = [(p.to_local().numel(), p.numel()) for p in model.parameters()]
    own, of_all = map(sum, zip(*numbers, strict=True))
    print(f"sharded: this process holds {own:,} of {of_all:,} weights")
    model.register_state_dict_post_hook(_gather)
    model.register_load_state_dict_pre_hook(_distribute)

    def whole() -> nn.Module:
        copy.load_state_dict(model.state_dict())
        return copy

    return whole


def _gather(model, state: dict, prefix: str, metadata: dict) -> None:
    for name, tensor in state.items():
        state[name] = _whole(tensor)


def _distribute(model, state: dict, *_) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in state.items():
        state[name] = _parts(tensor, parameters.get(name))


def _gather_moments(optimizer, state: dict) -> dict:
    moments = {
        number: {name: _whole(value) for name, value in one.items()}
        for number, one in state["state"].items()
    }
    return {**state, "state": moments}


def _distribute_moments(optimizer, state: dict) -> dict:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        number: {name: _parts(value, parameters[number]) for name, value in one.items()}
        for number, one in state["state"].items()
    }
    return {**state, "state": moments}


def _whole(value):
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _parts(value, parameter):
    """Return a tensor in parts as the parameter's, if both are such tensors."""
    if not isinstance(parameter, DTensor) or getattr(value, "shape", None) != parameter.shape:
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)
