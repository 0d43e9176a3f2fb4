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
from grading.submissions.observe import Copy
from grading.submissions.recompute import recompute
from grading.submissions.sandbox import Limits, missing
from grading.submissions.submission import find
from tests.grading.hostile import CHEATING, HARMFUL

SANDBOXED = not missing()
ANYHOW = [] if SANDBOXED else ["--without-sandbox"]
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


def graded_alone(folder: Path, rubric: Rubric) -> dict:
    (submission,) = find([folder])
    return grade(submission, Settings(rubric, seed=11, sandboxed=SANDBOXED))


def of_items(found: dict, what: str) -> dict:
    return {item["id"]: item[what] for item in found["items"]}


# ---- Code ----------------------------------------------------------------------------------------


def graded_code(folder: Path, *exercises: str) -> dict:
    limits = Limits(wall_seconds=300, cpu_seconds=60, memory=4 * 2**30, processes=40)
    code = {"exercises": dict.fromkeys(exercises, 1.0), "limits": limits}
    return graded_alone(folder, replace(Rubric.load(), results={}, **code))


def test_harmful_code_fails_its_own_check_alone(tmp_path):
    names = ("attention", "embed", "next_token_loss", "AdamW.step")
    found = graded_code(handed_in(tmp_path, HARMFUL), *names)
    expected = dict.fromkeys(names, "failed") | {"attention": "passed"}
    assert of_items(found, "state") == expected and found["problem"] == ""
    problems = of_items(found, "problem")
    assert "exit code 0" in problems["embed"]
    assert "it printed" in problems["next_token_loss"] and "processes" in problems["AdamW.step"]


@pytest.mark.slow
def test_the_sanity_check_has_our_own_parts_for_those_that_are_wrong(tmp_path):
    found = graded_code(handed_in(tmp_path, {}, ["layer forward"]), "layer forward", "sanity check")
    assert of_items(found, "state") == {"layer forward": "to do", "sanity check": "passed"}
    first = of_items(found, "found")["sanity check"][0]
    assert first["what"] == "with the grader's own layer forward"
    shutil.rmtree(tmp_path)
    found = graded_code(handed_in(tmp_path, {}, PARTS), *PARTS, "sanity check")
    assert of_items(found, "state") == dict.fromkeys(PARTS, "to do") | {"sanity check": "waits"}


def test_patched_checks_and_stolen_results_earn_nothing(tmp_path):
    if not SANDBOXED:
        pytest.skip("without a sandbox the solution itself can be read")
    names = ("attention", "add", "AdamW.step", "generation")
    found = graded_code(handed_in(tmp_path, CHEATING, ["generation"]), *names)
    states = ("failed", "failed", "passed", "to do")
    assert of_items(found, "state") == dict(zip(names, states, strict=True))
    assert found["points"] == 1 and "SystemExit" in of_items(found, "problem")["add"]
    edited = [flag["where"] for flag in found["flags"] if flag["kind"] == "edited"]
    assert edited == ["grading/checks/__init__.py", "tests/test_exercises.py"]


# ---- Results -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def complete_submission(tmp_path_factory):
    """Our solutions, a real fine-tuning of a very small model, and a notebook that claims what came
    out of it; with what it claims for dev."""
    folder, start = handed_in(tmp_path_factory.mktemp("ada"), {}), tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    GPT2Model(GPT2Config(**shape, max_position_embeddings=128)).save_pretrained(start)
    settings = replace(FINETUNE_TOY, epochs=1, subset=40.0, learning_rate=1e-2)
    where = {"weights": start, "data": SAMPLE, "runs": folder / "runs"}
    run = finetune(settings, name="english", progress=False, **where)
    tested = run.evaluations(progress=False)
    dev = graded.dev_accuracy(run, NOTE)
    shown = {"result-dev-accuracy": dev, "settings-choose": dev}  # the second is no such cell
    shown["result-fifteen-accuracies"] = graded.fifteen_accuracies(tested, run, NOTE)
    notebook = nbformat.reads(student_edition()[NOTEBOOK].decode(), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        if cell.id in shown:
            data = shown[cell.id]._repr_mimebundle_()
            cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=number)]
    nbformat.write(notebook, folder / NOTEBOOK)
    return folder, dev.claim


@pytest.fixture
def submission(complete_submission, tmp_path):
    """A copy that a test may tamper with, and its claim for dev."""
    folder, claim = complete_submission
    return shutil.copytree(folder, tmp_path / "submission"), claim


