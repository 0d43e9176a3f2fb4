"""Executed notebooks are read and never run: what counts, what is flagged, and nothing raises."""

import copy
import json
import tracemalloc

import nbclient
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics import wilson_interval
from grading.checks.findings import MIME, Finding, Findings, Report
from grading.checks.results import LANGUAGES, Result, check_claim
from grading.edition.release import ANSWER
from grading.submissions import notebook as reading
from grading.submissions.notebook import Flag, Shown, flags, read, results
from tests import ROOT

LOW, HIGH = wilson_interval(1977, 2490)
CLAIMS = {
    "fertility": {
        "note": "",
        "rows": [{"language": lang, "fertility": 1.1 + (lang != "en")} for lang in LANGUAGES],
    },
    "dev accuracy": {
        "run": "english-0b90e8c9",
        "note": "",
        "language": "en",
        "accuracy": 1977 / 2490,
        "low": LOW,
        "high": HIGH,
        "n": 2490,
    },
}
SOURCES = {  # the notebook as students get it
    "import": "from grading.checks import results as graded\nfrom grading.checks import check",
    "exercise": "def double(x):\n    # TODO\n    raise NotImplementedError('double')",
    "check-model": "check('attention', 'add')",
    "result-dev-accuracy": "graded.dev_accuracy(run, note=profile.note)",
    "free": "seed = 0",
    "result-fertility": "graded.fertility(fertility, note=profile.note)",
}


def handed_out():
    cells = [nbformat.v4.new_code_cell(source, id=id) for id, source in SOURCES.items()]
    cells.insert(0, nbformat.v4.new_markdown_cell("# GPT-2", id="title"))
    cells.append(nbformat.v4.new_markdown_cell(ANSWER, id="answer"))
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def exercises(*names):
    """What the cell of a check shows."""
    checks = [Findings(name) for name in names]
    for each in checks:
        each.true("shape", True, "(2, 3)", "(2, 3)")
    return Report(checks)._repr_mimebundle_()


def result(name, **changes):
    claim = {**CLAIMS[name], **changes}
    return Result(name, claim, check_claim(name, claim))._repr_mimebundle_()


def displayed(data, kind="execute_result", count=None):
    return {"output_type": kind, "data": data, "metadata": {}, "execution_count": count}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def executed():
    """The notebook as a student leaves it who has done all that there is to do."""
    notebook = handed_out()
    for count, cell in enumerate((c for c in notebook["cells"] if "outputs" in c), start=1):
        cell["execution_count"] = count
    found = by_id(notebook)
    found["exercise"]["source"] = "def double(x):\n    return 2 * x"
    found["answer"]["source"] = "The loss falls."
    found["check-model"]["outputs"] = [displayed(exercises("attention", "add"), count=3)]
    found["result-dev-accuracy"]["outputs"] = [displayed(result("dev accuracy"), count=4)]
    found["result-fertility"]["outputs"] = [
        printed("100%"),
        displayed(result("fertility"), count=6),
    ]
    return notebook


def by_id(notebook):
    return {cell["id"]: cell for cell in notebook["cells"]}


def kinds(notebook):
    return [(flag.kind, flag.where) for flag in flags(notebook, handed_out())]


# ---- What counts -------------------------------------------------------------------------------


def test_an_honest_notebook_counts_without_flags():
    assert flags(executed(), handed_out()) == []
    shown = results(executed(), handed_out())
    assert shown.exercises.keys() == {"attention", "add"}
    assert {name: each.claim for name, each in shown.results.items()} == CLAIMS
    assert shown.results["fertility"].cell == "result-fertility"
    assert all(each.findings.state == "passed" for each in shown.results.values())


def test_a_result_that_fails_counts_as_one_that_fails():
    notebook = executed()
    failing = displayed(result("dev accuracy", n=2000), count=4)
    by_id(notebook)["result-dev-accuracy"]["outputs"] = [failing]
    assert kinds(notebook) == []
    found = results(notebook, handed_out()).results["dev accuracy"].findings
    assert found.state == "failed" and found.first_failure.what == "pairs"


def test_it_is_the_same_from_a_file_with_lists_of_lines_and_crlf(tmp_path):
    notebook = nbformat.from_dict(executed())
    path = tmp_path / "notebook.ipynb"
    path.write_bytes(nbformat.writes(notebook).replace("\n", "\r\n").encode())
    for cell in notebook.cells:
        cell.source = "".join(cell.source).replace("\n", " \r\n")
    assert flags(read(path), handed_out()) == [] == flags(notebook, handed_out())
    assert results(read(path), handed_out()).results.keys() == CLAIMS.keys()
    assert read(path).cells[1].source == SOURCES["import"]


