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
    pretrain_text: str  # a UTF-8 file, one document a line
    data: str  # the folder that holds XNLI-1.0 and XNLI-MT-1.0
    recipe: FinetuningSettings
    train_rows: int | None = None  # of every language's train file, from its start; None: all

    def __post_init__(self):
        rows = self.train_rows
        if rows is not None and (not isinstance(rows, int) or rows < 2):
            raise ValueError(f"train_rows must be a whole number of at least 2, got {rows!r}")

    @property
    def finetuning(self) -> FinetuningSettings:
        """The recipe, on as many rows as the profile has."""
        if self.train_rows is None:
            return self.recipe
        return replace(self.recipe, subset=float(self.train_rows))

    @property
    def note(self) -> str:
        """The caption of results that come from a sample; empty for a full run."""
        limits = {
            "embedded text": self.pretrain_text == EMBEDDED_TEXT,
            "toy model": self.weights == "toy",
            "embedded NLI set": self.data == EMBEDDED_NLI,
            f"{self.train_rows:,} train rows" if self.train_rows else "": self.train_rows,
        }
        limits = [limit for limit, holds in limits.items() if holds]
        return "sample run: " + ", ".join(limits) if limits else ""


SAMPLE = Profile(
    name="sample",
    weights="toy",
    pretrain_text=EMBEDDED_TEXT,
    data=EMBEDDED_NLI,
    recipe=FINETUNE_TOY,
)
FULL = Profile(
    name="full",
    weights="gpt2",
    pretrain_text=EMBEDDED_TEXT,
    data=".",
    recipe=FINETUNE_ENGLISH,
)


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
    for choice, variable in variables.items():
        if variable in os.environ:
            changes.setdefault(choice, os.environ[variable])
    if "TRAIN_ROWS" in os.environ and "train_rows" not in changes:
        rows = os.environ["TRAIN_ROWS"]
        if not rows.isdecimal():
            raise ValueError(f"TRAIN_ROWS must be a whole number, got {rows!r}")
        changes["train_rows"] = int(rows)
    return replace(profiles[name], **changes)
