"""The committed notebook follows its own rules, and its runner leaves whole files or an error."""

import ast
import json
import shutil
import statistics
import subprocess
import symtable
import sys

import nbclient
import nbformat
import pytest

from tests import ROOT

NOTEBOOK = ROOT / "default_final_project.ipynb"


@pytest.fixture(scope="module")
def cells():
    return nbformat.read(NOTEBOOK, as_version=4).cells


def test_it_was_executed_top_to_bottom_without_an_error(cells):
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


def test_its_cells_are_short_and_hold_no_loops_or_plotting(cells):
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert statistics.median(len(source.splitlines()) for source in code) <= 8
    for source in code:
        assert ".backward()" not in source and "plt." not in source and "class " not in source


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell reads before it binds them, and those that it binds."""
    symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    bound = {
        symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()
    }
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name | ast.alias)]
    first = {}
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset)):
        name = node.id if isinstance(node, ast.Name) else node.asname or node.name.split(".")[0]
        first.setdefault(name, node)
    read = {
        name for name, node in first.items() if isinstance(getattr(node, "ctx", None), ast.Load)
    }
    return read, bound


def test_no_cell_reads_what_a_later_cell_binds_anew(cells):
    """So that cells can be run again in any order that begins with those before them."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    found = [names(cell.source) for cell in code]
    for i, (read, _) in enumerate(found):
        for j in range(i, len(found)):
            changed = read & found[j][1]
            changed -= {name for name in changed if not any(name in b for _, b in found[:i])}
            assert not changed, f"{code[i].id} reads {changed}, which {code[j].id} binds anew"


@pytest.mark.slow
def test_cells_run_again_show_the_same(tmp_path):
    """All cells, then those up to a third and to two thirds once more, then all once more."""
    not_needed = shutil.ignore_patterns(".*", "runs", "out", "tests", "__pycache__")
    folder = shutil.copytree(ROOT, tmp_path / "copy", ignore=not_needed)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": folder}}
    )
    shown = []
    with client.setup_kernel():
        for end in (len(code), len(code) // 3, 2 * len(code) // 3, len(code)):
            for cell in code[:end]:
                client.execute_cell(cell, notebook.cells.index(cell))
            shown.append([visible(cell) for cell in code])
    for again in shown[1:]:
        for cell, first, later in zip(code, shown[0], again, strict=True):
            assert first == later, cell.id


def visible(cell) -> list[str]:
    """The texts and figures that a cell shows, apart from progress bars."""
    data = [output.data for output in cell.outputs if "data" in output]
    return [d.get("image/png", d.get("text/plain", "")) for d in data]


def test_it_names_no_path_of_the_machine_it_ran_on(cells):
    text = NOTEBOOK.read_text(encoding="utf-8")
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


def test_a_kernel_that_dies_loses_nothing_of_what_ran_before(tmp_path):
    result = run(tmp_path, "print('so far')", "import os; os._exit(9)")
    assert result.returncode == 1 and "Kernel died" in result.stdout
    assert "so far" in (tmp_path / "small.html").read_text()


def test_an_error_in_a_cell_is_shown_and_what_ran_is_kept(tmp_path):
    result = run(tmp_path, "print('so far')", "1 / 0")
    assert result.returncode == 1 and "ZeroDivisionError" in result.stdout
    assert "so far" in (tmp_path / "small.html").read_text()
