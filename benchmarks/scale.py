"""What training would take on 1 to 64 GPUs: a small model of time, memory and network.

    python -m benchmarks.scale --xnli FOLDER > results/scale.md

What was measured is read from benchmarks/results/cuda.json; what was not is in ASSUMED. Times are
those of data parallel training, as `torchrun -m gpt2` does it: every GPU has all weights.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks import report
from config import FINETUNE_FAST, PRETRAIN_GPT2, GPT2Config
from experiments.plan import forward_flop, num_weights
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset

SIZES = {  # Radford et al. (2019): layers, width, heads
    "124M": (12, 768, 12),
    "355M": (24, 1024, 16),
    "774M": (36, 1280, 20),
    "1.5B": (48, 1600, 25),
}
DEVICES = (1, 8, 16, 64)
PER_MACHINE = 8
ROWS, TEST_ROWS = 392_702, 5_010  # of each language
BYTES_A_WEIGHT = 16  # float32: weight, gradient, two moments
ACTIVATION_BYTES = 34  # a token, layer and unit of width: Korthikanti et al. (2022), section 4.1
ASSUMED = {
    "utilisation": 0.40,  # of the largest product's speed, at length 1,024
    "inside": 300e9,  # bytes a second that each GPU sends inside a machine
    "between": 25e9,  # and between machines, where each has a card of 200 Gbit/s
    "memory": 80e9,  # bytes of a GPU
    "price": 2.5,  # of a GPU and hour
}


@dataclass(frozen=True)
class Measured:
    """One NVIDIA H200: operations a second, bytes a second, seconds a layer that a host needs."""

    product: float
    copy: float
    launch: float
    utilisation: float | None

    @classmethod
    def load(cls) -> "Measured":
        saved = report.load()["cuda"]
        steps = saved["fine-tuning as the handout, batch of 4"]  # which wait for the host
        (way,) = steps["ways"].values()
        long = saved.get("pretraining 124M, 1,024 tokens", {"ways": {"": {}}})
        (found,) = long["ways"].values()
        ceilings = steps["ceilings"]
        launch = 1 / way["per_second"] / SIZES["124M"][0]
        return cls(ceilings["bf16"], ceilings["copy"], launch, found.get("of_ceiling"))


def config_of(size: str) -> GPT2Config:
    layers, width, heads = SIZES[size]
    return GPT2Config(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)


def step(size: str, devices: int, measured: Measured) -> dict[str, float]:
    """Return seconds and bytes of one step of PRETRAIN_GPT2's 524,288 tokens."""
    config, length = config_of(size), PRETRAIN_GPT2.max_len
    rows = PRETRAIN_GPT2.batch_size * PRETRAIN_GPT2.accumulate
    weights, share = num_weights(config), rows / devices
    free = ASSUMED["memory"] - BYTES_A_WEIGHT * weights - 4 * 4096 * config.vocab_size * 2
    a_row = ACTIVATION_BYTES * length * config.num_hidden_layers * config.hidden_size
    batch = 2 ** int(math.log2(max(1, min(share, 0.9 * free / a_row))))
    utilisation = measured.utilisation or ASSUMED["utilisation"]
    flop = 3 * forward_flop(config, [length], length)
    products = share * flop / (utilisation * measured.product)
    launches = measured.launch * config.num_hidden_layers * share / batch
    update = 28 * weights / measured.copy  # of AdamW: four numbers read, three written
    speed = ASSUMED["inside" if devices <= PER_MACHINE else "between"]
    sent = 2 * (devices - 1) / devices * 4 * weights  # a ring's all-reduce of float32 gradients
    computed = max(products, launches)
    hidden = 2 / 3 * computed * batch / share  # the last batch's backward pass, meanwhile
    seconds = computed + update + max(0.0, sent / speed - hidden)
    return {
        "tokens/s a GPU": share * length / seconds,
        "tokens/s": rows * length / seconds,
        "batch of a GPU": batch,
        "memory, GB": (ASSUMED["memory"] - free + a_row * batch) / 1e9,
        "sent, GB a step": sent / 1e9,
        "network, % of a step": 100 * (sent / speed) / seconds,
        "waiting for it, %": 100 * max(0.0, sent / speed - hidden) / seconds,
        "hours for 10 B tokens": 10e9 / (rows * length / seconds) / 3600,
    }


