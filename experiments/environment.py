"""What is installed, what hardware and data are there, and the command that mends each gap.

Run it with `python -m experiments.environment`.
"""

import platform
import re
from importlib import metadata
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from experiments.profiles import EMBEDDED_TEXT, Profile, choose_profile
from utils import MODEL_SIZES, get_device, supports_bf16

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"


def check_environment(profile: Profile | None = None) -> bool:
    """Print a line a finding, [OK] or [missing] with what mends it; True if nothing is missing."""
    profile = profile or choose_profile()
    findings = [*_packages(), _device(), _precision()]
    findings += [_text(profile), _nli(profile), _weights(profile)]
    for what, found, mend in findings:
        mark = "[missing]" if mend else "[OK]     "
        print(f"{mark} {what:<20} {found}" + (f"   mend: {mend}" if mend else ""))
    return not any(mend for *_, mend in findings)


def _packages():
    yield "Python", platform.python_version(), ""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9_-]+)>=([\d.]+)", line)
        if not match:
            continue
        name, least = match.groups()
        command = f'pip install "{name}>={least}" -c constraints.txt'
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed", command
            continue
        numbers = [[int(n) for n in re.findall(r"\d+", v)[:3]] for v in (version, least)]
        yield name, version, "" if numbers[0] >= numbers[1] else command


def _device():
    device = get_device()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return "device", f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB", ""
    return "device", f"{device}, {torch.get_num_threads()} threads", ""


def _precision():
    return "precision", "bfloat16 and float32" if supports_bf16() else "float32", ""


def _text(profile: Profile):
    path = Path(profile.pretrain_text)
    if not path.is_file():
        mend = "set PRETRAIN_TEXT to a text file with one document a line"
        if profile.pretrain_text == EMBEDDED_TEXT:
            mend = f"python -m data.make_pretrain_text --out {path}"
        return "pretraining text", f"no {path}", mend
    lines = path.read_bytes().count(b"\n")
    return "pretraining text", f"{path}, {lines:,} lines", ""


def _nli(profile: Profile):
    files = {
        "XNLI-1.0/xnli.dev.tsv": "XNLI-1.0",
        "XNLI-1.0/xnli.test.tsv": "XNLI-1.0",
        "XNLI-MT-1.0/multinli/multinli.train.en.tsv": "XNLI-MT-1.0",
    }
    missing = {archive for file, archive in files.items() if not Path(profile.data, file).is_file()}
    if missing:
        mend = "python -m data.download"
        if profile.data != ".":
            mend += f" --folder {profile.data}"
        return "NLI data", f"no {' and '.join(sorted(missing))} in {profile.data}", mend
    return "NLI data", f"{profile.data}", ""


def _weights(profile: Profile):
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
            return "weights", f"{name!r} is no model", "set GPT2_WEIGHTS to a hub name or a folder"
        if isinstance(cached, str):
            return "weights", f"{repository}, cached", ""
    fetch = f"from gpt2.model import GPT2Model; GPT2Model.from_pretrained('{name}')"
    return "weights", f"{name} is not cached", f'python -c "{fetch}"'


if __name__ == "__main__":
    raise SystemExit(0 if check_environment() else 1)
