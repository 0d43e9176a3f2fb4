"""A run's folder: finished work is not repeated, changed code is a new run, files are whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer

from experiments.runs import Run, load_gpt2
from tests.processes import together
from utils import atomic_write

json_values = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())
some_settings = st.dictionaries(st.text(max_size=5), json_values, max_size=4)


@given(some_settings, some_settings)
def test_equal_settings_and_only_those_share_a_folder(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (Run("runs", "x", a, {}, {}).path == Run("runs", "x", b, {}, {}).path) == same


def test_the_folder_holds_its_settings(tmp_path):
    run = Run(tmp_path, "x", {"lr": 1e-3, "languages": ("en", "fr")}, {}, {})
    with run.exclusive():
        written = json.loads((run.path / "settings.json").read_text())
        settings = {"lr": 1e-3, "languages": ["en", "fr"]}
        del written["checksum"]
        assert written == {"settings": settings, "inputs": {}, "code": {}}
        assert run.result is None


def leave_a_model(root):
    (Run(root, "x", {}, {}, {}).path / "model").mkdir()
    (Run(root, "x", {}, {}, {}).path / "model" / "config.json").write_text("{}")


def test_a_finished_run_without_its_model_is_an_error(tmp_path):
    Run(tmp_path, "x", {}, {}, {}).once(lambda is_main: {"fine": True})
    with pytest.raises(FileNotFoundError, match="its model is gone; delete the folder and run"):
        Run(tmp_path, "x", {}, {}, {}).once(lambda is_main: {"fine": True})


@pytest.mark.parametrize("name", ["", "a/b", "../x", "/x"])
def test_a_run_stays_in_its_root(tmp_path, name):
    with pytest.raises(ValueError, match="name must be a plain folder name"):
        Run(tmp_path, name, {}, {}, {})


@pytest.mark.parametrize("content", ["[]", "{}", "null", "{", "[" * 100_000])
def test_a_damaged_result_is_named(tmp_path, content):
    run = Run(tmp_path, "x", {}, {}, {})
    run.path.mkdir()
    (run.path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"result.json: not .*; delete it and run again"):
        _ = run.result


def test_work_is_done_once_and_its_result_saved(tmp_path):
    done = []

    def work(is_main):
        assert is_main
        done.append("work")
        leave_a_model(tmp_path)
        return {"accuracy": 0.5}

    for _ in range(2):
        Run(tmp_path, "x", {}, {}, {}).once(work)
    assert Run(tmp_path, "x", {}, {}, {}).result["accuracy"] == 0.5 and done == ["work"]


def test_work_that_fails_leaves_the_run_unfinished(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Run(tmp_path, "x", {}, {}, {}).once(lambda is_main: 1 / 0)
    assert Run(tmp_path, "x", {}, {}, {}).result is None
    Run(tmp_path, "x", {}, {}, {}).once(lambda is_main: leave_a_model(tmp_path) or {"fine": True})
    assert Run(tmp_path, "x", {}, {}, {}).result["fine"]


def go_in(runs):
    with Run(runs, "x", {}, {}, {}).exclusive():
        print("in")


@pytest.mark.all
def test_a_second_process_has_to_wait_for_the_first(tmp_path):
    with Run(tmp_path, "x", {}, {}, {}).exclusive():
        refused = together(1, go_in, tmp_path, output=tmp_path / "refused")
    assert refused.returncode == 1 and "another process works in this folder" in refused.stderr
    assert together(1, go_in, tmp_path, output=tmp_path / "printed").stdout == "in\n"


def test_only_files_of_a_killed_writer_are_deleted(tmp_path):
    run = Run(tmp_path, "x", {}, {}, {})
    written = run.path / "best_model" / "model.pt"
    with run.exclusive(), pytest.raises(ZeroDivisionError):
        (run.path / ".my.notes.txt").write_text("the user's own")
        atomic = atomic_write(written)
        atomic.__enter__().write_bytes(b"half")  # and never left again
        with atomic_write(written) as path:
            path.write_bytes(b"whole")
        _ = 1 / 0
    assert len(list(written.parent.iterdir())) == 2
    with run.exclusive():
        assert list(written.parent.iterdir()) == [written] and written.read_bytes() == b"whole"
        assert {path.name for path in run.path.iterdir()} == {
            ".lock",
            ".my.notes.txt",
            "best_model",
            "settings.json",
        }


# ---- Changed code ------------------------------------------------------------------------------


def finished(root, settings, inputs, code, name="x"):
    run = Run(root, name, settings, inputs, code)
    (run.path / "model").mkdir(parents=True, exist_ok=True)
    (run.path / "model" / "config.json").write_text("{}")
    with run.exclusive():
        pass
    return run


def start(capsys, *arguments):
    """Start a run; return its folder's name and what it printed."""
    run = Run(*arguments)
    capsys.readouterr()
    with pytest.raises(ZeroDivisionError):
        run.once(lambda is_main: 1 / 0)
    return run.path.name, capsys.readouterr().out


