"""compute_fertility beside tokenizing sentence by sentence, as the handout describes it.

Once with the project's tokenizer, once with tiktoken, OpenAI's own, and the same vocabulary; ours
has tiktoken, too, in threads.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.contest import Contest
from benchmarks.options import Options
from gpt2 import tokenizer as tokenizer_module
from gpt2.fertility import compute_fertility
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import LANGUAGES, XNLIDataset

ROWS = 3927  # one per cent of a full training file
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # OpenAI's


def sentence_by_sentence(tokenize: Callable[[str], list]) -> Callable:
    """Return a function of a data set and how many of its pairs count: its fertility."""

    def fertility(dataset: XNLIDataset, max_samples: int) -> float:
        words = tokens = 0
        pairs = dataset.data.head(max_samples)
        for pair in zip(pairs["premise"], pairs["hypo"], strict=True):
            for text in pair:
                words += len(text.split())
                tokens += len(tokenize(text))
        return tokens / words

    return fertility


def openais_encoding():
    """Return tiktoken's encoding of GPT-2's vocabulary, from the project's own files."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    folder = Path(tokenizer_module.__file__).with_name("vocabulary")
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


def contests(options: Options) -> Iterator[Contest]:
    tokenizer = load_tokenizer()
    rows = 20 if options.quick else ROWS
    sets = {lang: options.dataset("train", lang) for lang in LANGUAGES}
    pairs = sum(len(each.data.head(rows)) for each in sets.values())  # read before it is timed
    ways = {
        "sentence by sentence": sentence_by_sentence(tokenizer.tokenize),
        "tiktoken, sentence by sentence": sentence_by_sentence(openais_encoding().encode_ordinary),
        "ours": lambda dataset, max_samples: compute_fertility(dataset, tokenizer, max_samples),
    }

    def agree(found):
        if any(fertilities != found["ours"] for fertilities in found.values()):
            raise AssertionError("the ways count different fertilities")
        return {lang: round(value, 2) for lang, value in found["ours"].items()}

    yield Contest(
        "fertility, 15 languages",
        "pairs",
        pairs,
        {
            name: lambda turn, f=fertility: {lang: f(each, rows) for lang, each in sets.items()}
            for name, fertility in ways.items()
        },
        compare=[("ours", name) for name in ways if name != "ours"],
        agree=agree,
    )
