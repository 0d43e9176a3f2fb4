"""Whatever a submission is, it gets the points that its own code and results are worth."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from config import FINETUNE_TOY, GPT2Config
from experiments.finetuning import finetune
from gpt2.model import GPT2Model
from grading.__main__ import main
from grading.checks import CHECKS
from grading.checks import results as graded
from grading.checks.places import PARTS
from grading.checks.results import RESULTS
from grading.edition.release import NOTEBOOK, student_edition, write
from grading.grader import RUBRIC, SAMPLE, Rubric, Settings, grade
from grading.submissions import sandbox
from grading.submissions.notebook import look, read
from grading.submissions.observe import Copy
from grading.submissions.recompute import recompute
from grading.submissions.sandbox import Limits, missing
from grading.submissions.submission import find
from tests.grading.hostile import CHEATING, HARMFUL

MISSING, RUN = missing(), sandbox.run
NOTE = "sample run: toy model, embedded NLI set"


def handed_in(folder: Path, edits: dict[str, list[tuple[str, str]]], unwritten=()) -> Path:
    """A submission with our solutions, but for what is unwritten, and texts of it replaced."""
    write(student_edition(unwritten), folder)
    for name, pairs in edits.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in pairs:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def limits_only_where_there_is_no_sandbox(monkeypatch):
    def run(*words, **named):
        return RUN(*words, **named | {"sandboxed": False})

    if MISSING:
        monkeypatch.setattr("grading.submissions.observe.run", run)
        monkeypatch.setattr(sandbox, "missing", lambda: "")


def graded_alone(folder: Path, rubric: Rubric | None = None, **settings) -> dict:
    (submission,) = find([folder])
    return grade(submission, Settings(rubric or Rubric.load(), seed=11, **settings))


def items(found: dict) -> dict[str, dict]:
    return {item["id"]: item for item in found["items"]}


def states(found: dict) -> dict[str, str]:
    return {name: item["state"] for name, item in items(found).items()}


# ---- Code ----------------------------------------------------------------------------------------


def graded_code(folder: Path, *exercises: str) -> dict:
    limits = Limits(wall_seconds=300, cpu_seconds=60, memory=4 * 2**30, processes=40)
    code = {"exercises": dict.fromkeys(exercises, 1.0), "limits": limits}
    return graded_alone(folder, replace(Rubric.load(), results={}, **code))


def test_harmful_code_fails_its_own_check_alone(tmp_path):
    names = ("attention", "embed", "next_token_loss", "AdamW.step")
    found = graded_code(handed_in(tmp_path, HARMFUL), *names)
    assert states(found) == {name: "failed" for name in names} | {"attention": "passed"}
    problems = {name: item["problem"] for name, item in items(found).items()}
    assert "exit code 0" in problems["embed"]
    assert "it printed" in problems["next_token_loss"] and "processes" in problems["AdamW.step"]
    assert found["problem"] == ""


@pytest.mark.slow
def test_the_sanity_check_has_our_own_parts_for_those_that_are_wrong(tmp_path):
    found = graded_code(handed_in(tmp_path, {}, ["layer forward"]), "layer forward", "sanity check")
    assert states(found) == {"layer forward": "to do", "sanity check": "passed"}
    first = items(found)["sanity check"]["found"][0]
    assert first["what"] == "with the grader's own layer forward"
    shutil.rmtree(tmp_path)
    found = graded_code(handed_in(tmp_path, {}, PARTS), *PARTS, "sanity check")
    assert states(found) == {**dict.fromkeys(PARTS, "to do"), "sanity check": "waits"}


def test_patched_checks_and_stolen_results_earn_nothing(tmp_path):
    if MISSING:
        pytest.skip("without a sandbox the solution itself can be read")
    names = ("attention", "add", "AdamW.step", "generation")
    found = graded_code(handed_in(tmp_path, CHEATING, ["generation"]), *names)
    assert states(found) == dict(zip(names, ("failed", "failed", "passed", "to do"), strict=True))
    assert found["points"] == 1 and "SystemExit" in items(found)["add"]["problem"]
    edited = [flag["where"] for flag in found["flags"] if flag["kind"] == "edited"]
    assert edited == ["grading/checks/__init__.py", "tests/test_exercises.py"]


# ---- Results -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A real fine-tuning of a very small model."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = GPT2Model(GPT2Config(**shape, max_position_embeddings=128))
    model.save_pretrained(folder / "start")
    settings = replace(FINETUNE_TOY, epochs=1, subset=40.0, learning_rate=1e-2)
    where = {"weights": folder / "start", "data": SAMPLE, "runs": folder / "runs"}
    run = finetune(settings, name="english", progress=False, **where)
    run.evaluations(progress=False)
    return run


def executed(shown: dict[str, graded.Result]) -> nbformat.NotebookNode:
    """The handed-out notebook as a run of it leaves it, where its cells show these results."""
    notebook = nbformat.reads(student_edition()[NOTEBOOK].decode(), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        name = cell.id.removeprefix("result-").replace("-", " ")
        if cell.id.startswith("result-") and name in shown:
            data = shown[name]._repr_mimebundle_()
            cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=number)]
    return notebook


@pytest.fixture(scope="module")
def complete_submission(run, tmp_path_factory):
    """Our solutions, the run, and a notebook that claims what came out of it."""
    folder = handed_in(tmp_path_factory.mktemp("handed-in"), {})
    without = shutil.ignore_patterns("checkpoint*", ".*")
    shutil.copytree(run.path, folder / "runs" / run.path.name, ignore=without)
    shown = {
        "dev accuracy": graded.dev_accuracy(run, NOTE),
        "fifteen accuracies": graded.fifteen_accuracies(run.evaluations(progress=False), run, NOTE),
    }
    notebook = executed(shown)
    (other,) = [cell for cell in notebook.cells if cell.id == "settings-choose"]
    other.outputs = notebook.cells[ids(notebook).index("result-dev-accuracy")].outputs  # faked
    nbformat.write(notebook, folder / NOTEBOOK)
    return folder


def ids(notebook) -> list[str]:
    return [cell.id for cell in notebook.cells]


@pytest.fixture
def submission(complete_submission, tmp_path):
    """A copy that a test may tamper with."""
    return shutil.copytree(complete_submission, tmp_path / "submission")


def test_claims_that_can_be_computed_again_count(complete_submission):
    """And our own solutions pass every check, on fresh cases."""
    found = graded_alone(complete_submission)
    assert states(found) == {
        **dict.fromkeys(CHECKS, "passed"),
        **dict.fromkeys(RESULTS, "missing"),
        **{"dev accuracy": "passed", "fifteen accuracies": "passed"},
    }
    assert found["points"] == 70 + 12 and len(found["recomputed"]["accuracy"]) == 16
    for each in found["recomputed"]["accuracy"].values():
        assert each["claimed"] == each["recomputed"]
    again = found["recomputed"]["predictions"]
    assert again["compared"] == again["agree"] == 40 and again["split"].count("test.") > 5
    assert items(found)["fertility"]["problem"]
    kinds = {flag["kind"] for flag in found["flags"] if flag["where"] == "settings-choose"}
    assert kinds == {"payload"}


def computed_again(folder: Path, claims: dict, **rules):
    copy, rubric = Copy(folder), Rubric.load()
    return recompute(copy, claims, [SAMPLE], rubric.recomputed | rules, rubric.limits)


def claims_of(folder: Path) -> dict[str, dict]:
    """What the submission's notebook says of dev."""
    notebook = nbformat.read(folder / NOTEBOOK, as_version=4)
    cell = notebook.cells[ids(notebook).index("result-dev-accuracy")]
    return {"dev accuracy": cell.outputs[0].data[graded.MIME]["claim"]}


