"""Pretraining from scratch (handout section 3.4), as a run that can be killed and resumed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from config import GPT2Config, PretrainingSettings
from data.packed import PackedDataset, packed_loader
from experiments.callbacks import ProgressBar
from experiments.files import seal_folder, write_toml
from experiments.identity import code_identity
from experiments.processes import placed
from experiments.runs import RUNS, Run, chosen_precision, new_optimizer, new_scheduler
from gpt2.checkpoints import Checkpoints, Progress
from gpt2.loss import mean_loss
from gpt2.model import GPT2Model
from gpt2.text import TextDataset, text_loader
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from utils import fingerprint, set_seed

MEASURED = ["step", "epoch", "held_out_loss", "bits_per_byte"]


def pretrain(
    settings: PretrainingSettings,
    train_texts: Dataset,
    held_out: Dataset,
    *,
    also: Mapping[str, Dataset] = {},
    runs=RUNS,
    name: str = "pretraining",
    sharded: bool = False,
    progress: bool = True,
) -> "PretrainedRun":
    """Return the finished run of these settings: read from its folder, resumed, or started.

    `train_texts` and `held_out` are the parts of a TextDataset or of a PackedDataset, or of several
    (`read_texts`); the loss on `held_out` is measured after each epoch, and on the texts of `also`,
    such as one a language.
    The run is the folder `<runs>/<name>-<digest>`, whose digest follows from settings, texts and
    the code that decides the numbers; its model is the last epoch's. Several processes share out
    the `accumulate` batches of a step, so that their number changes nothing but the time; `sharded`
    ones hold a part of the model each (experiments.sharding).

    Raises RuntimeError where another process works on the run, ValueError where the processes
    can't share a step out.
    """
    settings = chosen_precision(settings)
    measured = {"": held_out} | {f" {name}": texts for name, texts in also.items()}
    inputs = {"train": _fingerprint(train_texts)}
    inputs |= {f"held_out{end}": _fingerprint(texts) for end, texts in measured.items()}
    config = GPT2Config(**settings.model)
    chosen = {**asdict(settings), "model": config.to_dict()}
    run = PretrainedRun(runs, name, chosen, inputs, code_identity())

    def work(is_main: bool) -> dict:
        if is_main:
            flat = {**asdict(settings), **settings.model}
            write_toml(run.path / "settings.toml", {k: flat[k] for k in flat if k != "model"})
        set_seed(settings.seed)  # the same weights in each process
        model = GPT2Model(config)
        accelerator, whole = placed(model, sharded)
        if not is_main:
            set_seed(settings.seed + accelerator.process_index)  # its own dropout
        processes = accelerator.num_processes
        accumulate = share_of_step(settings, processes)
        loader, optimizer = _shuffled(train_texts, settings), new_optimizer(model, settings)
        steps = settings.epochs * math.ceil(len(loader) / processes / accumulate)
        tests = {end: HeldOut(texts, settings.batch_size) for end, texts in measured.items()}

        def measure(progress: Progress) -> None:
            trained = whole() if progress.ends_epoch else None
            if trained is not None and is_main:
                line = {"step": progress.step, "epoch": progress.epoch}
                for end, test in tests.items():
                    line |= test.measure(trained, end)
                if not line["held_out_loss"] < 2 * (uniform := math.log(config.vocab_size)):
                    raise FloatingPointError(
                        f"the held-out loss is {line['held_out_loss']:.1f} nats after epoch "
                        f"{progress.epoch}, and guessing gives {uniform:.1f}; lower the learning "
                        "rate"
                    )
                run.metrics.write(line)

        bar = [ProgressBar(run.path.name)] if progress else []
        history = train(
            model,
            loader,
            optimizer,
            epochs=settings.epochs,
            accumulate=accumulate,
            max_grad_norm=settings.max_grad_norm,
            precision=settings.precision,
            scheduler=new_scheduler(optimizer, settings, steps),
            callbacks=[run.metrics, measure, *bar] if is_main else [measure],
            checkpoints=Checkpoints(run.path),
            accelerator=accelerator,
        )
        trained = whole()
        if is_main:
            trained.save_pretrained(run.model_folder, tokenizer=load_tokenizer("gpt2"))
            seal_folder(run.model_folder)
        return {"steps": history[-1].step, "seconds": history[-1].seconds}

    run.once(work)
    return run


class JoinedTexts(ConcatDataset):
    """Several texts in one, a language each, say: all TextDatasets or all PackedDatasets."""

    collate_fn = TextDataset.collate_fn


def read_texts(paths: Sequence[Path], settings: PretrainingSettings, tokenizer) -> dict:
    """Return by its name the TextDataset or, of a packed folder, the PackedDataset of each path.

    Raises ValueError for two of one name, and what those two raise.
    """
    texts = {}
    for path in paths:
        name = path.resolve().name if path.is_dir() else path.stem
        if name in texts:
            raise ValueError(f'{path}: another text is called "{name}" in the table; rename one')
        if path.is_dir():
            texts[name] = PackedDataset(path, settings.max_len)
            texts[name].check_tokenizer(tokenizer)
        else:
            texts[name] = TextDataset(path, tokenizer, settings.max_len)
    return texts


def split_texts(texts: Mapping[str, Dataset], seed: int) -> tuple[Dataset, Dataset, dict]:
    """Return what to train on, what is held out of all texts, and that by text if several.

    Of a TextDataset a tenth is held out, drawn by `seed`; of a packed folder the last tenth, at
    most 1,024 rows. Raises ValueError for no text, one too short, and texts of both kinds.
    """
    if not texts:
        raise ValueError("no text to train on; --text takes a file or a packed folder, or several")
    if len({isinstance(text, PackedDataset) for text in texts.values()}) > 1:
        raise ValueError("train on text files or on packed folders, not on both; pack the files")
    parts = {}
    for name, text in texts.items():
        try:
            if isinstance(text, PackedDataset):
                parts[name] = text.split(min(-(-len(text) // 10), 1024))
            else:
                parts[name] = text.split(0.1, seed=seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}; give a longer text") from error
    if len(parts) == 1:
        return *parts.popitem()[1], {}
    train_texts, held_out = (JoinedTexts(some) for some in zip(*parts.values(), strict=True))
    return train_texts, held_out, {name: part for name, (_, part) in parts.items()}


def share_of_step(settings: PretrainingSettings, processes: int) -> int:
    """Return how many batches of a step each process has."""
    share, rest = divmod(settings.accumulate, processes)
    if rest:
        raise ValueError(
            f"accumulate={settings.accumulate} batches of a step can't be shared out to "
            f"{processes} processes; take accumulate={processes * (share + 1)}, say, and a smaller "
            "batch_size"
        )
    return share


class HeldOut:
    """Texts on which the loss is measured, in nats a token and in bits a byte."""

    def __init__(self, texts: Dataset, batch_size: int):
        self.texts, self.batch_size = texts, batch_size
        sizes, tokens, size = token_bytes(load_tokenizer("gpt2")), 0, 0
        for ids, mask in texts:
            predicted = ids[mask.bool()][1:]
            tokens, size = tokens + len(predicted), size + int(sizes[predicted].sum())
        self.tokens_per_byte = tokens / max(1, size)

    def measure(self, model: GPT2Model, suffix: str = "") -> dict[str, float]:
        """Return held_out_loss and bits_per_byte, a number that no tokenizer decides."""
        loss = mean_loss(model, text_loader(self.texts, self.batch_size))
        bits = loss * self.tokens_per_byte / math.log(2)
        return {f"held_out_loss{suffix}": loss, f"bits_per_byte{suffix}": bits}


def token_bytes(tokenizer) -> torch.Tensor:
    """Return the UTF-8 bytes of every token of a byte-level vocabulary, 0 of special ones."""
    sizes = [0] * len(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        sizes[number] = len(token)  # a character is a byte there
    for number in tokenizer.all_special_ids:
        sizes[number] = 0
    return torch.tensor(sizes)


def _fingerprint(texts: Dataset) -> str:
    if isinstance(texts, PackedDataset):  # its manifest knows, without reading every row
        return texts.fingerprint
    if isinstance(texts, JoinedTexts):
        return " ".join(map(_fingerprint, texts.datasets))
    return fingerprint(*(ids for ids, _ in texts))


def _shuffled(texts: Dataset, settings: PretrainingSettings) -> DataLoader:
    first = texts.datasets[0] if isinstance(texts, JoinedTexts) else texts
    if isinstance(first, PackedDataset):  # whole steps only, of as many batches each
        return packed_loader(
            texts, settings.batch_size, settings.seed, accumulate=settings.accumulate
        )
    return text_loader(texts, settings.batch_size, shuffle=True, seed=settings.seed)


class PretrainedRun(Run):
    """A run of `pretrain`; `result` has steps and seconds."""

    def held_out(self) -> pd.DataFrame:
        """Return a row an epoch: step, epoch, held_out_loss in nats a token, bits_per_byte."""
        return pd.DataFrame([line for line in self.measured() if "held_out_loss" in line])

    def by_text(self) -> pd.DataFrame:
        """Return a row a text, all held-out ones first: its two losses after the last epoch."""
        last, (loss, bits) = self.held_out().iloc[-1], MEASURED[2:]
        suffixes = [column.removeprefix(loss) for column in last.index if column.startswith(loss)]
        rows = [(end.strip() or "all", last[loss + end], last[bits + end]) for end in suffixes]
        return pd.DataFrame(rows, columns=["text", loss, bits])
