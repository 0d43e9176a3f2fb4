"""What the parameter-efficient methods share: attach, switch, detach.

Most wrap linear layers of the model, whose own forward then calls what stands in their place:

    query: Linear    ->    query: Wrapped
                             base_layer: Linear                           frozen
                             adapters: {"default": LoRA, "french": LoRA}  one of them is active

BitFit and last-k train parameters that the model has; prefix-tuning adds its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from torch import Tensor, nn

from utils import fingerprint

PREFIX = "base_model.model."  # before the names of modules in peft's files


class Wrapped(nn.Module):
    """A linear layer with adapters by name; the active one computes `adapter(x, base_layer)`."""

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer, self.adapters = base_layer, nn.ModuleDict()
        self.active: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.active not in self.adapters:
            return self.base_layer(x)
        return self.adapters[self.active](x, self.base_layer)


@dataclass
class Attached:
    """What a model remembers, as `model.attached`, while a method is attached to it."""

    method: str  # peft's name for it
    base: str  # the fingerprint of the untouched model
    trainable: list[str]  # parameters that were trainable before
    configs: dict[str, dict] = field(default_factory=dict)  # of each adapter, for its file
    names: dict[str, dict[str, str]] = field(default_factory=dict)  # in its file -> in the model
    originals: dict[str, Tensor] = field(default_factory=dict)  # of parameters the model has


def attached(model: nn.Module, name: str | None = None) -> Attached:
    """Return what is attached; ValueError where nothing is, or no adapter of this name."""
    state = getattr(model, "attached", None)
    if state is None:
        raise ValueError("the model has no adapter attached; call attach(model) first")
    if name not in (None, *state.configs):
        raise ValueError(f"no adapter is named {name!r}; choose from {', '.join(state.configs)}")
    return state


def linear_layers(model: nn.Module, targets: Iterable[str] | None = None) -> dict[str, nn.Module]:
    """Return the linear layers whose full name ends with a target (None: all of the blocks).

    Raises ValueError, with near names, for a target that matches none.
    """
    layers = {}
    for name, module in model.named_modules():
        inside = {"base_layer", "adapters"} & {*name.split(".")}
        if isinstance(module, nn.Linear | Wrapped) and not inside:
            layers[name] = getattr(module, "base_layer", module)
    if targets is None:
        blocks = tuple(f"{n}." for n, m in model.named_modules() if isinstance(m, nn.ModuleList))
        targets = [name for name in layers if name.startswith(blocks)]
    chosen: set[str] = set()
    for target in [targets] if isinstance(targets, str) else targets:
        matches = {name for name in layers if f".{name}".endswith(f".{target}")}
        if not matches:
            ends = list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            near = ", ".join(get_close_matches(target, [*ends, *layers], cutoff=0.5) or ends)
            raise ValueError(f"targets={target!r} matches no linear layer; near names are {near}")
        chosen |= matches
    return {name: layer for name, layer in layers.items() if name in chosen}


def start(model: nn.Module, method: str, name: str, config: dict, names: dict) -> Attached:
    """Note a new adapter, with its parameters' `names` in its file and in the model."""
    state = getattr(model, "attached", None)
    if state is None:
        trainable = [own for own, parameter in model.named_parameters() if parameter.requires_grad]
        state = model.attached = Attached(
            method, fingerprint(*model.state_dict().values()), trainable
        )
    elif state.method != method or name in state.configs:
        raise ValueError(
            f"the model has {state.method} attached as {', '.join(state.configs)}; detach it, or "
            "give a further adapter of the same method another name="
        )
    state.configs[name], state.names[name] = config, names
    return state


def wrap(model, method: str, adapters: dict[str, nn.Module], config: dict, name: str) -> None:
    """Put each adapter around the linear layer that its key names; they become active."""
    if not adapters:
        raise ValueError("targets= is empty; name at least one linear layer")
    if not name.isidentifier():
        raise ValueError(f"name={name!r} must be a word of letters, digits and underscores")
    names = {
        f"{PREFIX}{path}.{own}": f"{path}.adapters.{name}.{own}"
        for path, adapter in adapters.items()
        for own, _ in adapter.named_parameters()
    }
    start(model, method, name, config, names)
    for path, adapter in adapters.items():
        layer = model.get_submodule(path)
        wrapped = layer if isinstance(layer, Wrapped) else Wrapped(layer)
        wrapped.adapters[name] = adapter.to(wrapped.base_layer.weight)
        model.set_submodule(path, wrapped.train(layer.training))
    switch(model, name)


def train_only(model: nn.Module, method: str, parameters: Iterable[str], config: dict) -> None:
    """Train these parameters of the model; `detach` restores their values."""
    names = {PREFIX + name: name for name in parameters}
    state = start(model, method, "default", config, names)
    state.originals = {n: model.get_parameter(n).detach().clone() for n in names.values()}
    switch(model, "default")


def switch(model: nn.Module, name: str | None) -> None:
    """Make an attached adapter the active one, which alone is trained; None: the base model."""
    state = attached(model, name)
    model.requires_grad_(False)
    for own in state.names.get(name, {}).values():
        model.get_parameter(own).requires_grad_(True)
    for module in model.modules():
        if isinstance(module, Wrapped):
            module.active = name


def detach(model: nn.Module) -> None:
    """Give back the model as it was before anything was attached, bit for bit."""
    state = attached(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, Wrapped):
            model.set_submodule(path, module.base_layer)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in state.trainable)
        if name in state.originals:
            parameter.data.copy_(state.originals[name])
    del model.attached
