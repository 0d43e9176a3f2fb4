"""Compare settings of fine-tuning, or ways to decode: a list goes in, a table comes out."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import torch

from config import FinetuningSettings
from experiments.finetuning import FinetunedRun, finetune
from gpt2.generate import generate
from gpt2.loss import IGNORED, next_token_loss
from utils import in_evaluation_mode


def run_study(variants: Sequence[FinetuningSettings], **arguments) -> list[FinetunedRun]:
    """Return the finished run of each of the settings, in order; `arguments` are `finetune`'s."""
    if not variants:
        raise ValueError("no settings to study; give a list of FinetuningSettings")
    return [finetune(settings, **arguments) for settings in variants]


def study_table(runs: Sequence[FinetunedRun]) -> pd.DataFrame:
    """Return a row a run, best first: the settings in which they differ, dev accuracy with its 95 %
    interval, dev loss, mean training loss of the last epoch, minutes and folder."""
    settings = pd.DataFrame([asdict(run.settings) for run in runs])
    results = pd.DataFrame([run.result for run in runs])
    table = settings.loc[:, settings.nunique(dropna=False) > 1].assign(
        **{
            "dev accuracy": results["dev_accuracy"],
            "low": results["dev_interval"].str[0],
            "high": results["dev_interval"].str[1],
            "dev loss": results["dev_loss"],
            "train loss": results["train_loss"],
            "minutes": results["seconds"] / 60,
            "folder": [run.path.name for run in runs],
        }
    )
    return table.sort_values("dev accuracy", ascending=False, ignore_index=True)


@torch.no_grad()
@in_evaluation_mode
def decoding_table(
    model, tokenizer, prompt: str, strategies: dict[str, dict], max_gen_length: int = 40
) -> pd.DataFrame:
    """Return a row a strategy: the text that follows the prompt, its nats per token under the model
    (before any processor), and the share of its tokens that are distinct.

    `strategies` maps a name to decoding arguments of `gpt2.generate.generate`.
    """
    device = next(model.parameters()).device
    input_ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=device)
    rows = {}
    for name, arguments in strategies.items():
        new = generate(model, input_ids, max_new_tokens=max_gen_length, **arguments)
        whole = torch.cat([input_ids, new], dim=1)
        labels = torch.cat([torch.full_like(input_ids, IGNORED), new], dim=1)
        batch = {"input_ids": whole, "attention_mask": torch.ones_like(whole), "labels": labels}
        rows[name] = {
            "text": tokenizer.decode(new[0], skip_special_tokens=True),
            "nats per token": next_token_loss(model, batch).item(),
            "distinct tokens": len(new.unique()) / new.numel(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
