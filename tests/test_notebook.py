"""The committed notebooks follow their rules and run; the runner leaves whole files."""

import ast
import json
import os
import shutil
import statistics
import subprocess
import sys

import nbclient
import nbformat
import pandas as pd
import pytest
import torch

from config import GPT2Config
from gpt2.model import GPT2Model
from run_notebook import clean
from tests import ROOT, few_pairs

NOTEBOOK = ROOT / "default_final_project.ipynb"
NOTEBOOKS = [NOTEBOOK, ROOT / "extended_tasks.ipynb"]


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


@pytest.fixture(scope="module")
def cells(notebook):
    return nbformat.read(notebook, as_version=4).cells


def test_it_was_executed_top_to_bottom_without_an_error(cells):
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


def test_its_cells_are_short_and_hold_no_plotting_or_classes(cells):
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    lengths = [len(source.splitlines()) for source in code]
    assert statistics.median(lengths) <= 8 and max(lengths) <= 15
    assert (
        sum(".backward()" in source for source in code) == 1
    )  # the loop that the notebook explains
    for source in code:
        assert "plt." not in source and "class " not in source


def names(source: str) -> tuple[set[str], set[str]]:
    """Return the names that a cell reads before it binds them, and those that it binds."""
    tree = ast.parse(source)
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Name | ast.alias)]
    scopes = (ast.FunctionDef, ast.Lambda)  # what is bound inside stays inside
    inner = [n.target for n in ast.walk(tree) if isinstance(n, ast.comprehension)]
    inner += [n for n in ast.walk(tree) if isinstance(n, scopes)]
    inner = {id(name) for node in inner for name in ast.walk(node)}
    bound = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    first = {}
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset)):
        name = node.id if isinstance(node, ast.Name) else node.asname or node.name.split(".")[0]
        first.setdefault(name, node)
        if id(node) not in inner and not isinstance(getattr(node, "ctx", None), ast.Load):
            bound.add(name)
    read = {
        name for name, node in first.items() if isinstance(getattr(node, "ctx", None), ast.Load)
    }
    return read, bound


def test_no_cell_reads_what_a_later_cell_binds_anew(cells):
    """So a cell gives the same when it is run again after later ones."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    used = [names(cell.source) for cell in code]
    for i, (read, _) in enumerate(used):
        for j in range(i, len(used)):
            changed = read & used[j][1]
            changed -= {name for name in changed if not any(name in b for _, b in used[:i])}
            assert not changed, f"{code[i].id} reads {changed}, which {code[j].id} binds anew"


def test_it_shows_short_sources_and_no_long_reprs(cells):
    code = [cell for cell in cells if cell.cell_type == "code"]
    shown = {
        cell.id: [o.data.get("text/plain", "") for o in cell.outputs if "data" in o]
        for cell in code
    }
    for cell in code:
        for text in shown[cell.id]:
            assert max(map(len, text.splitlines())) <= 200, cell.id
            if cell.source.splitlines()[-1].startswith("show("):
                assert len(text.splitlines()) <= 25, cell.id


# ---- Execution -----------------------------------------------------------------------------------


def kernel(notebook, folder, **settings):
    """A client, and its kernel with settings for the notebook's environment."""
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": folder}}
    )
    return client, client.setup_kernel(env={**os.environ, "PYTHONPATH": str(ROOT), **settings})


ONE_EPOCH = """
from dataclasses import replace
from config import FINETUNE_MINIATURE
CHANGES = {"recipe": replace(FINETUNE_MINIATURE, epochs=1)}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A kernel, where notebooks find a small model and little data; libraries are imported once."""
    folder = tmp_path_factory.mktemp("small")
    lines = (ROOT / "pretrain.txt").read_text(encoding="utf-8").splitlines()
    (folder / "text.txt").write_text("\n".join(lines[:30]), encoding="utf-8")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    GPT2Model(GPT2Config(**shape, max_position_embeddings=256)).save_pretrained(folder / "small")
    settings = {
        "GPT2_WEIGHTS": "small",
        "PRETRAIN_TEXT": "text.txt",
        "XNLI_DIR": str(few_pairs(folder / "xnli")),
        "TRAIN_ROWS": "12",
    }
    client, started = kernel(nbformat.v4.new_notebook(), folder, **settings)
    with started:
        yield client


@pytest.mark.parametrize(
    ("path", "last"),
    [
        pytest.param(NOTEBOOK, "model-check-run", id="up to the sanity check"),
        *(pytest.param(path, None, marks=pytest.mark.all, id=path.stem) for path in NOTEBOOKS),
    ],
)
def test_cells_run_on_a_little_data(path, last, small, request):
    """Those up to the sanity check; in `make test-all` all of them."""
    if last and request.config.getoption("--all"):
        pytest.skip("all cells of this notebook run beside it")
    notebook = nbformat.read(path, as_version=4)
    ids = [cell.id for cell in notebook.cells]
    parameters = notebook.cells[ids.index("parameters")]
    assert "CHANGES = {}" in parameters.source
    parameters.source = parameters.source.replace("CHANGES = {}", ONE_EPOCH)
    end = len(ids) if last is None else ids.index(last) + 1
    client = nbclient.NotebookClient(notebook, small.km, timeout=600)
    client.kc = small.kc
    client.execute_cell(nbformat.v4.new_code_cell("%reset -f"), 0)  # no name of another notebook
    for index, cell in enumerate(notebook.cells[:end]):
        if cell.cell_type == "code":
            client.execute_cell(cell, index)  # raises what the cell raises