def test_what_a_kernel_leaves_is_what_is_read(tmp_path):
    """Also after run_notebook's way of writing it; `display` is no way to show a result."""
    made = (
        "from tests.grading.test_grading_notebook import CLAIMS, check_claim, Result\n"
        "name = 'fertility'; result = Result(name, CLAIMS[name], check_claim(name, CLAIMS[name]))\n"
        "class graded: fertility = staticmethod(lambda: result)"
    )
    cells = {"made": made, "result": "graded.fertility()", "faked": "display(graded.fertility())"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, id=id) for id, source in cells.items()]
    )
    original = copy.deepcopy(notebook)
    folder = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, resources=folder).execute()
    nbformat.write(notebook, tmp_path / "n.ipynb")
    assert results(read(tmp_path / "n.ipynb"), original).results["fertility"].cell == "result"
    found = [(f.kind, f.where) for f in flags(read(tmp_path / "n.ipynb"), original)]
    assert found == [("payload", "faked")]


# ---- What is flagged ---------------------------------------------------------------------------


def does_not_count(notebook, name="dev accuracy"):
    shown = results(notebook, handed_out())
    return name not in shown.results and name not in shown.exercises


def test_cells_that_were_not_run_are_flagged_unless_empty():
    notebook = executed()
    by_id(notebook)["free"]["execution_count"] = None
    by_id(notebook)["result-fertility"]["execution_count"] = 5
    by_id(notebook)["result-fertility"]["outputs"][1]["execution_count"] = 5
    notebook["cells"].append(nbformat.v4.new_code_cell(" \n", id="empty"))
    assert kinds(notebook) == [("not run", "free")]
    by_id(notebook)["result-dev-accuracy"]["execution_count"] = None
    assert ("not run", "result-dev-accuracy") in kinds(notebook) and does_not_count(notebook)


@pytest.mark.parametrize(
    ("counts", "where"),
    [
        ([1, 2, 3, 4, 5, 7], ["result-fertility"]),  # run again
        ([1, 2, 9, 4, 5, 6], ["check-model", "result-dev-accuracy"]),  # and the one below was not
        ([7, 8, 9, 10, 11, 12], ["import"]),  # not a fresh kernel
        ([1, 2, 3, 1, 2, 3], ["result-dev-accuracy"]),  # another session
        ([1, 2, 3, 3, 4, 5], ["result-dev-accuracy"]),
    ],
)
def test_cells_out_of_order_are_flagged_by_their_ids(counts, where):
    notebook = executed()
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, count in zip(code, counts, strict=True):
        cell["execution_count"] = count
        for output in cell["outputs"]:
            output["execution_count"] = count
    assert kinds(notebook) == [("order", id) for id in where]
    assert results(notebook, handed_out()).results.keys() == CLAIMS.keys()


def test_errors_are_flagged():
    notebook = executed()
    error = {"output_type": "error", "ename": "KeyError", "evalue": "x", "traceback": []}
    by_id(notebook)["free"]["outputs"] = [error]
    assert flags(notebook, handed_out()) == [Flag("error", "free", "it ended in 'KeyError'")]


def test_missing_duplicated_and_moved_cells_are_flagged():
    notebook = executed()
    cells = by_id(notebook)
    order = ["title", "import", "answer", "exercise", "check-model", "result-fertility"]
    notebook["cells"] = [cells[id] for id in order] + [copy.deepcopy(cells["result-fertility"])]
    found = kinds(notebook)
    assert found[:4] == [
        ("missing", "result-dev-accuracy"),
        ("missing", "free"),
        ("duplicated", "result-fertility"),
        ("moved", "answer"),
    ]
    assert does_not_count(notebook, "fertility")


def test_a_cell_that_shows_a_result_is_to_stay_as_it_is():
    for change in ({"source": "graded.dev_accuracy(run, note='')"}, {"cell_type": "markdown"}):
        notebook = executed()
        by_id(notebook)["result-dev-accuracy"].update(change)
        assert ("source", "result-dev-accuracy") in kinds(notebook)
        assert does_not_count(notebook)


