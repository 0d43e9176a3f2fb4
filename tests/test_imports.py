"""The layout: imports point downwards, formulas stand once, files stay small."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests import ROOT

# What each package may import of the project.
BELOW = {
    "utils": set(),
    "console": set(),
    "counting": set(),
    "config": {"utils"},
    "optim": {"config", "console", "utils"},
    "gpt2": {"optim", "config", "console", "counting", "utils"},
    "exercises": {"gpt2", "config"},
    "data": {"gpt2", "optim", "config", "console", "counting", "utils"},
    "experiments": {"gpt2", "optim", "data", "config", "console", "utils"},
    "extensions": {"experiments", "gpt2", "optim", "data", "config", "console", "utils"},
    "grading": {
        "exercises",
        "experiments",
        "gpt2",
        "optim",
        "data",
        "config",
        "console",
        "utils",
    },
    "benchmarks": {
        "extensions",
        "experiments",
        "gpt2",
        "optim",
        "data",
        "config",
        "console",
        "utils",
    },
}
# What the lesson needs of other libraries; those in optional branches are words of zh and th.
GPT2_NEEDS = {"torch", "einops", "numpy", "pandas", "tqdm", "safetensors", "transformers"}
GPT2_NEEDS |= {"accelerate", "tokenizers", "huggingface_hub"}
OPTIONAL = {"rjieba", "pythainlp", "tiktoken"}

FORMULAS = {"softmax", "logsoftmax", "scaleddotproductattention", "gelu", "layernorm"}
MODEL = ("gpt2/attention.py", "gpt2/layer.py", "gpt2/model.py")
PROBABILITIES = ("gpt2/decoding.py", "gpt2/beam.py", "gpt2/generate.py", "gpt2/evaluate.py")
PROBABILITIES += ("extensions/distillation.py", "extensions/interpret/lens.py")


def files_of(package: str) -> list[Path]:
    single = ROOT / f"{package}.py"
    return [single] if single.is_file() else sorted((ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(path.parent.name if node.level else node.module.split(".")[0])
    return found


def names_of(path: Path) -> set[str]:
    """Return the names, attributes and imported names of a file's code, in one spelling."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name.split(".")[-1])
    return {name.replace("_", "").lower() for name in found}


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_downwards_only(package):
    above = BELOW.keys() - BELOW[package] - {package} | {"tests", "run_notebook"}
    for path in files_of(package):
        if path == ROOT / "gpt2" / "__main__.py":  # the command line's two lines
            continue
        assert not imports_of(path) & above, path


def test_the_lesson_needs_no_further_library():
    own = {*BELOW, *sys.stdlib_module_names}
    for path in (
        files_of("gpt2")
        + files_of("optim")
        + files_of("config")
        + files_of("utils")
        + files_of("console")
        + files_of("counting")
    ):
        assert imports_of(path) <= own | GPT2_NEEDS | OPTIONAL, path


def test_the_lesson_loads_without_the_optional_libraries():
    heavy = ["scipy", "sklearn", "matplotlib", "tyro", "jaxtyping", "beartype", *OPTIONAL]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy!r}))\n"
        "import gpt2, optim, config, utils\n"
        "gpt2.GPT2Model(config.GPT2Config(50, 8, 1, 1)); print('loaded')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout == "loaded\n", result.stderr


@pytest.mark.all
def test_the_installed_project_imports_from_any_folder(tmp_path):
    try:
        metadata.version("gpt2-course")
    except metadata.PackageNotFoundError:
        pytest.skip("the project is not installed; make installs it")
    script = "from importlib.util import find_spec\nfor name in {}: print(find_spec(name).origin)"
    command = [sys.executable, "-c", script.format([*BELOW])]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = [Path(line) for line in result.stdout.splitlines()]
    package, module = "{}/__init__.py", "{}.py"
    places = [(package if (ROOT / name).is_dir() else module).format(name) for name in BELOW]
    assert found == [ROOT / place for place in places], result.stderr


@pytest.mark.parametrize(
    "package",
    ["config", "console", "counting", "utils", "optim", "gpt2", "experiments", "extensions"],
)
def test_no_formula_stands_outside_its_file(package):
    for path in files_of(package):
        name = path.relative_to(ROOT).as_posix()
        if name in MODEL:
            continue
        formulas = names_of(path) & FORMULAS
        if name in PROBABILITIES:  # of the next token, from the model's own logits
            formulas -= {"softmax", "logsoftmax"}
        assert not formulas, f"{name}: {formulas}"


def test_the_search_for_formulas_finds_every_spelling(tmp_path):
    for code in ("F.gelu(x)", "nn.LayerNorm(3)", "x.softmax(-1)", "from torch import log_softmax"):
        path = tmp_path / "code.py"
        path.write_text(f"{code}  # comment\n'''gelu'''\n")
        assert len(names_of(path) & FORMULAS) == 1, code
    path.write_text("# softmax\n'''layer_norm'''\nmodel.final_layer_norm(x)\n")
    assert not names_of(path) & FORMULAS


def test_the_lesson_stays_small():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files_of("gpt2")}
    assert len(lines) <= 24
    assert sum(lines.values()) <= 3100  # about 3,000
    assert max(lines.values()) <= 350
    assert sum(lines[ROOT / name] for name in MODEL) <= 350
    assert lines[ROOT / "gpt2" / "__main__.py"] <= 4


@pytest.mark.parametrize(
    "package",
    ["config", "console", "counting", "utils", "optim", "experiments", "extensions"],
)
def test_no_file_needs_a_second_one_in_it(package):
    for path in files_of(package):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path


def test_the_training_loop_fits_on_a_screen():
    text = (ROOT / "gpt2" / "train.py").read_text(encoding="utf-8")
    train = next(node for node in ast.parse(text).body if getattr(node, "name", "") == "train")
    body = text.splitlines()[train.body[1].lineno - 1 : train.end_lineno]  # after the docstring
    code = [line for line in body if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 60
