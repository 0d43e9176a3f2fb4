"""Where a benchmark ran, its result as a file, and the files as a table."""

import json
from pathlib import Path

from experiments.environment import machine
from utils import atomic_write

RESULTS = Path(__file__).parent / "results"
GPU_WORK = (  # what benchmarks.cuda measures
    "fine-tuning as FINETUNE_FAST",
    "fine-tuning as the handout, batch of 4",
    "15 test sets",
    "pretraining 124M, 1,024 tokens",
)
WORK = {"cpu": (), "cuda": (*GPU_WORK, "int8 evaluation")}  # what the table names in any case


def store(device: str, name: str, result: dict) -> None:
    """Store one contest's result in `results/<device>.json`, in place of its last one."""
    path = RESULTS / f"{device}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    stored[name] = {**result, "machine": machine(device)}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def load() -> dict[str, dict]:
    """Return all that `store` has written, by device."""
    paths = {device: RESULTS / f"{device}.json" for device in ("cpu", "cuda")}
    return {
        device: json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for device, path in paths.items()
    }


def describe(name: str, result: dict) -> str:
    """Return a contest's result as lines of text."""
    lines = [f"\n{name}"]
    for way, speed in result["ways"].items():
        line = f"  {way:32s} {speed['seconds']:9.3f} s {speed['per_second']:12,.1f} "
        line += f"{result['unit']}/s"
        if "of_ceiling" in speed:
            line += f"   {speed['of_ceiling']:.0%} of the best product"
        if "of_copy" in speed:
            line += f"   {speed['of_copy']:.0%} of a copy"
        lines.append(line)
    lines += [f"  {text}" for text in _measured(result)]
    for what, value in result["agreement"].items():
        lines.append(f"  {what}: {value if isinstance(value, str) else format(value, '.4g')}")
    return "\n".join(lines)


def table(results: dict[str, dict]) -> str:
    """Return what `load` gives as a Markdown table, a row for each comparison."""
    lines = ["| device | work | measured |", "|---|---|---|"]
    for device, contests in results.items():
        for name, result in contests.items():
            lines += [f"| {device} | {name} | {what} |" for what in _measured(result)]
        missing = [name for name in WORK[device] if name not in contests]
        lines += [f"| {device} | {name} | not measured |" for name in missing]
    return "\n".join(lines)


def _measured(result: dict) -> list[str]:
    """Return each ratio of a contest, and each rate that is reported by itself, as text."""
    texts = []
    for ratio in result["ratios"]:
        text = f"{ratio['ours']}: {ratio['times_as_fast']:.2f}× {ratio['peer']}"
        texts.append(
            f"{text} ({ratio['lowest']:.2f} to {ratio['highest']:.2f}, {result['turns']} turns)"
        )
    for way in result["rates"]:
        speed = result["ways"][way]
        text = f"{way}: {speed['per_second']:,.0f} {result['unit']}/s"
        if "of_ceiling" in speed:
            text += f", {speed['of_ceiling']:.0%} of the best product"
        texts.append(text)
    return texts
