"""Load and save weights in Hugging Face's format: the table of names, checked files, safe reading.

Nothing here runs code from a file: weights are read with safetensors, or with torch's
`weights_only` unpickler.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from config import GPT2Config
from console import memory_errors
from gpt2.tokenizer import check_tokenizer, save_tokenizer
from utils import atomic_write, check_archive, checkpoint_file, load_tensors, save_tensors

# Hugging Face stores every matrix transposed, since its Conv1D computes x·W and not x·Wᵀ, and the
# matrices of query, key and value side by side in one. Elsewhere there is one part.
TABLE = "part row column -> (part row) column"
MATRIX = "part row column -> column (part row)"
VECTOR = "part row -> (part row)"
NAMES = (  # ours, Hugging Face's, the shape of ours, and how ours becomes theirs
    ("word_embedding.weight", "wte.weight", ("vocab_size", "hidden_size"), TABLE),
    ("pos_embedding.weight", "wpe.weight", ("max_position_embeddings", "hidden_size"), TABLE),
    ("final_layer_norm.weight", "ln_f.weight", ("hidden_size",), VECTOR),
    ("final_layer_norm.bias", "ln_f.bias", ("hidden_size",), VECTOR),
)
LAYER_NAMES = (  # after "gpt_layers.0." and "h.0."
    ("attention_layer_norm.weight", "ln_1.weight", ("hidden_size",), VECTOR),
    ("attention_layer_norm.bias", "ln_1.bias", ("hidden_size",), VECTOR),
    ("self_attention.{part}.weight", "attn.c_attn.weight", ("hidden_size", "hidden_size"), MATRIX),
    ("self_attention.{part}.bias", "attn.c_attn.bias", ("hidden_size",), VECTOR),
    ("attention_dense.weight", "attn.c_proj.weight", ("hidden_size", "hidden_size"), MATRIX),
    ("attention_dense.bias", "attn.c_proj.bias", ("hidden_size",), VECTOR),
    ("out_layer_norm.weight", "ln_2.weight", ("hidden_size",), VECTOR),
    ("out_layer_norm.bias", "ln_2.bias", ("hidden_size",), VECTOR),
    ("interm_dense.weight", "mlp.c_fc.weight", ("intermediate_size", "hidden_size"), MATRIX),
    ("interm_dense.bias", "mlp.c_fc.bias", ("intermediate_size",), VECTOR),
    ("out_dense.weight", "mlp.c_proj.weight", ("hidden_size", "intermediate_size"), MATRIX),
    ("out_dense.bias", "mlp.c_proj.bias", ("hidden_size",), VECTOR),
)
PARTS = ("query", "key", "value")
CHANGEABLE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attn_implementation")
WEIGHT_FILES = (  # in order of preference; an index names the shards
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
FIX = (  # of a model that is not what its configuration says
    "undo the change (prune.remove, remove_parametrizations, peft's merge_and_unload), set "
    "model.config to it, or save model.state_dict() with torch.save"
)


# ---- The name table ----------------------------------------------------------------------------


def from_hugging_face(weights: dict[str, Tensor], config: GPT2Config) -> dict[str, Tensor]:
    """Return our state dict from Hugging Face's, with or without the prefix "transformer.".

    The tied matrix may be stored as wte.weight, as lm_head.weight or as both. Raises ValueError
    that names the weights which are missing, unexpected, of the wrong shape or not finite.
    """
    weights = {
        name.removeprefix("transformer."): tensor
        for name, tensor in weights.items()
        if not re.search(r"\.attn\.(bias|masked_bias)$", name)  # old releases' causal mask
    }
    if "lm_head.weight" in weights:
        head = weights.pop("lm_head.weight")
        if not torch.equal(weights.setdefault("wte.weight", head), head):
            raise ValueError("lm_head.weight differs from wte.weight, but GPT-2 ties them")
    if config.num_hidden_layers > len(weights):
        raise ValueError(
            f"there are {len(weights)} weights, too few for num_hidden_layers="
            f"{config.num_hidden_layers} of config.json"
        )
    rows = list(_rows(config))
    _check_names(weights, [theirs for _, theirs, _, _ in rows])
    state = {}
    for ours, theirs, shape, pattern in rows:
        sizes = rearrange(torch.empty(len(ours), *shape, device="meta"), pattern).shape
        _check_tensor(theirs, weights[theirs], sizes)
        before, after = pattern.split(" -> ")
        parts = rearrange(weights[theirs], f"{after} -> {before}", part=len(ours))
        state.update(zip(ours, parts, strict=True))
    return state


def to_hugging_face(state: dict[str, Tensor], config: GPT2Config) -> dict[str, Tensor]:
    """Return Hugging Face's state dict (of GPT2LMHeadModel) from ours.

    Raises ValueError for a state dict that is not exactly this GPT-2's.
    """
    rows = list(_rows(config))
    _check_names(state, [name for ours, *_ in rows for name in ours])
    weights = {}
    for ours, theirs, shape, pattern in rows:
        for name in ours:
            _check_tensor(name, state[name], shape)
        parts = [state[name].detach().cpu() for name in ours]
        weights[f"transformer.{theirs}"] = rearrange(parts, pattern).contiguous()
    return weights


def _rows(config: GPT2Config) -> Iterator[tuple[list[str], str, tuple[int, ...], str]]:
    """Yield the table's row for every tensor of a model: our names, theirs, our shape, pattern."""
    rows = [("", "", *row) for row in NAMES]
    for i in range(config.num_hidden_layers):
        rows += [(f"gpt_layers.{i}.", f"h.{i}.", *row) for row in LAYER_NAMES]
    for our_prefix, their_prefix, ours, theirs, shape, pattern in rows:
        parts = PARTS if "{part}" in ours else ("",)
        names = [our_prefix + ours.format(part=part) for part in parts]
        sizes = tuple(getattr(config, field) for field in shape)
        yield names, their_prefix + theirs, sizes, pattern


