"""What the tests of packing share: a tokenizer of bytes, and tokenizing in the same process."""

from contextlib import contextmanager

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data import documents, packing
from tests.data.packs import InThisProcess


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """The folder of a tokenizer whose tokens are bytes, so that a worker loads it at once."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = tmp_path_factory.mktemp("letters")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|endoftext|>")
    wrapped.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def here(monkeypatch):
    """Tokenize in this process, in small chunks."""

    @contextmanager
    def started(settings, count):
        yield InThisProcess(settings)

    monkeypatch.setattr(packing, "started_workers", started)
    monkeypatch.setattr(documents, "CHUNK", 100)
