"""What the commands share: recipe and hyper-parameters, where things are, errors in a line."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from config import (
    FINETUNE_BEST,
    FINETUNE_ENGLISH,
    FINETUNE_FAST,
    FINETUNE_MINIATURE,
    FINETUNE_TOY,
    PRETRAIN_GPT2,
    TOY_PRETRAINING,
    FinetuningSettings,
    PretrainingSettings,
    TrainingSettings,
)
from console import errors_in_one_line
from experiments.files import read_toml
from experiments.processes import launched
from experiments.profiles import EMBEDDED_TEXT, MINIATURE, train_rows
from gpt2.xnli import LANGUAGES

PRESETS = {
    "english": FINETUNE_ENGLISH,
    "best": FINETUNE_BEST,
    "fast": FINETUNE_FAST,
    "miniature": FINETUNE_MINIATURE,
    "toy": FINETUNE_TOY,
}
PRETRAINING = {"toy": TOY_PRETRAINING, "gpt2": PRETRAIN_GPT2}
TRAINING_HELP = {  # of the fields of TrainingSettings, and their short names
    "batch_size": ("rows of a batch, at most", ()),
    "epochs": ("passes over the data", ()),
    "learning_rate": ("of AdamW", ("--lr",)),
    "weight_decay": ("of AdamW", ("--wd",)),
    "betas": ("of AdamW: what its two averages keep a step", ()),
    "correct_bias": ("whether AdamW corrects its moments' bias", ()),
    "seed": ("of the order of rows and of dropout", ()),
    "accumulate": ("batches per optimizer step", ()),
    "schedule": ("of the learning rate: constant, linear or cosine", ()),
    "warmup": ("share of the steps", ()),
    "end_rate": ("share of the learning rate at the end of a linear or cosine schedule", ()),
    "max_grad_norm": ("gradients are clipped to it", ()),
    "precision": ("float32, bf16, or auto: bf16 where the hardware has it", ()),
}
HELP = TRAINING_HELP | {  # of the fields of FinetuningSettings
    "languages": ("codes of the languages to train on", ()),
    "subset": ("first rows of every language: a share, or a count above 1", ("--rows",)),
    "examples": ("rows per epoch, sampled from all languages", ()),
    "max_length": ("tokens of a row, at most", ()),
    "token_budget": ("tokens of a batch of similar lengths, pads included", ()),
    "text_loss": ("weight of the prompts' own loss beside the labels'", ()),
}
arg = tyro.conf.arg
Preset = Annotated[Literal[tuple(PRESETS)], tyro.conf.Positional, arg(help="the recipe")]
HINT = {"help_behavior_hint": "(default: the recipe's)"}
MODEL_HELP = {
    "hidden_size": (int, "width of the model"),
    "num_hidden_layers": (int, "blocks"),
    "num_attention_heads": (int, "heads of each block"),
    "intermediate_size": (int, "width of the feed-forward layers"),
    "max_position_embeddings": (int, "positions"),
    "hidden_dropout_prob": (float, "dropout after the embedding and each sublayer"),
    "attention_probs_dropout_prob": (float, "dropout of attention"),
}


def _changes(name: str, settings: type, texts: dict[str, tuple], more: dict[str, tuple]) -> type:
    """Return a class of options, None each, that change a recipe; one is a file of them."""
    types = {field.name: field.type for field in fields(settings)}
    types |= {name: kind for name, (kind, _) in more.items()}
    texts = texts | {name: (text, ()) for name, (_, text) in more.items()}
    options = [
        (option, Annotated[types[option] | None, arg(help=text, aliases=short, **HINT)], None)
        for option, (text, short) in texts.items()
    ]
    file = arg(help="a TOML file of these settings, as each run writes it")
    options += [("config", Annotated[Path | None, file], None)]
    return make_dataclass(name, options, frozen=True)


Changes = _changes("Changes", FinetuningSettings, HELP, {})
PretrainingChanges = _changes(
    "PretrainingChanges",
    PretrainingSettings,
    TRAINING_HELP
    | {
        "max_len": ("tokens of a row", ()),
        "optimizer": ("adamw, or muon for the blocks' matrices", ()),
    },
    MODEL_HELP,
)
Options = Annotated[Changes, tyro.conf.OmitArgPrefixes]  # each instead of the recipe's
PretrainingOptions = Annotated[PretrainingChanges, tyro.conf.OmitArgPrefixes]
NONE, NO_CHANGES = Changes(), PretrainingChanges()
TEXTS = {"--text", "--also"}  # options with several values, none of which is a recipe
SEVERAL = TEXTS | {  # ... none of which is a preset
    *("--seeds", "--languages", "--train-on", "--more-languages", "--only", "--tasks", "--compare"),
}
Weights = Annotated[
    str, arg(help="miniature, toy (the newest of Task 1), a name on the hub, or a folder")
]
Data = Annotated[Path, arg(help="miniature, or the folder that holds XNLI-1.0 and XNLI-MT-1.0")]
Runs = Annotated[Path, arg(help="the folder of all runs; finished ones are only read")]
Codes = Annotated[tuple[str, ...], arg(help=f"language codes, of XNLI's {' '.join(LANGUAGES)}")]
Seeds = Annotated[tuple[int, ...], arg(help="random seeds, of the order of rows and of dropout")]
HERE = Path(os.environ.get("XNLI_DIR", "."))
TEXT = Path(os.environ.get("PRETRAIN_TEXT", EMBEDDED_TEXT))
START = os.environ.get("GPT2_WEIGHTS", "gpt2")
SMALL_START = os.environ.get("GPT2_WEIGHTS", MINIATURE)
SMALL_DATA = Path(os.environ.get("XNLI_DIR", MINIATURE))


def choose(preset: str, changes: Changes = NONE, unused: Sequence[str] = ()) -> FinetuningSettings:
    """Return a recipe with what TRAIN_ROWS, a file and options change, each over those before.

    Raises ValueError for an option that is `unused`: the command has another one for it.
    """
    if wrong := [name for name in unused if getattr(changes, name) is not None]:
        raise ValueError(
            f"--{wrong[0]} has no effect here; see --help for what this command trains"
        )
    settings = PRESETS[preset]
    if rows := train_rows():
        settings = replace(settings, subset=float(rows))
    given = _given(changes)
    if file := given.pop("config", None):
        settings = _replace(settings, file, read_toml(file))
    return replace(settings, **given)


def choose_pretraining(recipe: str, changes=NO_CHANGES) -> PretrainingSettings:
    """Return a recipe of PRETRAINING with what a file and options change."""
    settings, given = PRETRAINING[recipe], _given(changes)
    file = given.pop("config", None)
    for where, some in ((file, read_toml(file) if file else {}), ("the options", given)):
        sizes = {name: some.pop(name) for name in MODEL_HELP if name in some}
        model = dict(settings.model)
        if "hidden_size" in sizes:  # four times as wide, unless that is given as well
            model.pop("intermediate_size", None)
        settings = _replace(settings, where, some | {"model": model | sizes})
    return settings


def _given(changes) -> dict:
    return {name: value for name, value in asdict(changes).items() if value is not None}


def _replace(settings: TrainingSettings, where: str | Path, given: dict) -> TrainingSettings:
    known = {field.name for field in fields(settings)}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"{where}: no setting {unknown[0]}; there are {', '.join(sorted(known))}")
    try:
        return replace(settings, **{k: None if v == "none" else v for k, v in given.items()})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def command(program: str) -> str:
    """Return the command line that is running, of `python -m program`."""
    return shlex.join(["python", "-m", program, *sys.argv[1:]])


def preset_first(args: Sequence[str] | None, position: int = 0) -> list[str]:
    """Return the arguments with a preset or recipe that follows an option of several values moved
    to the front, where it is none of them: `--seeds 0 1 2 miniature`."""
    args = [*(sys.argv[1:] if args is None else args)]
    option = ""
    for place, word in enumerate(args):
        option = word if word.startswith("--") else option
        is_recipe = word in (PRETRAINING if option in TEXTS else PRESETS)
        if is_recipe and option in SEVERAL:
            return [*args[:position], word, *args[position:place], *args[place + 1 :]]
    return args


def run_command(main, *, args: list[str] | None = None) -> None:
    """Run a command's function with the options that its signature says."""
    with errors_in_one_line(), launched():
        tyro.cli(main, args=preset_first(args))
