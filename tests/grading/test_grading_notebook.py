"""Executed notebooks are read and never run: what counts, what is flagged, and nothing raises."""

import copy
import json
import tracemalloc
from contextlib import nullcontext
from functools import partial

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.checks.results import MIME, Result, check_claim
from grading.edition.release import ANSWER
from grading.submissions import notebook as reading
from grading.submissions.notebook import Flag, find, look, read
from tests.grading import test_results
from tests.grading.test_results import anything, mutated, nested

CLAIMS = {name: test_results.CLAIMS[name] for name in ("fertility", "dev accuracy")}
SOURCES = {  # the notebook as students get it
    "import": "from grading.checks import results as graded\nfrom grading.checks import check",
    "exercise": "def double(x):\n    # TODO\n    raise NotImplementedError('double')",
    "check-model": "check('attention', 'add')",
    "result-dev-accuracy": "graded.dev_accuracy(run, note=profile.note)",
    "free": "seed = 0",
    "result-fertility": "# The grader reads this.\ngraded.fertility(fertility, note=profile.note)",
}
USUAL = "default_final_project.ipynb"


def handed_out():
    cells = [nbformat.v4.new_code_cell(source, id=id) for id, source in SOURCES.items()]
    cells.insert(0, nbformat.v4.new_markdown_cell("# GPT-2", id="title"))
    cells.insert(5, nbformat.v4.new_markdown_cell(ANSWER, id="dev-read"))
    cells.append(nbformat.v4.new_markdown_cell(ANSWER, id="fertility-read"))
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def shown(name, count, kind="execute_result", **changes):
    """The output that a run of a result's cell leaves, or one with a changed payload."""
    data = Result(name, CLAIMS[name], check_claim(name, CLAIMS[name]))._repr_mimebundle_()
    data[MIME] |= changes
    return {"output_type": kind, "data": data, "metadata": {}, "execution_count": count}


def executed():
    """The notebook as a student leaves it who has done all that there is to do, and its cells."""
    notebook = handed_out()
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    for count, id in enumerate(SOURCES, start=1):
        cells[id]["execution_count"] = count
    cells["exercise"]["source"] = "def double(x):\n    return 2 * x"
    cells["dev-read"]["source"] = "It is above chance."
    cells["fertility-read"]["source"] = "English has the least."
    cells["result-dev-accuracy"]["outputs"] = [shown("dev accuracy", 4)]
    progress = {"output_type": "stream", "name": "stdout", "text": "100%"}
    cells["result-fertility"]["outputs"] = [progress, shown("fertility", 6)]
    return notebook, cells


def kinds(found):
    return [(flag.kind, flag.where) for flag in found.flags]


# ---- What counts, and what is flagged ------------------------------------------------------------


def test_an_honest_notebook_counts_without_flags():
    found = look(executed()[0], handed_out())
    assert found.flags == [] and found.known == len(handed_out()["cells"])
    assert {name: result.claim for name, result in found.results.items()} == CLAIMS
    assert all(result.findings.state == "passed" for result in found.results.values())
    answers = {"dev-read": "It is above chance.", "fertility-read": "English has the least."}
    assert found.answers == answers


def without_ids(notebook):  # Colab: nbformat 4.0
    notebook["nbformat_minor"] = 0
    for cell in notebook["cells"]:
        del cell["id"]
        cell["metadata"] = {"id": "xYz", "colab": {"base_uri": "https://localhost"}}
    own = {"cell_type": "markdown", "metadata": {}, "source": ["My ", "notes"]}
    notebook["cells"][1:1] = [own, {"cell_type": "raw", "metadata": {}, "source": ""}]


def renewed_ids(notebook):  # VS Code, or JupyterLab 3 on a notebook of format 4.4
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"{number:08x}"
        for output in cell.get("outputs", []):
            output.pop("execution_count", None)


def reformatted(notebook):
    for cell in notebook["cells"]:
        if cell["id"].startswith("result-"):
            source = "".join(cell["source"]).replace("note=", "\n    note = ")
            cell["source"] = ["# mine\n", source]
        cell["id"] += "-2"


@pytest.mark.parametrize("edit", [without_ids, renewed_ids, reformatted])
def test_what_editors_do_to_ids_and_layout_costs_no_result(edit, tmp_path):
    notebook, _ = executed()
    edit(notebook)
    (tmp_path / USUAL).write_text(json.dumps(notebook))
    found = look(read(tmp_path / USUAL), handed_out())
    assert {name: result.claim for name, result in found.results.items()} == CLAIMS
    assert found.answers == look(executed()[0], handed_out()).answers
    assert [flag.kind for flag in found.flags] == ["ids"]


