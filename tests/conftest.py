"""What all tests share: no network, two threads, small models, and which tests are left out."""

import os
from functools import cache

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a hub call would only hang
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each worker, and for what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests import ROOT  # torch is imported in the fixtures: who starts the workers needs none

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2  # of two cores
settings.register_profile("project", deadline=None, max_examples=40)
settings.load_profile("project")

TINY = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 64,
    "pad_token_id": 100,
}


LONGEST = ("notebook", "grader", "release", "frontier", "languages", "finetuning", "miniature")
LONGEST += ("demo_browser", "killing", "processes")
# Folders that make test leaves to make test-all.
LEFT_TO_ALL = ("extensions", "grading", "benchmarks", "data")


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run what make test leaves out, too")
    parser.addoption("--rest", action="store_true", help="run only what make test leaves out")
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config, items):
    # The files that take longest start first, so that no worker waits for the other at the end.
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)
    everything, rest = config.getoption("--all"), config.getoption("--rest")
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        left_out = folder in LEFT_TO_ALL or item.get_closest_marker("all") is not None
        if left_out and not (everything or rest):
            item.add_marker(pytest.mark.skip(reason="make test-all runs it"))
        if rest and not left_out:
            item.add_marker(pytest.mark.skip(reason="make test runs it"))
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; make slow runs it"))


@pytest.fixture(scope="session", autouse=True)
def without_waiting():
    """GPT-2's tokenizer is made once in a process, and no test waits for the disk.

    So who changes a tokenizer copies it. Yields the function that makes one.
    """
    from gpt2 import tokenizer as tokenizer_module

    make = tokenizer_module._packaged_tokenizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "_packaged_tokenizer", cache(make))
        patch.setattr(os, "fsync", lambda file: None)
        yield make


@pytest.fixture(scope="session", autouse=True)
def threads():
    import torch

    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def as_many_threads_as_before(threads):
    """More threads than cores wait for each other: what follows would take many times as long."""
    import torch

    yield
    assert torch.get_num_threads() == THREADS


@pytest.fixture
def tiny_config():
    from config import GPT2Config

    return GPT2Config(**TINY)


@pytest.fixture
def tiny_model():
    """A GPT-2 small enough for any test, in evaluation mode, with weights far from zero."""
    import torch

    from config import GPT2Config
    from gpt2.model import GPT2Model

    torch.manual_seed(0)
    return GPT2Model(GPT2Config(**TINY, initializer_range=0.2)).eval()


@pytest.fixture(scope="session")
def tokenizer():
    from gpt2.tokenizer import load_tokenizer

    return load_tokenizer("gpt2")


@pytest.fixture
def text_file(tmp_path):
    """Write lines to a file and get its path."""

    def write(*lines: str, end: str = "\n"):
        path = tmp_path / "text.txt"
        path.write_bytes("".join(line + end for line in lines).encode())
        return path

    return write