def study(xnli: Path, measured: Measured) -> Iterator[dict[str, object]]:
    """Yield what fine-tuning on all rows takes: each language alone, and all together."""
    lengths = {}
    for lang in LANGUAGES:
        rows = XNLIDataset.in_folder(xnli, "dev", lang, tokenizer=load_tokenizer(), verbose=False)
        lengths[lang] = rows.lengths + 1
    for size in SIZES:
        config, seconds = config_of(size), 0.0
        for of_lang in lengths.values():
            flop = 3 * forward_flop(config, of_lang, len(of_lang)) / len(of_lang)
            rows = min(FINETUNE_FAST.batch_size, FINETUNE_FAST.token_budget / of_lang.mean())
            launches = measured.launch * config.num_hidden_layers
            # Short batches use less of a GPU than texts of 1,024 tokens: a half, by assumption.
            products = rows * flop / (ASSUMED["utilisation"] / 2 * measured.product)
            update = 28 * num_weights(config) / measured.copy
            seconds += ROWS / rows * (max(launches, products) + update)
        hours = seconds / 3600
        yield {
            "size": size,
            "tokens a row, en to all": f"{lengths['en'].mean():.0f} to "
            f"{sum(x.mean() for x in lengths.values()) / len(lengths):.0f}",
            "hours, all rows once": hours,
            "hours, three seeds of 15 runs of a language and of one of all": 6 * hours,
            "cost of those": 6 * hours * ASSUMED["price"],
        }


def table(rows: list[dict[str, object]]) -> str:
    frame = pd.DataFrame(rows)
    for name in frame.select_dtypes("floating"):
        places = 1 if frame[name].abs().max() < 1000 else 0
        frame[name] = frame[name].map(lambda x, places=places: f"{x:,.{places}f}")
    lines = [[*frame.columns], ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--xnli", type=Path, default=Path("data/sample"))
    xnli = parser.parse_args().xnli
    measured = Measured.load()
    steps = [
        {"size": size, "GPUs": devices, **step(size, devices, measured)}
        for size in SIZES
        for devices in DEVICES
    ]
    utilisation = measured.utilisation
    print("# What training would take on many GPUs\n")
    print("Computed by `python -m benchmarks.scale --xnli XNLI_DIR`, not measured. Measured on one")
    print(f"NVIDIA H200: {measured.product / 1e12:,.0f} TFLOP/s of the largest bfloat16 product,")
    print(f"{measured.copy / 1e12:.1f} TB/s of a copy, {measured.launch * 1e3:.1f} ms of the host")
    print("a layer of a training step. Assumed: ", end="")
    print(
        f"{ASSUMED['utilisation']:.0%} of the product's speed on long texts"
        f"{'' if utilisation is None else f' (measured: {utilisation:.0%})'}, "
        f"{ASSUMED['inside'] / 1e9:.0f} GB/s between GPUs of a machine of {PER_MACHINE}, "
        f"{ASSUMED['between'] / 1e9:.0f} GB/s between machines, "
        f"{ASSUMED['memory'] / 1e9:.0f} GB a GPU, {ASSUMED['price']} an hour.\n"
    )
    print("## Pretraining: a step of 524,288 tokens (`PRETRAIN_GPT2`), data parallel\n")
    print(table(steps))
    last = steps[-1]
    print(
        "\nThe network breaks first, between machines and where a GPU has few rows of a step: with "
        f"{last['GPUs']} GPUs and {last['size']} a step waits {last['waiting for it, %']:.0f} % of "
        "its time for it, though gradients travel while the last batch's backward pass computes. "
        "Larger steps, or gradients in bfloat16, would halve that. Memory does not: all weights, "
        "gradients and moments fit on each GPU up to 1.5B, so nothing has to be sharded.\n"
    )
    print(f"## Fine-tuning: 15 × {ROWS:,} rows, one epoch, `FINETUNE_FAST` on one GPU\n")
    print(table([*study(xnli, measured)]))
    half = 100 * 1.96 * math.sqrt(0.25 / TEST_ROWS)
    print(
        f"\n{TEST_ROWS:,} test pairs give each accuracy ± {half:.1f} points at most (95 %). Two "
        "models that disagree on a fifth of the pairs are told apart from "
        f"{100 * 1.96 * math.sqrt(0.2 / TEST_ROWS):.1f} points on (McNemar's test)."
    )


if __name__ == "__main__":
    main()
