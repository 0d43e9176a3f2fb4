"""What a notebook's fine-tuning will take, said before it starts: rows, hours, disk."""

import time

import torch

from config import TOY_PRETRAINING, GPT2Config
from experiments.profiles import Profile
from experiments.runs import RUNS
from gpt2.xnli import XNLIDataset
from utils import get_device, supports_bf16

SHARE = 0.25  # of the speed of one large product: what fine-tuning reaches, measured on a CPU
PROBE = 500  # rows whose lengths stand for all


def plan(profile: Profile, runs: int) -> str:
    """Return in one line what `runs` trainings by the profile's recipe will take on this device.

    The time is an estimate: 6 operations a token and weight, at a share of the speed of a product
    that is timed here.
    """
    config = GPT2Config(**TOY_PRETRAINING.model)
    if profile.start is not None:
        config = GPT2Config.from_pretrained(profile.start)
    few = {"subset": float(PROBE), "verbose": False}
    sample = XNLIDataset.in_folder(profile.folder, "train", "en", **few)
    with open(sample.path, "rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b"")) - 1
    recipe = profile.finetuning
    rows = round(recipe.subset * lines if recipe.subset <= 1 else min(recipe.subset, lines))
    tokens = float(sample.lengths_with_answer.mean()) * rows * recipe.epochs * runs
    weights = 12 * config.num_hidden_layers * config.hidden_size**2  # of the blocks' matrices
    all_weights = (
        weights + (config.vocab_size + config.max_position_embeddings) * config.hidden_size
    )
    hours = 6 * tokens * weights / (SHARE * product_speed(recipe.precision)) / 3600
    disk = 4 * all_weights * (runs + 6) / 1e9  # the running one has two checkpoints with moments
    duration = f"about {hours:.1f} hours" if hours >= 0.1 else "minutes"
    work = f"{rows:,} rows, {recipe.epochs} epochs, about {runs} runs"
    return f"fine-tuning: {work}: {duration} on this {_name()}, {disk:.1f} GB in {RUNS}"


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
