"""Loading from the hub, played by a server of our own."""

import os
import subprocess
import sys
import time

import pytest

from tests.hub import hub

pytestmark = pytest.mark.all
LOAD = (
    "import sys, torch; from gpt2.model import GPT2Model;"
    "model = GPT2Model.from_pretrained(sys.argv[1]);"
    "print('weight', model.word_embedding.weight.double().sum().item())"
)


def in_subprocess(name, cache, **environment):
    """Load `name` in a fresh process, as the hub library reads its settings at import."""
    return subprocess.run(
        [sys.executable, "-c", LOAD, name],
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


@pytest.fixture
def address(folder):
    """A hub with one repository, gpt2's."""

    def answer(path):
        prefix = "/openai-community/gpt2/resolve/main/"
        file = folder / path.removeprefix(prefix).split("?")[0]
        known = path.startswith(prefix)
        if known and file.is_file():
            return file.read_bytes()
        return "EntryNotFound" if known else "RepoNotFound"

    with hub(answer) as address:
        yield address


def test_the_hub_is_read_once_then_the_cache_offline(address, reference, tmp_path):
    expected = f"weight {reference.transformer.wte.weight.double().sum().item()}"
    online = in_subprocess("gpt2", tmp_path / "cache", HF_ENDPOINT=address)
    assert expected in online.stdout, online.stderr
    offline = in_subprocess("gpt2", tmp_path / "cache", HF_ENDPOINT="http://127.0.0.1:9")
    assert expected in offline.stdout, offline.stderr


def test_a_name_that_the_hub_does_not_know_is_a_clear_error(address, tmp_path):
    result = in_subprocess("someone/gpt2-typo", tmp_path / "cache", HF_ENDPOINT=address)
    assert 'FileNotFoundError: "someone/gpt2-typo" is neither a folder here' in result.stderr


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_offline_and_not_cached_is_an_error_within_seconds(environment, tmp_path):
    before = time.perf_counter()
    result = in_subprocess("gpt2-medium", tmp_path / "cache", **environment)
    import_and_all = time.perf_counter() - before
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith('ConnectionError: "gpt2-medium" is no local folder')
    assert "give a local folder, or connect" in last_line
    assert "Traceback (most recent call last)" in result.stderr
    assert "During handling" not in result.stderr and "direct cause" not in result.stderr
    assert import_and_all < 60  # the hub library alone would retry for half a minute or more
