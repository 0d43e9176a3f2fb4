"""Tiny models in folders, and the demo's exported page in a browser, loaded once for all tests.

Chromium is Debian's package (apt-get install chromium), driven by playwright; it has no network.
"""

import copy
import json
import shutil
from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers
from filelock import FileLock

from config import FINETUNE_MINIATURE
from extensions.backbones import load_backbone
from extensions.demo.command import find_model
from extensions.demo.examples import used_tokens
from extensions.demo.export import compress, decompress, export_page
from gpt2.model import GPT2Model
from tests.extensions.families import causal_model, small_tokenizer


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory):
    shared = tmp_path_factory.getbasetemp().parent  # by all workers
    with FileLock(shared / "demo.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("extensions.demo.command.ROWS", 48)
        short = replace(FINETUNE_MINIATURE, epochs=1)
        patch.setattr("extensions.demo.command.FINETUNE_MINIATURE", short)
        return GPT2Model.from_pretrained(find_model(None, shared / "demo_runs")).cpu()


@pytest.fixture(scope="session")
def rounded(demo_model, tokenizer):
    """The model that the page has: Python's from the same rounded weights."""
    return decompress(compress(demo_model, used_tokens(tokenizer)), demo_model.config)


@pytest.fixture(scope="session")
def exported(demo_model, tokenizer, tmp_path_factory):
    """The page's file, its size, and the largest change of a probability by rounding."""
    folder = tmp_path_factory.getbasetemp().parent / "demo_page"  # of all workers
    with FileLock(f"{folder}.lock"):
        page, numbers = folder / "page.html", folder / "numbers.json"
        if not numbers.exists():
            folder.mkdir(exist_ok=True)
            numbers.write_text(json.dumps(export_page(demo_model, tokenizer, "miniature", page)))
    return page, *json.loads(numbers.read_text())


@pytest.fixture(scope="module")
def browser():  # not for a session: while it is open, no notebook can run in the same process
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: see requirements")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def loaded(browser, exported):
    """The page, opened from its file, what it requested, and its messages and errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_offline(True)
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(exported[0].as_uri())
    page.evaluate("started")
    yield page, requests, errors
    context.close()


@pytest.fixture
def page(loaded, exported):
    """The page; after a test it may have requested its file alone, and seen no error."""
    page, requests, errors = loaded
    yield page
    assert requests == [exported[0].as_uri()] and errors == []


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Make a saved model of a family, once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            causal_model(family).save_pretrained(made[family])
            small_tokenizer().save_pretrained(made[family])
        return made[family]

    return get


@pytest.fixture(scope="session")
def loaded_backbones(folders):
    """Load (ours, its tokenizer, transformers' own) of a family, once."""

    @cache
    def load(family):
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            folders(family), dtype=torch.float32, attn_implementation="eager"
        )
        return *load_backbone(folders(family)), theirs.eval()

    return load


@pytest.fixture
def backbone(request, loaded_backbones):
    """(ours, its tokenizer, transformers' own) of a family, from the same folder; a copy."""
    return copy.deepcopy(loaded_backbones(request.param))
