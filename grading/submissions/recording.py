"""What code under test gives, kept in a file: observed in one process, judged in another.

The judging process never runs that code, and the observing one does not see what is expected: its
cases hold inputs alone (one token of a greedy text is an input, too: where it shall end). So
whatever a submission does to its own process, torch and checks included, it gets nowhere without
the right numbers.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from grading.checks.findings import Findings, run
from grading.checks.places import Reported, explain

LARGEST = 2**26  # bytes of a record that is still read
LONGEST = 500  # characters of an error
TENSOR, OTHER = "a tensor", "another type"  # names that no check's values have


class Recording(Findings):
    """Findings that look at nothing and keep what is observed."""

    def __init__(self, exercise: str):
        super().__init__(exercise)
        self.observed: list[dict] = []

    def observe(self, produce: Callable, *arguments) -> Any:
        try:
            value = produce(*arguments)
        except BaseException as error:
            state, problem = explain(error, self.exercise)
            self.observed.append({"state": state, "problem": problem[:LONGEST]})
            raise
        self.observed.append({"value": value})
        return value

    def true(self, *_, **__) -> bool:
        return True

    shape = close = true


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


class Replay(Findings):
    """Findings on what a Recording has kept."""

    def __init__(self, exercise: str, observed: list[dict]):
        super().__init__(exercise)
        self.observed = observed

    def observe(self, produce: Callable, *arguments) -> Any:
        if not self.observed:
            raise Reported("failed", "the program ended before it came to this")
        kept = self.observed.pop(0)
        if "problem" in kept:
            raise Reported(kept["state"], kept["problem"])
        return kept["value"]

    def true(self, what: str, passed: bool, got: str, expected: str, hint: str = "") -> bool:
        return super().true(what, passed, *map(_clipped, (got, expected)), hint)


def record(exercise: str, function: Callable[[Findings], None], path: Path) -> None:
    """Write what the code under test gives in this check, whatever it does short of a crash."""
    recording = Recording(exercise)
    with suppress(SystemExit, KeyboardInterrupt):  # observed already, as an error
        run(exercise, function, recording)
    tensors: dict[str, Tensor] = {}

    def put_aside(value) -> dict:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor):
            return {OTHER: type(value).__name__}
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {TENSOR: name}

    observed = json.dumps(recording.observed, default=put_aside, skipkeys=True)
    save_file(tensors, path, {"observed": observed})


def judge(exercise: str, function: Callable[[Findings], None], path: Path) -> Findings:
    """What the check finds in a file of `record`; where there is none, that is a failure, too."""
    try:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > LARGEST:
            raise ValueError("nothing, or too much")
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            observed = (file.metadata() or {})["observed"]

        def back(value: dict):
            if value.keys() == {TENSOR}:
                return tensors[value[TENSOR]]
            if value.keys() == {OTHER}:  # something that is no value, by its type's name
                return type(_clean(value[OTHER]), (), {})()
            return value

        observed = [_observed(kept) for kept in json.loads(observed, object_hook=back)]
    except Exception:  # what anybody may have written can be wrong in any way
        observed = []
    with torch.no_grad():
        return run(exercise, function, Replay(exercise, observed))


def _observed(kept: dict) -> dict:
    if "value" in kept:
        return {"value": kept["value"]}
    state = kept["state"] if kept["state"] in ("to do", "waits") else "failed"
    return {"state": state, "problem": _clean(kept["problem"])}


def _clean(text: str) -> str:
    return re.sub(r"[^\x20-\uffff]", " ", text)[:LONGEST]
