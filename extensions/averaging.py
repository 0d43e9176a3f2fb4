"""Average the weights of fine-tuned models: model soups (Wortsman et al. 2022, arXiv 2203.05482).

    python -m extensions.averaging runs/A/best_model runs/B/best_model --data XNLI_DIR

Models that were fine-tuned from the same pretrained weights often lie in one basin of the loss, so
that the mean of their weights is a model, too, and one that is wrong where only one of them is:

    θ = 1/N · (θ₁ + ... + θ_N)

It costs no further training, and as much to run as one model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import nn

from experiments.evaluation import Evaluation
from experiments.files import check_folder
from experiments.options import HERE, Codes, Data, run_command
from experiments.profiles import find_data
from extensions.backbones import load_backbone
from gpt2.evaluate import predict
from gpt2.xnli import XNLI
from utils import get_device, supports_bf16

Models = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(help="folders of models fine-tuned from the same weights"),
]


@torch.no_grad()
def average(models: Sequence[nn.Module]) -> nn.Module:
    """Return the first model with the mean of all models' weights; the others stay as they are.

    Sums are float32 or wider. Raises ValueError where the models differ in more than their numbers.
    """
    if not models:
        raise ValueError("there is no model to average; give one or more")
    states = [model.state_dict() for model in models]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    for number, other in enumerate(shapes[1:], start=2):
        if different := sorted(dict(shapes[0].items() ^ other.items())):
            raise ValueError(
                f"model {number} differs from the first in {different[0]}; "
                "average models that were fine-tuned from the same weights"
            )
    for name, tensor in states[0].items():
        if tensor.is_floating_point():
            wide = torch.promote_types(tensor.dtype, torch.float32)
            mean = sum(state[name].to(tensor.device, wide) for state in states) / len(states)
            tensor.copy_(mean)
    return models[0]


def main(
    models: Models,
    data: Data = HERE,
    languages: Codes = ("en",),
    out: Path = Path("out/average"),
) -> None:
    """Compare models with their mean on English dev, and test whichever is best there.

    Args:
        languages: codes of the languages of the test.
        out: a folder for the mean, as a model.
    """
    check_folder(out)
    loaded = [load_backbone(folder) for folder in models]
    candidates = {
        folder: _evaluate(*pair, data, "dev", "en")
        for folder, pair in zip(models, loaded, strict=True)
    }
    mean, tokenizer = average([model for model, _ in loaded]), loaded[0][1]
    mean.save_pretrained(out, tokenizer=tokenizer)
    candidates[str(out)] = _evaluate(mean, tokenizer, data, "dev", "en")
    for folder, evaluation in candidates.items():
        print(f"dev   {_shown(evaluation)}  {folder}")
    best = max(candidates, key=lambda folder: candidates[folder].accuracy)
    model, tokenizer = load_backbone(best)
    for lang in languages:
        print(f"test  {_shown(_evaluate(model, tokenizer, data, 'test', lang))}  {lang}, {best}")


def _evaluate(model, tokenizer, data, split: str, lang: str) -> Evaluation:
    length = model.config.max_position_embeddings
    common = {"tokenizer": tokenizer, "max_length": length, "verbose": False}
    rows = XNLI.dataset(find_data(data), split, lang, **common)
    device = get_device()
    with torch.autocast(device.type, torch.bfloat16, enabled=supports_bf16()):
        return Evaluation(predict(model.to(device), tokenizer, rows), XNLI)


def _shown(evaluation: Evaluation) -> str:
    low, high = evaluation.interval
    return f"{evaluation.accuracy:.4f}  [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    run_command(main)
