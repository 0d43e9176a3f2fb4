"""A run's folder: what is in it is whole, whoever is killed and whatever is full."""

import json
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.runs import Metrics, Run
from gpt2.checkpoints import Checkpoints, Progress
from tests import ROOT
from utils import atomic_write


def progress(step, total=10, **changes):
    values = {
        "step": step,
        "total_steps": total,
        "epoch": 1,
        "loss": 1.0 / step,
        "num_labels": 4,
        "num_tokens": 40,
        "learning_rate": 1e-3,
        "seconds": float(step),
        "memory": 1,
        "ends_epoch": step == total,
    }
    return Progress(**{**values, **changes})


def state(step):
    return {"model": {"w": torch.full((1000,), float(step))}, "history": [{"step": step}]}


def step_of(checkpoints):
    loaded = checkpoints.load()
    return loaded and loaded["history"][0]["step"]


# ---- The folder --------------------------------------------------------------------------------


json_values = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())
some_settings = st.dictionaries(st.text(max_size=5), json_values, max_size=4)


@given(some_settings, some_settings)
def test_equal_settings_share_a_folder_and_others_do_not(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (Run("runs", "x", a).path == Run("runs", "x", b).path) == same


def test_the_folder_holds_its_settings(tmp_path):
    run = Run(tmp_path, "x", {"lr": 1e-3, "languages": ("en", "fr")})
    with run.alone():
        written = json.loads((run.path / "settings.json").read_text())
        assert written == {"lr": 1e-3, "languages": ["en", "fr"]}
        assert run.result is None


def leave_a_model(root):
    (Run(root, "x", {}).path / "model").mkdir()
    (Run(root, "x", {}).path / "model" / "config.json").write_text("{}")


def test_a_finished_run_without_its_model_says_so(tmp_path):
    Run(tmp_path, "x", {}).once(lambda is_main: {"fine": True})
    with pytest.raises(FileNotFoundError, match="its model is gone; delete the folder and run"):
        Run(tmp_path, "x", {}).once(lambda is_main: {"fine": True})


@pytest.mark.parametrize("name", ["", "a/b", "../x", "/x"])
def test_a_run_stays_in_its_root(tmp_path, name):
    with pytest.raises(ValueError, match="name must be a plain folder name"):
        Run(tmp_path, name, {})


@pytest.mark.parametrize("content", ["[]", "{}", "null", "{", "[" * 100_000])
def test_a_result_that_no_run_writes_is_named(tmp_path, content):
    run = Run(tmp_path, "x", {})
    run.path.mkdir()
    (run.path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"result.json: not .*; delete it and run again"):
        _ = run.result


def test_work_is_done_once_and_its_result_kept(tmp_path):
    done = []

    def work(is_main):
        assert is_main
        done.append("work")
        leave_a_model(tmp_path)
        return {"accuracy": 0.5}

    for _ in range(2):
        Run(tmp_path, "x", {}).once(work)
    assert Run(tmp_path, "x", {}).result == {"accuracy": 0.5} and done == ["work"]


def test_work_that_fails_leaves_the_run_unfinished(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Run(tmp_path, "x", {}).once(lambda is_main: 1 / 0)
    assert Run(tmp_path, "x", {}).result is None
    Run(tmp_path, "x", {}).once(lambda is_main: leave_a_model(tmp_path) or {"fine": True})
    assert Run(tmp_path, "x", {}).result == {"fine": True}


def test_a_second_process_is_turned_away_and_let_in_after_the_first(tmp_path):
    other = (
        "import sys; from experiments.runs import Run\n"
        "with Run(sys.argv[1], 'x', {}).alone(): print('in')\n"
    )
    command = [sys.executable, "-c", other, str(tmp_path)]
    with Run(tmp_path, "x", {}).alone():
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1 and "another process works in this folder" in refused.stderr
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "in\n"


def test_what_a_killed_writer_left_is_cleared_away_and_nothing_else(tmp_path):
    run = Run(tmp_path, "x", {})
    written = run.path / "best_model" / "model.pt"
    with run.alone(), pytest.raises(ZeroDivisionError):
        (run.path / ".my.notes.txt").write_text("the user's own")
        atomic = atomic_write(written)
        atomic.__enter__().write_bytes(b"half")  # and never left again
        with atomic_write(written) as path:
            path.write_bytes(b"whole")
        _ = 1 / 0
    assert len(list(written.parent.iterdir())) == 2
    with run.alone():
        assert list(written.parent.iterdir()) == [written] and written.read_bytes() == b"whole"
        assert {path.name for path in run.path.iterdir()} == {
            ".lock",
            ".my.notes.txt",
            "best_model",
            "settings.json",
        }


# ---- Metrics -----------------------------------------------------------------------------------


def test_a_resumed_run_has_every_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path)
    for step in range(1, 6):
        first(progress(step))
    first.write({"step": 5, "dev_accuracy": 0.5})
    again = Metrics(path)
    for step in range(3, 11):  # the last checkpoint was after step 3
        again(progress(step, seconds=100.0 + step))
    lines = again.read()
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert [line["seconds"] for line in lines[:4]] == [1, 2, 103, 104]


def test_every_line_has_the_speed_of_its_step_and_the_time_that_is_left(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for step, seconds in ((1, 2.0), (2, 6.0)):
        metrics(progress(step, seconds=seconds))
    Metrics(metrics.path)(progress(3, seconds=11.0))  # gone on with in another process
    lines = metrics.read()
    assert [line["tokens_per_second"] for line in lines] == [40 / 2, 40 / 4, 40 / 5]
    assert [line["eta_seconds"] for line in lines] == pytest.approx([18, 24, 7 * 11 / 3])


@settings(deadline=None)
@given(st.data())
def test_a_torn_file_costs_no_more_than_the_torn_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    metrics = Metrics(path)
    for step in range(1, 5):
        metrics(progress(step))
    raw = path.read_bytes()
    cut = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:cut])
    whole = raw[:cut].count(b"\n")
    assert [line["step"] for line in Metrics(path).read()][:whole] == list(range(1, whole + 1))
    Metrics(path)(progress(5))
    assert Metrics(path).read()[-1]["step"] == 5


