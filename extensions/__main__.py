"""Compare the ways to fine-tune: python -m extensions --seeds 0 1 2 miniature."""

import shlex
import sys
from pathlib import Path

import tyro
from torch.utils.data import DataLoader

from config import FINETUNE_MINIATURE
from data.miniature.text import QuestionTexts, make_texts
from experiments.cli import Data, Preset, Runs, Seeds, Weights
from experiments.files import write_json, write_text
from experiments.profiles import EMBEDDED_TEXT, find_data, find_weights
from experiments.tables import export, markdown
from extensions.frontier import Frontier, plain
from extensions.plots import plot_frontier
from gpt2.text import TextDataset, text_loader
from gpt2.tokenizer import load_tokenizer
from utils import atomic_write


def main(
    settings: Preset = FINETUNE_MINIATURE,
    weights: Weights = "miniature",
    data: Data = Path("miniature"),
    seeds: Seeds = (0, 1, 2),
    runs: Runs = Path("runs"),
    out: Path = Path("out/extensions"),
) -> None:
    """Compare all methods of fine-tuning: accuracy, forgetting, size, memory, time.

    Args:
        out: a folder for the page, its table and figure, and a JSON file a run.
    """
    tokenizer = load_tokenizer("gpt2")
    text = text_loader(TextDataset(EMBEDDED_TEXT, tokenizer, 128).split(0.1)[1], 16)
    if weights == "miniature":
        questions = QuestionTexts(make_texts(1000, seed=1, lines=0.0), tokenizer)
        text = DataLoader(questions, 16, collate_fn=questions.collate_fn)
    where = {"weights": find_weights(weights), "data": find_data(data), "runs": runs}
    frontier = Frontier(settings, **where, seeds=seeds, text=text)
    table, command = frontier.table(), shlex.join(["python", "-m", "extensions", *sys.argv[1:]])
    for result in frontier.results:
        write_json(out / f"{plain(result['method'])}-{result['seed']}.json", result)
    export(table, out, "frontier")
    with atomic_write(out / "frontier.png") as path:
        plot_frontier(table).savefig(path, format="png", dpi=100)
    page = ["# Fine-tuning methods", f"`{command}`", markdown(table), "![frontier](frontier.png)"]
    write_text(out / "README.md", "\n\n".join(page) + "\n")
    print(f"{table.to_string()}\npage: {out / 'README.md'}")


if __name__ == "__main__":
    tyro.cli(main)
