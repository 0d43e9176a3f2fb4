"""Check packages, hardware, data and weights; name the fix for each gap. Describe the machine."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from packaging.requirements import Requirement

from experiments.profiles import MINIATURE, TOY, Profile, choose_profile
from gpt2.weights import WEIGHT_FILES
from utils import MODEL_SIZES, check_hub_reachable, get_device, processor, supports_bf16

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
Finding = tuple[str, str, str]  # what was checked, its state, and the fix ("" where none is needed)


def check_environment(profile: Profile | None = None, *, needed: bool = False) -> bool:
    """Print one line per check, [OK] or [missing] with the fix; return whether all is there.

    With `needed`, raise FileNotFoundError where text, data or weights are missing.
    """
    profile = profile or choose_profile()
    inputs = [_text(profile), _nli(profile), _weights(profile)]
    findings = [*_packages(), *_device(), *inputs]
    for name, state, fix in findings:
        mark = "[missing]" if fix else "[OK]     "
        print(f"{mark} {name:<20} {state}" + (f"   fix: {fix}" if fix else ""))
    if needed and (missing := [f"{name}: {state}; {fix}" for name, state, fix in inputs if fix]):
        raise FileNotFoundError(". ".join(missing))
    return not any(fix for *_, fix in findings)


def _packages() -> Iterator[Finding]:
    yield "Python", platform.python_version(), ""
    text = REQUIREMENTS.read_text(encoding="utf-8") if REQUIREMENTS.is_file() else ""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    for requirement in (Requirement(line) for line in lines if line and line[0] != "-"):
        try:
            version = metadata.version(requirement.name)
            fits = requirement.specifier.contains(version, True)
        except metadata.PackageNotFoundError:
            version, fits = "not installed", False
        yield requirement.name, version, "" if fits else f'pip install "{requirement}"'


def _device() -> Iterator[Finding]:
    device, state = get_device(), f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        state = f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB"
    yield "device", f"{device}, {state}", ""
    yield "precision", "bfloat16 and float32" if supports_bf16() else "float32", ""


def _text(profile: Profile) -> Finding:
    path = Path(profile.pretrain_text)
    if path.is_file():
        lines = path.read_bytes().count(b"\n")
        return "pretraining text", f"{path}, {lines:,} lines", ""
    fix = "set PRETRAIN_TEXT to a text file with one document a line"
    return "pretraining text", f"no file {path}", fix


def _nli(profile: Profile) -> Finding:
    if profile.data == MINIATURE:
        return "NLI data", "the small world, made by data/miniature", ""
    files = ("XNLI-1.0/xnli.dev.tsv", "XNLI-MT-1.0/multinli/multinli.train.en.tsv")
    missing = [file.split("/")[0] for file in files if not Path(profile.data, file).is_file()]
    state = f"no {' and '.join(missing)} in {profile.data}" if missing else str(profile.data)
    folder = "" if profile.data == "." else f" --folder {profile.data}"
    return "NLI data", state, f"python -m data.download{folder}" if missing else ""


def _weights(profile: Profile) -> Finding:
    name = profile.weights
    here = {MINIATURE: "GPT-2 in miniature, data/miniature/model", TOY: "the model of Task 1"}
    if name in here or Path(name, "config.json").is_file():
        return "weights", here.get(name, f"the folder {name}"), ""
    repositories = (f"openai-community/{name}", name) if name in MODEL_SIZES else (name,)
    try:
        cached = [try_to_load_from_cache(r, f) for r in repositories for f in WEIGHT_FILES]
    except HFValidationError:
        fix = "set GPT2_WEIGHTS to a hub name or a folder"
        return "weights", f"{name!r} is neither a folder nor a hub name", fix
    if any(isinstance(file, str) for file in cached):
        return "weights", f"{name}, cached", ""
    with suppress(ConnectionError):
        check_hub_reachable(name)
        return "weights", f"{name}, to be fetched from the hub", ""
    fetch = f"from gpt2 import GPT2Model; GPT2Model.from_pretrained('{name}')"
    return "weights", f"{name} is not cached", f'python -c "{fetch}"'


def machine(device: str = "cpu") -> dict:
    """Return processor, device, versions and commit, to stand beside every measurement."""
    named = re.search("model name.*: (.*)", processor())
    git = {"shell": True, "capture_output": True, "text": True, "cwd": REQUIREMENTS.parent}
    commit = subprocess.run("git rev-parse --short HEAD", **git)  # without git: empty
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "commit": commit.stdout.strip(),
    }
