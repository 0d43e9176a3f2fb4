"""The GPT-2 tokenizer without a network, and what the data sets need to know of any tokenizer.

    python -m gpt2.tokenizer

writes the tokenizer's files into gpt2/, where `GPT2Tokenizer.from_pretrained("gpt2")` looks when it
is called in the project folder.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerBase

from utils import MODEL_SIZES, atomic_write, check_hub_reachable

VOCABULARY = {  # OpenAI's own files in vocabulary/, and their SHA-256
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def load_tokenizer(name_or_path="gpt2") -> PreTrainedTokenizerBase:
    """Return a fast tokenizer, whose padding token is end-of-text where it has no other.

    The four GPT-2 models share one vocabulary, which is in vocabulary/: no network is needed for
    them. Any other name is a local folder or a name on the Hugging Face hub.

    Raises FileNotFoundError, ConnectionError (offline and not cached), or ValueError for a file of
    vocabulary/ that is not OpenAI's.
    """
    name = str(name_or_path)
    tokenizer = _packaged_tokenizer() if name in MODEL_SIZES else _from_folder_or_hub(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def install_tokenizer_files(folder=Path(__file__).parent) -> None:
    """Write GPT-2's tokenizer into a folder, in Hugging Face's format.

    The package has the name of the hub's model, so in the project folder
    `GPT2Tokenizer.from_pretrained("gpt2")` reads the package's folder and not the hub.
    """
    save_tokenizer(_packaged_tokenizer(), folder)


def save_tokenizer(tokenizer, folder) -> None:
    """Write a tokenizer's files into a folder, each whole or not at all."""
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
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


def encode_texts(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's ids; nothing is added, and a "<|endoftext|>" spelt out is text."""
    settings = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return tokenizer(texts, return_attention_mask=False, **settings)["input_ids"]


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


# ---- Where it comes from -----------------------------------------------------------------------


def _packaged_tokenizer() -> PreTrainedTokenizerBase:
    paths = [Path(__file__).parent / "vocabulary" / file for file in VOCABULARY]
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != VOCABULARY[path.name]:
            raise ValueError(
                f"{path}: not OpenAI's file (SHA-256 {digest[:12]}…); fetch the project again, or "
                "this file alone with git checkout -- gpt2/vocabulary"
            )
    vocab, merges = map(str, paths)
    return GPT2TokenizerFast(vocab=vocab, merges=merges, model_max_length=1024)


def _from_folder_or_hub(name: str) -> PreTrainedTokenizerBase:
    if not Path(name).is_dir():
        with suppress(OSError, ValueError):
            return AutoTokenizer.from_pretrained(name, local_files_only=True)
        check_hub_reachable(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        check_tokenizer(tokenizer)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise FileNotFoundError(
            f'no tokenizer in "{name}"; for GPT-2\'s use load_tokenizer("gpt2") ({reason})'
        ) from error
    return tokenizer


if __name__ == "__main__":
    install_tokenizer_files()
