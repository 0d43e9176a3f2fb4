"""A run is a folder: settings, metrics, checkpoints, result.

Every file in it is whole, whenever the process is killed.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from config import TrainingSettings
from experiments.callbacks import Metrics
from experiments.files import read_sealed, to_json, verify_folder, write_sealed
from experiments.identity import changed_code
from gpt2.checkpoints import Progress
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from optim import AdamW, Muon
from utils import computed_by, get_device, supports_bf16

RUNS = Path(os.environ.get("GPT2_RUNS", "runs"))  # the folder of all runs


class Run:
    """A run, in the folder `<root>/<name>-<digest>`.

    The digest follows from `settings` (what was chosen), `inputs` (fingerprints of the data) and
    `code` (see experiments.identity.code_identity), all of them JSON values: the same run finds
    its folder again, and a changed one gets another.
    """

    model_file = "model/config.json"  # what a finished run's model always has

    def __init__(self, root, name: str, settings: dict, inputs: dict, code: dict):
        if not name or Path(name).name != name:
            raise ValueError(f"name must be a plain folder name, got {name!r}")
        text = to_json({"settings": settings, "inputs": inputs, "code": code})
        self.identity = json.loads(text)  # as it is read back, such as lists for tuples
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        self.name, self.path = name, Path(root).absolute() / f"{name}-{digest}"
        self.metrics = Metrics(self.path / "metrics.jsonl")

    def once(self, work: Callable[[bool], dict]) -> None:
        """Call `work` unless the run is finished, and save the result that it returns.

        Under a launcher every process calls it, as `work(is_main)`; the folder is the main one's.
        """
        accelerator = Accelerator()
        is_main = accelerator.is_main_process
        if is_main and not self.path.exists():
            self._print_changed_code()
        with self.exclusive() if is_main and self.result is None else nullcontext():
            # Read again inside: another process may have finished it meanwhile.
            (finished,) = broadcast_object_list([self.result is not None])
            if not finished:
                result = work(is_main)
                if is_main:
                    result["computed_by"] = computed_by(accelerator.device)
                    result["metrics_lines"] = len(self.metrics.read())
                    write_sealed(self.path / "result.json", result)
        if is_main:
            for file in self.path.glob("checkpoint-*"):  # of a finished run: the optimizer's state
                with suppress(OSError):  # Windows: a reader has it open
                    file.unlink()
        accelerator.wait_for_everyone()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes out of the folder; RuntimeError if one works in it already."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.path / ".lock").acquire(timeout=0)
        except Timeout as error:
            raise RuntimeError(
                f"{self.path}: another process works in this folder; wait until it ends or stop it"
            ) from error
        with lock:
            for file in self.path.rglob(".*.*.????????"):  # what a killed process was writing
                if file.is_file():
                    file.unlink()
            write_sealed(self.path / "settings.json", self.identity)
            yield

    @property
    def result(self) -> dict | None:
        """The saved result; None before the run is finished.

        Raises FileNotFoundError where a finished run has lost its model.
        """
        result = read_sealed(self.path / "result.json")
        if result is not None:
            self.check_model()
        return result

    def check_model(self) -> None:
        """Raise FileNotFoundError where the model that the run has saved is gone."""
        if not (self.path / self.model_file).is_file():
            raise FileNotFoundError(
                f"{self.path}: its {self.model_folder.name} is gone; "
                "delete the folder and run again"
            )

    def measured(self) -> list[dict]:
        """Return all lines of the metrics so far; ValueError where some are damaged or missing."""
        lines, result = self.metrics.read(), self.result
        if result is not None and len(lines) != result["metrics_lines"]:
            raise ValueError(
                f"{self.metrics.path}: has {len(lines)} lines and not {result['metrics_lines']}; "
                f"delete {self.path} and run again"
            )
        return lines

    @property
    def model_folder(self) -> Path:
        """Where the finished run's model is."""
        return (self.path / self.model_file).parent

    def model(self) -> GPT2Model:
        """Return the finished run's model, on the best device there is.

        Raises ValueError for a file that is not what the run saved.
        """
        verify_folder(self.model_folder)
        return GPT2Model.from_pretrained(self.model_folder).to(get_device())

    def history(self) -> list[Progress]:
        """Return every step so far."""
        return [Progress(**line) for line in self.measured() if "loss" in line]

    def _print_changed_code(self) -> None:
        """Print one line if the newest run of the same name and settings had other code."""
        files = self.path.parent.glob(f"{self.name}-{'[0-9a-f]' * 8}/settings.json")
        for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
            try:
                earlier = read_sealed(file)
            except ValueError:
                continue  # damaged: nothing to compare with
            if earlier.get("settings") == self.identity["settings"]:
                if changed := changed_code(earlier["code"], self.identity["code"]):
                    print(
                        f"{self.path.name}: a new run, because {', '.join(changed)} changed since "
                        f"{file.parent.name} with the same settings"
                    )
                return


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds; ValueError where there is none, or one twice."""
    if not seeds:
        raise ValueError("no seeds to train with; give at least one")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must differ from each other, got {tuple(seeds)}")
    return tuple(seeds)


def load_gpt2(weights, **settings) -> tuple[GPT2Model, PreTrainedTokenizerBase]:
    """Return a GPT-2 from a folder or the hub, and its tokenizer: GPT-2's where it has no other."""
    model = GPT2Model.from_pretrained(weights, **settings)
    folder, files = Path(weights), ("tokenizer_config.json", "tokenizer.json", "vocab.json")
    own = not folder.is_dir() or any((folder / file).is_file() for file in files)
    return model, load_tokenizer(weights if own else "gpt2")


def new_optimizer(model: GPT2Model, settings: TrainingSettings) -> AdamW:
    """Return the optimizer of a recipe: AdamW, or Muon for the matrices of the blocks."""
    hyper = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "betas": settings.betas,
        "correct_bias": settings.correct_bias,
    }
    if getattr(settings, "optimizer", "adamw") == "adamw":
        return AdamW(model.parameters(), **hyper)
    matrices = [p for p in model.gpt_layers.parameters() if p.dim() == 2]
    known = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in known]
    dtype = torch.bfloat16 if supports_bf16() else torch.float32
    return Muon(matrices, others, dtype=dtype, **hyper)


def new_scheduler(optimizer: Optimizer, settings: TrainingSettings, steps: int) -> LambdaLR:
    """Return the learning rate's schedule: a rise from 0, then constant, or falling to the end.

    It is transformers' get_scheduler, whose import takes seconds.
    """
    warmup = round(settings.warmup * steps)

    def share(step: int) -> float:
        """Return the share of the learning rate at a step (from 0)."""
        if step < warmup:
            return step / max(1, warmup)
        done = (step - warmup) / max(1, steps - warmup)
        falling = {
            "constant": 1.0,
            "linear": 1 - done,
            "cosine": (1 + math.cos(math.pi * done)) / 2,
        }
        return settings.end_rate + (1 - settings.end_rate) * max(0.0, falling[settings.schedule])

    return LambdaLR(optimizer, share)


def chosen_precision(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings with the precision that "auto" means on this machine."""
    if settings.precision != "auto":
        return settings
    return replace(settings, precision="bf16" if supports_bf16() else "float32")