def predictions(folder: Path) -> Path:
    (path,) = folder.glob("runs/*/predictions/dev.en.csv")
    return path


@pytest.mark.parametrize(("column", "by"), [("prediction", "label"), ("label", "prediction")])
def test_predictions_or_labels_improved_by_hand_are_flagged(column, by, submission):
    table = pd.read_csv(predictions(submission), dtype=str)
    table[column] = table[by]
    table.to_csv(predictions(submission), index=False)
    claims = claims_of(submission)
    honest = claims["dev accuracy"]["accuracy"] if by == "prediction" else 1.0
    claims["dev accuracy"]["accuracy"] = 1.0
    found = computed_again(submission, claims, pairs=40 if by == "label" else 0)
    assert found.accuracy["dev.en"] == {"claimed": 1.0, "recomputed": honest, "n": 60}
    kind = "predictions" if by == "label" else "accuracy"
    assert [(name, flag.kind) for name, flag in found.flags] == [("dev accuracy", kind)]
    assert found.predictions.get("agree", 0) < 30
    assert by == "label" or f"make {honest:.4f} of 60" in found.flags[0][1].text


@pytest.mark.parametrize(
    ("tamper", "text"),
    [
        (lambda path: path.unlink(), "was not handed in"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda path: path.write_text("pair_id,prediction\n1,0\n"), "not the pairs of any data"),
        (lambda path: (path.unlink(), path.symlink_to(RUBRIC)), "was not handed in"),
        (lambda path: path.write_bytes(b"pair_id,prediction\r1,0\r"), "new-line character"),
        (lambda path: path.write_text(f"pair_id,prediction\n1,{'0' * 200_000}\n"), "field"),
    ],
)
def test_a_claim_whose_predictions_cannot_be_read_is_in_doubt(tamper, text, submission):
    tamper(predictions(submission))
    found = computed_again(submission, claims_of(submission))
    ((name, flag),) = found.flags
    assert not found.accuracy and text in flag.text
    kind = "evidence" if "handed in" in text else "accuracy"
    assert (name, flag.kind) == ("dev accuracy", kind)