def test_other_changes_are_one_flag_and_own_cells_none():
    notebook = executed()
    by_id(notebook)["free"]["source"] = "seed = 1"
    by_id(notebook)["title"]["source"] = "# My GPT-2"
    notebook["cells"].insert(0, nbformat.v4.new_markdown_cell("Mine"))
    assert flags(notebook, handed_out()) == [Flag("changed", "", "title, free")]


def test_a_result_in_another_cell_is_flagged_and_does_not_count():
    notebook = executed()
    by_id(notebook)["result-dev-accuracy"]["outputs"] = []
    by_id(notebook)["free"]["outputs"] = [displayed(result("dev accuracy"), count=5)]
    assert kinds(notebook) == [("payload", "result-dev-accuracy"), ("payload", "free")]
    assert does_not_count(notebook)


def faked(**changes):
    """The honest output of the cell, with something changed in its payload."""
    output = displayed(result("dev accuracy"), count=4)
    output["data"] = {**output["data"], MIME: {**output["data"][MIME], **changes}}
    return output


HONEST = faked()
TOLD = HONEST["data"][MIME]["found"]
FAKES = {
    "by display": [displayed(result("dev accuracy"), "display_data", 4)],
    "of another run of the cell": [displayed(result("dev accuracy"), count=5)],
    "twice": [HONEST, HONEST],
    "of another result": [displayed(result("fertility"), count=4)],
    "of exercises": [displayed(exercises("attention"), count=4)],
    "no object": [displayed({MIME: [1]}, count=4)],
    "of no kind": [faked(kind=None)],
    "without findings": [faked(found=None)],
    "with findings of its own": [faked(found=[{**TOLD[0], "got": "better"}, *TOLD[1:]])],
    "with a state of its own": [faked(state="failed")],
    "with a claim that its findings are not of": [faked(claim={**CLAIMS["dev accuracy"], "n": 1})],
    "with a huge claim": [faked(claim={**CLAIMS["dev accuracy"], "more": "x" * 10**6})],
    "with no claim": [faked(claim=3)],
}


@pytest.mark.parametrize("outputs", FAKES.values(), ids=FAKES)
def test_a_payload_that_the_cell_can_not_have_left_is_flagged(outputs):
    notebook = executed()
    by_id(notebook)["result-dev-accuracy"]["outputs"] = outputs
    assert kinds(notebook) == [("payload", "result-dev-accuracy")]
    assert does_not_count(notebook)


def test_checks_of_other_exercises_than_the_cells_are_flagged():
    for names in (("attention",), ("add", "attention"), ("attention", "add", "embed")):
        notebook = executed()
        by_id(notebook)["check-model"]["outputs"] = [displayed(exercises(*names), count=3)]
        assert kinds(notebook) == [("payload", "check-model")]
        assert does_not_count(notebook, "attention")


def test_a_problem_is_shown_and_is_no_pass():
    notebook = executed()
    checks = [
        Findings("attention", [], "not written yet", "to do"),
        Findings("add", [], "waits for attention", "waits"),
    ]
    data = Report(checks)._repr_mimebundle_()
    by_id(notebook)["check-model"]["outputs"] = [displayed(data, count=3)]
    assert kinds(notebook) == []
    shown = results(notebook, handed_out()).exercises
    assert shown["attention"].findings == checks[0] and shown["add"].findings == checks[1]
    data[MIME]["checks"][0]["state"] = "passed"
    assert kinds(notebook) == [("payload", "check-model")]


@pytest.mark.parametrize(
    "beside",
    [
        {"text/plain": "[OK  ] dev accuracy           99 %"},
        {"text/html": "<b>99 %</b>"},
        {"image/png": "AAAA"},
        {"text/plain": None},
    ],
)
def test_what_stands_beside_a_payload_must_be_what_it_says(beside):
    notebook = executed()
    data = {**result("dev accuracy"), **beside}
    by_id(notebook)["result-dev-accuracy"]["outputs"] = [displayed(data, count=4)]
    assert kinds(notebook) == [("text", "result-dev-accuracy")] and does_not_count(notebook)


def test_a_later_release_may_word_what_it_expects_in_another_way():
    output = displayed(result("fertility"), count=6)
    payload = output["data"][MIME]
    payload["found"][0]["expected"] = "as ever"
    told = Findings("fertility", [Finding(**each) for each in payload["found"]])
    output["data"] = Result("fertility", payload["claim"], told)._repr_mimebundle_()
    notebook = executed()
    by_id(notebook)["result-fertility"]["outputs"] = [output]
    assert kinds(notebook) == [] and not does_not_count(notebook, "fertility")


