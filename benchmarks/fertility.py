"""compute_fertility beside tokenizing sentence by sentence, as the handout describes it."""

from collections.abc import Iterator

from benchmarks.contest import Contest
from benchmarks.options import Options
from gpt2.fertility import compute_fertility
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset

ROWS = 3927  # one per cent of a full training file


def sentence_by_sentence(dataset: XNLIDataset, tokenizer, max_samples: int) -> float:
    words = tokens = 0
    for _, pair in dataset.data.head(max_samples).iterrows():
        for text in (pair["premise"], pair["hypo"]):
            words += len(text.split())
            tokens += len(tokenizer.tokenize(text))
    return tokens / words


def contests(options: Options) -> Iterator[Contest]:
    tokenizer = load_tokenizer()
    rows = 20 if options.quick else ROWS
    sets = {lang: options.dataset("train", lang) for lang in LANGUAGES}
    pairs = sum(len(each.data.head(rows)) for each in sets.values())  # read before it is timed
    ways = {
        name: lambda turn, f=function: {lang: f(s, tokenizer, rows) for lang, s in sets.items()}
        for name, function in (
            ("sentence by sentence", sentence_by_sentence),
            ("ours", compute_fertility),
        )
    }

    def agree(found):
        if found["ours"] != found["sentence by sentence"]:
            raise AssertionError("the two ways count different fertilities")
        return {lang: round(value, 2) for lang, value in found["ours"].items()}

    compare = [("ours", "sentence by sentence")]
    yield Contest("fertility, 15 languages", "pairs", pairs, ways, compare, agree=agree)
