"""Compare fine-tuning methods and smaller models: python -m extensions miniature --seeds 0 1 2."""

from itertools import product
from pathlib import Path

from torch.utils.data import DataLoader

from data.miniature.text import QuestionTexts, make_texts
from experiments.files import check_folder, write_json
from experiments.options import (
    NONE,
    SMALL_DATA,
    SMALL_START,
    Codes,
    Data,
    Options,
    Preset,
    Runs,
    Seeds,
    Weights,
    choose,
    command,
    run_command,
)
from experiments.pages import Page, measured_on
from experiments.plots import plot_matrix
from experiments.profiles import EMBEDDED_TEXT, find_data, find_weights
from experiments.runs import RUNS, load_gpt2
from extensions.claims import claims_table, sweep
from extensions.comparison import (
    compression_table,
    finetuning_table,
    language_table,
    measure,
    time_models,
)
from extensions.frontier import Frontier, plain
from extensions.methods import COMPRESSIONS, FULL, METHODS, students
from extensions.plots import plot_frontier, plot_lines
from gpt2.text import TextDataset, text_loader


def main(
    preset: Preset = "miniature",
    changes: Options = NONE,
    weights: Weights = SMALL_START,
    data: Data = SMALL_DATA,
    more_languages: Codes = (),
    seeds: Seeds = (0, 1, 2),
    runs: Runs = RUNS,
    out: Path = Path("out/extensions"),
) -> None:
    """Compare all ways to fine-tune and to make a model smaller: accuracy, forgetting, costs.

    Args:
        more_languages: languages to test, besides the one that is trained on.
        out: a folder for the page, its tables and figures, and a JSON file a run.
    """
    check_folder(out)
    where = {"weights": find_weights(weights, runs), "data": find_data(data), "runs": runs}
    _, tokenizer = load_gpt2(where["weights"])
    text = text_loader(TextDataset(EMBEDDED_TEXT, tokenizer, 128).split(0.1)[1], 16)
    if weights == "miniature":
        questions = QuestionTexts(make_texts(1000, seed=1, lines=0.0), tokenizer)
        text = DataLoader(questions, 16, collate_fn=questions.collate_fn)
    settings = choose(preset, changes, unused=("seed", "languages"))
    frontier = Frontier(settings, **where, text=text, seeds=seeds, languages=more_languages)
    ways = students(frontier.base_config.num_hidden_layers)
    frontier.methods, frontier.compressions = {**METHODS, **ways}, COMPRESSIONS
    names = (*frontier.methods, *COMPRESSIONS)
    times = time_models(frontier, names)
    results = []
    for name, seed in product(names, seeds):
        speed = times[name] if seed == seeds[0] else {}
        results.append(measure(frontier, name, seed) | speed)
        write_json(out / f"{plain(name)}-{seed}.json", results[-1])
    trained = [result for result in results if result["method"] in METHODS]
    smaller = [r for r in results if r["method"] in (FULL, *ways, *COMPRESSIONS)]
    tables = {
        "finetuning": finetuning_table(frontier, trained),
        "smaller": compression_table(frontier, smaller),
        "languages": language_table(results),
        "claims": claims_table(frontier),
        "rank": sweep(frontier, "rank"),
        "layers": sweep(frontier, "layers"),
    }
    pairs = {"pairs": len(frontier.rows("test", frontier.languages[0])), "y": "test accuracy"}
    figures = {
        "finetuning": plot_frontier(tables["finetuning"]),
        "smaller": plot_frontier(tables["smaller"], "MB in blocks"),
        "languages": plot_matrix(tables["languages"], "Accuracy by test language", y="method"),
        "rank": plot_lines(tables["rank"][["accuracy"]], "Accuracy by rank", log=True, **pairs),
        "layers": plot_lines(tables["layers"][["accuracy"]], "Accuracy by layers", **pairs),
    }
    seconds = sum(result.get("training_seconds", 0) for result in results)
    page = Page(out, "Fine-tuning methods and smaller models", command("extensions"))
    page.add(
        f"{seconds / 60:.0f} minutes of training for the first two tables, without the learning "
        f"rates that were not chosen, {measured_on()}. Means over the seeds "
        f"{', '.join(map(str, seeds))}. extensions/comparison.py says what the columns mean, "
        "extensions/claims.py what is claimed."
    )
    for name, table in tables.items():
        page.table(name, table)
        if name in figures:
            page.figure(name, figures[name])
    print(f"page: {page.save()}")


if __name__ == "__main__":
    run_command(main)
