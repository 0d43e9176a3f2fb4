"""The command `demo`: write the page as one file with the model in it, or serve it.

python -m gpt2 demo --export page.html
python -m gpt2 demo --weights runs/finetune-1a2b3c4d
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from config import FINETUNE_MINIATURE
from experiments.finetuning import finetune
from experiments.options import Runs
from experiments.profiles import MINIATURE, find_data, find_weights
from experiments.runs import RUNS
from extensions.demo.export import LIMIT, export_page
from extensions.demo.server import DemoServer
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from utils import get_device

ROWS = 600  # of the training set, as in the notebooks


def demo(
    weights: str | None = None, export: Path | None = None, port: int = 8000, runs: Runs = RUNS
) -> None:
    """Show in a browser what a model does with a pair of sentences.

    Args:
        weights: a finished run's folder, a checkpoint's, or a name on the Hugging Face hub; by
            default the miniature, fine-tuned on English pairs (20 seconds at the first time).
        export: write the page to this file, with the model in it; it opens without a server.
        port: where to serve the page on this computer; 0 takes any free port.
    """
    folder = find_model(weights, runs)
    model, tokenizer = GPT2Model.from_pretrained(folder), load_tokenizer("gpt2")
    name = f"The miniature, fine-tuned on {ROWS} English pairs" if weights is None else weights
    if model.config.vocab_size != len(tokenizer):
        raise ValueError(
            f"{folder}: has {model.config.vocab_size} tokens, but the page's tokenizer is GPT-2's "
            f"with {len(tokenizer)}; give a model that reads those"
        )
    if export is not None:
        size, change = export_page(model, tokenizer, name, export)
        print(f"{export}: {size / 1e6:.1f} MB (at most {LIMIT / 1e6:.0f}), open it in a browser")
        print(f"rounding its weights changed the examples' probabilities by at most {change:.1e}")
        return
    with DemoServer(model.to(get_device()), tokenizer, name, port) as server:
        print(f"{server.url} shows {name} (Ctrl+C stops it)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def find_model(weights: str | None = None, runs: Path = RUNS):
    """Return what `GPT2Model.from_pretrained` loads: of a run, the folder of its model."""
    if weights is None:
        settings = replace(FINETUNE_MINIATURE, subset=float(ROWS))
        where = {"weights": find_weights(MINIATURE), "data": find_data(MINIATURE), "runs": runs}
        return finetune(settings, **where, name="english").model_folder
    for folder in (Path(weights) / "best_model", Path(weights) / "model"):
        if folder.is_dir():
            return folder
    return find_weights(weights, runs)
