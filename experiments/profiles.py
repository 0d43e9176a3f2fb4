"""Profiles: which weights and data the notebook runs on, and how much of them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from config import FINETUNE_ENGLISH, FINETUNE_FAST, FINETUNE_MINIATURE, FinetuningSettings
from data import miniature
from experiments.runs import RUNS
from utils import get_device

EMBEDDED_TEXT = "pretrain.txt"
EMBEDDED_NLI = "data/sample"
TOY = "toy"  # weights: the model that Task 1 trains
MINIATURE = "miniature"  # of weights and of NLI data: those of data/miniature/


def _check_rows(rows) -> None:
    if rows is not None and (not isinstance(rows, int) or rows < 2):
        raise ValueError(f"TRAIN_ROWS must be a whole number of at least 2, got {rows!r}")


@dataclass(frozen=True)
class Profile:
    """The weights (from Task 2 on), the data, and the amount of data that a notebook runs on."""

    name: str
    weights: str  # "miniature", "toy" (the model that Task 1 trains), a hub name or a folder
    data: str  # "miniature", or the folder that holds XNLI-1.0 and XNLI-MT-1.0
    recipe: FinetuningSettings
    pretrain_text: str = EMBEDDED_TEXT  # a UTF-8 file, one document a line
    train_rows: int | None = None  # of every language's train file, from its start; None: all

    def __post_init__(self):
        _check_rows(self.train_rows)

    @property
    def finetuning(self) -> FinetuningSettings:
        """The recipe, on as many rows as the profile has."""
        return replace(self.recipe, subset=float(self.train_rows or self.recipe.subset))

    @property
    def start(self) -> str | Path | None:
        """What `GPT2Model.from_pretrained` loads; None for the toy model of Task 1."""
        return None if self.weights == TOY else find_weights(self.weights)

    @property
    def folder(self) -> str | Path:
        """The folder of the NLI data."""
        return find_data(self.data)

    @property
    def note(self) -> str:
        """The caption of results that come from a sample; empty for a full run."""
        limits = ["embedded text"] if self.pretrain_text == EMBEDDED_TEXT else []
        limits += [f"{self.weights} model"] if self.weights in (MINIATURE, TOY) else []
        sets = {MINIATURE: "miniature world", EMBEDDED_NLI: "embedded NLI set"}
        limits += [sets[self.data]] if self.data in sets else []
        limits += [f"{self.train_rows:,} train rows"] if self.train_rows else []
        return "sample run: " + ", ".join(limits) if limits else ""


SAMPLE = Profile(
    "sample", weights=MINIATURE, data=MINIATURE, recipe=FINETUNE_MINIATURE, train_rows=600
)
FULL = Profile("full", weights="gpt2", data=".", recipe=FINETUNE_ENGLISH)


def choose_profile(name: str | None = None, **changes) -> Profile:
    """Return the profile `name` ("sample" or "full"), with any of its fields changed.

    For what is not given, environment variables decide: GPT2_PROFILE (sample if unset),
    GPT2_WEIGHTS, PRETRAIN_TEXT, XNLI_DIR and TRAIN_ROWS. On a GPU the full profile has the fast
    recipe: larger batches, in bfloat16.
    """
    name = name or os.environ.get("GPT2_PROFILE", "sample")
    profiles = {profile.name: profile for profile in (SAMPLE, FULL)}
    if name not in profiles:
        raise ValueError(f"unknown profile {name!r}; choose from {', '.join(profiles)}")
    variables = {"weights": "GPT2_WEIGHTS", "pretrain_text": "PRETRAIN_TEXT", "data": "XNLI_DIR"}
    given = {field: os.environ[name] for field, name in variables.items() if name in os.environ}
    if "train_rows" not in changes and (rows := train_rows()):
        given["train_rows"] = rows
    if name == FULL.name and get_device().type == "cuda":
        given.setdefault("recipe", FINETUNE_FAST)
    return replace(profiles[name], **given | changes)


def train_rows() -> int | None:
    """Return the rows of each train file that the environment variable TRAIN_ROWS asks for."""
    rows = os.environ.get("TRAIN_ROWS") or None
    rows = int(rows) if rows and rows.isdecimal() else rows
    _check_rows(rows)
    return rows


def find_weights(name, runs=RUNS) -> str | Path:
    """Return what `GPT2Model.from_pretrained` loads: the folder of the miniature, or of the newest
    toy model that was trained in `runs`, or the name itself."""
    if str(name) == MINIATURE:
        return miniature.model_folder()
    if str(name) != TOY:
        return name
    models = [path.parent for path in Path(runs).glob("toy_pretraining-*/result.json")]
    if not models:
        raise FileNotFoundError(
            f"no toy model in {runs}; train it first: python -m gpt2 pretrain --runs {runs}"
        )
    return max(models, key=lambda path: path.stat().st_mtime) / "model"


def find_data(name) -> str | Path:
    """Return the folder that holds XNLI-1.0 and XNLI-MT-1.0."""
    if str(name) != MINIATURE:
        return name
    folder, here = miniature.nli_folder(), Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
