"""Profiles: which weights and data the notebook runs on, and how much of them."""

import os
from dataclasses import dataclass, replace

from config import FINETUNE_ENGLISH, FINETUNE_TOY, FinetuningSettings

EMBEDDED_TEXT = "pretrain.txt"
EMBEDDED_NLI = "data/sample"


@dataclass(frozen=True)
class Profile:
    """The weights (from Task 2 on), the data, and the amount of data that a notebook runs on."""

    name: str
    weights: str  # "toy" is the model that Task 1 trains; else a hub name or a folder
    data: str  # the folder that holds XNLI-1.0 and XNLI-MT-1.0
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
    def note(self) -> str:
        """The caption of results that come from a sample; empty for a full run."""
        limits = ["embedded text"] if self.pretrain_text == EMBEDDED_TEXT else []
        limits += ["toy model"] if self.weights == "toy" else []
        limits += ["embedded NLI set"] if self.data == EMBEDDED_NLI else []
        limits += [f"{self.train_rows:,} train rows"] if self.train_rows else []
        return "sample run: " + ", ".join(limits) if limits else ""


SAMPLE = Profile("sample", weights="toy", data=EMBEDDED_NLI, recipe=FINETUNE_TOY)
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