def test_weights_that_cannot_be_used_are_a_flag(submission):
    (weights,) = submission.glob("runs/*/best_model/model.safetensors")
    config, honest = weights.with_name("config.json"), weights.with_name("config.json").read_text()

    class Harmful:
        def __reduce__(self):
            return Path.touch, (submission / "was loaded",)

    def flag():
        return computed_again(submission, claims_of(submission)).flags[0][1]

    for text in ('{"n_positions": 1e999}', "{}", "[" * 100_000):
        config.write_text(text)
        assert "its config.json is damaged" in flag().text
    config.write_text(honest)
    torch.save({"x": Harmful()}, weights)
    assert "its model gives no predictions" in flag().text
    assert not (submission / "was loaded").exists()
    weights.unlink()
    assert flag().kind == "recomputed"  # which costs nothing


MADE = """
from grading.checks import check
from grading.checks import results as real
class graded:
    def fertility():
        rows = [{"language": lang, "fertility": 1.1 + (lang != "en")} for lang in real.LANGUAGES]
        return real._checked("fertility", note="", rows=rows)
"""


def test_a_notebook_is_executed_again_in_the_sandbox(tmp_path):
    """And what a kernel leaves is read; `display` is no way to show a result."""
    cells = {"made": MADE, "check": "check('add')", "result": "graded.fertility()"}
    cells["faked"] = "display(graded.fertility())"
    cells = [nbformat.v4.new_code_cell(source, id=id) for id, source in cells.items()]
    original, folder = nbformat.v4.new_notebook(cells=cells), handed_in(tmp_path, {})
    nbformat.write(original, folder / "small.ipynb")
    path, why = Copy(folder).execute("small.ipynb", Limits(120))
    assert path is not None, why
    found, (_, check, *_) = look(read(path), original), nbformat.read(path, as_version=4).cells
    assert found.results["fertility"].findings.state == "passed"
    assert [(flag.kind, flag.where) for flag in found.flags] == [("payload", "faked")]
    assert check.outputs[-1].data[graded.MIME]["checks"][0]["state"] == "passed"


# ---- A class -------------------------------------------------------------------------------------

FEW = """
[exercises]
attention = 1
add = 2
"layer forward" = 3
embed = 1

[results]
fertility = 1
"""


@pytest.fixture
def few(tmp_path):
    path = tmp_path / "rubric.toml"
    path.write_text(FEW)
    return path


