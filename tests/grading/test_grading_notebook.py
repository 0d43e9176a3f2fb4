"""Executed notebooks are read and never run: what counts, what is flagged, and nothing raises."""

import copy
import json
import tracemalloc
from contextlib import nullcontext

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics import wilson_interval
from grading.checks.findings import MIME, Findings, Report
from grading.checks.results import LANGUAGES, Result, check_claim
from grading.edition.release import ANSWER
from grading.submissions import notebook as reading
from grading.submissions.notebook import Flag, Reading, find, look, read

LOW, HIGH = wilson_interval(1977, 2490)
CLAIMS = {
    "fertility": {
        "note": "",
        "rows": [{"language": lang, "fertility": 1.1 + (lang != "en")} for lang in LANGUAGES],
    },
    "dev accuracy": {
        **{"run": "english-0b90e8c9", "note": "", "language": "en", "n": 2490},
        **{"accuracy": 1977 / 2490, "low": LOW, "high": HIGH},
    },
}
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


def result(name, **changes):
    claim = {**CLAIMS[name], **changes}
    return Result(name, claim, check_claim(name, claim))._repr_mimebundle_()


def displayed(data, kind="execute_result", count=None):
    return {"output_type": kind, "data": data, "metadata": {}, "execution_count": count}


def executed():
    """The notebook as a student leaves it who has done all that there is to do."""
    notebook = handed_out()
    for count, cell in enumerate((c for c in notebook["cells"] if "outputs" in c), start=1):
        cell["execution_count"] = count
    found = by_id(notebook)
    found["exercise"]["source"] = "def double(x):\n    return 2 * x"
    found["dev-read"]["source"] = "It is above chance."
    found["fertility-read"]["source"] = "English has the least."
    found["result-dev-accuracy"]["outputs"] = [displayed(result("dev accuracy"), count=4)]
    found["result-fertility"]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "100%"},
        displayed(result("fertility"), count=6),
    ]
    return notebook


def by_id(notebook):
    return {cell["id"]: cell for cell in notebook["cells"]}


def kinds(notebook):
    return [(flag.kind, flag.where or flag.text) for flag in look(notebook, handed_out()).flags]


def counts(notebook):
    return set(look(notebook, handed_out()).results)


# ---- What counts -------------------------------------------------------------------------------


def test_an_honest_notebook_counts_without_flags():
    found = look(executed(), handed_out())
    assert found.flags == [] and found.known == len(handed_out()["cells"])
    assert {name: each.claim for name, each in found.results.items()} == CLAIMS
    assert all(each.findings.state == "passed" for each in found.results.values())
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
    notebook = executed()
    edit(notebook)
    (tmp_path / USUAL).write_text(json.dumps(notebook))
    found = look(read(tmp_path / USUAL), handed_out())
    assert {name: each.claim for name, each in found.results.items()} == CLAIMS
    assert found.answers == look(executed(), handed_out()).answers
    assert not {flag.kind for flag in found.flags} - {"ids", "missing", "added"}


def test_an_answer_below_its_question_is_an_answer():
    notebook = executed()
    cells = notebook["cells"]
    by_id(notebook)["dev-read"]["source"] = ANSWER
    cells.insert(6, nbformat.v4.new_markdown_cell("Second."))
    cells.insert(6, nbformat.v4.new_markdown_cell("First."))
    cells.insert(0, nbformat.v4.new_markdown_cell("A foreword"))
    found = look(notebook, handed_out()).answers
    assert found == {"dev-read": "First.\n\nSecond.", "fertility-read": "English has the least."}
    assert look(handed_out(), handed_out()).answers == dict.fromkeys(found, "")


# ---- Which notebook ----------------------------------------------------------------------------


def put(folder, **notebooks):
    for name, notebook in notebooks.items():
        path = folder / f"{name.replace('__', '/')}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook))


