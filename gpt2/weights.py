"""Weights in and out: Hugging Face's GPT-2 files and our modules; safe to read, whole on disk.

Nothing here runs code that a file brings: weights are read with safetensors, or with torch's
`weights_only` unpickler.
"""

import json
import pickle
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from config import GPT2Config
from utils import MODEL_SIZES, atomic_write, hub_fetcher

# Our module name -> Hugging Face's, inside one layer. HF keeps query, key and value side by side
# in `attn.c_attn`, and stores every matrix transposed (its Conv1D computes x·W, not x·Wᵀ).
LAYER_NAMES = {
    "attention_layer_norm": "ln_1",
    "attention_dense": "attn.c_proj",
    "out_layer_norm": "ln_2",
    "interm_dense": "mlp.c_fc",
    "out_dense": "mlp.c_proj",
}
TOP_NAMES = {"word_embedding": "wte", "pos_embedding": "wpe", "final_layer_norm": "ln_f"}
CHANGEABLE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attn_implementation")
WEIGHT_FILES = (  # in order of preference; an index names the shards
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


# ---- The name map ------------------------------------------------------------------------------


def from_hugging_face(weights: dict[str, Tensor], config: GPT2Config) -> dict[str, Tensor]:
    """Our state dict from Hugging Face's, every name and shape checked.

    Raises ValueError that names a weight which is missing, left over, or of the wrong shape.
    """
    weights = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    # Buffers of old transformers releases (the causal mask), and the tied output projection.
    weights = {
        name: tensor
        for name, tensor in weights.items()
        if not re.fullmatch(r"h\.\d+\.attn\.(bias|masked_bias)", name)
    }
    head = weights.pop("lm_head.weight", None)
    if (
        head is not None
        and "wte.weight" in weights
        and not torch.equal(head, weights["wte.weight"])
    ):
        raise ValueError("lm_head.weight differs from wte.weight, but GPT-2 ties them")

    def take(name: str, *shape: int) -> Tensor:
        if name not in weights:
            raise ValueError(f"weight {name} is missing from the checkpoint")
        tensor = weights.pop(name)
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"weight {name} has shape {list(tensor.shape)}, but config.json says {list(shape)}"
            )
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"weight {name} ({tensor.dtype}) holds what is no finite number")
        return tensor

    hidden, wide = config.hidden_size, config.intermediate_size
    state = {
        "word_embedding.weight": take("wte.weight", config.vocab_size, hidden),
        "pos_embedding.weight": take("wpe.weight", config.max_position_embeddings, hidden),
        "final_layer_norm.weight": take("ln_f.weight", hidden),
        "final_layer_norm.bias": take("ln_f.bias", hidden),
    }
    for i in range(config.num_hidden_layers):
        ours, theirs = f"gpt_layers.{i}.", f"h.{i}."
        matrix = take(theirs + "attn.c_attn.weight", hidden, 3 * hidden)
        bias = take(theirs + "attn.c_attn.bias", 3 * hidden)
        for part, name in enumerate(("query", "key", "value")):
            columns = slice(part * hidden, (part + 1) * hidden)
            state[f"{ours}self_attention.{name}.weight"] = matrix[:, columns].t()
            state[f"{ours}self_attention.{name}.bias"] = bias[columns]
        for our_name, their_name in LAYER_NAMES.items():
            if our_name.endswith("norm"):
                state[f"{ours}{our_name}.weight"] = take(f"{theirs}{their_name}.weight", hidden)
                state[f"{ours}{our_name}.bias"] = take(f"{theirs}{their_name}.bias", hidden)
                continue
            rows = wide if our_name == "out_dense" else hidden
            columns = wide if our_name == "interm_dense" else hidden
            matrix = take(f"{theirs}{their_name}.weight", rows, columns)
            state[f"{ours}{our_name}.weight"] = matrix.t()
            state[f"{ours}{our_name}.bias"] = take(f"{theirs}{their_name}.bias", columns)
    if weights:
        raise ValueError(f"the checkpoint has weights that GPT-2 has not: {', '.join(weights)}")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def to_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's state dict (of GPT2LMHeadModel) from ours: the way back."""
    weights = {}
    for ours, theirs in TOP_NAMES.items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in state:
                weights[f"{theirs}.{kind}"] = state[f"{ours}.{kind}"]
    i = 0
    while f"gpt_layers.{i}.self_attention.query.weight" in state:
        ours, theirs = f"gpt_layers.{i}.", f"h.{i}."
        parts = [f"{ours}self_attention.{name}." for name in ("query", "key", "value")]
        weights[theirs + "attn.c_attn.weight"] = torch.cat([state[p + "weight"] for p in parts]).t()
        weights[theirs + "attn.c_attn.bias"] = torch.cat([state[p + "bias"] for p in parts])
        for our_name, their_name in LAYER_NAMES.items():
            weight = state[f"{ours}{our_name}.weight"]
            weights[f"{theirs}{their_name}.weight"] = weight.t() if weight.dim() == 2 else weight
            weights[f"{theirs}{their_name}.bias"] = state[f"{ours}{our_name}.bias"]
        i += 1
    return {f"transformer.{name}": tensor.contiguous() for name, tensor in weights.items()}


