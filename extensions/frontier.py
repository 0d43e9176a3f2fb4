"""The frontier of accuracy and cost: every method of fine-tuning, measured in the same way.

    python -m extensions --seeds 0 1 2 miniature

For each method the learning rate is chosen on dev among at least three, with the first seed: in
published comparisons that alone moves prefix-tuning from 19 to 42 per cent (peft's method
comparison). Each run is then a JSON file; a method *dominates* another if it is at least as
accurate and trains no more parameters.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import pandas as pd
from torch.utils.data import DataLoader

from config import FinetuningSettings
from experiments.environment import machine
from experiments.finetuning import FinetunedRun, finetune
from experiments.statistics import holm, mcnemar
from extensions import costs
from extensions.methods import FULL, METHODS, Method
from gpt2.loss import mean_loss
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset
from utils import get_device


def plain(method: str) -> str:
    """Return a method's name as one of files."""
    return method.replace(" ", "_").replace(",", "")


class Frontier:
    """The runs of some methods and what they cost; each run is trained when it is first needed.

    `settings` is the recipe, `text` a loader of held-out pretraining text, on
    which forgetting is measured; `languages` are those to test besides the first one that
    is trained on. The other arguments are as in experiments.finetuning.finetune.
    """

    def __init__(
        self,
        settings: FinetuningSettings,
        *,
        weights,
        data,
        text: DataLoader,
        runs="runs",
        methods: dict[str, Method] = METHODS,
        seeds: Sequence[int] = (0, 1, 2),
        languages: Sequence[str] = (),
    ):
        if FULL not in methods:
            raise ValueError(f"methods must have {FULL!r}, which the others are compared with")
        self.settings, self.methods, self.seeds, self.text = settings, methods, tuple(seeds), text
        self.where = {"weights": weights, "data": data, "runs": runs}
        self.languages = (settings.languages[0], *languages)
        self.chosen: dict[str, float] = {}

    def run(self, method: str, rate: float, seed: int) -> FinetunedRun:
        """Return the run of a method at a multiple of the recipe's learning rate."""
        settings = replace(
            self.settings, seed=seed, learning_rate=rate * self.settings.learning_rate
        )
        return finetune(
            settings, name=plain(method), prepare=self.methods[method].prepare, **self.where
        )

    def rate(self, method: str) -> float:
        """Return the multiple with the best dev accuracy of the first seed; print all of them."""
        if method not in self.chosen:
            rates = self.methods[method].rates
            dev = [self.run(method, r, self.seeds[0]).result["dev_accuracy"] for r in rates]
            self.chosen[method] = rates[dev.index(max(dev))]
            tried = ", ".join(
                f"{rate * self.settings.learning_rate:.1e} {accuracy:.3f}"
                for rate, accuracy in zip(rates, dev, strict=True)
            )
            print(f"{method}: dev accuracy by learning rate: {tried}")
        return self.chosen[method]

    def measure(self, method: str, seed: int) -> dict:
        """Return what a run reached and cost, as JSON values."""
        run = self.run(method, self.rate(method), seed)
        model, device = run.model(), get_device()
        lang = self.languages[0]
        rows = XNLIDataset.in_folder(
            run.data, "train", lang, tokenizer=load_tokenizer("gpt2"), verbose=False, subset=16.0
        )
        batch = next(iter(DataLoader(rows, len(rows), collate_fn=XNLIDataset.collate_fn)))
        batch = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "labels")}
        base = GPT2Model.from_pretrained(self.where["weights"]).to(device)
        evaluations = {
            lang: run.evaluation("test", lang, progress=False) for lang in self.languages
        }
        files = run.model_folder.glob("*.safetensors")
        tokens = round(float(rows.lengths.mean()))
        return {
            "method": method,
            "seed": seed,
            "learning_rate": run.settings.learning_rate,
            "dev_accuracy": run.result["dev_accuracy"],
            "accuracy": {lang: e.accuracy for lang, e in evaluations.items()},
            "interval": {lang: e.interval for lang, e in evaluations.items()},
            "text_loss": mean_loss(model, self.text),
            "text_loss_before": mean_loss(base, self.text),
            "trained": costs.trainable(model),
            "bytes_on_disk": sum(file.stat().st_size for file in files),
            "training_bytes": costs.training_bytes(model.train(), batch),
            "training_pairs_per_s": run.result["examples"] / run.result["seconds"],
            "latency_ms": 1000 * costs.latency(model, rows[0]["input_ids"][:-1]),
            "forward_flops": costs.forward_flops(model.config, tokens),
            "machine": machine(device.type),
        }

    @cached_property
    def results(self) -> list[dict]:
        """What every method reached and cost with every seed."""
        return [self.measure(method, seed) for method in self.methods for seed in self.seeds]

    def table(self) -> pd.DataFrame:
        """Return a row a method: means over the seeds, the standard deviation of the accuracy, and
        a paired test against full fine-tuning (exact McNemar, first seed, corrected after Holm)."""
        each = pd.json_normalize(self.results)
        lang = self.languages[0]
        groups = each.groupby("method", sort=False)
        means = groups.mean(numeric_only=True)
        runs = {m: self.run(m, self.rate(m), self.seeds[0]) for m in self.methods}
        tested = {m: run.evaluation("test", lang, progress=False) for m, run in runs.items()}
        table = pd.DataFrame(
            {
                "learning rate": means["learning_rate"],
                "accuracy": means[f"accuracy.{lang}"],
                "std": groups[f"accuracy.{lang}"].std(),
                "forgetting (nats)": means["text_loss"] - means["text_loss_before"],
                "trained": means["trained"].astype(int),
                "kB on disk": means["bytes_on_disk"] / 1000,
                "MB in training": means["training_bytes"] / 1e6,
                "pairs/s": means["training_pairs_per_s"],
                "ms a pair": means["latency_ms"],
                "p": pd.Series({m: mcnemar(tested[FULL], tested[m]) for m in self.methods}),
            }
        )
        return table.assign(**{"p corrected": holm(table["p"].tolist())})