def _check_names(weights: dict, expected: list[str]) -> None:
    missing = [name for name in expected if name not in weights]
    unexpected = sorted(weights.keys() - set(expected))
    if missing or unexpected:
        raise ValueError(
            "the weights are not those that config.json says: "
            f"missing {missing[:3]}, unexpected {unexpected[:3]}"
        )


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    if not plain or tensor.is_meta:
        raise ValueError(
            f"weight {name} is a {type(tensor).__name__} on {tensor.device}, not a plain tensor; "
            "save the model before it is quantized or distributed"
        )
    if tensor.shape != torch.Size(shape):
        raise ValueError(
            f"weight {name} has shape {list(tensor.shape)}, but config.json says {list(shape)}"
        )
    if not tensor.is_floating_point() or not tensor.float().isfinite().all():
        raise ValueError(f"weight {name} ({tensor.dtype}) has values that are not finite numbers")


# ---- Reading -----------------------------------------------------------------------------------


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .bin or .pt file.

    Raises ValueError for a file that is damaged, would run code, or holds something else.
    """
    kind = "safetensors" if path.suffix == ".safetensors" else "torch"
    try:
        with memory_errors(f"{path} does not fit; close other programs, or take a smaller model"):
            if kind == "safetensors":
                return load_tensors(path)
            if zipfile.is_zipfile(path):  # which torch did not write before 1.6
                check_archive(path)
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes torch.load raise almost anything
        raise ValueError(
            f"{path}: not a whole {kind} file of tensors alone; fetch it again (where it is a Git "
            "LFS pointer, with git lfs pull)"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise ValueError(f"{path}: holds no dictionary of tensors; save model.state_dict()")
    return weights


def load(cls, name_or_path, *, d=None, l=None, num_heads=None, **settings):  # noqa: E741
    """Load a model of class `cls`; see `GPT2Model.from_pretrained`."""
    config, source = GPT2Config.from_pretrained(name_or_path), str(name_or_path)
    given = {"hidden_size": d, "num_hidden_layers": l, "num_attention_heads": num_heads}
    for field, value in given.items():
        if value is not None and value != getattr(config, field):
            raise ValueError(
                f"{field}={value} does not agree with {source}, which has {getattr(config, field)}"
            )
    for name in settings:
        if name not in CHANGEABLE:
            raise ValueError(f"{name}= can't be changed on loading, only {', '.join(CHANGEABLE)}")
    config = GPT2Config(**vars(config) | settings)
    try:
        state = from_hugging_face(_read_all(source), config)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    model = _without_numbers(cls, config)
    dtype = torch.get_default_dtype()
    state = {name: tensor.to(dtype).contiguous() for name, tensor in state.items()}
    if large := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{source}: {large[0]} has values that are too large for {dtype}")
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def _without_numbers(cls, config: GPT2Config):
    """Return a model whose weights have shapes alone: none are drawn to be overwritten at once."""
    with torch.device("meta"), _NothingDrawn():
        return cls(config)


class _NothingDrawn(TorchFunctionMode):
    """Leaves out nn.init.normal_, which on "meta" imports torch's compiler: two seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return None if function is nn.init.normal_ else function(*args, **(kwargs or {}))


