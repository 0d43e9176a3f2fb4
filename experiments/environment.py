"""Check packages, hardware, data and weights; name the fix for each gap. Describe the machine."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from experiments.profiles import EMBEDDED_TEXT, Profile, choose_profile
from utils import MODEL_SIZES, atomic_write, get_device, supports_bf16

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
Finding = tuple[str, str, str]  # what was checked, its state, and the fix ("" where none is needed)


def check_environment(profile: Profile | None = None) -> bool:
    """Print one line per check, [OK] or [missing] with the fix; return whether all is there."""
    profile = profile or choose_profile()
    findings = [*_packages(), *_device(), _text(profile), _nli(profile), _weights(profile)]
    for name, state, fix in findings:
        mark = "[missing]" if fix else "[OK]     "
        print(f"{mark} {name:<20} {state}" + (f"   fix: {fix}" if fix else ""))
    return not any(fix for *_, fix in findings)


def _packages() -> Iterator[Finding]:
    yield "Python", platform.python_version(), ""
    text = REQUIREMENTS.read_text(encoding="utf-8") if REQUIREMENTS.is_file() else ""
    for name, least in re.findall(r"^([A-Za-z0-9_-]+)>=([\d.]+)", text, flags=re.MULTILINE):
        fix = f'pip install "{name}>={least}"'
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed", fix
            continue
        numbers = [[int(n) for n in re.findall(r"\d+", v)[:3]] for v in (version, least)]
        yield name, version, "" if numbers[0] >= numbers[1] else fix


def _device() -> Iterator[Finding]:
    device = get_device()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        yield "device", f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB", ""
    else:
        yield "device", f"{device}, {torch.get_num_threads()} threads", ""
    yield "precision", "bfloat16 and float32" if supports_bf16() else "float32", ""


def _text(profile: Profile) -> Finding:
    path = Path(profile.pretrain_text)
    if not path.is_file():
        fix = "set PRETRAIN_TEXT to a text file with one document a line"
        if profile.pretrain_text == EMBEDDED_TEXT:
            fix = f"python -m data.make_pretrain_text --out {path}"
        return "pretraining text", f"no file {path}", fix
    lines = path.read_bytes().count(b"\n")
    return "pretraining text", f"{path}, {lines:,} lines", ""


def _nli(profile: Profile) -> Finding:
    files = {
        "XNLI-1.0/xnli.dev.tsv": "XNLI-1.0",
        "XNLI-1.0/xnli.test.tsv": "XNLI-1.0",
        "XNLI-MT-1.0/multinli/multinli.train.en.tsv": "XNLI-MT-1.0",
    }
    missing = {archive for file, archive in files.items() if not Path(profile.data, file).is_file()}
    if missing:
        fix = "python -m data.download"
        if profile.data != ".":
            fix += f" --folder {profile.data}"
        return "NLI data", f"no {' and '.join(sorted(missing))} in {profile.data}", fix
    return "NLI data", f"{profile.data}", ""


def _weights(profile: Profile) -> Finding:
    name = profile.weights
    if name == "toy":
        return "weights", "the toy model that Task 1 trains", ""
    if Path(name, "config.json").is_file():
        return "weights", f"the folder {name}", ""
    canonical = f"openai-community/{name}" if name in MODEL_SIZES else name
    for repository in (canonical, name):
        try:
            cached = try_to_load_from_cache(repository, "model.safetensors")
        except HFValidationError:
            fix = "set GPT2_WEIGHTS to a hub name or a folder"
            return "weights", f"{name!r} is neither a folder nor a hub name", fix
        if isinstance(cached, str):
            return "weights", f"{repository}, cached", ""
    fetch = f"from gpt2 import GPT2Model; GPT2Model.from_pretrained('{name}')"
    return "weights", f"{name} is not cached", f'python -c "{fetch}"'


def machine(device: str = "cpu") -> dict:
    """Return processor, device, versions and commit, to stand beside every measurement."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0].split(":")[1].strip() if names else processor
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, cwd=REQUIREMENTS.parent)
    except OSError:  # git is not installed
        commit = None
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "commit": commit.stdout.strip() if commit is not None else "",
    }


def save_measurement(path, result: dict) -> None:
    """Write the result and the machine it was measured on as a JSON file."""
    text = json.dumps({"result": result, "machine": machine()}, indent=1) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
