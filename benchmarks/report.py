"""Where a benchmark ran, and its result as a file."""

import json
import os
import platform
import subprocess
from pathlib import Path

import torch
import transformers

from utils import atomic_write

RESULTS = Path(__file__).parent / "results"


def machine() -> dict:
    """Processor, device, versions and commit, to stand beside every figure."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0].split(":")[1].strip() if names else processor
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent
    ).stdout.strip()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit,
    }


def save(name: str, result: dict) -> Path:
    """Write `results/<name>.json`: the result and the machine."""
    path = RESULTS / f"{name}.json"
    text = json.dumps({"result": result, "machine": machine()}, indent=1) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
