"""Fine-tuning on NLI by next-token prediction, as a run that can be killed and gone on with.

Handout sections 4.3, 5.3 and 5.4.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.data import ConcatDataset, DataLoader
from tqdm import tqdm
from transformers import get_scheduler

from config import FINETUNE_ENGLISH, FinetuningSettings
from experiments.evaluation import Evaluation, evaluate
from experiments.runs import Run, read_json
from experiments.statistics import wilson_interval
from experiments.transfer import Answers
from gpt2.checkpoints import Checkpoints, Progress
from gpt2.model import GPT2Model
from gpt2.samplers import BatchesByLength, MixedRows, ShuffledRows
from gpt2.tokenizer import load_tokenizer
from gpt2.train import ProgressBar, train
from gpt2.weights import write_torch
from gpt2.xnli import LANGUAGES, XNLIDataset
from optim.adamw import AdamW
from utils import atomic_write, fingerprint, get_device, set_seed, supports_bf16


def finetune(
    settings: FinetuningSettings = FINETUNE_ENGLISH,
    *,
    weights="gpt2",
    data=".",
    runs="runs",
    name: str = "finetune",
    checkpoints: dict | None = None,
    progress: bool = True,
) -> "FinetunedRun":
    """The finished run of these settings: from its folder, or gone on with, or begun.

    `weights` is what the model starts from (see `GPT2Model.from_pretrained`), `data` the folder
    that holds XNLI-1.0 and XNLI-MT-1.0. Pairs are cut to the positions that the model has. The run
    is the folder `<runs>/<name>-<digest>`; its digest follows from settings, weights and data, so
    no run goes on with another's weights. After each epoch the model is evaluated on dev, each of
    the `languages` weighing the same; the best is kept as `best_model/model.pt` and, in the same
    folder, for `from_pretrained`. `checkpoints` are settings of `experiments.runs.Checkpoints`.

    Raises RuntimeError where another process works on the same run. What data, weights or
    training raise passes through, and what was saved stays.
    """
    if settings.precision == "auto":
        settings = replace(settings, precision="bf16" if supports_bf16() else "float32")
    model = GPT2Model.from_pretrained(weights)
    positions = model.config.max_position_embeddings
    settings = replace(settings, max_length=min(settings.max_length, positions))
    tokenizer = load_tokenizer("gpt2")
    common = {"tokenizer": tokenizer, "max_length": settings.max_length}
    train_sets = [
        XNLIDataset.in_folder(data, "train", lang, subset=settings.subset, **common)
        for lang in settings.languages
    ]
    if settings.per_label is not None:
        train_sets = [s.stratified_subset(settings.per_label, settings.seed) for s in train_sets]
    dev_sets = {
        lang: XNLIDataset.in_folder(data, "dev", lang, **common) for lang in settings.languages
    }
    identity = {
        **asdict(settings),
        "weights": fingerprint(*model.state_dict().values()),
        "model": model.config.to_dict(),
        "train": [rows.fingerprint for rows in train_sets],
        "dev": [rows.fingerprint for rows in dev_sets.values()],
    }
    if not settings.compile:
        del identity["compile"]  # a run from before there was a choice keeps its folder
    run = FinetunedRun(runs, name, identity, settings, data)

    def work(is_main: bool) -> dict:
        kept = Checkpoints(run.path, **(checkpoints or {}))
        if not is_main:
            _learn(model, settings, train_sets, kept, [])
            return {}
        if progress:
            _tell_of_truncation([*train_sets, *dev_sets.values()])
        dev = _DevEvaluation(model, tokenizer, dev_sets, run)
        bar = [ProgressBar(run.path.name, note=dev.note)] if progress else []
        # Metrics hear first: they drop what a killed process wrote after its last checkpoint.
        history = _learn(model, settings, train_sets, kept, [run.metrics, dev, *bar])
        last = [step for step in history if step.epoch == settings.epochs]
        summed = sum(step.loss * step.num_labels for step in last)
        return {
            **dev.best,
            "train_loss": summed / sum(step.num_labels for step in last),
            "examples": sum(p.num_labels for p in history),
            "steps": history[-1].step,
            "seconds": history[-1].seconds,
        }

    run.once(work)
    return run


class FinetunedRun(Run):
    """A run of `finetune`.

    `result` has, of the best epoch, step, epoch, dev_loss (nats), dev_accuracy, dev_interval
    (95 %) and dev_accuracies by language; train_loss, the last epoch's mean; and of the whole run
    examples (pairs seen), steps and seconds.
    """

    model_folder = "best_model"

    def __init__(self, root, name: str, identity: dict, settings: FinetuningSettings, data):
        super().__init__(root, name, identity)
        self.settings, self.data = settings, Path(data)

    def dev(self) -> pd.DataFrame:
        """A row an epoch: step, epoch, dev_loss, dev_accuracy and so on."""
        return pd.DataFrame([line for line in self.metrics.read() if "dev_loss" in line])

    def model(self) -> GPT2Model:
        """The model after the best epoch, on the best device there is."""
        return GPT2Model.from_pretrained(self.path / self.model_folder).to(get_device())

    def evaluations(
        self, languages: Sequence[str] = LANGUAGES, split: str = "test", *, progress=True
    ) -> dict[str, Evaluation]:
        """The best model's answers in each language (zero-shot where it was not trained on it)."""
        bar = tqdm(languages, desc=f"{self.path.name} on {split}", ncols=100, disable=not progress)
        found = {}
        for lang in bar:
            found[lang] = self.evaluation(split, lang, progress=False)
            bar.set_postfix_str(f"{lang} {found[lang].accuracy:.3f}")
        return found

    def answers(self, setting: str, languages: Sequence[str], split: str = "test") -> list[Answers]:
        """What experiments.transfer compares: this model's answers in each language, and its cost."""
        return [
            Answers(
                setting,
                lang,
                evaluation,
                train_rows=self.result["examples"],
                seconds=self.result["seconds"],
                seed=self.settings.seed,
            )
            for lang, evaluation in self.evaluations(languages, split).items()
        ]

    def evaluation(self, split: str = "test", lang: str = "en", *, progress=True) -> Evaluation:
        """The best model's answers to a split; computed once, kept in `predictions/`."""
        tokenizer = load_tokenizer("gpt2")
        rows = XNLIDataset.in_folder(
            self.data, split, lang, tokenizer=tokenizer, max_length=self.settings.max_length
        )
        evaluation = _kept(self.path, rows)
        if evaluation is None:
            evaluation = evaluate(self.model(), tokenizer, rows, progress=progress)
            _keep(evaluation, self.path, rows)
        return evaluation