@pytest.mark.parametrize("edit", [lambda notebook: None, without_ids])
def test_an_answer_below_its_question_is_an_answer(edit):
    notebook, cells = executed()
    cells["dev-read"]["source"] = ANSWER
    for place, text in ((6, "Second."), (6, "First."), (0, "A foreword")):
        notebook["cells"].insert(place, nbformat.v4.new_markdown_cell(text))
    edit(notebook)
    found = look(notebook, handed_out()).answers
    assert found == {"dev-read": "First.\n\nSecond.", "fertility-read": "English has the least."}
    assert look(handed_out(), handed_out()).answers == dict.fromkeys(found, "")


def test_own_cells_are_no_faults():
    notebook, cells = executed()
    cells["title"]["source"] = "# My GPT-2"
    for source, count in (("mine = 1", 7), (" \n", None)):
        notebook["cells"].append(nbformat.v4.new_code_cell(source, execution_count=count))
    found = look(notebook, handed_out())
    assert found.flags == [] and found.results.keys() == CLAIMS.keys()


@pytest.mark.parametrize("counts", [[1, 2, 9, 4, 5, 6], [1, 2, None, 3, 4, 5], [1, 2, 2, 3, 4, 5]])
def test_cells_that_were_not_run_in_order_are_one_flag(counts):
    notebook, cells = executed()
    for id, count in zip(SOURCES, counts, strict=True):
        cells[id]["execution_count"] = count
    for name, id in (("dev accuracy", "result-dev-accuracy"), ("fertility", "result-fertility")):
        cells[id]["outputs"] = [shown(name, cells[id]["execution_count"])]
    found = look(notebook, handed_out())
    assert kinds(found) == [("order", "check-model")] and found.results.keys() == CLAIMS.keys()


def test_a_result_counts_where_its_own_cell_or_a_copy_of_it_shows_it():
    notebook, cells = executed()
    notebook["cells"].append({**copy.deepcopy(cells["result-fertility"]), "id": "copied"})
    cells["result-fertility"]["outputs"] = []
    cells["free"]["outputs"] = [shown("dev accuracy", 5)]
    found = look(notebook, handed_out())
    assert ("payload", "free") in kinds(found) and found.results.keys() == CLAIMS.keys()


fake = partial(shown, "dev accuracy", 4)
FAULTY = [  # what is changed in the cell that shows the dev accuracy, why it does not count
    ({"outputs": []}, "it shows no results"),
    ({"outputs": [], "execution_count": None}, "its cell was not run"),
    ({"execution_count": None}, "its cell was not run"),
    ({"source": "graded.dev_accuracy(run, note='')"}, "it is to stay as handed out"),
    ({"outputs": [fake(), fake()]}, "it shows 2 results"),
    ({"outputs": [fake(kind="display_data")]}, "not left by a run of this cell"),
    ({"outputs": [shown("dev accuracy", 5)]}, "not left by a run of this cell"),
    ({"outputs": [shown("fertility", 4)]}, "no claim of dev accuracy"),
    ({"outputs": [{**fake(), "data": {MIME: [1]}}]}, "no claim of dev accuracy"),
    ({"outputs": [fake(claim=3)]}, "no claim of dev accuracy"),
    ({"outputs": [fake(claim={"x": "x" * 10**6})]}, "not the few names and numbers"),
    ({"outputs": [fake(claim={"x": nested(200)})]}, "not the few names and numbers"),
]


@pytest.mark.parametrize(("change", "why"), FAULTY)
def test_why_a_cell_has_no_result_is_said_and_what_it_shows_is_flagged(change, why):
    notebook, cells = executed()
    cells["result-dev-accuracy"] |= change
    found = look(notebook, handed_out())
    assert found.results.keys() == {"fertility"} and why in found.why_not("dev accuracy")
    assert found.why_not("comparison") == "the notebook has no cell that shows it"
    flags = [flag.where for flag in found.flags if flag.kind == "payload"]
    assert flags == (["result-dev-accuracy"] if cells["result-dev-accuracy"]["outputs"] else [])


def test_only_the_claim_is_believed():
    notebook, cells = executed()
    claim = {**CLAIMS["dev accuracy"], "n": 2000}
    dressed_up = shown("dev accuracy", 4, claim=claim, state="passed", found=[])
    cells["result-dev-accuracy"]["outputs"] = [dressed_up]
    findings = look(notebook, handed_out()).results["dev accuracy"].findings
    assert findings.state == "failed" and findings.first_failure.what == "pairs"


# ---- Which notebook ----------------------------------------------------------------------------


def put(folder, **notebooks):
    for name, notebook in notebooks.items():
        path = folder / f"{name.replace('__', '/')}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook))


