"""Profiles: which weights and data the notebook runs on, and how much of them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from config import FINETUNE_ENGLISH, FINETUNE_MINIATURE, FinetuningSettings
from data import miniature

EMBEDDED_TEXT = "pretrain.txt"
EMBEDDED_NLI = "data/sample"
MINIATURE = "miniature"  # of weights and of NLI data: those of data/miniature/


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
        rows = self.train_rows
        if rows is not None and (not isinstance(rows, int) or rows < 2):
            raise ValueError(f"TRAIN_ROWS must be a whole number of at least 2, got {rows!r}")

    @property
    def finetuning(self) -> FinetuningSettings:
        """The recipe, on as many rows as the profile has."""
        return replace(self.recipe, subset=float(self.train_rows or self.recipe.subset))

    @property
    def start(self) -> str | Path | None:
        """What `GPT2Model.from_pretrained` loads; None for the toy model of Task 1."""
        return None if self.weights == "toy" else find_weights(self.weights)

    @property
    def folder(self) -> str | Path:
        """The folder of the NLI data."""
        return find_data(self.data)

    @property
    def note(self) -> str:
        """The caption of results that come from a sample; empty for a full run."""
        limits = ["embedded text"] if self.pretrain_text == EMBEDDED_TEXT else []
        limits += [f"{self.weights} model"] if self.weights in (MINIATURE, "toy") else []
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
    GPT2_WEIGHTS, PRETRAIN_TEXT, XNLI_DIR and TRAIN_ROWS.
    """
    name = name or os.environ.get("GPT2_PROFILE", "sample")
    profiles = {profile.name: profile for profile in (SAMPLE, FULL)}
    if name not in profiles:
        raise ValueError(f"unknown profile {name!r}; choose from {', '.join(profiles)}")
    variables = {"weights": "GPT2_WEIGHTS", "pretrain_text": "PRETRAIN_TEXT", "data": "XNLI_DIR"}
    given = {field: os.environ[name] for field, name in variables.items() if name in os.environ}
    if rows := os.environ.get("TRAIN_ROWS"):
        given["train_rows"] = int(rows) if rows.isdecimal() else rows
    return replace(profiles[name], **given | changes)


def find_weights(name) -> str | Path:
    """Return what `GPT2Model.from_pretrained` loads: the miniature's folder, or the name itself."""
    return miniature.model_folder() if str(name) == MINIATURE else name


def find_data(name) -> str | Path:
    """Return the folder that holds XNLI-1.0 and XNLI-MT-1.0."""
    if str(name) != MINIATURE:
        return name
    folder, here = miniature.nli_folder(), Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