def test_another_figure_in_the_cell_of_a_result_is_flagged():
    notebook = executed()
    cell = by_id(notebook)["result-dev-accuracy"]
    cell["outputs"].append(displayed({"text/html": "<b>99 %</b>"}, "display_data"))
    assert kinds(notebook) == [("text", "result-dev-accuracy")] and does_not_count(notebook)


def test_only_prints_that_look_like_a_report_are_flagged():
    report = str(Report([check_claim("fertility", CLAIMS["fertility"])]))
    for output in (printed(report), printed(["[ok] ", "Add"]), displayed({"text/plain": report})):
        notebook = executed()
        by_id(notebook)["free"]["outputs"] = [output]
        assert kinds(notebook) == [("printed", "free")]
    notebook = executed()
    by_id(notebook)["free"]["outputs"] = [printed("[OK]      torch  2.13\n[missing] data")]
    assert kinds(notebook) == []


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
    """The value with a part replaced, taken out, or doubled, somewhere in it."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 6)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, value = draw(st.sampled_from(keys)), copy.copy(value)
        what = draw(st.integers(0, 9))
        if what == 0:
            del value[key]
        elif what == 1 and isinstance(value, list):
            value.insert(draw(st.sampled_from(keys)), value[key])
        else:
            value[key] = mutated(draw, value[key])
        return value
    return draw(anything)


def is_read(notebook):
    found, shown = flags(notebook, handed_out()), results(notebook, handed_out())
    assert isinstance(shown, Shown)
    for flag in found:
        assert len(flag.text) < 500 and len(flag.where) <= 64 and flag.kind in Flag.__doc__
        f"{flag.where}{flag.text}".encode()
    for name, each in shown.results.items():
        assert check_claim(name, each.claim).found == each.findings.found


@settings(max_examples=200)
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
    is_read(notebook)


# ---- Files -------------------------------------------------------------------------------------


def without_id():
    notebook = handed_out()
    del notebook["cells"][2]["id"]
    return json.dumps(notebook)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a notebook"),
        (b"\xff\xfe\xfa", "not a notebook"),
        (b"PK\x03\x04", "not a notebook"),
        (b"[" * 100_000, "not a notebook"),
        (b'{"cells": 1' + b"0" * 5000 + b"}", "not a notebook"),
        (b"[1, 2]", "not a notebook of format 4; open it in JupyterLab and save it"),
        (b'{"nbformat": 3, "worksheets": []}', "not a notebook of format 4"),
        (b'{"nbformat": 4, "cells": {}}', "not a notebook of format 4"),
        (b'{"nbformat": 4, "cells": [1]}', "cell 1 has no id"),
        (without_id().encode(), "cell 3 has no id, .* put your code into the notebook as handed"),
        (
            b'{"nbformat": 4, "cells": [{"id": "a", "cell_type": "code", "outputs": [3]}]}',
            "damaged",
        ),
    ],
)
def test_a_file_that_is_no_notebook_is_named_with_its_fix(content, message, tmp_path):
    path = tmp_path / "final.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < len(str(path)) + 300


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path, monkeypatch):
    path = tmp_path / "final.ipynb"
    with pytest.raises(ValueError, match="no such notebook"):
        read(path)
    path.write_text(json.dumps(handed_out()))
    assert [cell.id for cell in read(path).cells] == list(by_id(handed_out()))
    monkeypatch.setattr(reading, "LARGEST", 100)
    with pytest.raises(ValueError, match="MB, more than"):
        read(path)


@pytest.mark.parametrize("unit", ['{"a":0}', "[]", '{"id":"a","outputs":[{"data":{}}]}'])
def test_a_notebook_that_takes_much_memory_is_refused_before_it_does(tmp_path, unit):
    """Of any content, a file of LARGEST bytes with MOST brackets takes no more than this."""
    path = tmp_path / "final.ipynb"
    for count, refused in ((reading.MOST // 10, False), (10 * reading.MOST, True)):
        path.write_text(f'{{"nbformat":4,"cells":[],"x":[{",".join([unit] * (count // 3))}]}}')
        tracemalloc.start()
        try:
            if refused:
                with pytest.raises(ValueError, match="brackets in it, more than 200,000; clear"):
                    read(path)
            else:
                read(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2 * path.stat().st_size if refused else peak * 10 < 2**29
