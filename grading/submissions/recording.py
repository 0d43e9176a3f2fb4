"""What code under test gives, kept in a file: observed in one process, judged in another.

    python -m grading.submissions.recording exercises SHAPE EXERCISE [EXERCISE ...]
    python -m grading.submissions.recording predictions WEIGHTS PROMPTS

The judging process never runs that code, and the observing one does not see what is expected: its
cases hold inputs alone (one token of a greedy text is an input, too: where it shall end). So
whatever a submission does to its own process, torch and checks included, it gets nowhere without
the right numbers. As a script this is what observes, in a copy of the submission.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from grading.checks.findings import Findings, run
from grading.checks.places import Reported, explain

RECORDS = Path(".observed")  # the folder of records, in that in which the script runs
LARGEST, MOST = 2**22, 20_000  # bytes and values of a record that is still read
LONGEST = 500  # characters of an error or a value that are shown
TENSOR, OTHER = "a tensor", "another type"  # names that no check's values have


@dataclass
class Recording(Findings):
    """Findings that keep what is observed, and whose comparisons all hold."""

    observed: list[dict] = field(default_factory=list)

    def observe(self, produce: Callable, *arguments) -> Any:
        try:
            value = produce(*arguments)
        except BaseException as error:
            state, problem = explain(error, self.exercise)
            self.observed.append({"state": state, "problem": problem})
            raise
        self.observed.append({"value": value})
        return value

    def true(self, *_, **__) -> bool:
        return True


class Replay(Recording):
    """Findings on what a Recording has kept, or on what somebody has written in its place."""

    def observe(self, produce: Callable, *arguments) -> Any:
        if not self.observed:
            raise Reported("failed", "the program ended before it came to this")
        kept = self.observed.pop(0)
        if "value" in kept:
            return kept["value"]
        state = kept["state"] if kept["state"] in ("to do", "waits") else "failed"
        raise Reported(state, _shown(kept["problem"]))

    def true(self, what: str, passed: bool, got: str, expected: str, hint: str = "") -> bool:
        return Findings.true(self, what, passed, _shown(got), _shown(expected), hint)


def record(exercise: str, function: Callable[[Findings], Any], path: Path) -> None:
    """Write what the code under test gives in this check, whatever it does short of a crash."""
    recording = Recording(exercise)
    with suppress(SystemExit, KeyboardInterrupt):  # observed already, as an error
        run(exercise, function, recording)
    tensors: dict[str, Tensor] = {}

    def put_aside(value) -> dict:
        if not isinstance(value, Tensor | np.ndarray):
            return {OTHER: type(value).__name__}
        name = str(len(tensors))
        tensors[name] = torch.as_tensor(value).detach().cpu().contiguous().clone()
        return {TENSOR: name}

    observed = json.dumps(recording.observed, default=put_aside, skipkeys=True)
    save_file(tensors, path, {"observed": observed})


def judge(exercise: str, function: Callable[[Findings], Any], path: Path) -> Findings:
    """What the check finds in a file of `record`; where there is none, that is a failure, too."""

    def back(value: dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]]
        if value.keys() == {OTHER}:  # something that is no value, by its type's name
            return type(_shown(value[OTHER]), (), {})()
        return value

    try:
        if path.is_symlink() or path.stat().st_size > LARGEST:
            raise ValueError("a link, or too much")
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            text = file.metadata()["observed"]
            if text.count("{") > MOST:
                raise ValueError("too many values")
            observed = json.loads(text, object_hook=back)
    except Exception:  # what anybody may have written can be wrong in any way
        observed = []
    with torch.no_grad():
        return run(exercise, function, Replay(exercise, observed=observed))


def _shown(text: str) -> str:
    """Return a text of unknown origin as one short line."""
    text = re.sub(r"[^\x20-\uffff]", " ", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


def check_predictions(findings: Findings, weights: str, prompts: Sequence[Tensor]) -> list[int]:
    """Return the most probable token after each prompt, by the package's model with these weights;
    one number for each is all that is checked."""

    def predicted() -> Tensor:
        from gpt2.model import GPT2Model

        model = GPT2Model.from_pretrained(weights).eval()
        lasts = [model(ids[None], torch.ones_like(ids[None]))["last_token"] for ids in prompts]
        return torch.stack([model.hidden_state_to_token(last)[0].argmax() for last in lasts])

    tokens = findings.observe(torch.no_grad()(predicted))
    findings.shape("predictions", tokens, (len(prompts),))
    return [int(token) for token in tokens]


def main(kind: str, given: str, *names: str) -> None:
    torch.set_num_threads(1)
    if kind == "predictions":
        prompts = [ids for _, ids in sorted(load_file(*names).items())]
        checks = {kind: lambda findings: check_predictions(findings, given, prompts)}
    else:
        from config import GPT2Config
        from grading.checks import check_function

        shape = GPT2Config(**json.loads(given))
        checks = {name: check_function(name, shape) for name in names}
    for name, function in checks.items():
        record(name, function, RECORDS / f"{name}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