def test_the_notebook_with_most_results_is_found_whatever_its_name(tmp_path):
    usual = USUAL.removesuffix(".ipynb")
    one = executed()
    by_id(one)["result-fertility"]["outputs"] = []
    other = json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": "1"}]})
    put(tmp_path, **{usual: handed_out()}, one=one, final__Kopie=executed(), zz=other)
    path, found = find(tmp_path, handed_out(), USUAL)
    assert path == tmp_path / "final" / "Kopie.ipynb" and found.results.keys() == CLAIMS.keys()
    assert found.flags == [
        Flag("notebook", "final/Kopie.ipynb", f"it shows most; not used: {USUAL}, one.ipynb")
    ]
    for name in (USUAL, "one.ipynb"):
        (tmp_path / name).unlink()
    path, found = find(tmp_path, handed_out(), USUAL)
    assert path.name == "Kopie.ipynb" and found.results.keys() == CLAIMS.keys()
    assert found.flags == [
        Flag("notebook", "final/Kopie.ipynb", f"renamed; it was handed out as {USUAL}")
    ]


def test_no_notebook_is_a_problem_with_its_reason(tmp_path):
    assert find(tmp_path, handed_out(), USUAL)[1].problem == "no notebook was handed in"
    put(tmp_path, other=json.dumps({"nbformat": 4, "cells": []}))
    problem = find(tmp_path, handed_out(), USUAL)[1].problem
    assert problem == "none of its notebooks is the one handed out"
    put(tmp_path, **{"0broken": "{"})
    path, found = find(tmp_path, handed_out(), USUAL)
    assert path is None and found.problem.startswith("0broken.ipynb: not a notebook (")
    assert found.why_not("fertility") == found.problem and found.flags[0].kind == "not read"


# ---- What is flagged ---------------------------------------------------------------------------


def test_each_kind_of_fault_of_execution_is_one_flag():
    notebook = executed()
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, count in zip(code, [1, 2, 9, 4, None, 6], strict=True):
        cell["execution_count"] = count
    error = {"output_type": "error", "ename": "KeyError", "evalue": "x", "traceback": []}
    by_id(notebook)["free"]["outputs"] = [error]
    notebook["cells"].append(nbformat.v4.new_code_cell(" \n", id="empty"))
    assert kinds(notebook) == [("order", "check-model")]
    assert counts(notebook) == CLAIMS.keys()


def test_missing_and_duplicated_and_changed_cells_are_flagged():
    notebook = executed()
    cells = by_id(notebook)
    cells["title"]["source"] = "# My GPT-2"
    del notebook["cells"][notebook["cells"].index(cells["free"])]
    for copied in (cells["result-dev-accuracy"], {**cells["result-fertility"], "id": "new"}):
        notebook["cells"].append({**copied, "outputs": []})
    assert kinds(notebook) == [
        ("ids", "1 cells were recognized by their source"),
        ("order", "result-fertility"),
    ]
    assert counts(notebook) == CLAIMS.keys()


def test_reports_of_exercises_are_no_results_and_what_was_not_run_is_said():
    notebook = executed()
    data = Report([Findings("add", problem="not written yet")])._repr_mimebundle_()
    by_id(notebook)["check-model"]["outputs"] = [displayed(data, count=3)]
    by_id(notebook)["result-fertility"].update(outputs=[], execution_count=None)
    assert kinds(notebook) == [("order", "result-fertility")]
    assert look(notebook, handed_out()).why_not("fertility") == "its cell was not run"
    assert look(notebook, handed_out()).why_not("comparison").startswith("the notebook has no")


def test_a_result_counts_where_its_own_cell_or_a_copy_of_it_shows_it():
    notebook = executed()
    cells = by_id(notebook)
    notebook["cells"].append({**copy.deepcopy(cells["result-fertility"]), "id": "copied"})
    cells["result-fertility"]["outputs"] = []
    cells["free"]["outputs"] = [displayed(result("dev accuracy"), count=5)]
    assert ("payload", "free") in kinds(notebook)
    assert counts(notebook) == CLAIMS.keys()
    cells["result-dev-accuracy"]["outputs"] = []
    assert counts(notebook) == {"fertility"}
    assert look(notebook, handed_out()).why_not("dev accuracy").startswith("it shows no results")


