"""`pip install .` gives the whole project, in any folder."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT

PACKAGES = sorted(path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
GENERATED = shutil.ignore_patterns("__pycache__", ".*")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a copy of the project is installed into."""
    folder = tmp_path_factory.mktemp("install")
    for package in PACKAGES:
        shutil.copytree(package, folder / "copy" / package.name, ignore=GENERATED)
    for pattern in ("*.py", "*.toml", "*.txt", "README.md", "LICENSE"):
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder / "copy")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--target", folder / "site", folder / "copy"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder / "site"


@pytest.mark.all
def test_an_installation_has_every_package_with_its_data(installed):
    for package in PACKAGES:
        copy = installed.parent / "copy" / package.name
        files = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file()}
        files = {file for file in files if "cache" not in file.parts}  # made at the first use
        missing = {file for file in files if not (installed / package.name / file).is_file()}
        assert {file.suffix for file in missing} <= {".md"}, (package.name, missing)


@pytest.mark.all
def test_an_installation_is_imported_in_another_folder(installed, tmp_path):
    script = """
from gpt2 import AdamW, GPT2Config, GPT2Model, XNLIDataset, generate_gpt2, load_tokenizer
import config, gpt2, optim, utils
assert optim.AdamW is AdamW
model = GPT2Model(GPT2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
tokenizer = load_tokenizer("gpt2")
prompt = tokenizer("Hello", return_tensors="pt")["input_ids"]
assert isinstance(generate_gpt2(model, tokenizer, prompt, max_gen_length=2), str)
print(gpt2.__file__)
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.splitlines()[-1:] == [str(installed / "gpt2" / "__init__.py")], (
        result.stderr
    )
