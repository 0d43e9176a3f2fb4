"""Pretraining from scratch (handout section 3.4), as a run that can be killed and resumed."""

import math
from dataclasses import asdict

import pandas as pd
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from config import GPT2Config, PretrainingSettings
from data.packed import PackedDataset, packed_loader
from experiments.callbacks import ProgressBar
from experiments.files import seal_folder
from experiments.identity import code_identity
from experiments.runs import RUNS, Run, new_optimizer
from gpt2.checkpoints import Checkpoints, Progress
from gpt2.loss import mean_loss
from gpt2.model import GPT2Model
from gpt2.text import text_loader
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from utils import fingerprint, set_seed


def pretrain(
    settings: PretrainingSettings,
    train_texts: Dataset,
    held_out: Dataset,
    *,
    runs=RUNS,
    name: str = "pretraining",
    progress: bool = True,
) -> "PretrainedRun":
    """Return the finished run of these settings: read from its folder, resumed, or started.

    `train_texts` and `held_out` are the parts of a TextDataset or of a PackedDataset; the loss on
    `held_out` is measured after each epoch. The run is the folder `<runs>/<name>-<digest>`, whose
    digest follows from settings, texts and the code that decides the numbers; its model is the last
    epoch's. Raises RuntimeError where another process works on the run.
    """
    parts = {"train": train_texts, "held_out": held_out}
    inputs = {part: _fingerprint(texts) for part, texts in parts.items()}
    config = GPT2Config(**settings.model)
    chosen = {**asdict(settings), "model": config.to_dict()}
    run = PretrainedRun(runs, name, chosen, inputs, code_identity())

    def work(is_main: bool) -> dict:
        set_seed(settings.seed + Accelerator().process_index)  # each process its own dropout
        model = GPT2Model(config)

        def measure_held_out(progress: Progress) -> None:
            if progress.ends_epoch:
                loss = mean_loss(model, text_loader(held_out, settings.batch_size))
                if not loss < 2 * (uniform := math.log(config.vocab_size)):
                    raise FloatingPointError(
                        f"the held-out loss is {loss:.1f} nats after epoch {progress.epoch}, and "
                        f"guessing gives {uniform:.1f}; lower the learning rate"
                    )
                line = {"step": progress.step, "epoch": progress.epoch, "held_out_loss": loss}
                run.metrics.write(line)

        bar = [ProgressBar(run.path.name)] if progress else []
        history = train(
            model,
            _shuffled(train_texts, settings.batch_size, settings.seed),
            new_optimizer(model, settings),
            epochs=settings.epochs,
            callbacks=[run.metrics, measure_held_out, *bar] if is_main else [],
            checkpoints=Checkpoints(run.path),
        )
        if is_main:
            model.save_pretrained(run.model_folder, tokenizer=load_tokenizer("gpt2"))
            seal_folder(run.model_folder)
        return {"steps": history[-1].step, "seconds": history[-1].seconds}

    run.once(work)
    return run


def _fingerprint(texts: Dataset) -> str:
    if isinstance(texts, PackedDataset):  # its manifest knows, without reading every row
        return texts.fingerprint
    return fingerprint(*(ids for ids, _ in texts))


def _shuffled(texts: Dataset, batch_size: int, seed: int) -> DataLoader:
    if isinstance(texts, PackedDataset):
        return packed_loader(texts, batch_size, seed)
    return text_loader(texts, batch_size, shuffle=True, seed=seed)


class PretrainedRun(Run):
    """A run of `pretrain`; `result` has steps and seconds."""

    def held_out(self) -> pd.DataFrame:
        """Return a row an epoch: step, epoch, held_out_loss in nats a token."""
        return pd.DataFrame([line for line in self.measured() if "held_out_loss" in line])