def _read_all(source: str) -> dict[str, Tensor]:
    for name in WEIGHT_FILES:
        path = checkpoint_file(source, name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return read_weights(path)
        try:
            names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
            shards = sorted(set(map(str, names)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{name}: not an index of weights; fetch it again") from error
        weights = {}
        for shard in shards:
            shard_path = checkpoint_file(source, shard)
            if shard_path is None:
                raise ValueError(f"{name} names {shard}, which is missing")
            weights.update(read_weights(shard_path))
        return weights
    raise FileNotFoundError(f"{source}: no weights there (looked for {', '.join(WEIGHT_FILES)})")


# ---- Writing -----------------------------------------------------------------------------------


def save(model, folder, tokenizer=None) -> None:
    """Write config.json, model.safetensors and the tokenizer's files, if it is given.

    transformers' AutoModelForCausalLM and AutoTokenizer load the folder. Raises ValueError, with
    the fix, for a model that has other weights or modules than its configuration says, or for a
    tokenizer without a vocabulary.
    """
    folder, settings = Path(folder), dict(vars(model.config))
    if tokenizer is not None:
        check_tokenizer(tokenizer)
        for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
            settings[name] = getattr(tokenizer, name)
    try:
        config = GPT2Config(**settings)  # checks what was set since the model was made
        weights = to_hugging_face(model.state_dict(), config)
        _check_modules(model, config)
    except ValueError as error:
        raise ValueError(f"{type(model).__name__} cannot be saved: {error}; {FIX}") from None
    with atomic_write(folder / "model.safetensors") as path:
        save_tensors(weights, path)
        config.save_pretrained(folder)
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)


def _check_modules(model: nn.Module, config: GPT2Config) -> None:
    """Raise ValueError for a module that computes something else than the configuration says.

    The weights do not show an activation, an epsilon, a number of heads or a layer's class.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, module in _without_numbers(type(modules[""]), config).named_modules():
        ours = modules.get(name, nn.Identity())
        if isinstance(module, nn.Dropout) and isinstance(ours, nn.Dropout | nn.Identity):
            continue  # does nothing in evaluation
        if _description(ours) != _description(module):
            raise ValueError(
                f"{name} is {_description(ours)}, but the configuration says {_description(module)}"
            )


def _description(module: nn.Module) -> str:
    heads = getattr(module, "num_attention_heads", "")
    return f"{type(module).__name__}({module.extra_repr()}{heads and f'{heads} heads'})"