def test_a_cell_that_shows_a_result_is_to_stay_as_it_is():
    notebook = executed()
    by_id(notebook)["result-dev-accuracy"]["source"] = "graded.dev_accuracy(run, note='')"
    assert ("payload", "result-dev-accuracy") in kinds(notebook)
    found = look(notebook, handed_out())
    assert found.results.keys() == {"fertility"} and "stay" in found.why_not("dev accuracy")


def faked(**changes):
    """The honest output of the cell, with something changed in its payload."""
    output = displayed(result("dev accuracy"), count=4)
    output["data"] = {**output["data"], MIME: {**output["data"][MIME], **changes}}
    return output


FAKES = {
    "by display": [displayed(result("dev accuracy"), "display_data", 4)],
    "of another run of the cell": [displayed(result("dev accuracy"), count=5)],
    "twice": [faked(), faked()],
    "of another result": [displayed(result("fertility"), count=4)],
    "of exercises": [faked(kind="exercises")],
    "no object": [displayed({MIME: [1]}, count=4)],
    "with a huge claim": [faked(claim={**CLAIMS["dev accuracy"], "more": "x" * 10**6})],
    "with no claim": [faked(claim=3)],
    "with a deep claim": [faked(claim={"x": json.loads("[" * 400 + "]" * 400)})],
}


@pytest.mark.parametrize("outputs", FAKES.values(), ids=FAKES)
def test_a_payload_that_the_cell_can_not_have_left_is_flagged(outputs):
    notebook = executed()
    by_id(notebook)["result-dev-accuracy"]["outputs"] = outputs
    shown = outputs != FAKES["of exercises"]
    assert kinds(notebook) == [("payload", "result-dev-accuracy")] * shown
    assert counts(notebook) == {"fertility"}


def test_only_the_claim_is_believed_and_other_text_is_flagged():
    honest = displayed(result("dev accuracy", n=2000), count=4)
    dressed_up = faked(claim={**CLAIMS["dev accuracy"], "n": 2000}, state="passed", found=[])
    for output, flags in ((honest, []), (dressed_up, [])):
        notebook = executed()
        by_id(notebook)["result-dev-accuracy"]["outputs"] = [output]
        assert kinds(notebook) == flags
        found = look(notebook, handed_out()).results["dev accuracy"].findings
        assert found.state == "failed" and found.first_failure.what == "pairs"


# ---- Notebooks that anybody may have written ---------------------------------------------------

texts = st.text(max_size=20) | st.sampled_from(
    ["free", "code", "result-fertility", MIME, "execute_result", "stream", "\ud800", "fertility"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def mutated(draw, value):
    """The value with a part replaced, somewhere in it."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 6)):
        value = copy.copy(value)
        key = draw(st.sampled_from([*value] if isinstance(value, dict) else range(len(value))))
        value[key] = mutated(draw, value[key])
        return value
    return draw(anything)


def is_read(notebook):
    found = look(notebook, handed_out())
    assert isinstance(found, Reading)
    for flag in found.flags:
        assert len(flag.text) < 2000 and len(flag.where) <= 64 and flag.kind in Flag.__doc__
        f"{flag.where}{flag.text}".encode()


@settings(max_examples=80)
@given(st.data())
def test_any_changed_notebook_is_read_without_an_exception(data):
    notebook = executed()
    for _ in range(data.draw(st.integers(1, 6))):
        notebook = mutated(data.draw, notebook)
    is_read(notebook)


@given(anything)
def test_whatever_json_holds_is_read_without_an_exception(notebook):
    is_read(notebook)
    is_read({"cells": notebook})
    is_read({"cells": [notebook, {"cell_type": "code", "outputs": notebook, "source": notebook}]})


def test_outputs_nested_without_end_are_read():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    notebook = executed()
    cells = by_id(notebook)
    cells["free"]["outputs"] = [{"output_type": deep, "data": {"text/plain": deep}}]
    cells["result-fertility"]["outputs"] = [faked(claim={"rows": deep}), deep]
    cells["result-dev-accuracy"]["outputs"] = [faked(claim={"rows": deep})]
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
    put(tmp_path, final=executed())
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