def test_the_notebook_with_most_results_is_found_whatever_its_name(tmp_path):
    one, cells = executed()
    cells["result-fertility"]["outputs"] = []
    other = {"nbformat": 4, "cells": [{"cell_type": "code", "source": "1"}]}
    put(tmp_path, one=one, final__Kopie=executed()[0], zz=other)
    put(tmp_path, **{USUAL.removesuffix(".ipynb"): handed_out()})
    several = f"it shows most; not used: {USUAL}, one.ipynb"
    for text in (several, f"renamed; it was handed out as {USUAL}"):
        path, found = find(tmp_path, handed_out(), USUAL)
        assert path == tmp_path / "final" / "Kopie.ipynb" and found.results.keys() == CLAIMS.keys()
        assert found.flags == [Flag("notebook", "final/Kopie.ipynb", text)]
        for name in (USUAL, "one.ipynb"):
            (tmp_path / name).unlink(missing_ok=True)


def test_no_notebook_is_a_problem_with_its_reason(tmp_path):
    assert find(tmp_path, handed_out(), USUAL)[1].problem == "no notebook was handed in"
    put(tmp_path, other={"nbformat": 4, "cells": []})
    problem = find(tmp_path, handed_out(), USUAL)[1].problem
    assert problem == "none of its notebooks is the one handed out"
    put(tmp_path, **{"0broken": "{"})
    path, found = find(tmp_path, handed_out(), USUAL)
    assert path is None and found.problem.startswith("0broken.ipynb: not a notebook (")
    assert found.why_not("fertility") == found.problem and found.flags[0].kind == "not read"


# ---- Notebooks that anybody may have written ---------------------------------------------------

texts = st.text(max_size=20) | st.sampled_from(
    ["free", "code", "result-fertility", MIME, "execute_result", "stream", "\ud800", "fertility"]
)


def is_read(notebook):
    for flag in look(notebook, handed_out()).flags:
        assert len(flag.text) < 2000 and len(flag.where) <= 64 and flag.kind in Flag.__doc__
        f"{flag.where}{flag.text}".encode()


@settings(max_examples=120)
@given(st.data())
def test_any_changed_notebook_is_read_without_an_exception(data):
    notebook, _ = executed()
    for _ in range(data.draw(st.integers(1, 6))):
        notebook = mutated(data.draw, notebook, texts)
    is_read(notebook)
    value = data.draw(anything(texts))
    is_read({"cells": [value, {"cell_type": "code", "outputs": value, "source": value}]})


def test_outputs_nested_without_end_are_read():
    deep = nested()
    notebook, cells = executed()
    cells["free"]["outputs"] = [{"output_type": deep, "data": {"text/plain": deep}}]
    cells["result-fertility"]["outputs"] = [shown("fertility", 6, claim={"rows": deep}), deep]
    cells["result-dev-accuracy"]["outputs"] = [shown("dev accuracy", 4, claim={"rows": deep})]
    cells["import"]["source"] = deep
    cells["check-model"]["source"] = "(" * 100_000
    is_read(notebook)


# ---- Files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\xfa", "not a notebook"),
        (b"[" * 100_000, "not a notebook"),
        (b'{"cells": 1' + b"0" * 5000 + b"}", "not a notebook"),
        (b"[1, 2]", "not a notebook of format 4; open it in JupyterLab and save it"),
        (b'{"nbformat": 3, "worksheets": []}', "not a notebook of format 4"),
        (b"[" + b"{}," * 10**6 + b"{}]", "1,000,002 brackets in it, more than 200,000"),
    ],
)
def test_a_file_that_is_no_notebook_is_named_with_its_fix(content, message, tmp_path):
    path = tmp_path / "final.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < len(str(path)) + 300


def test_a_file_that_is_too_large_or_a_link_is_not_read(tmp_path, monkeypatch):
    put(tmp_path, final=executed()[0])
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "final.ipynb")
    monkeypatch.setattr(reading, "LARGEST", 100)
    found = find(tmp_path, handed_out(), USUAL)[1]
    assert "MB, more than" in found.flags[0].text and "a link" in found.flags[1].text


@pytest.mark.parametrize("unit", ["[]", '{"id":"a","outputs":[{"data":{}}]}'])
def test_a_notebook_that_takes_much_memory_is_refused_before_it_does(tmp_path, unit):
    """Of any content, a file of LARGEST bytes with MOST brackets takes no more than this."""
    path = tmp_path / "final.ipynb"
    for count, refused in ((reading.MOST // 10, False), (10 * reading.MOST, True)):
        path.write_text(f'{{"nbformat":4,"cells":[],"x":[{",".join([unit] * (count // 3))}]}}')
        tracemalloc.start()
        with pytest.raises(ValueError, match="brackets in") if refused else nullcontext():
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * path.stat().st_size if refused else peak * 10 < 2**29