def _keep(evaluation: Evaluation, folder: Path, rows: XNLIDataset) -> None:
    """Write `predictions/<split>.<lang>.csv`, and beside it which pairs they are answers to."""
    path = folder / "predictions" / f"{rows.split}.{rows.lang}.csv"
    evaluation.save(path)
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(_seal(path, rows)))


def _kept(folder: Path, rows: XNLIDataset) -> Evaluation | None:
    """What `_keep` wrote; None where there is nothing, other pairs, or a file that was changed."""
    path = folder / "predictions" / f"{rows.split}.{rows.lang}.csv"
    if not path.is_file() or not path.with_suffix(".json").is_file():
        return None
    try:
        written = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except ValueError:
        return None
    return Evaluation.load(path) if written == _seal(path, rows) else None


def _seal(path: Path, rows: XNLIDataset) -> dict[str, str]:
    return {"pairs": rows.fingerprint, "file": hashlib.blake2b(path.read_bytes()).hexdigest()}


class _DevEvaluation:
    """A callback: after each epoch the accuracy on dev as a line of the metrics, and the best
    model in the run's folder."""

    def __init__(self, model, tokenizer, dev_sets: dict[str, XNLIDataset], run: FinetunedRun):
        self.model, self.tokenizer, self.dev_sets = model, tokenizer, dev_sets
        self.folder, self.metrics = run.path, run.metrics
        # Beside the weights that it is about, and not in the metrics: a run that falls back to an
        # earlier checkpoint forgets lines, but never which model it has kept.
        self.kept = run.path / "best_model" / "dev.json"
        weights = self.kept.parent / "model.safetensors"
        self.best = read_json(self.kept) if weights.is_file() else None

    def note(self) -> str:
        """For the progress bar."""
        return f"dev {self.best['dev_accuracy']:.3f}" if self.best else ""

    def __call__(self, progress: Progress) -> None:
        if not progress.ends_epoch:
            return
        evaluations = {
            lang: evaluate(self.model, self.tokenizer, rows, progress=False)
            for lang, rows in self.dev_sets.items()
        }
        loss = float(np.mean([e.loss for e in evaluations.values()]))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the dev loss is {loss} after epoch {progress.epoch}: weights have become "
                "infinite; lower the learning rate, warm it up, or clip gradients"
            )
        accuracies = {lang: e.accuracy for lang, e in evaluations.items()}
        accuracy = float(np.mean(list(accuracies.values())))
        # The languages' pairs are the same, so all answers count as no more than one language's.
        pairs = max(len(e.predictions) for e in evaluations.values())
        line = {
            "step": progress.step,
            "epoch": progress.epoch,
            "dev_loss": loss,
            "dev_accuracy": accuracy,
            "dev_interval": wilson_interval(round(accuracy * pairs), pairs),
            "dev_accuracies": accuracies,
        }
        if self.best is None or accuracy > self.best["dev_accuracy"]:
            self.model.save_pretrained(self.kept.parent)
            with atomic_write(self.kept.parent / "model.pt") as path:
                write_torch(self.model.state_dict(), path)
            for lang, evaluation in evaluations.items():
                _keep(evaluation, self.folder, self.dev_sets[lang])
            with atomic_write(self.kept) as path:
                path.write_text(json.dumps(line))
            self.best = line
        self.metrics.write(line)


