"""Files of the parameter-efficient methods, in peft's format: an adapter, and nothing of its base.

adapter_model.safetensors   such as base_model.model.gpt_layers.0.out_dense.lora_A.weight
adapter_config.json         peft's own keys, and the fingerprint of the base
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.files import read_json, write_json
from extensions.adapters import PREFIX, attached
from gpt2.weights import read_weights
from utils import atomic_write, fingerprint, save_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save(model: nn.Module, folder, name: str = "default") -> None:
    """Write an adapter, and nothing of its base: adapter_model.safetensors and its config."""
    state, folder = attached(model, name), Path(folder)
    # peft warns of keys that it does not know, but leaves this one alone.
    origin = {"base_model_class": "GPT2Model", "parent_library": "gpt2.model"}
    origin["base_fingerprint"] = state.base
    tensors = {
        saved: model.get_parameter(own).detach().cpu().contiguous()
        for saved, own in state.names[name].items()
    }
    with atomic_write(folder / WEIGHTS) as path:
        save_tensors(tensors, path)
    write_json(
        folder / CONFIG, {"peft_type": state.method, "auto_mapping": origin, **state.configs[name]}
    )


def read(model: nn.Module, folder, method: str, *keys: str) -> tuple[dict, dict[str, Tensor]]:
    """Return the config, which must have `keys`, and the tensors of a saved adapter.

    Raises FileNotFoundError, or ValueError for another method, another base or a damaged file.
    """
    path = Path(folder) / CONFIG
    if not (config := read_json(path)) or not (path.parent / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"{folder}: has no {CONFIG} with {WEIGHTS}; give the folder of a saved adapter"
        )
    if config.get("peft_type") != method:
        raise ValueError(f"{path}: peft_type is {config.get('peft_type')}, but must be {method}")
    if missing := [key for key in keys if key not in config]:
        raise ValueError(f"{path}: has no {missing[0]}; save the adapter again")
    base = (config.get("auto_mapping") or {}).get("base_fingerprint")
    if base not in (None, base_fingerprint(model)):
        raise ValueError(f"{path}: made for another base; load the model it was trained on")
    return config, read_weights(path.parent / WEIGHTS)


def check(parameters: dict[str, Tensor], tensors: dict[str, Tensor], folder) -> None:
    """Raise ValueError unless a file's tensors have the names and shapes of `parameters`."""
    for name in sorted(parameters.keys() | tensors.keys()):
        ours, theirs = (list(d[name].shape) if name in d else None for d in (parameters, tensors))
        if ours != theirs:
            raise ValueError(
                f"{Path(folder) / WEIGHTS}: {name} has shape {theirs}, but must have {ours}; "
                "give a file that fits this model and its own adapter_config.json"
            )


@torch.no_grad()
def fill(parameters: dict[str, Tensor], tensors: dict[str, Tensor], folder) -> None:
    """Copy a file's tensors, after `check`."""
    check(parameters, tensors, folder)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def fill_adapters(adapters: dict[str, nn.Module], tensors: dict[str, Tensor], folder) -> None:
    """Copy a file's tensors into adapters, by the full name of the layer that each is for."""
    parameters = {
        f"{PREFIX}{path}.{own}": parameter
        for path, adapter in adapters.items()
        for own, parameter in adapter.named_parameters()
    }
    fill(parameters, tensors, folder)


def layers_in(tensors: dict[str, Tensor], ending: str) -> list[str]:
    """Return the full names of the layers that have a tensor with this ending in a file."""
    found = [n.removeprefix(PREFIX).removesuffix(ending) for n in tensors if n.endswith(ending)]
    if not found:
        raise ValueError(f"the file has no tensor that ends with {ending}; give an adapter's file")
    return found


def base_fingerprint(model: nn.Module) -> str:
    """Return the fingerprint of the model without what is attached."""
    state = getattr(model, "attached", None)
    return fingerprint(*model.state_dict().values()) if state is None else state.base
