"""Run what the notebook runs, with the same settings and folders. For example:

python -m gpt2 pretrain --text pretrain.txt

python -m gpt2 finetune fast --weights gpt2 --data . --lr 3e-5 --epochs 2

python -m gpt2 evaluate --weights runs/finetune-1a2b3c4d/best_model --languages en fr

python -m gpt2 generate --weights gpt2 --prompt "The capital of France is" --top-p 0.9

python -m gpt2 languages --weights gpt2 --data . --seeds 0 1 2 --out out/languages
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
import tyro
from accelerate import PartialState

from console import errors_in_one_line
from experiments import finetuning, pretraining
from experiments.environment import check_environment
from experiments.evaluation import Evaluation
from experiments.fertility import measure_fertility
from experiments.files import check_folder
from experiments.languages import LanguageStudy
from experiments.options import (
    HERE,
    NO_CHANGES,
    NONE,
    PRETRAINING,
    START,
    TEXT,
    Codes,
    Data,
    Options,
    Preset,
    PretrainingOptions,
    Runs,
    Seeds,
    Weights,
    choose,
    choose_pretraining,
    command,
    preset_first,
)
from experiments.plan import pretraining_plan
from experiments.processes import launched
from experiments.profiles import find_data, find_weights
from experiments.runs import RUNS, check_seeds, load_gpt2
from gpt2.evaluate import predict
from gpt2.generate import generate_gpt2
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset
from utils import get_device


def check() -> None:
    """Check packages, hardware, data and weights, and print the fix for each gap."""
    if not check_environment():
        raise SystemExit(2)


def pretrain(
    recipe: Annotated[Literal[tuple(PRETRAINING)], tyro.conf.Positional] = "toy",
    changes: PretrainingOptions = NO_CHANGES,
    text: tuple[Path, ...] = (TEXT,),
    also: tuple[Path, ...] = (),
    runs: Runs = RUNS,
    price: float | None = None,
    sharded: bool = False,
) -> None:
    """Train a model from scratch on text files or on folders that data.openwebtext has packed.

    Args:
        recipe: toy, the handout's; or gpt2, the 124M model as Brown et al. (2020) trained it.
        text: one document a line, UTF-8, of which a tenth is held out; or a packed folder, of
            which the last tenth is held out, at most 1,024 rows. Several are joined, one a
            language, say, and the loss on each is measured, too.
        also: more texts to measure the loss on.
        price: of one device and hour; what the whole costs is said before it starts.
        sharded: under torchrun, let each process hold a part of weights, gradients and moments.
    """
    settings, tokenizer = choose_pretraining(recipe, changes), load_tokenizer()
    texts = pretraining.read_texts([*text, *also], settings, tokenizer)
    others = {name: texts.pop(name) for name in [*texts][len(text) :]}
    train_texts, held_out, by_text = pretraining.split_texts(texts, settings.seed)
    print(pretraining_plan(settings, len(train_texts), price))
    where = {"runs": runs, "name": f"{recipe}_pretraining", "sharded": sharded}
    run = pretraining.pretrain(settings, train_texts, held_out, also=by_text | others, **where)
    print(run.held_out()[pretraining.MEASURED].to_string(index=False))
    if by_text or others:
        print(run.by_text().to_string(index=False))
    print(f"model: {run.path / 'model'}")


def finetune(
    preset: Preset = "english",
    changes: Options = NONE,
    weights: Weights = START,
    data: Data = HERE,
    runs: Runs = RUNS,
    seeds: Seeds = (),
    sharded: bool = False,
) -> None:
    """Fine-tune a model on natural language inference, and evaluate it on the test set.

    With several seeds: once with each, and mean (standard deviation) of what they give.

    Args:
        sharded: under torchrun, let each process hold a part of weights, gradients and moments.
    """
    where = {"weights": find_weights(weights, runs), "data": find_data(data), "runs": runs}
    settings, rows = choose(preset, changes, unused=("seed",) if seeds else ()), []
    for seed in check_seeds(seeds or (settings.seed,)):
        run = finetuning.finetune(replace(settings, seed=seed), sharded=sharded, **where)
        print(f"dev accuracy {run.result['dev_accuracy']:.4f}, model: {run.path / 'best_model'}")
        evaluations = run.evaluations(settings.languages)
        _print_accuracies(evaluations)
        rows.append({lang: each.accuracy for lang, each in evaluations.items()})
    if len(rows) > 1:
        table = pd.DataFrame(rows)
        for lang, mean, std in zip(table, table.mean(), table.std(), strict=True):
            print(f"{lang}  {mean:.4f} ({std:.4f}) on test, {len(rows)} seeds")


def evaluate(
    weights: Weights,
    data: Data = HERE,
    languages: Codes = ("en",),
    runs: Runs = RUNS,
    split: Literal["dev", "test"] = "test",
) -> None:
    """Evaluate a fine-tuned model, such as runs/finetune-1a2b3c4d/best_model.

    Args:
        split: the set to predict.
    """
    model, tokenizer = load_gpt2(find_weights(weights, runs))
    model.to(get_device())
    common = {"tokenizer": tokenizer, "max_length": model.config.max_position_embeddings}
    evaluations = {}
    for lang in languages:
        rows = XNLIDataset.in_folder(find_data(data), split, lang, verbose=False, **common)
        evaluations[lang] = Evaluation(predict(model, tokenizer, rows))
    _print_accuracies(evaluations)


def generate(
    prompt: str,
    weights: Weights = START,
    max_gen_length: int = 50,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    num_beams: int = 1,
    runs: Runs = RUNS,
) -> None:
    """Continue a prompt.

    By default the most probable token is chosen each time (greedy decoding). Any of temperature,
    top-k, top-p, min-p and seed switches to sampling.

    Args:
        prompt: the text to continue.
        max_gen_length: the largest number of new tokens.
        temperature: divides the logits: below 1 for more probable texts, above 1 for more varied.
        top_k: sample from this many most probable tokens.
        top_p: sample from the most probable tokens whose probabilities sum to this share.
        min_p: sample from the tokens with at least this share of the highest probability.
        seed: random seed of the sampling; 0 if not given.
        num_beams: above 1, search for the most probable text with this many beams.
    """
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    decoding = {name: value for name, value in sampling.items() if value is not None}
    device = get_device()
    if decoding or seed is not None:
        generator = torch.Generator(device).manual_seed(seed or 0)
        decoding |= {"do_sample": True, "generator": generator}
    decoding["num_beams"] = num_beams
    model, tokenizer = load_gpt2(find_weights(weights, runs))
    tokens = tokenizer(prompt)["input_ids"]
    if not tokens:
        raise ValueError("--prompt is empty; give a text to continue, such as 'The'")
    input_ids = torch.tensor([tokens])
    print(generate_gpt2(model, tokenizer, input_ids, max_gen_length, device, **decoding))


def fertility(
    data: Data = HERE,
    languages: Codes = LANGUAGES,
    max_samples: int | None = None,
) -> None:
    """Measure how finely GPT-2's tokenizer cuts each language.

    Args:
        max_samples: how many training pairs of each language; the handout's check has 3927.
    """
    table = measure_fertility(find_data(data), max_samples=max_samples, languages=languages)
    print(table.round(2).to_string())


def languages(
    preset: Preset = "english",
    changes: Options = NONE,
    weights: Weights = START,
    data: Data = HERE,
    train_on: Codes = (),
    seeds: Seeds = (0,),
    runs: Runs = RUNS,
    out: Path = Path("out/languages"),
) -> None:
    """Compare zero-shot transfer, training per language, and training on all (Task 3).

    Args:
        train_on: languages to train on besides English; by default a rule selects them.
        out: a folder for the page, its tables (CSV, Markdown, LaTeX) and figures.
    """
    check_folder(out)
    where = {"weights": find_weights(weights, runs), "data": find_data(data), "runs": runs}
    settings = choose(preset, changes, unused=("seed", "languages"))
    study = LanguageStudy(settings, **where, languages=train_on or None, seeds=seeds)
    table = study.tables()["readable"]  # all of it computed, by every process of a launcher
    if PartialState().is_main_process:
        print(f"{table.to_string()}\npage: {study.save(out, command('gpt2'))}")


def _print_accuracies(evaluations: dict) -> None:
    for lang, evaluation in evaluations.items():
        low, high = evaluation.interval
        n = len(evaluation.predictions)
        print(f"{lang}  {evaluation.accuracy:.4f}  [{low:.4f}, {high:.4f}]  n = {n}")


def main(args: list[str] | None = None, more: tuple[Callable[..., None], ...] = ()) -> None:
    """Run one command; an error is one line on stderr and exit status 2.

    `more` are commands of packages that this one may not import.
    """
    commands = (check, pretrain, finetune, evaluate, generate, fertility, languages, *more)
    with errors_in_one_line(), launched():
        tyro.extras.subcommand_cli_from_dict(
            {command.__name__: command for command in commands},
            prog="python -m gpt2",
            description=__doc__,
            args=preset_first(args, position=1),
        )