def test_changed_code_is_named_beside_the_earlier_run(tmp_path, capsys):
    before = {"gpt2/attention.py": "1", "gpt2/loss.py": "1", "prompt": "Label:"}
    earlier = finished(tmp_path, {"lr": 1.0, "languages": ("en",)}, {"train": ["a"]}, before)
    after = {"gpt2/attention.py": "2", "gpt2/new.py": "1", "prompt": "Label:"}
    name, printed = start(
        capsys, tmp_path, "x", {"lr": 1.0, "languages": ("en",)}, {"train": ["b"]}, after
    )
    assert name != earlier.path.name
    assert printed == (
        f"{name}: a new run, because gpt2/attention.py, gpt2/loss.py, gpt2/new.py changed since "
        f"{earlier.path.name} with the same settings\n"
    )


@pytest.mark.parametrize(
    ("settings", "inputs", "code", "name"),
    [
        ({"lr": 2.0}, {"train": "a"}, {"a.py": "2"}, "x"),  # other settings
        ({"lr": 1.0}, {"train": "b"}, {"a.py": "1"}, "x"),  # other data, the same code
        ({"lr": 1.0}, {"train": "a"}, {"a.py": "2"}, "y"),  # another name
    ],
)
def test_other_settings_data_or_names_print_nothing(tmp_path, capsys, settings, inputs, code, name):
    finished(tmp_path, {"lr": 1.0}, {"train": "a"}, {"a.py": "1"})
    assert start(capsys, tmp_path, name, settings, inputs, code)[1] == ""


def test_a_damaged_earlier_run_is_no_obstacle(tmp_path, capsys):
    earlier = finished(tmp_path, {"lr": 1.0}, {}, {"a.py": "1"})
    (earlier.path / "settings.json").write_text("{")
    assert start(capsys, tmp_path, "x", {"lr": 1.0}, {}, {"a.py": "2"})[1] == ""


def test_a_run_stays_where_it_is_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run("runs", "x", {}, {}, {})
    run.path.mkdir(parents=True)
    leave_a_model("runs")
    run.once(lambda is_main: {"accuracy": 0.5})
    monkeypatch.chdir("/")
    assert run.result["accuracy"] == 0.5 and run.path.parent == tmp_path / "runs"


@pytest.mark.parametrize("files", [("tokenizer.json",), ("vocab.json", "merges.txt")])
def test_a_folder_with_a_tokenizer_of_its_own_keeps_it(files, tmp_path, tiny_model):
    bytes_ = ByteLevelBPETokenizer()
    texts = ["der Hund und die Katze sind im Haus"] * 50
    bytes_.train_from_iterator(texts, vocab_size=300, special_tokens=["<|endoftext|>"])
    tiny_model.save_pretrained(tmp_path)
    bytes_.save_model(str(tmp_path)), bytes_.save(str(tmp_path / "tokenizer.json"))
    for file in {"tokenizer.json", "vocab.json", "merges.txt"} - {*files}:
        (tmp_path / file).unlink()
    assert load_gpt2(tmp_path)[1]("der Hund")["input_ids"] == bytes_.encode("der Hund").ids