@pytest.mark.all
def test_a_notebook_opened_alone_fetches_the_project(tmp_path):
    """As on a hosted notebook: an environment without the project, in an empty folder."""
    cell, other = (
        next(c for c in nbformat.read(path, 4).cells if c.cell_type == "code") for path in NOTEBOOKS
    )
    assert cell.source.startswith('PROJECT = ""') and cell.source == other.source
    not_needed = shutil.ignore_patterns(".*", "runs", "out", "__pycache__", "*.ipynb")
    origin = shutil.copytree(ROOT, tmp_path / "origin", ignore=not_needed)
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a commit -qm all"):
        subprocess.run(["git", *command.split()], cwd=origin, check=True)
    source = cell.source.replace('PROJECT = ""', f"PROJECT = {str(origin)!r}")
    source += "\nfrom experiments.profiles import choose_profile; print(choose_profile().folder)"
    (tmp_path / "alone").mkdir()
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", source],
        cwd=tmp_path / "alone",
        env={**os.environ, "PYTHONPATH": packages, "PIP_DRY_RUN": "1", "XNLI_DIR": "miniature"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone" / "project" / "gpt2" / "model.py").is_file()
    assert done.stdout.splitlines()[-1].startswith("data/miniature") or "cache" in done.stdout


@pytest.mark.slow
def test_cells_run_again_show_the_same(tmp_path):
    """All cells, then those up to a third and to two thirds once more, then all once more."""
    not_needed = shutil.ignore_patterns(".*", "runs", "out", "tests", "__pycache__")
    folder = shutil.copytree(ROOT, tmp_path / "copy", ignore=not_needed)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    client, started = kernel(notebook, folder, PYTHONPATH=str(folder))
    shown = []
    with started:
        for end in (len(code), len(code) // 3, 2 * len(code) // 3, len(code)):
            for cell in code[:end]:
                client.execute_cell(cell, notebook.cells.index(cell))
            clean(notebook)
            shown.append([visible(cell) for cell in code])
    for again in shown[1:]:
        for cell, first, later in zip(code, shown[0], again, strict=True):
            assert first == later, cell.id


def visible(cell) -> list[str]:
    """Return the tables, texts and figures that a cell shows, without progress bars."""
    data = [output.data for output in cell.outputs if "data" in output]
    kinds = ("image/png", "text/html", "text/plain")
    return [next((d[kind] for kind in kinds if kind in d), "") for d in data]


def test_it_names_no_path_of_the_machine_it_ran_on(notebook):
    text = notebook.read_text(encoding="utf-8")
    for trace in ("/home/", "/root/", "site-packages", str(ROOT), "Warning"):
        assert trace not in text


def run(folder, *sources):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Part one")]
        + [nbformat.v4.new_code_cell(source) for source in sources]
    )
    nbformat.write(notebook, folder / "small.ipynb")
    return subprocess.run(
        [sys.executable, "run_notebook.py", str(folder / "small.ipynb"), "--out", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_runner_leaves_notebook_and_report_and_says_where(tmp_path):
    bar = "import sys; print('10%\\r50%\\r100%', file=sys.stderr); 6 * 7"
    result = run(tmp_path, bar)
    assert result.returncode == 0, result.stderr
    assert "s  Part one" in result.stdout and "small.html" in result.stdout
    executed = json.loads((tmp_path / "small.ipynb").read_text())
    outputs = executed["cells"][1]["outputs"]
    assert outputs[0]["text"] == ["100%\n"] and outputs[1]["data"]["text/plain"] == ["42"]
    assert "42" in (tmp_path / "small.html").read_text()


def test_what_differs_between_runs_is_removed():
    output = nbformat.v4.new_output

    def executed():
        table = pd.DataFrame([1]).style  # with a name and an address of its own
        data = {"text/html": table._repr_html_(), "text/plain": repr(table)}
        warning = "100%\n/a/site-packages/b.py:1: UserWarning\n  import b\nW1127 02:47 b.py\n"
        outputs = [output("display_data", data), output("stream", name="stderr", text=warning)]
        cell = nbformat.v4.new_code_cell(id="results", outputs=outputs)
        notebook = nbformat.v4.new_notebook(cells=[cell])
        clean(notebook)
        return notebook

    assert executed() == executed()
    (cell,) = executed().cells
    assert cell.outputs[0].data["text/plain"] == "<pandas.io.formats.style.Styler object>"
    assert '<table id="T_results">' in cell.outputs[0].data["text/html"]
    assert cell.outputs[1].text == "100%\n"


@pytest.mark.all
def test_a_kernel_that_dies_loses_nothing_of_what_ran_before(tmp_path):
    result = run(tmp_path, "print('so far')", "import os; os._exit(9)")
    assert result.returncode == 1 and "Kernel died" in result.stdout
    assert "so far" in (tmp_path / "small.html").read_text()


@pytest.mark.all
def test_an_error_in_a_cell_is_shown_after_what_ran_before(tmp_path):
    result = run(tmp_path, "print('so far')", "1 / 0")
    assert result.returncode == 1 and "ZeroDivisionError" in result.stdout
    assert "so far" in (tmp_path / "small.html").read_text()
