"""Loading from the hub, played by a server of our own."""

import os
import subprocess
import sys
import time

import pytest

from tests.hub import hub

pytestmark = pytest.mark.all
LOAD = """
import sys, traceback
from gpt2.model import GPT2Model
for name in sys.argv[1:]:
    try:
        model = GPT2Model.from_pretrained(name)
        print("weight", model.word_embedding.weight.double().sum().item())
    except Exception:
        traceback.print_exc()
"""


def in_subprocess(*names, cache, **environment):
    """Load these models in a fresh process, as the hub library reads its settings at import."""
    return subprocess.run(
        [sys.executable, "-c", LOAD, *names],
        env={
            **os.environ,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def online(reference, tmp_path_factory):
    """The cache, and what was printed, after one model of the hub and one that it does not have."""
    cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("hub")
    reference.save_pretrained(folder)
    with hub(repository(folder)) as address:
        return cache, in_subprocess("gpt2", "someone/gpt2-typo", cache=cache, HF_ENDPOINT=address)


def repository(folder):
    """A hub with one repository, gpt2's."""

    def answer(path):
        prefix = "/openai-community/gpt2/resolve/main/"
        file = folder / path.removeprefix(prefix).split("?")[0]
        known = path.startswith(prefix)
        if known and file.is_file():
            return file.read_bytes()
        return "EntryNotFound" if known else "RepoNotFound"

    return answer


@pytest.mark.parametrize(
    "offline", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_the_hub_is_read_once_then_the_cache_offline(offline, online, reference):
    """Offline, what is not in the cache is a clear error within seconds."""
    expected = f"weight {reference.transformer.wte.weight.double().sum().item()}"
    cache, first = online
    assert expected in first.stdout, first.stderr
    assert 'FileNotFoundError: "someone/gpt2-typo" is neither a folder here' in first.stderr
    before = time.perf_counter()
    result = in_subprocess("gpt2", "gpt2-medium", cache=cache, **offline)
    import_and_all = time.perf_counter() - before
    assert expected in result.stdout, result.stderr
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith('ConnectionError: "gpt2-medium" is no local folder')
    assert "give a local folder, or connect" in last_line
    assert "Traceback (most recent call last)" in result.stderr
    assert "During handling" not in result.stderr and "direct cause" not in result.stderr
    assert import_and_all < 60  # the hub library alone would retry for half a minute or more
