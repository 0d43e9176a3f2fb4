"""Where a benchmark ran, its result as a file, and the files as a table."""

import json
import os
import platform
import subprocess
from pathlib import Path

import torch
import transformers

from utils import atomic_write

RESULTS = Path(__file__).parent / "results"


def machine(device: str = "cpu") -> dict:
    """Processor, device, versions and commit, to stand beside every figure."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0].split(":")[1].strip() if names else processor
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent)
    except OSError:  # no git here
        commit = None
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit.stdout.strip() if commit is not None else "",
    }


def save(name: str, result: dict) -> Path:
    """Write `results/<name>.json`: the result and the machine."""
    path = RESULTS / f"{name}.json"
    text = json.dumps({"result": result, "machine": machine()}, indent=1) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def keep(device: str, name: str, result: dict) -> None:
    """Put one contest's result into `results/<device>.json`, in the place of its last one."""
    path = RESULTS / f"{device}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[name] = {**result, "machine": machine(device)}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def load() -> dict[str, dict]:
    """All that `keep` has written, by device."""
    paths = {device: RESULTS / f"{device}.json" for device in ("cpu", "cuda")}
    return {
        device: json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for device, path in paths.items()
    }


def describe(name: str, result: dict) -> str:
    """A contest's result as lines of text."""
    lines = [f"\n{name}"]
    for way, found in result["ways"].items():
        line = f"  {way:32s} {found['seconds']:9.3f} s {found['per_second']:12,.1f} "
        line += f"{result['unit']}/s"
        if "of_ceiling" in found:
            line += f"   {found['of_ceiling']:.0%} of the best product"
        if "of_copy" in found:
            line += f"   {found['of_copy']:.0%} of a copy"
        lines.append(line)
    for row in _asked(result):
        lines.append("  " + ", ".join(row))
    for what, value in result["agreement"].items():
        lines.append(f"  {what}: {value if isinstance(value, str) else format(value, '.4g')}")
    return "\n".join(lines)


def table(results: dict[str, dict]) -> str:
    """What `load` gives as a Markdown table, a row for each thing that was asked."""
    lines = ["| device | work | measured | asked |", "|---|---|---|---|"]
    for device, contests in results.items():
        for name, result in contests.items():
            lines += [f"| {device} | {name} | {what} | {asked} |" for what, asked in _asked(result)]
        if not contests:
            lines.append(f"| {device} | everything | not measured | |")
    return "\n".join(lines)


def _asked(result: dict) -> list[tuple[str, str]]:
    """What was measured, and what was asked for, of each of a contest's targets."""
    rows = []
    for ratio in result["ratios"]:
        what = f"{ratio['ours']}: {ratio['times_as_fast']:.2f}× {ratio['peer']}"
        what += f" ({ratio['lowest']:.2f} to {ratio['highest']:.2f}, {result['turns']} turns)"
        rows.append(
            (what, _verdict(f"{ratio['asked']:.2g}×", ratio["times_as_fast"], ratio["asked"]))
        )
    for least in result["least"]:
        if least["what"] == "of_ceiling":
            shown = [f"{least[key]:.0%} of the best product" for key in ("reached", "asked")]
        else:
            shown = [f"{least[key]:,.0f} {result['unit']}/s" for key in ("reached", "asked")]
        rows.append(
            (f"{least['way']}: {shown[0]}", _verdict(shown[1], least["reached"], least["asked"]))
        )
    return rows


def _verdict(asked: str, reached: float, least: float) -> str:
    return asked if reached >= least else f"{asked} (missed)"
