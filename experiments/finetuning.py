"""Fine-tuning on NLI by next-token prediction, as a run that can be killed and resumed.

Handout sections 4.3, 5.3 and 5.4.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from statistics import harmonic_mean

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.data import ConcatDataset, DataLoader
from transformers import PreTrainedTokenizerBase

from config import FINETUNE_ENGLISH, FinetuningSettings
from console import progress_bar
from experiments.callbacks import ProgressBar
from experiments.evaluation import Evaluation
from experiments.files import (
    read_sealed,
    seal_folder,
    to_json,
    verify_folder,
    write_sealed,
    write_text,
    write_toml,
)
from experiments.identity import code_identity, describe
from experiments.processes import from_main, placed, predict_together, shared_out
from experiments.runs import (
    RUNS,
    Run,
    chosen_precision,
    load_gpt2,
    new_optimizer,
    new_scheduler,
)
from experiments.statistics import wilson_interval
from gpt2.checkpoints import Checkpoints, Progress, preserved_random_state
from gpt2.loss import answer_and_text_loss, next_token_loss
from gpt2.model import GPT2Model
from gpt2.samplers import BatchesByLength, ShuffledRows
from gpt2.tasks import PromptDataset, Task
from gpt2.train import train
from gpt2.xnli import XNLI
from utils import (
    atomic_write,
    fingerprint,
    get_device,
    load_tensors,
    save_tensors,
    set_seed,
)

TRAINED = "trained.safetensors"  # of a prepared model


def finetune(
    settings: FinetuningSettings = FINETUNE_ENGLISH,
    *,
    weights="gpt2",
    data=".",
    runs=RUNS,
    name: str = "finetune",
    task: Task = XNLI,
    load: Callable = load_gpt2,
    prepare: Callable[[GPT2Model], None] | None = None,
    loss_fn: Callable = next_token_loss,
    checkpoints: dict | None = None,
    sharded: bool = False,
    progress: bool = True,
) -> "FinetunedRun":
    """Return the finished run of these settings: read from its folder, resumed, or started.

    `weights` is what the model starts from (see `GPT2Model.from_pretrained`), `data` the folder
    that holds XNLI-1.0 and XNLI-MT-1.0. The run is the folder `<runs>/<name>-<digest>`; its digest
    follows from settings, weights, data and the code that decides the numbers. After each epoch
    the model is evaluated on dev, each of the `languages` weighing the same; the best is saved in
    `best_model/`, which `from_pretrained` loads.

    `task` says what is trained and measured (gpt2.tasks.Task; its `dataset` reads `data`).
    `load(weights)` returns the model and its tokenizer: extensions.backbones.load_backbone loads
    other architectures. `prepare(model)` changes the model in place before training, such as
    `functools.partial(extensions.lora.attach, rank=8)`; of a prepared model only what is trained is
    saved. `loss_fn` is as in gpt2.train.train, `checkpoints` are arguments of
    gpt2.checkpoints.Checkpoints. Under a launcher the processes share out the rows of each batch,
    so that their number changes nothing but the time; `sharded` ones hold a part of the model each
    (experiments.sharding). Raises RuntimeError where another process works on the run.
    """
    settings = chosen_precision(settings)
    if settings.text_loss:
        loss_fn = partial(answer_and_text_loss, weight=settings.text_loss)
    model, tokenizer = load(weights)
    start = {"weights": fingerprint(*model.state_dict().values()), "model": model.config.to_dict()}
    start |= {"task": task.describe(), "load": describe(load)}
    positions = model.config.max_position_embeddings
    settings = replace(settings, max_length=min(settings.max_length, positions))
    common = {"tokenizer": tokenizer, "max_length": settings.max_length, "verbose": progress}
    train_sets = [
        task.dataset(data, "train", lang, subset=settings.subset, **common)
        for lang in settings.languages
    ]
    dev_sets = [task.dataset(data, "dev", lang, **common) for lang in settings.languages]
    if prepare is not None:
        start["prepare"] = describe(prepare)
    if loss_fn is not next_token_loss:
        start["loss_fn"] = describe(loss_fn)
    parts = {"train": train_sets, "dev": dev_sets}
    inputs = {part: [rows.fingerprint for rows in sets] for part, sets in parts.items()}
    run = FinetunedRun(runs, name, asdict(settings) | start, inputs, code_identity())
    run.settings, run.data, run.weights, run.prepare = settings, Path(data), weights, prepare
    run.task, run.load, run.tokenizer = task, load, tokenizer

    def work(is_main: bool) -> dict:
        if is_main:
            write_toml(run.path / "settings.toml", asdict(settings))
        if prepare is not None:
            set_seed(settings.seed)  # the same new parameters in every process
            prepare(model)
        accelerator, whole = placed(model, sharded)
        set_seed(settings.seed + accelerator.process_index)  # each process its own dropout
        loader, optimizer = _loader(train_sets, settings), new_optimizer(model, settings)
        steps = math.ceil(len(loader) / settings.accumulate) * settings.epochs
        loader, counted = shared_out(loader, loss_fn)
        dev = _DevEvaluation(whole, dev_sets, run, is_main)
        bar = [ProgressBar(run.path.name, note=dev.note)] if progress else []
        history = train(
            model,
            loader,
            optimizer,
            epochs=settings.epochs,
            **counted,
            accumulate=settings.accumulate,
            max_grad_norm=settings.max_grad_norm,
            precision=settings.precision,
            scheduler=new_scheduler(optimizer, settings, steps),
            # Metrics come first: they drop what a killed process wrote after its last checkpoint.
            callbacks=[run.metrics, dev, *bar] if is_main else [dev],
            checkpoints=Checkpoints(run.path, **(checkpoints or {})),
            accelerator=accelerator,
        )
        last = [step for step in history if step.epoch == settings.epochs]
        summed = sum(step.loss * step.num_labels for step in last)
        return {
            **dev.best,
            "train_loss": summed / sum(step.num_labels for step in last),
            "examples": sum(step.num_labels for step in history),
            "steps": history[-1].step,
            "seconds": history[-1].seconds,
        }

    run.once(work)
    return run


def _loader(train_sets: Sequence[PromptDataset], settings: FinetuningSettings) -> DataLoader:
    rows = ConcatDataset(train_sets)
    options = {"collate_fn": train_sets[0].collate_fn}
    if settings.token_budget is not None:
        lengths = np.concatenate([s.lengths_with_answer for s in train_sets])
        batches = BatchesByLength(
            lengths, settings.token_budget, settings.seed, settings.batch_size
        )
        return DataLoader(rows, batch_sampler=batches, **options)
    order = ShuffledRows(len(rows), settings.seed, sample=settings.examples)
    return DataLoader(rows, settings.batch_size, sampler=order, **options)


class FinetunedRun(Run):
    """A run of `finetune`.

    `result` has, of the best epoch, step, epoch, dev_loss (nats), dev_accuracy (or another measure
    of the task), dev_interval (95 %) and dev_by_language; train_loss, the last epoch's mean; and of
    the whole run examples (labels seen), steps and seconds.
    """

    model_file = "best_model/checksums.json"
    dev_file = "dev.json"  # of the best epoch
    settings: FinetuningSettings
    data: Path
    weights: str | Path
    task: Task
    load: Callable
    tokenizer: PreTrainedTokenizerBase
    prepare: Callable[[GPT2Model], None] | None

    def model(self) -> GPT2Model:
        """Return the best model, on the best device there is.

        Raises ValueError for a file that is not what the run saved.
        """
        verify_folder(self.model_folder)
        if self.prepare is None:
            return self._load(self.model_folder).to(get_device())
        model = self._load(self.weights)
        with preserved_random_state():
            set_seed(self.settings.seed)
            self.prepare(model)
        model.load_state_dict(load_tensors(self.model_folder / TRAINED), strict=False)
        return model.to(get_device())

    def _load(self, weights) -> GPT2Model:
        if self.load is load_gpt2:
            return GPT2Model.from_pretrained(weights)  # the tokenizer is here already
        return self.load(weights)[0]

    def save_model(self, model: GPT2Model) -> None:
        """Write the model to `best_model/`; of a prepared one, what is trained."""
        if self.prepare is None:
            model.save_pretrained(self.model_folder, tokenizer=self.tokenizer)
        else:
            trained = {n: p.detach().cpu() for n, p in model.named_parameters() if p.requires_grad}
            with atomic_write(self.model_folder / TRAINED) as path:
                save_tensors({name: p.contiguous() for name, p in trained.items()}, path)
        seal_folder(self.model_folder)

    def dev(self) -> pd.DataFrame:
        """Return a row an epoch: step, epoch, dev_loss, dev_accuracy and so on."""
        return pd.DataFrame([line for line in self.measured() if "dev_loss" in line])

    def evaluation(
        self,
        split: str = "test",
        lang: str = "en",
        *,
        subset: float = 1.0,
        model: Callable | None = None,
        progress=True,
    ) -> Evaluation:
        """Return the best model's predictions for a split; computed once, then read from
        `predictions/`. `subset` takes its first rows, as in FinetuningSettings; `model()` returns
        that model where a caller has loaded it already. Under a launcher every process calls it,
        and predicts a part."""
        common = {"max_length": self.settings.max_length, "verbose": False, "subset": subset}
        rows = self.task.dataset(self.data, split, lang, tokenizer=self.tokenizer, **common)
        path = self._predictions(rows, subset)
        seal = path.with_suffix(".seal")
        saved = path.is_file() and seal.is_file()
        if from_main(saved and seal.read_bytes() == _seal(path, rows).encode()):
            return Evaluation.load(path, self.task)
        evaluation = self.evaluate((model or self.model)(), rows, progress=progress)
        if Accelerator().is_main_process:
            self.save_evaluation(evaluation, rows, subset)
        return evaluation

    def evaluate(self, model: GPT2Model, rows: PromptDataset, *, progress: bool) -> Evaluation:
        """Return a model's predictions, computed in the precision of the training."""
        device = next(model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            predictions = predict_together(
                self.task, model, self.tokenizer, rows, progress=progress
            )
        return Evaluation(predictions, self.task)

    def _predictions(self, rows: PromptDataset, subset: float) -> Path:
        part = "" if subset == 1 else f".{subset:g}"
        return self.path / "predictions" / f"{rows.split}.{rows.lang}{part}.csv"

    def save_evaluation(self, evaluation: Evaluation, rows: PromptDataset, subset=1.0) -> None:
        """Write `predictions/<split>.<lang>.csv`, and its seal beside it."""
        path = self._predictions(rows, subset)
        evaluation.save(path)
        write_text(path.with_suffix(".seal"), _seal(path, rows))

    def evaluations(
        self, languages: Sequence[str] | None = None, *, subset: float = 1.0, progress=True
    ) -> dict[str, Evaluation]:
        """Return the best model's predictions for the test set in each of the task's languages.

        With a `subset`, the first rows alone in languages that it was not trained on.
        """
        languages = self.task.languages if languages is None else languages
        bar = progress_bar(languages, desc=f"{self.path.name} on test", disable=not progress)
        model, evaluations = cache(self.model), {}  # loaded once, if at all
        for lang in bar:
            part = 1.0 if lang in self.settings.languages else subset
            where = {"subset": part, "model": model, "progress": False}
            evaluations[lang] = self.evaluation("test", lang, **where)
            bar.set_postfix_str(f"{lang} {evaluations[lang].score:.3f}", refresh=False)
        return evaluations


def _seal(path: Path, rows: PromptDataset) -> str:
    """Return a digest of saved predictions and of what they follow from: the code, the pairs."""
    origin = to_json([code_identity(), rows.fingerprint]).encode()
    return hashlib.blake2b(origin + path.read_bytes()).hexdigest()


class _DevEvaluation:
    """A callback that evaluates on dev after each epoch and saves the best model.

    Every process predicts a part; the main one saves, and writes a line of the run's metrics.
    `whole()` returns the model.
    """

    def __init__(self, whole: Callable, dev_sets: Sequence[PromptDataset], run, is_main: bool):
        self.whole, self.dev_sets, self.run, self.is_main = whole, dev_sets, run, is_main
        self.score = "dev_" + run.task.measure.replace(" ", "_")
        # Beside the weights that it describes, and not in the metrics: a run that falls back to an
        # earlier checkpoint drops lines, but never which model it has saved.
        self.best = read_sealed(run.path / run.dev_file) or {}
        if self.best:
            run.check_model()

    def note(self) -> str:
        """Return the best score so far, for the progress bar."""
        return f"dev {self.best[self.score]:.3f}" if self.best else ""

    def __call__(self, progress: Progress) -> None:
        if not progress.ends_epoch:
            return
        model = self.whole()
        evaluations = [self.run.evaluate(model, rows, progress=False) for rows in self.dev_sets]
        loss = float(np.mean([e.loss for e in evaluations]))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the dev loss is {loss} after epoch {progress.epoch}: weights have become "
                "infinite; lower the learning rate, warm it up, or clip gradients"
            )
        scores = [e.score for e in evaluations]
        score, interval = float(np.mean(scores)), None
        if self.run.task.measure == "accuracy":
            # The languages' pairs are the same, so together they count no more than one's: their
            # number, or its harmonic mean.
            pairs = round(harmonic_mean(map(len, self.dev_sets)))
            interval = wilson_interval(round(score * pairs), pairs)
        line = {
            "step": progress.step,
            "epoch": progress.epoch,
            "dev_loss": loss,
            self.score: score,
            "dev_interval": interval,
            "dev_by_language": dict(zip(self.run.settings.languages, scores, strict=True)),
        }
        if not self.is_main:
            return
        if not self.best or score > self.best[self.score]:
            self.run.save_model(model)
            for rows, evaluation in zip(self.dev_sets, evaluations, strict=True):
                self.run.save_evaluation(evaluation, rows)
            write_sealed(self.run.path / self.run.dev_file, line)
            self.best = line
        self.run.metrics.write(line)
