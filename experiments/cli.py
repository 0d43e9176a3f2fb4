"""What the notebook runs, from a shell: the same settings, the same folders.

python -m gpt2 pretrain --text pretrain.txt

python -m gpt2 finetune --weights gpt2 --data . english --settings.learning-rate 1e-5

python -m gpt2 evaluate --weights runs/finetune-1a2b3c4d/best_model --languages en fr

python -m gpt2 generate --weights gpt2 --prompt "The capital of France is"

python -m gpt2 fertility --data . --max-samples 3927

python -m gpt2 study --weights gpt2 --rates 1e-5 5e-5 --batch-sizes 4 8 english
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from config import (
    FINETUNE_ENGLISH,
    FINETUNE_FAST,
    FINETUNE_TOY,
    TOY_PRETRAINING,
    FinetuningSettings,
    PretrainingSettings,
)
from experiments.profiles import EMBEDDED_TEXT

if TYPE_CHECKING:  # the presets become subcommands, each with every field as an option
    Preset = FinetuningSettings
else:
    Preset = tyro.extras.subcommand_type_from_defaults(
        {"english": FINETUNE_ENGLISH, "fast": FINETUNE_FAST, "toy": FINETUNE_TOY},
        prefix_names=False,
    )


def pretrain(
    text: Path = Path(EMBEDDED_TEXT),
    held_out: float = 0.1,
    runs: Path = Path("runs"),
    name: str = "pretraining",
    settings: PretrainingSettings = TOY_PRETRAINING,
) -> None:
    """Train a model from scratch on a text file.

    Args:
        text: one document a line, UTF-8.
        held_out: share of the documents on which the loss is measured after each epoch.
        runs: where run folders are.
        name: the beginning of this run's folder.
        settings: hyper-parameters.
    """
    from experiments.pretraining import pretrain
    from gpt2.text import TextDataset
    from gpt2.tokenizer import load_tokenizer

    texts = TextDataset(text, load_tokenizer(), settings.max_len)
    parts = texts.split(held_out, seed=settings.seed)
    run = pretrain(settings, *parts, runs=runs, name=name)
    print(run.held_out().to_string(index=False))
    print(f"model: {run.path / 'model'}")


def finetune(
    settings: Preset = FINETUNE_ENGLISH,
    weights: str = "gpt2",
    data: Path = Path("."),
    runs: Path = Path("runs"),
    name: str = "finetune",
    test: bool = True,
) -> None:
    """Fine-tune a model on natural language inference.

    Args:
        settings: a preset, and what to change in it.
        weights: a name on the Hugging Face hub or a folder.
        data: the folder that holds XNLI-1.0 and XNLI-MT-1.0.
        runs: where run folders are.
        name: the beginning of this run's folder.
        test: evaluate the best model on the test sets of its languages, too.
    """
    from experiments.finetuning import finetune

    run = finetune(settings, weights=weights, data=data, runs=runs, name=name)
    print(f"dev accuracy {run.result['dev_accuracy']:.4f}, model: {run.path / 'best_model'}")
    if test:
        _print_accuracies(run.evaluations(settings.languages))


def evaluate(
    weights: str,
    data: Path = Path("."),
    languages: tuple[str, ...] = ("en",),
    split: str = "test",
    out: Path | None = None,
) -> None:
    """Evaluate a fine-tuned model.

    Args:
        weights: the folder of a model, such as runs/finetune-1a2b3c4d/best_model.
        data: the folder that holds XNLI-1.0.
        languages: which of the 15 languages, or "all".
        split: dev or test.
        out: a folder for the predictions, a CSV file a language.
    """
    from experiments.evaluation import evaluate
    from gpt2.model import GPT2Model
    from gpt2.tokenizer import load_tokenizer
    from gpt2.xnli import LANGUAGES, XNLIDataset
    from utils import get_device

    model, tokenizer = GPT2Model.from_pretrained(weights).to(get_device()), load_tokenizer()
    longest = model.config.max_position_embeddings
    found = {}
    for lang in LANGUAGES if languages == ("all",) else languages:
        rows = XNLIDataset.in_folder(data, split, lang, tokenizer=tokenizer, max_length=longest)
        found[lang] = evaluate(model, tokenizer, rows)
        if out is not None:
            found[lang].save(out / f"{split}.{lang}.csv")
    _print_accuracies(found)


def generate(
    prompt: str,
    weights: str = "gpt2",
    max_gen_length: int = 50,
    temperature: float = 0.0,
    top_p: float = 1.0,
    num_beams: int = 1,
    seed: int = 0,
) -> None:
    """Go on with a text.

    Args:
        prompt: its beginning.
        weights: a name on the Hugging Face hub or a folder.
        max_gen_length: how many tokens at most.
        temperature: above 0 draws tokens, 0 takes the likeliest.
        top_p: draw only from the likeliest tokens with this probability together.
        num_beams: above 1 searches for the likeliest text.
        seed: of the draws.
    """
    import torch

    from gpt2.generate import generate_gpt2
    from gpt2.model import GPT2Model
    from gpt2.tokenizer import load_tokenizer
    from utils import get_device

    device, tokenizer = get_device(), load_tokenizer()
    decoding = {"num_beams": num_beams}
    if temperature > 0:
        generator = torch.Generator(device).manual_seed(seed)
        decoding |= {"do_sample": True, "temperature": temperature, "top_p": top_p}
        decoding |= {"generator": generator}
    input_ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    model = GPT2Model.from_pretrained(weights)
    print(generate_gpt2(model, tokenizer, input_ids, max_gen_length, device, **decoding))


def fertility(
    data: Path = Path("."),
    languages: tuple[str, ...] = ("all",),
    max_samples: int | None = None,
    out: Path | None = None,
) -> None:
    """Measure how finely GPT-2's tokenizer cuts each language.

    Args:
        data: the folder that holds XNLI-1.0 and XNLI-MT-1.0.
        languages: which of the 15, or "all".
        max_samples: how many training pairs of each; the handout's check has 3927.
        out: a folder for the table as CSV, Markdown and LaTeX.
    """
    from experiments.transfer import export
    from gpt2.fertility import fertility_table
    from gpt2.tokenizer import load_tokenizer
    from gpt2.xnli import LANGUAGES, XNLIDataset

    tokenizer = load_tokenizer()
    chosen = LANGUAGES if languages == ("all",) else languages
    train, dev = (
        {
            lang: XNLIDataset.in_folder(data, split, lang, tokenizer=tokenizer)
            for lang in dict.fromkeys((*chosen, *(("en",) if split == "dev" else ())))
        }
        for split in ("train", "dev")
    )
    table = fertility_table(train, dev, tokenizer, max_samples)
    print(table.round(2).to_string())
    if out is not None:
        export(table, out, "fertility")


def study(
    settings: Preset = FINETUNE_ENGLISH,
    rates: tuple[float, ...] = (1e-5, 5e-5),
    batch_sizes: tuple[int, ...] = (4,),
    seeds: tuple[int, ...] = (0,),
    weights: str = "gpt2",
    data: Path = Path("."),
    runs: Path = Path("runs"),
) -> None:
    """Fine-tune with every combination of learning rates, batch sizes and seeds.

    Args:
        settings: a preset, and what to change in it.
        rates: learning rates.
        batch_sizes: rows a step.
        seeds: of order and dropout.
        weights: a name on the Hugging Face hub or a folder.
        data: the folder that holds XNLI-1.0 and XNLI-MT-1.0.
        runs: where run folders are; what is finished there is only read.
    """
    from experiments.study import run_study, study_table

    variants = [
        replace(settings, learning_rate=rate, batch_size=size, seed=seed)
        for rate in rates
        for size in batch_sizes
        for seed in seeds
    ]
    print(study_table(run_study(variants, weights=weights, data=data, runs=runs)).to_string())


def _print_accuracies(evaluations: dict) -> None:
    for lang, evaluation in evaluations.items():
        low, high = evaluation.interval
        n = len(evaluation.predictions)
        print(f"{lang}  {evaluation.accuracy:.4f}  [{low:.4f}, {high:.4f}]  n = {n}")


def main(args: list[str] | None = None) -> None:
    commands = (pretrain, finetune, evaluate, generate, fertility, study)
    tyro.extras.subcommand_cli_from_dict(
        {command.__name__: command for command in commands},
        prog="python -m gpt2",
        description=__doc__,
        args=args,
    )
