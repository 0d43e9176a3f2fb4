"""Small helpers that two or more packages use: seeds, device, masks, files, the hub."""

import hashlib
import json
import os
import platform
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib import metadata
from pathlib import Path
from uuid import uuid4

import torch
from accelerate.utils import set_seed  # noqa: F401  (of Python's, NumPy's, torch's generators)
from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if int((found := metadata.version("transformers")).split(".")[0]) < 5:  # before anything fails
    raise ImportError(
        f"transformers 5.0 or newer is needed, found {found}; pip install 'transformers>=5.0'"
    )
CHECKSUM = "gpt2_course_checksum"  # in the metadata of a file of tensors
FOLDER = 0x10  # in an archive's attributes of an entry, as MS-DOS has it
MODEL_SIZES = {
    "gpt2": {"d": 768, "l": 12, "num_heads": 12},
    "gpt2-medium": {"d": 1024, "l": 24, "num_heads": 16},
    "gpt2-large": {"d": 1280, "l": 36, "num_heads": 20},
    "gpt2-xl": {"d": 1600, "l": 48, "num_heads": 25},
}


def model_size_to_params(name: str) -> dict[str, int]:
    """Return `d` (hidden size), `l` (layers) and `num_heads` of a published GPT-2 model.

    Raises ValueError for any other name.
    """
    if name not in MODEL_SIZES:
        raise ValueError(f"unknown model size {name!r}; choose from {', '.join(MODEL_SIZES)}")
    return dict(MODEL_SIZES[name])


def get_extended_attention_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the padding mask as a term to add to attention scores: (B, 1, 1, T) in `dtype`.

    `attention_mask` (B, T) has 1 where there is a token and 0 where there is padding; the
    result has 0 there and the smallest number of `dtype` here. It is finite, so that a row
    with nothing but padding still has a softmax.
    """
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask must be [B, T], got {list(attention_mask.shape)}")
    hidden = attention_mask[:, None, None, :] == 0
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
        hidden, torch.finfo(dtype).min
    )


def get_position_ids(attention_mask: Tensor) -> Tensor:
    """Return each token's position in its row from 0, pads not counted: (B, T).

    So a text has the same positions however it is padded; a pad has a neighbour's.
    """
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp_(min=0)


def get_parameter_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype of the first floating-point parameter (else the default dtype)."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def check_numbers(logits: Tensor) -> Tensor:
    """Return `logits` as they are; FloatingPointError where one is NaN."""
    if logits.isnan().any():
        raise FloatingPointError(
            "the model's output is NaN: weights have become infinite or NaN; lower the learning "
            "rate, or use a checkpoint from before that"
        )
    return logits


def get_device() -> torch.device:
    """Return the best available device: CUDA, Apple's MPS or another, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def computed_by(device: torch.device) -> dict:
    """Return what the bits of a result follow from beside the code: threads, device, torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"threads": torch.get_num_threads(), "device": name, "torch": str(torch.__version__)}


def over_processes(accelerator, number):
    """Return the sum of `number` over all processes."""
    if accelerator.num_processes == 1:
        return number
    tensor = torch.tensor(number, device=accelerator.device)
    return accelerator.reduce(tensor, reduction="sum").item()


def fingerprint(*tensors: Tensor) -> str:
    """Return 16 hexadecimal digits that follow from the tensors' numbers, dtypes and shapes."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # numpy gives empty arrays a stride of 0, which view does not take
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_tensors(tensors: dict[str, Tensor], path) -> None:
    """Write a safetensors file; its metadata has a checksum."""
    metadata = {"format": "pt", CHECKSUM: _checksum(tensors)}
    save_file(tensors, path, metadata=metadata)
    with open(path, "r+b") as file:  # the same tensors are the same bytes: their order is random
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = metadata
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":")).encode().ljust(size))


def load_tensors(path) -> dict[str, Tensor]:
    """Read a safetensors file; ValueError where it has a checksum, and that is another one."""
    with safe_open(path, framework="pt") as file:
        known = (file.metadata() or {}).get(CHECKSUM)
    tensors = load_file(path)
    if known is not None and known != _checksum(tensors):
        raise ValueError("wrong checksum")
    return tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    return fingerprint(*(tensor for _, tensor in sorted(tensors.items())))