@pytest.mark.parametrize("line", [b'{"step": "x"}', b"null", b"3", b"[" * 100_000, b"\xff\x00"])
def test_lines_that_no_run_writes_are_passed_over(tmp_path, line):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics(progress(1))
    with open(metrics.path, "ab") as file:
        file.write(line + b"\n")
    Metrics(metrics.path)(progress(2))
    assert [line["step"] for line in metrics.read()] == [1, 2]


# ---- Checkpoints -------------------------------------------------------------------------------


def test_the_last_two_are_kept_and_the_last_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for step in (1, 2, 30):
        checkpoints.save(progress(step, total=30), state(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000002.pt", "checkpoint-00000030.pt"]
    loaded = Checkpoints(tmp_path).load()
    assert torch.equal(loaded["model"]["w"], torch.full((1000,), 30.0))


def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == "truncated":
        raw = raw[: len(raw) // 2]
    elif how == "empty":
        raw = b""
    elif how == "one bit":  # inside the tensor's bytes
        at = raw.index(torch.full((2,), 2.0).numpy().tobytes()) + 1001
        raw[at] ^= 1
    else:
        raw = b"\x00" * len(raw)
    path.write_bytes(raw)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_what_may_be_no_damage_is_raised_and_costs_no_checkpoint(tmp_path, monkeypatch, error):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(progress(1), state(1))

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", fail)
        with pytest.raises(type(error)):
            checkpoints.load()
    assert step_of(checkpoints) == 1


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit", "zeros"])
def test_a_corrupt_last_checkpoint_falls_back_to_the_one_before(tmp_path, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(progress(step), state(step))
    damage(tmp_path / "checkpoint-00000002.pt", how)
    with pytest.warns(UserWarning, match="checkpoint-00000002.pt: can't be read"):
        assert step_of(checkpoints) == 1
    damage(tmp_path / "checkpoint-00000001.pt", "empty")
    with pytest.warns(UserWarning, match="checkpoint-00000001.pt: can't be read"):
        assert checkpoints.load() is None


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_is_found_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("c")
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(progress(step), state(step))
    last = folder / "checkpoint-00000002.pt"
    raw = bytearray(last.read_bytes())
    # Directory and headers lie at the end, and are few bytes: half of the flips go there.
    at = data.draw(st.one_of(st.integers(0, len(raw) - 1), st.integers(-1200, -1)))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    last.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = checkpoints.load()
    step = loaded["history"][0]["step"]
    assert torch.equal(loaded["model"]["w"], torch.full((1000,), float(step))) and step in (1, 2)


def test_no_memory_to_load_it_is_no_reason_to_delete_it(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(progress(1), state(1))

    def no_memory(*_, **__):
        raise RuntimeError("can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", no_memory)
        with pytest.raises(RuntimeError, match="can't allocate"):
            checkpoints.load()
    assert step_of(checkpoints) == 1


def test_one_is_due_by_steps_or_by_time_and_after_every_epoch(tmp_path):
    by_steps = Checkpoints(tmp_path, every_steps=3)
    assert [s for s in range(1, 11) if by_steps.due(progress(s))] == [3, 6, 9, 10]
    by_time = Checkpoints(tmp_path, every_seconds=0.0)
    assert by_time.due(progress(1))
    assert not Checkpoints(tmp_path, every_seconds=1000.0).due(progress(1))


def test_a_full_disk_costs_that_save_and_stops_only_the_last(tmp_path):
    """Files of this process can't grow beyond 20 kB, as on a disk with no more room."""
    script = (
        "import resource, sys, warnings; import test_run as t\n"
        "checkpoints = t.Checkpoints(sys.argv[1])\n"
        "checkpoints.save(t.progress(1), t.state(1))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "large = {'model': t.torch.zeros(100_000)}\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    checkpoints.save(t.progress(2), large)\n"
        "print(caught[0].message)\n"
        "try: checkpoints.save(t.progress(10), large)\n"
        "except OSError as error: print(error)\n"
        "metrics = t.Metrics(sys.argv[1] + '/metrics.jsonl')\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    for step in range(1, 200): metrics(t.progress(step, total=999))\n"
        "print(caught[0].message)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT / "tests",
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run.stderr
    assert "no checkpoint at step 2, training goes on" in lines[0]
    assert "GiB are free; make room there and start again" in lines[1]
    assert "metrics.jsonl: lines are lost" in lines[2]
    kept = [line["step"] for line in Metrics(tmp_path / "metrics.jsonl").read()]
    assert kept == list(range(1, len(kept) + 1)) and 20 < len(kept) < 199
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-00000001.pt", "metrics.jsonl"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step_of(Checkpoints(tmp_path)) == 1
