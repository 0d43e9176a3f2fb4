"""What a training will take, said before it starts: rows, hours, disk, money."""

import gzip
import os
import time
from collections.abc import Iterable

import torch

from config import TOY_PRETRAINING, GPT2Config, PretrainingSettings
from experiments.profiles import Profile
from experiments.runs import RUNS
from gpt2.xnli import XNLIDataset
from utils import get_device, supports_bf16

SHARE = 0.25  # of the speed of one large product: what fine-tuning reaches, measured on a CPU
LONG_SHARE = 0.4  # likewise of training on long texts, measured on a GPU
PROBE = 500  # rows whose lengths stand for all


def plan(profile: Profile, runs: int) -> str:
    """Return in one line what `runs` trainings by the profile's recipe will take on this device.

    The time is an estimate, at a share of the speed of a product that is timed here.
    """
    config = GPT2Config(**TOY_PRETRAINING.model)
    if profile.start is not None:
        config = GPT2Config.from_pretrained(profile.start)
    few = {"subset": float(PROBE), "verbose": False}
    sample = XNLIDataset.in_folder(profile.folder, "train", "en", **few)
    with open(sample.path, "rb") as file:
        opened = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with opened(sample.path, "rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b"")) - 1
    recipe = profile.finetuning
    rows = round(recipe.subset * lines if recipe.subset <= 1 else min(recipe.subset, lines))
    lengths = sample.lengths_with_answer
    flop = 3 * forward_flop(config, lengths, len(lengths)) / len(lengths) * rows
    hours = flop * recipe.epochs * runs / (SHARE * product_speed(recipe.precision)) / 3600
    disk = (
        4 * num_weights(config) * (runs + 6) / 1e9
    )  # the running one has two checkpoints with moments
    duration = f"about {hours:.1f} hours" if hours >= 0.1 else "minutes"
    work = f"{rows:,} rows, {recipe.epochs} epochs, about {runs} runs"
    return f"fine-tuning: {work}: {duration} on this {_name()}, {disk:.1f} GB in {RUNS}"


def pretraining_plan(settings: PretrainingSettings, rows: int, price: float | None = None) -> str:
    """Return in one line what pretraining on `rows` rows of max_len tokens will take here.

    It counts with as many devices as processes were launched, and with full rows; `price` is that
    of one device and hour.
    """
    config, devices = GPT2Config(**settings.model), int(os.environ.get("WORLD_SIZE", 1))
    rows *= settings.epochs
    flop = 3 * forward_flop(config, [settings.max_len], settings.max_len) * rows
    hours = flop / (LONG_SHARE * product_speed(settings.precision) * devices) / 3600
    batch = settings.batch_size * settings.accumulate
    what = (
        f"{num_weights(config) / 1e6:,.0f} M weights, {rows * settings.max_len / 1e6:,.1f} M tokens"
    )
    steps = f"{rows // batch:,} steps of {batch * settings.max_len:,} tokens"
    duration = f"about {hours:,.1f} hours" if hours >= 0.1 else "minutes"
    where = f"this {_name()}" if devices == 1 else f"{devices} × {_name()}"
    cost = "" if price is None else f", {hours * devices * price:,.2f} at {price:g} an hour"
    return f"pretraining: {what}, {steps}: {duration} on {where}{cost}"


def num_weights(config: GPT2Config) -> int:
    """Return how many numbers a model has, biases and layer norms aside."""
    d = config.hidden_size
    blocks = config.num_hidden_layers * (4 * d * d + 2 * d * config.intermediate_size)
    return blocks + (config.vocab_size + config.max_position_embeddings) * d


def forward_flop(config: GPT2Config, lengths: Iterable[float], projected: int) -> float:
    """Return the operations of reading texts of these lengths with logits at `projected` positions.

    A multiplication and an addition count as two; attention's causal half is counted. Training
    takes three times as many.
    """
    d, layers = config.hidden_size, config.num_hidden_layers
    lengths = [float(length) for length in lengths]
    matrices = layers * (4 * d * d + 2 * d * config.intermediate_size)
    attention = sum(length**2 for length in lengths) * layers * d  # two products, half of each
    return 2 * matrices * sum(lengths) + 2 * attention + 2 * projected * d * config.vocab_size


def product_speed(precision: str) -> float:
    """Return the operations a second of a large matrix product in a recipe's precision."""
    device = get_device()
    n, dtype = 1024 if device.type == "cpu" else 8192, torch.float32
    if precision == "bf16" or (precision == "auto" and supports_bf16()):
        dtype = torch.bfloat16
    x = torch.randn(n, n, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (x @ x).sum().item()  # waits for a GPU, too
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def _name() -> str:
    device = get_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