def _tell_of_truncation(datasets: Sequence[XNLIDataset]) -> None:
    for rows in datasets:
        if rows.num_truncated:
            print(
                f"{rows.lang} {rows.split}: {rows.num_truncated:,} of {len(rows):,} pairs lose "
                f"text, to fit {rows.max_length} tokens"
            )


def _learn(model, settings, train_sets, checkpoints, callbacks) -> list[Progress]:
    set_seed(settings.seed + Accelerator().process_index)  # each process its own dropout
    rows = ConcatDataset(train_sets)
    how = {"collate_fn": XNLIDataset.collate_fn, "pin_memory": torch.cuda.is_available()}
    if settings.token_budget is not None:
        lengths = np.concatenate([s.lengths for s in train_sets]) + 1  # the label's digit
        batches = BatchesByLength(lengths, settings.token_budget, settings.seed)
        loader = DataLoader(rows, batch_sampler=batches, **how)
    else:
        order = ShuffledRows(len(rows), settings.seed)
        if settings.examples is not None or settings.temperature != 1:
            sizes = [len(s) for s in train_sets]
            order = MixedRows(sizes, settings.examples, settings.temperature, settings.seed)
        loader = DataLoader(rows, settings.batch_size, sampler=order, **how)
    optimizer = AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        correct_bias=settings.correct_bias,
    )
    batches = Accelerator().num_processes * settings.accumulate  # that make a step
    steps = math.ceil(len(loader) / batches) * settings.epochs
    schedule = settings.schedule
    if schedule == "constant":  # transformers has a name of its own for it with a warm-up
        schedule = "constant_with_warmup"
    scheduler = get_scheduler(schedule, optimizer, round(settings.warmup * steps), steps)
    return train(
        model,
        loader,
        optimizer,
        epochs=settings.epochs,
        accumulate=settings.accumulate,
        max_grad_norm=settings.max_grad_norm,
        precision=settings.precision,
        compile=settings.compile,
        scheduler=scheduler,
        callbacks=callbacks,
        checkpoints=checkpoints,
    )
