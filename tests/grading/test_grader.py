"""Whatever a submission is, it gets the points that its own code and results are worth."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch

from config import FINETUNE_TOY, GPT2Config
from experiments.finetuning import finetune
from gpt2.model import GPT2Model
from grading.__main__ import main
from grading.checks import CHECKS
from grading.checks import results as graded
from grading.checks.results import RESULTS
from grading.edition.release import FIXED, NOTEBOOK, student_edition, write
from grading.grader import RUBRIC, SAMPLE, Rubric, Settings, grade, grade_all
from grading.submissions import sandbox
from grading.submissions.expected import fresh_cases
from grading.submissions.observe import Copy
from grading.submissions.recompute import recompute
from grading.submissions.sandbox import Isolation, Limits, available
from grading.submissions.submission import find
from tests.grading.hostile import CHEATING, HOSTILE, harmful

REAL, RUN = available(), sandbox.run
NOTE = "sample run: toy model, embedded NLI set"


def solved(folder: Path, edits: dict[str, list[tuple[str, str]]] | None = None) -> Path:
    """A submission with our solutions, and these texts replaced in its files."""
    write(student_edition([]), folder)
    for name, pairs in (edits or {}).items():
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

    if REAL.problem:
        monkeypatch.setattr("grading.submissions.observe.run", run)
        monkeypatch.setattr(sandbox, "available", lambda: Isolation("none"))


def graded_alone(folder: Path, rubric: Rubric | None = None, **settings) -> dict:
    (submission,) = find([folder])
    return grade(submission, Settings(rubric or Rubric.load(), seed=11, **settings))


def only(*exercises: str) -> Rubric:
    """The rubric without the other exercises, each of which is one more process."""
    return replace(Rubric.load(), exercises=dict.fromkeys(exercises, 1.0))


def items(found: dict) -> dict[str, dict]:
    return {item["id"]: item for item in found["items"]}


def states(found: dict) -> dict[str, str]:
    return {name: item["state"] for name, item in items(found).items()}


# ---- Code ----------------------------------------------------------------------------------------


def test_harmful_code_fails_its_own_check_alone(tmp_path):
    limits = Limits(wall_seconds=300, cpu_seconds=10, memory=4 * 2**30, processes=40)
    names = (*HOSTILE, "layer forward", "next_token_loss")
    found = graded_alone(solved(tmp_path, harmful()), replace(only(*names), limits=limits))
    assert {n: s for n, s in states(found).items() if n in CHECKS} == {
        name: "failed" if name in HOSTILE else "passed" for name in names
    }
    problems = {name: items(found)[name]["problem"] for name in HOSTILE}
    assert "processor time" in problems["attention"] and "SystemExit" in problems["add"]
    assert "exit code 0" in problems["embed"]
    assert "processes" in problems["AdamW.step"]
    assert found["problem"] == ""


def test_patched_checks_and_stolen_results_earn_nothing(tmp_path):
    if REAL.problem:
        pytest.skip("without a sandbox the solution itself can be read")
    rubric = only("attention", "AdamW.step", "sanity check")
    found = graded_alone(solved(tmp_path, CHEATING), rubric)
    assert states(found)["attention"] == "failed" and states(found)["sanity check"] == "passed"
    assert states(found)["AdamW.step"] == "passed"
    edited = [flag["where"] for flag in found["flags"] if flag["kind"] == "edited"]
    assert edited == ["grading/checks/__init__.py", "tests/test_exercises.py"]


def test_a_file_that_cannot_be_imported_fails_its_own_exercises_alone(tmp_path):
    edits = {
        "gpt2/model.py": [("import torch\n", "import torch, os\nos._exit(3)\n")],
        "gpt2/layer.py": [("class GPT2Layer", "class class GPT2Layer")],
        "utils.py": [("import torch\n", "import torch, no_such_module\n")],
        "gpt2/attention.py": [("import math\n", "import math, einops.layers.torch\n")],
    }
    files = ("add", "layer forward", "embed", "hidden_state_to_token")
    found = graded_alone(solved(tmp_path, edits), only("attention", *files, "sanity check"))
    failed = {name for name, state in states(found).items() if name in CHECKS and state == "failed"}
    assert failed == {*files, "sanity check"}
    problems = {name: items(found)[name]["problem"] for name in failed}
    assert "exit code 3" in problems["embed"] and "SyntaxError" in problems["add"]
    assert problems["add"].startswith("gpt2/layer.py cannot be imported: SyntaxError: ")


def test_unwritten_code_is_to_do_and_the_others_are_judged_with_ours(tmp_path):
    write(student_edition(["add"]), tmp_path)
    found = graded_alone(tmp_path, only("attention", "add", "layer forward", "sanity check"))
    assert states(found)["add"] == "to do" and states(found)["layer forward"] == "passed"
    assert states(found)["attention"] == "passed" and found["points"] < found["max_points"]
    assert items(found)["sanity check"]["found"][0]["what"] == "with the grader's own add"


def test_the_edition_as_it_is_earns_nothing(tmp_path):
    write(student_edition(), tmp_path)
    found = graded_alone(tmp_path)
    assert found["points"] == 0 and states(found)["sanity check"] == "waits"


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
    folder = solved(tmp_path_factory.mktemp("handed-in"))
    without = shutil.ignore_patterns("checkpoint*", ".*")
    shutil.copytree(run.path, folder / "runs" / run.path.name, ignore=without)
    shown = {
        "dev accuracy": graded.dev_accuracy(run, NOTE),
        "fifteen accuracies": graded.fifteen_accuracies(run.evaluations(progress=False), run, NOTE),
    }
    nbformat.write(executed(shown), folder / NOTEBOOK)
    return folder


@pytest.fixture
def submission(complete_submission, tmp_path):
    """A copy that a test may tamper with."""
    return shutil.copytree(complete_submission, tmp_path / "submission")


def test_claims_that_can_be_computed_again_count(submission):
    found = graded_alone(submission)
    assert states(found)["dev accuracy"] == states(found)["fifteen accuracies"] == "passed"
    assert found["points"] == 70 + 12 and len(found["recomputed"]["accuracy"]) == 16
    for each in found["recomputed"]["accuracy"].values():
        assert each["claimed"] == each["recomputed"]
    again = found["recomputed"]["predictions"]
    assert again["compared"] == again["agree"] == 40 and again["split"].count("test.") > 5
    assert items(found)["fertility"]["problem"] and states(found)["fertility"] == "missing"


def computed_again(folder: Path, claims: dict):
    copy = Copy(folder, student_edition(), FIXED)
    rubric = Rubric.load()
    return recompute(copy, claims, [SAMPLE], rubric.recomputed, rubric.limits)


def claims_of(folder: Path) -> dict[str, dict]:
    """What the submission's notebook says of dev."""
    notebook = nbformat.read(folder / NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.id == "result-dev-accuracy"]
    return {"dev accuracy": cell.outputs[0].data[graded.MIME]["claim"]}


