"""compute_fertility beside tokenizing sentence by sentence, as the handout describes it; in turns.

python -m benchmarks.fertility --xnli FOLDER [--name NAME]
"""

import argparse
import statistics
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks import report
from gpt2.fertility import compute_fertility
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset

GIVEN = ("en", "ar", "de", "es", "fr", "sw", "tr", "ur", "vi", "zh")
ROWS = 3927  # one per cent of a full training file


def sentence_by_sentence(dataset, tokenizer, max_samples: int) -> float:
    words = tokens = 0
    for _, pair in dataset.data.head(max_samples).iterrows():
        for text in (pair["premise"], pair["hypo"]):
            words += len(text.split())
            tokens += len(tokenizer.tokenize(text))
    return tokens / words


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--xnli", type=Path, required=True, help="holds XNLI-MT-1.0")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    args = parser.parse_args()
    tokenizer = load_tokenizer()
    sets = {
        lang: XNLIDataset.in_folder(args.xnli, "train", lang, tokenizer=tokenizer) for lang in GIVEN
    }
    for rows in sets.values():
        _ = rows.data  # read before anything is timed
    ways = {"ours": compute_fertility, "sentence by sentence": sentence_by_sentence}
    found: dict[str, dict] = {}
    seconds = {way: [] for way in ways}
    for _ in tqdm(range(args.turns), desc="turns", ncols=100):
        for way, function in ways.items():
            began = time.perf_counter()
            found[way] = {lang: function(rows, tokenizer, ROWS) for lang, rows in sets.items()}
            seconds[way].append(time.perf_counter() - began)
    assert found["ours"] == found["sentence by sentence"]
    pairs = zip(seconds["ours"], seconds["sentence by sentence"], strict=True)
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    print("  ".join(f"{lang} {value:.2f}" for lang, value in found["ours"].items()))
    print(f"{ratio:.1f} times as fast as sentence by sentence, the same figures")
    if args.name:
        result = {
            "rows": ROWS,
            "fertility": found["ours"],
            "times_as_fast": ratio,
            "seconds": {way: statistics.median(times) for way, times in seconds.items()},
        }
        print(f"wrote {report.save(args.name, result)}")


if __name__ == "__main__":
    main()