def test_claims_that_can_be_computed_again_count(complete_submission):
    """And our own solutions pass every check, on fresh cases."""
    found = graded_alone(complete_submission[0], Rubric.load())
    claimed = dict.fromkeys(("dev accuracy", "fifteen accuracies"), "passed")
    everything = dict.fromkeys(CHECKS, "passed") | dict.fromkeys(RESULTS, "missing") | claimed
    assert of_items(found, "state") == everything and of_items(found, "problem")["fertility"]
    assert found["points"] == 70 + 12 and len(found["recomputed"]["accuracy"]) == 16
    for each in found["recomputed"]["accuracy"].values():
        assert each["claimed"] == each["recomputed"]
    again = found["recomputed"]["predictions"]
    assert again["compared"] == again["agree"] == 40 and again["split"].count("test.") > 5
    kinds = {flag["kind"] for flag in found["flags"] if flag["where"] == "settings-choose"}
    assert kinds == {"payload"}


def computed_again(folder: Path, claim: dict, **rules):
    rubric = Rubric.load()
    rules = rubric.recomputed | rules
    return recompute(
        Copy(folder, SANDBOXED), {"dev accuracy": claim}, [SAMPLE], rules, rubric.limits
    )


def predictions(folder: Path) -> Path:
    (path,) = folder.glob("runs/*/predictions/dev.en.csv")
    return path


@pytest.mark.parametrize(("column", "by"), [("prediction", "label"), ("label", "prediction")])
def test_predictions_or_labels_improved_by_hand_are_flagged(column, by, submission):
    folder, claim = submission
    table = pd.read_csv(predictions(folder), dtype=str)
    table[column] = table[by]
    table.to_csv(predictions(folder), index=False)
    honest = claim["accuracy"] if by == "prediction" else 1.0
    found = computed_again(folder, claim | {"accuracy": 1.0}, pairs=40 if by == "label" else 0)
    assert found.accuracy["dev.en"] == {"claimed": 1.0, "recomputed": honest, "n": 60}
    kind = "predictions" if by == "label" else "accuracy"
    assert [(name, flag.kind) for name, flag in found.flags] == [("dev accuracy", kind)]
    assert found.predictions.get("agree", 0) < 30
    assert by == "label" or f"make {honest:.4f} of 60" in found.flags[0][1].text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"pair_id,prediction\n1,0\n", "not the pairs of any data"),
        (b"pair_id,prediction\r1,0\r", "new-line character"),
        (b"pair_id,prediction\n1,%s\n" % (b"0" * 200_000), "field"),
        (RUBRIC, "was not handed in"),  # as a link to it
    ],
)
def test_a_claim_whose_predictions_cannot_be_read_is_in_doubt(content, text, submission):
    folder, claim = submission
    path = predictions(folder)
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.symlink_to(content)
    found = computed_again(folder, claim)
    ((name, flag),) = found.flags
    assert not found.accuracy and text in flag.text and name == "dev accuracy"
    assert flag.kind == ("accuracy" if isinstance(content, bytes) else "evidence")


def test_weights_that_cannot_be_used_are_a_flag(submission):
    folder, claim = submission
    (weights,) = folder.glob("runs/*/best_model/model.safetensors")
    config = weights.with_name("config.json")
    honest = config.read_text()

    class Harmful:
        def __reduce__(self):
            return Path.touch, (folder / "was loaded",)

    def flag():
        return computed_again(folder, claim).flags[0][1]

    for text in ('{"n_positions": 1e999}', "{}", "[" * 50_000):
        config.write_text(text)
        assert "its config.json is damaged" in flag().text
    config.write_text(honest)
    torch.save({"x": Harmful()}, weights)
    assert "its model gives no predictions" in flag().text
    assert not (folder / "was loaded").exists()
    weights.unlink()
    assert flag().kind == "recomputed"  # which costs nothing


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


def command(submissions: Path, out: Path, *options: str) -> dict[str, bytes]:
    """Run `grade` with FEW; return everybody's grade.json."""
    rubric = out.with_suffix(".toml")
    rubric.write_text(FEW)
    main(["grade", str(submissions), "--out", str(out), "--rubric", str(rubric), *options])
    return {path.parent.name: path.read_bytes() for path in out.glob("*/grade.json")}