def predictions(folder: Path) -> Path:
    (path,) = folder.glob("runs/*/predictions/dev.en.csv")
    return path


def test_predictions_improved_by_hand_are_flagged(submission):
    path = predictions(submission)
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines[1:], start=1):
        pair, label, _, *rest = line.split(",")
        lines[i] = ",".join([pair, label, label, *rest])
    path.write_text("\n".join(lines) + "\n")
    claims = claims_of(submission)
    claims["dev accuracy"]["accuracy"] = 1.0
    found = computed_again(submission, claims)
    assert found.accuracy["dev.en"] == {"claimed": 1.0, "recomputed": 1.0, "n": 60}
    ((name, flag),) = found.flags
    assert (name, flag.kind) == ("dev accuracy", "predictions")
    assert found.predictions["agree"] < 30


def test_labels_that_were_changed_in_the_file_are_not_believed(submission):
    path = predictions(submission)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    text = "\n".join(",".join([line[0], line[2], *line[2:]]) for line in lines)
    path.write_text(text.replace("prediction,prediction", "label,prediction", 1) + "\n")
    claims = claims_of(submission)
    honest = claims["dev accuracy"]["accuracy"]
    claims["dev accuracy"]["accuracy"] = 1.0
    found = computed_again(submission, claims)
    assert found.accuracy["dev.en"] == {"claimed": 1.0, "recomputed": honest, "n": 60}
    assert [(name, flag.kind) for name, flag in found.flags] == [("dev accuracy", "accuracy")]
    assert f"make {honest:.4f} of 60" in found.flags[0][1].text


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


def test_weights_that_were_not_handed_in_are_no_more_than_a_flag(submission):
    (weights,) = submission.glob("runs/*/best_model/model.safetensors")
    weights.unlink()
    found = computed_again(submission, claims_of(submission))
    assert [flag.kind for _, flag in found.flags] == ["recomputed"]
    assert found.accuracy["dev.en"]["n"] == 60


@pytest.mark.parametrize("text", ['{"n_positions": 1e999}', "{}", "[" * 100_000])
def test_a_damaged_configuration_is_a_flag(text, submission):
    (config,) = submission.glob("runs/*/best_model/config.json")
    config.write_text(text)
    found = computed_again(submission, claims_of(submission))
    assert "its config.json is damaged" in found.flags[0][1].text


def test_a_model_that_holds_a_pickle_with_code_is_not_loaded(submission):
    (weights,) = submission.glob("runs/*/best_model/model.safetensors")

    class Harmful:
        def __reduce__(self):
            return Path.touch, (submission / "was loaded",)

    torch.save({"x": Harmful()}, weights)
    found = computed_again(submission, claims_of(submission))
    assert not (submission / "was loaded").exists()
    assert "its model gives no predictions" in found.flags[0][1].text