def test_only_changes_are_graded_again_whatever_is_broken(tmp_path, few, capsys):
    class_, out = tmp_path / "in", tmp_path / "out"
    handed_in(class_ / "ada", {})
    (class_ / "bea.zip").write_bytes(b"PK no zip")
    write(student_edition(), class_ / "cleo")
    out.mkdir()
    (out / "seed.json").write_text('{"seed": 11}')  # whose cases other tests have made
    arguments = ["grade", str(class_), "--out", str(out), "--rubric", str(few)]
    main(arguments)
    said = capsys.readouterr().out
    assert "ada  7 of 8" in said and "bea  0 of 8" in said and "cleo  0 of 8" in said
    kept = {p: p.read_bytes() for p in out.rglob("grade.json")}
    assert len(kept) == 3 and (out / "gradebook.csv").is_file()
    assert json.loads((out / "ada" / "results.json").read_text())["score"] == 7
    untouched = json.loads(kept[out / "cleo" / "grade.json"])
    assert states(untouched)["add"] == "to do"

    shutil.rmtree(class_ / "cleo")
    write(student_edition(["layer forward"]), class_ / "cleo")
    main(arguments)
    assert "cleo  4 of 8" in capsys.readouterr().out
    again = {p.parent.name: p.read_bytes() == kept[p] for p in kept}
    assert again == {"ada": True, "bea": True, "cleo": False}


def test_without_a_sandbox_nothing_is_graded_unless_that_is_asked_for(
    tmp_path, few, monkeypatch, capsys
):
    monkeypatch.setattr(sandbox, "missing", lambda: "bubblewrap is not installed")
    (tmp_path / "bea.zip").write_bytes(b"PK no zip")
    out = tmp_path / "out"
    arguments = ["grade", str(tmp_path / "bea.zip"), "--out", str(out), "--rubric", str(few)]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and not out.exists()
    assert "bubblewrap is not installed" in error and "--without-sandbox" in error
    main([*arguments, "--without-sandbox"])
    pages = [page.read_text() for page in out.rglob("index.html")]
    assert len(pages) == 2 and all("without a sandbox" in page.lower() for page in pages)


def test_an_error_of_the_grader_is_tried_again_with_the_seed_of_the_class(
    tmp_path, few, monkeypatch
):
    submission, found, tried = handed_in(tmp_path / "ada", {}), [], []
    monkeypatch.setattr("grading.grader.unpack", lambda *_: tried.append(1) or 1 / 0)
    for out in ("one", "one", "other"):
        main(["grade", str(submission), "--out", str(tmp_path / out), "--rubric", str(few)])
        found.append(json.loads((tmp_path / out / "ada" / "grade.json").read_text()))
    one, again, other = found
    assert "ZeroDivisionError: division by zero (test_grader.py, line" in one["problem"]
    assert one["points"] == 0 and one["max_points"] == 8 and len(tried) == 3
    assert one["seed"] == again["seed"] != other["seed"]


def test_missing_data_is_named_before_anything_is_graded(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["grade", str(tmp_path), "--data", str(tmp_path / "nowhere")])
    assert "nowhere: holds no XNLI-1.0; give the folder" in capsys.readouterr().err


def test_our_rubric_names_every_check_and_is_worth_100():
    rubric = Rubric.load()
    assert list(rubric.exercises) == list(CHECKS) and list(rubric.results) == list(RESULTS)
    assert sum(rubric.exercises.values()) + sum(rubric.results.values()) == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[exercises]\nad = 1", r"\[exercises\] has no 'ad'; there are attention"),
        ("[exercises]\nadd = -1", "add must be a number of at least 0"),
        ("[exercises]\nadd = true", "add must be a number of at least 0"),
        ("[recomputed]\npairs = 40.0", "pairs must be a whole number of at least 0, got 40.0"),
        ("[limits]\nprocesses = 0", "processes must be a whole number of at least 1, got 0"),
        ("[points]\nadd = 1", r"no table \[points\]; there are exercises"),
        ("exercises", r"rubric\.toml: not TOML"),
    ],
)
def test_a_rubric_with_a_mistake_is_named(text, message, tmp_path):
    path = tmp_path / "rubric.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Rubric.load(path)