def drop_unused_course_weights(module, state_dict: dict, prefix: str, *_) -> None:
    """Remove what the course's own GPT2Model saved but never used, before a strict load."""
    for name in list(state_dict):
        if name.startswith((prefix + "pooler_dense.", prefix + "position_ids")):
            del state_dict[name]


# ---- Reading -----------------------------------------------------------------------------------


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of one .safetensors or .bin/.pt file; ValueError if it can't be trusted."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a whole safetensors file ({error}); fetch it again"
        ) from error
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # it names a function to call
            raise ValueError(
                f"{path}: not loaded, because this pickle asks to run code; "
                "only load weights (a dictionary of tensors, or a safetensors file)"
            ) from error
        raise ValueError(f"{path}: not a whole torch file; fetch it again") from error
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a torn file makes torch.load raise almost anything
        raise ValueError(f"{path}: not a whole torch file; fetch it again") from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise ValueError(f"{path}: holds no dictionary of tensors; save model.state_dict()")
    return weights


def load(cls, name_or_path, *, d=None, l=None, num_heads=None, **settings):  # noqa: E741
    """See `GPT2Model.from_pretrained`."""
    folder = Path(name_or_path)
    # Run from the repository, "gpt2" is also this package's folder: a size means the hub then.
    if folder.is_dir() and (str(folder) not in MODEL_SIZES or (folder / "config.json").is_file()):
        fetch, source = _from_folder(folder), str(folder)
    elif folder.is_file():
        raise ValueError(f"{folder}: a file; give the folder that holds it and config.json")
    else:
        fetch, source = hub_fetcher(str(name_or_path)), str(name_or_path)

    path = fetch("config.json")
    if path is None:
        raise FileNotFoundError(
            f"{source}: no config.json there; give a folder that save_pretrained wrote"
        )
    config = GPT2Config.from_pretrained(path)
    given = {"hidden_size": d, "num_hidden_layers": l, "num_attention_heads": num_heads}
    for field, value in given.items():
        if value is not None and value != getattr(config, field):
            raise ValueError(
                f"{field}={value} was asked for, but {source} has {getattr(config, field)}"
            )
    for name, value in settings.items():
        if name not in CHANGEABLE:
            raise ValueError(f"{name}= can't be changed on loading, only {', '.join(CHANGEABLE)}")
        setattr(config, name, value)
    config = GPT2Config(**vars(config))

    try:
        state = from_hugging_face(_read_all(fetch, source), config)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with torch.device("meta"):  # no time spent on random weights that are overwritten at once
        model = cls(config)
    dtype = torch.get_default_dtype()
    model.load_state_dict({name: t.to(dtype) for name, t in state.items()}, assign=True)
    return model.requires_grad_(True).eval()


def _read_all(fetch, source: str) -> dict[str, Tensor]:
    for name in WEIGHT_FILES:
        path = fetch(name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return read_weights(path)
        weights = {}
        for shard in _shards(path):
            shard_path = fetch(shard)
            if shard_path is None:
                raise ValueError(f"{name} names {shard}, which is missing")
            weights.update(read_weights(shard_path))
        return weights
    raise FileNotFoundError(f"{source}: no weights there (looked for {', '.join(WEIGHT_FILES)})")


def _shards(index: Path) -> list[str]:
    """The file names that an index lists, each once."""
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [shard for shard in shards if Path(shard).name != shard]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index.name}: not an index of weights; fetch it again") from error
    if outside:
        raise ValueError(f"{index.name} names {outside[0]!r}, which is not a file beside it")
    return shards


def _from_folder(folder: Path):
    def fetch(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return fetch


# ---- Writing -----------------------------------------------------------------------------------


def save(model, folder) -> None:
    """See `GPT2Model.save_pretrained`. Both files are moved into place once both are whole."""
    folder = Path(folder)
    config = model.config.to_json()
    weights = to_hugging_face({name: t.detach().cpu() for name, t in model.state_dict().items()})
    with (
        atomic_write(folder / "config.json") as config_path,
        atomic_write(folder / "model.safetensors") as weights_path,
    ):
        config_path.write_text(config, encoding="utf-8")
        try:
            save_file(weights, weights_path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise _unwritable(folder) from error


def write_torch(value, path: Path) -> None:
    """torch.save, but a file that can't be written whole is an OSError that says so."""
    try:
        torch.save(value, path)
    except RuntimeError as error:  # torch's writer does not pass on what went wrong
        raise _unwritable(path.parent) from error


def _unwritable(folder: Path) -> OSError:
    free = shutil.disk_usage(folder).free / 2**30
    return OSError(
        f"{folder}: can't be written, {free:.1f} GiB are free; make room there and start again"
    )