def test_results_that_were_faked_in_the_notebook_do_not_count(submission):
    notebook = nbformat.read(submission / NOTEBOOK, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    fake = cells["result-dev-accuracy"].outputs[0]
    edited = cells["result-fifteen-accuracies"]
    edited.source = f"import fake\n{edited.source}"
    other = cells["settings-choose"]
    other.outputs = [fake]
    nbformat.write(notebook, submission / NOTEBOOK)
    found = graded_alone(submission)
    assert states(found)["dev accuracy"] == "passed"
    assert states(found)["fifteen accuracies"] == states(found)["toy curve"] == "missing"
    assert "stay as handed out" in items(found)["fifteen accuracies"]["problem"]
    kinds = {flag["kind"] for flag in found["flags"] if flag["where"] == "settings-choose"}
    assert kinds == {"payload"}


def test_a_notebook_is_executed_again_in_the_sandbox(tmp_path):
    cell = nbformat.v4.new_code_cell("from grading.checks import check\ncheck('add')")
    folder = solved(tmp_path)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "small.ipynb")
    path, why = Copy(folder, student_edition(), FIXED).execute("small.ipynb", Limits(120))
    assert path is not None, why
    outputs = nbformat.read(path, as_version=4).cells[0].outputs
    (output,) = [each for each in outputs if each.output_type == "execute_result"]
    assert output.data[graded.MIME]["checks"][0]["state"] == "passed"


# ---- A class -------------------------------------------------------------------------------------

FEW = '[exercises]\nadd = 2\n"layer forward" = 3\n\n[results]\nfertility = 1\n'


@pytest.fixture
def few(tmp_path):
    path = tmp_path / "rubric.toml"
    path.write_text(FEW)
    return path


def test_only_changes_are_graded_again_whatever_is_broken(tmp_path, few, capsys):
    handed_in = tmp_path / "in"
    solved(handed_in / "ada")
    (handed_in / "bea.zip").write_bytes(b"PK no zip")
    write(student_edition(), handed_in / "cleo")
    arguments = ["grade", str(handed_in), "--out", str(tmp_path / "out"), "--rubric", str(few)]
    main(arguments)
    out = capsys.readouterr().out
    assert "ada  5 of 6" in out and "bea  0 of 6" in out and "cleo  0 of 6" in out
    kept = {p: p.read_bytes() for p in (tmp_path / "out").rglob("grade.json")}
    assert len(kept) == 3 and (tmp_path / "out" / "gradebook.csv").is_file()
    assert json.loads((tmp_path / "out" / "ada" / "results.json").read_text())["score"] == 5

    shutil.rmtree(handed_in / "cleo")
    write(student_edition(["layer forward"]), handed_in / "cleo")
    main(arguments)
    assert "cleo  2 of 6" in capsys.readouterr().out
    again = {p.parent.name: p.read_bytes() == kept[p] for p in kept}
    assert again == {"ada": True, "bea": True, "cleo": False}


def test_without_a_sandbox_nothing_is_graded_unless_that_is_asked_for(
    tmp_path, few, monkeypatch, capsys
):
    missing = Isolation("", "bubblewrap is not installed (apt install bubblewrap)")
    monkeypatch.setattr(sandbox, "available", lambda: missing)
    (tmp_path / "bea.zip").write_bytes(b"PK no zip")
    out = tmp_path / "out"
    arguments = ["grade", str(tmp_path / "bea.zip"), "--out", str(out), "--rubric", str(few)]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and not out.exists()
    assert "apt install bubblewrap" in error and "--without-sandbox" in error
    main([*arguments, "--without-sandbox"])
    pages = [page.read_text() for page in out.rglob("index.html")]
    assert len(pages) == 2 and all("without a sandbox" in page.lower() for page in pages)


def test_an_error_of_the_grader_concerns_one_submission(tmp_path, few, monkeypatch):
    where, quiet = (solved(tmp_path / "ada"),), {"rubric": few, "progress": False}
    with monkeypatch.context() as patched:
        patched.setattr("grading.grader.unpack", lambda *_: 1 / 0)
        (found,) = grade_all(where, tmp_path / "out", **quiet)
    assert "ZeroDivisionError: division by zero (test_grader.py, line" in found["problem"]
    assert found["points"] == 0 and found["max_points"] == 6
    (found,) = grade_all(where, tmp_path / "out", **quiet)
    assert (found["problem"], found["points"]) == ("", 5)


def test_missing_data_is_named_before_anything_is_graded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: holds no XNLI-1\.0; give the folder"):
        grade_all([tmp_path], tmp_path / "out", data=[tmp_path / "nowhere"])


def test_the_seed_of_a_class_is_kept(tmp_path, few, monkeypatch):
    monkeypatch.setattr("grading.grader.unpack", lambda *_: 1 / 0)
    submission = solved(tmp_path / "ada")
    seeds = {
        grade_all([submission], tmp_path / out, rubric=few, progress=False)[0]["seed"]
        for out in ("one", "one", "other")
    }
    assert len(seeds) == 2


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


def test_checks_with_fresh_cases_pass_for_our_own_code(tmp_path):
    copy = Copy(solved(tmp_path), student_edition(), FIXED)
    found = copy.checked(["add", "generation"], fresh_cases(99), Limits(300))
    assert [each.state for each in found.values()] == ["passed", "passed"]