def check_archive(path) -> None:
    """Raise BadZipFile where torch.load would read a damaged file of torch.save without a word.

    It looks at no checksum, leaves memory as it is for what is marked as a folder, and unpacks
    whatever an archive promises.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
            raise zipfile.BadZipFile("it unpacks to more than its own size; torch packs nothing")
        if any(entry.external_attr & FOLDER for entry in entries):
            raise zipfile.BadZipFile("a tensor is marked as a folder")
        if (bad := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {bad}")


def in_evaluation_mode(function):
    """Decorate `function(model, ...)`: run in evaluation mode, then restore the mode."""

    @wraps(function)
    def wrapper(model, *args, **settings):
        was_training = model.training
        model.eval()
        try:
            return function(model, *args, **settings)
        finally:
            model.train(was_training)

    return wrapper


@contextmanager
def atomic_write(path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it onto `path` when the block succeeds.

    A reader sees the old file or the new one, never half of one. Creates missing folders, and
    deletes the temporary file after an error. Raises OSError for a full disk.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        _replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # what writers make of a full disk
        if isinstance(error, OSError) and (error.filename or error.errno is None):
            raise  # it names the file
        raise OSError(
            f"{path}: cannot be written ({error}); make room if the disk is full"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    for seconds in (0.1, 0.2, 0.4, 0.8):  # Windows refuses while a reader has the file open
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(seconds)
    temporary.replace(path)


# ---- Checkpoints: a folder, or a repository of the Hugging Face hub ----------------------------

PATIENCE = 5.0  # seconds for the hub's first answer


def checkpoint_file(name_or_path, file: str) -> Path | None:
    """Return the local path of a checkpoint's file, or None where the checkpoint has none.

    `name_or_path` is a folder or a hub name; what the hub has is downloaded into its cache. In the
    project folder "gpt2" is also the package's folder, so the name of a model size means the hub
    unless the folder has a config.json.

    Raises ValueError for a file instead of a folder, FileNotFoundError where there is no such
    checkpoint, PermissionError for a gated one, and ConnectionError where it is not cached and
    can't be fetched.
    """
    folder, name = Path(name_or_path), str(name_or_path)
    if folder.is_file():
        raise ValueError(f"{folder}: a file; give the folder that holds it and config.json")
    if folder.is_dir() and (name not in MODEL_SIZES or (folder / "config.json").is_file()):
        return folder / file if (folder / file).is_file() else None
    canonical = f"openai-community/{name}" if name in MODEL_SIZES else name
    try:
        for repository in dict.fromkeys((canonical, name)):
            cached = try_to_load_from_cache(repository, file)
            if cached is not None:  # a path, or a mark that the repository has no such file
                return Path(cached) if isinstance(cached, str) else None
        check_hub_reachable(name)
        return Path(hf_hub_download(canonical, file))
    except GatedRepoError:
        raise PermissionError(
            f'"{name}" is gated: accept its licence at {constants.ENDPOINT}/{name}, then log in '
            "with hf auth login"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise FileNotFoundError(
            f'"{name}" is neither a folder here nor a model on the Hugging Face hub; '
            "check the spelling"
        ) from None
    except LocalEntryNotFoundError as error:
        raise ConnectionError(f"{name}: {file} could not be fetched ({error})") from error
    except EntryNotFoundError:
        return None


def check_hub_reachable(name: str) -> None:
    """Raise ConnectionError, saying what to do, if the hub does not answer one short request.

    `hf_hub_download` would try six times over half a minute before it says so.
    """
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # the HTTP library's own classes differ between hub releases
        raise ConnectionError(
            f'"{name}" is no local folder, is not in the local cache ({constants.HF_HUB_CACHE}), '
            f"and the Hugging Face hub can't be reached ({type(error).__name__}); "
            "give a local folder, or connect to the network once so that it can be cached"
        ) from None


# ---- The machine -------------------------------------------------------------------------------


@cache
def processor() -> str:
    """Return what Linux tells of the processor, or, on other systems, what Python knows of it."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text("utf-8", "replace") if cpuinfo.is_file() else platform.processor()


def supports_bf16() -> bool:
    """Return whether this machine multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", processor()))