def test_only_changes_are_graded_again_whatever_is_broken(tmp_path, capsys):
    class_, out = tmp_path / "in", tmp_path / "out"
    handed_in(class_ / "ada", {})
    (class_ / "bea.zip").write_bytes(b"PK no zip")
    write(student_edition(), class_ / "cleo")
    out.mkdir()
    (out / "seed.json").write_text('{"seed": 11}')  # whose cases other tests have made
    before = command(class_, out, *ANYHOW)
    said = capsys.readouterr().out
    assert "ada  7 of 8" in said and "bea  0 of 8" in said and "cleo  0 of 8" in said
    assert len(before) == 3 and (out / "gradebook.csv").is_file()
    assert json.loads((out / "ada" / "results.json").read_text())["score"] == 7
    assert of_items(json.loads(before["cleo"]), "state")["add"] == "to do"

    write(student_edition(["layer forward"]), class_ / "cleo")
    after = command(class_, out, *ANYHOW)
    assert "cleo  4 of 8" in capsys.readouterr().out
    assert [name for name in before if after[name] != before[name]] == ["cleo"]


def test_without_a_sandbox_nothing_is_graded_unless_that_is_asked_for(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sandbox, "missing", lambda: "bubblewrap is not installed")
    (tmp_path / "bea.zip").write_bytes(b"PK no zip")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        command(tmp_path / "bea.zip", out)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and not out.exists()
    assert "bubblewrap is not installed" in error and "--without-sandbox" in error
    command(tmp_path / "bea.zip", out, "--without-sandbox")
    pages = [page.read_text() for page in out.rglob("index.html")]
    assert len(pages) == 2 and all("without a sandbox" in page.lower() for page in pages)


def test_an_error_of_the_grader_is_tried_again_with_the_seed_of_the_class(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr("grading.grader.unpack", lambda *_: tried.append(1) or 1 / 0)
    handed_in(tmp_path / "ada", {})
    outs = [tmp_path / "one", tmp_path / "one", tmp_path / "other"]
    one, again, other = (json.loads(command(tmp_path / "ada", out, *ANYHOW)["ada"]) for out in outs)
    assert "ZeroDivisionError: division by zero (test_grader.py, line" in one["problem"]
    assert one["points"] == 0 and one["max_points"] == 8 and len(tried) == 3
    assert one["seed"] == again["seed"] != other["seed"]


def test_missing_data_is_named_before_anything_is_graded(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command(tmp_path, tmp_path / "out", "--data", str(tmp_path / "nowhere"), *ANYHOW)
    assert "nowhere: holds no XNLI-1.0; give the folder" in capsys.readouterr().err


def test_our_rubric_names_every_check_and_is_worth_100():
    rubric = Rubric.load()
    assert list(rubric.exercises) == list(CHECKS) and list(rubric.results) == list(RESULTS)
    assert sum(rubric.exercises.values()) + sum(rubric.results.values()) == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[exercises]\nad = 1", r"\[exercises\] has no 'ad'; there are attention"),
        ("[exercises]\nadd = -1", "add must be a finite number of at least 0"),
        ("[exercises]\nadd = true", "add must be a finite number of at least 0"),
        ("[recomputed]\npairs = 40.0", "pairs must be a whole number of at least 0, got 40.0"),
        ("[limits]\nprocesses = 0", "processes must be a whole number of at least 1, got 0"),
        ("[recomputed]\nagree = 95", "agree must be a finite number from 0 to 1, got 95"),
        (
            "[late]\npoints_a_day = inf",
            "points_a_day must be a finite number .* got inf",
        ),
        ("[recomputed]\nagree = 0.9", "nothing in .* is worth a point"),
        ("[points]\nadd = 1", r"no table \[points\]; there are exercises"),
        ("exercises = 3", r"no table \[exercises\]"),
        ("exercises", r"rubric\.toml: not TOML"),
    ],
)
def test_a_rubric_with_a_mistake_is_named(text, message, tmp_path):
    path = tmp_path / "rubric.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Rubric.load(path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--deadline", "2026-12-01T23:59Z"], "give local time, without a time zone"),
        (["--deadline", "tomorrow"], "Invalid isoformat"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--user", "nosuch"], "--user nosuch: "),
    ],
)
def test_an_option_with_a_mistake_is_named_before_anything_is_graded(
    option, message, tmp_path, capsys
):
    (tmp_path / "ada" / "gpt2").mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["grade", str(tmp_path), "--without-sandbox", "--out", str(tmp_path / "out"), *option])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
