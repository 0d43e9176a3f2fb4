"""Submissions: found in every layout of a class, named right, digested alike, packed to fit."""

import json
import os
import zipfile
from datetime import datetime

import pytest

from grading.edition.student.grading import submit
from grading.submissions.archives import SubmissionError
from grading.submissions.submission import find, unpack
from tests.grading.handed_in import (
    LAYOUTS,
    OTHERS,
    PROJECT,
    contents,
    handed_in,
    one,
    problem,
    project,
    put,
    tarred,
    zipped,
)  # fmt: skip

JUNK = ("__MACOSX/._config.py", "gpt2/__pycache__/model.pyc", "gpt2/.DS_Store", ".git/HEAD")
JUNK = dict.fromkeys((*JUNK, "._config.py", "web/node_modules/x/index.js"), b"junk")

SEVERAL = ("Gradescope", "Canvas, two files", "Moodle, with texts", "folders of copies")
SEVERAL += ("Blackboard", "Brightspace, no folders")  # files of a student, side by side


def assert_all_there(paths, names, out):
    """Every student is found, by the right name, with the right project."""
    found = find(paths)
    assert [each.problem for each in found] == [""] * len(names)
    whose = {each.student: (unpack(each, out / each.student) / "who.txt") for each in found}
    expected = {name: b"%d" % i for i, name in enumerate(names)}
    assert {student: path.read_bytes() for student, path in whose.items()} == expected
    return {each.student: each for each in found}


def names_of(layout, name):
    """Whether a submission is named as the platform has it, which tables for imports need."""
    return {"M": "_assignsubmission_" in name, "C": "_2084" in name}.get(layout[0], True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("students", [8, pytest.param(120, marks=pytest.mark.slow)])
def test_a_whole_class_in_one_layout(tmp_path, layout, students):
    files, names = handed_in(layout, students)
    folder = put(tmp_path / "class", files)
    assert_all_there([folder], names, tmp_path / "1")
    if layout not in SEVERAL:
        assert_all_there(sorted(folder.iterdir()), names, tmp_path / "2")
    for i, prefix in enumerate(("", "Final project/")):
        (tmp_path / "download.zip").write_bytes(zipped(files, prefix))
        found = assert_all_there([tmp_path / "download.zip"], names, tmp_path / f"3{i}")
        assert all(names_of(layout, each.name) for each in found.values())
    late = ["late" in "".join(found[name].notes) for name in names]
    assert late == [layout.startswith("Canvas") and i % 2 == 1 for i in range(len(names))]
    (tmp_path / "download.tgz").write_bytes(tarred(files))
    assert_all_there([tmp_path / "download.tgz"], names, tmp_path / "4")


def test_a_damaged_list_of_names_costs_the_names_alone(tmp_path):
    files, _ = handed_in("Gradescope")
    content = zipped(files, method=zipfile.ZIP_STORED).replace(b":submitters:", b":submittors:")
    (tmp_path / "download.zip").write_bytes(content)  # another checksum than it says
    names = [f"submission_{98765 + i}" for i in range(8)]
    assert_all_there([tmp_path / "download.zip"], names, tmp_path / "out")


@pytest.mark.parametrize("page", OTHERS)
def test_names_in_any_code_page(tmp_path, page):
    files = {k: v for i, name in enumerate(OTHERS[page]) for k, v in project(i, f"{name}/").items()}
    path, names = tmp_path / "class.zip", [name.replace(" ", "-") for name in OTHERS[page]]
    path.write_bytes(zipped(files, page=page))
    assert_all_there([path], names, tmp_path / "1")
    files = {f"{name}.zip": zipped(project(i)) for i, name in enumerate(OTHERS[page])}
    path.write_bytes(zipped(files, page=page))
    assert_all_there([path], names, tmp_path / "2")
    path.write_bytes(zipped(files, page="ascii" if page != "utf-8" else page, unicode_path=True))
    assert_all_there([path], names, tmp_path / "3")


@pytest.mark.parametrize("prefix", ["", "Users/alice/Desktop/project/", "gpt2/"])
def test_a_folder_and_a_zip_are_the_same_in_any_wrapping(tmp_path, prefix):
    files = {prefix + name: data for name, data in PROJECT.items()}
    junk = {prefix + name: data for name, data in JUNK.items()} | {"__MACOSX/x": b"junk"}
    put(tmp_path / "alice", PROJECT)
    put(tmp_path / "bob", files)
    (tmp_path / "carol.zip").write_bytes(zipped(files | junk))
    (tmp_path / "dave.tar.xz").write_bytes(tarred(files | junk, "xz"))
    found = [one(tmp_path / name) for name in ("alice", "bob", "carol.zip", "dave.tar.xz")]
    assert [each.student for each in found] == ["alice", "bob", "carol", "dave"]
    assert len({each.digest for each in found}) == 1 and not found[0].problem
    for each in found:
        root = unpack(each, tmp_path / "out" / each.student)
        assert contents(root) == PROJECT and root == tmp_path / "out" / each.student


def test_a_digest_follows_names_and_bytes_and_nothing_else(tmp_path):
    folder = put(tmp_path / "alice", PROJECT)
    before = one(folder).digest
    os.utime(folder / "config.py", (0, 0))
    put(folder, JUNK)
    assert one(folder).digest == before
    (folder / "config.py").rename(folder / "gpt2/config.py")
    renamed = one(folder).digest
    (folder / "gpt2/config.py").write_bytes(b"x = 2\n")
    assert len({before, renamed, one(folder).digest}) == 3


@pytest.mark.parametrize("as_zip", [False, True])
def test_what_is_no_project_among_others_is_listed_and_says_so(tmp_path, as_zip):
    files = project(0, "alice/") | {"bob/x.zip": zipped(PROJECT), "carol LATE.zip": b"PK, but no"}
    files |= {"dave.rar": b"Rar!", "erin/essay.pdf": b"%PDF", "frank/x.zip": b"cut off"}
    files |= {"grades.csv": b"", "old/gradebook.csv": b"ours", "solution.ipynb": b"{}"}
    path = put(tmp_path / "class", files)
    if as_zip:
        path = tmp_path / "download.zip"
        path.write_bytes(zipped(files, "Final project/", zipfile.ZIP_STORED))
    found = find([path])
    students = ["alice", "bob", "carol-LATE", "dave", "erin", "frank", "solution"]
    assert [each.student for each in found] == students
    assert not found[0].problem and not found[1].problem
    for each in found[2:]:
        assert "hand in the whole project folder" in each.problem
        assert each.student.split("-")[0] in each.problem
        with pytest.raises(SubmissionError):
            unpack(each, tmp_path / "out" / each.student)


def test_a_copy_counts_once_and_namesakes_are_told_apart(tmp_path):
    put(tmp_path / "first/project", PROJECT)
    (tmp_path / "first/project.zip").write_bytes(zipped(PROJECT, "project/"))
    put(tmp_path / "second/Project", PROJECT)
    put(tmp_path / "second/index.html", PROJECT)
    found = find([tmp_path / "first", tmp_path / "second", tmp_path / "first/project"])
    assert [each.student for each in found] == ["project", "Project-2", "index.html-2"]
    copies = {f"submission{n}.zip": zipped(project(0)) for n in ("", " (1)", " (2)")}
    found = find([put(tmp_path / "third", copies)])  # of students whose zips have the same name
    assert sorted(each.student for each in found) == ["submission", "submission-1", "submission-2"]


def test_a_single_submission_in_the_folder_is_named_by_its_zip(tmp_path):
    put(tmp_path, {"submissions/alice.zip": zipped(PROJECT), "bob/submission.zip": zipped(PROJECT)})
    assert (
        one(tmp_path / "submissions").student == "alice" and one(tmp_path / "bob").student == "bob"
    )
    data = {f"project/{name}": content for name, content in PROJECT.items()}
    (tmp_path / "carol.zip").write_bytes(zipped(data | {"XNLI.zip": zipped({"dev.tsv": b""})}))
    assert one(tmp_path / "carol.zip").student == "carol"


def test_projects_of_other_shapes(tmp_path):
    notebook = put(tmp_path / "notebook", {"work.ipynb": b"{}", "data/pretrain.txt": b"text"})
    apart = put(tmp_path / "apart", {"work.ipynb": b"{}", "code/gpt2/model.py": b"", "a.txt": b""})
    package = put(tmp_path / "package", {"gpt2/model.py": b"", "gpt2/layer.py": b""})
    backup = put(tmp_path / "backup", PROJECT | {f"old/{name}": b"" for name in PROJECT})
    for path, root in ((notebook, ""), (apart, "code"), (package, ""), (backup, "")):
        submission, out = one(path), tmp_path / "out" / path.name
        assert submission.student == path.name and not submission.problem
        assert unpack(submission, out) == out / root


def test_two_projects_in_one_submission_are_a_question(tmp_path):
    two = {f"{folder}/{name}": b"" for folder in ("a", "b") for name in PROJECT}
    put(tmp_path, {"alice.zip": zipped(two), "bob.zip": zipped(PROJECT)})
    put(tmp_path / "carol", {"a.zip": zipped(project(1)), "b.zip": zipped(project(2))})
    alice, _, carol = find([tmp_path])
    assert alice.problem == "alice.zip: there are several projects (a and b); hand in one"
    assert carol.problem == "carol: there are several projects (a.zip and b.zip); hand in one"


def test_the_courses_starter_layout_gets_one_sentence(tmp_path):
    for files, named in (
        (("config.py", "utils.py", "default_final_project.ipynb"), "config.py, utils.py"),
        (("models/gpt2.py", "modules/attention.py", "optimizer.py"), "models/gpt2.py"),
        (("config.py", "datasets.py", "sanity_check.py", "models/gpt2.py"), "sanity_check.py"),
    ):
        text = problem(tmp_path, zipped(dict.fromkeys(files, b"x = 1"), "final-project/"))
        assert "the course's starter layout" in text and named in text
        beside = dict.fromkeys(files, b"") | PROJECT  # who moved the code and kept the old files
        assert not one(put(tmp_path / "bob", beside)).problem


def test_environments_are_left_out_whatever_their_names(tmp_path):
    lib = "lib/python3.12/site-packages/transformers/models/gpt2/x.py"
    files = {"env/pyvenv.cfg": b"", f"env/{lib}": b"", "my conda/conda-meta/history": b""}
    files |= {"my conda/share/tk.ipynb": b"", f".venv/{lib}": b"", f"venv/{lib}": b""}
    files |= {"lib/x": b"1"}
    folder = put(tmp_path / "alice", PROJECT | files)
    (folder / "env/bin").mkdir()
    (folder / "env/bin/python").symlink_to("/usr/bin/python3")
    here = {f"p/{name}": b"" for name in ("pyvenv.cfg", f"Lib/{lib}", "Scripts/pip.exe")}
    (tmp_path / "bob.zip").write_bytes(zipped(project(0, "p/") | here))
    found, in_place = one(folder), one(tmp_path / "bob.zip")
    names = ".venv/pyvenv.cfg, env/pyvenv.cfg, my conda/pyvenv.cfg, venv/pyvenv.cfg"
    assert found.notes == (f"environments are left out: {names}",)
    assert contents(unpack(found, tmp_path / "1")) == PROJECT | {"lib/x": b"1"}
    assert in_place.notes and contents(unpack(in_place, tmp_path / "2")) == project(0)


def test_a_time_is_that_of_the_newest_file_or_the_archive(tmp_path):
    folder, long_ago = put(tmp_path / "alice", PROJECT), datetime.fromtimestamp(1e9).isoformat()
    for path in folder.rglob("*.*"):
        os.utime(path, (9e8, 1e9 if path.name == "config.py" else 9e8))
    assert one(folder).handed_in == f"{long_ago} (newest file inside)"

    def of_zip(content):
        path = tmp_path / "bob.zip"
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))
        return find([path])[0].handed_in

    dated, undated = zipped(PROJECT), zipped(PROJECT, date=(1980, 0, 0, 0, 0, 0))
    assert of_zip(dated) == "2026-11-26T10:00:00 (newest file inside)"
    assert of_zip(undated) == of_zip(b"no zip") == f"{long_ago} (time of the archive)"
    in_a_class = of_zip(zipped({"a/x.zip": undated, "b/y.zip": zipped(project(1))}))
    assert in_a_class == "2026-11-26T10:00:00 (time of the archive)"


def test_what_is_no_submission_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        find([tmp_path / "missing.zip"])
    with pytest.raises(ValueError, match="holds no project"):
        find([put(tmp_path / "empty", {"readme.txt": b""})])
    with pytest.raises(ValueError, match="neither a folder nor an archive"):
        find([tmp_path / "empty/readme.txt"])


def packed(capsys, name="submission", limit=100_000_000):
    """The names in the zip that `make submission` writes, its bytes, and what it says."""
    submit.pack(submit.ROOT / f"{name}.zip", limit)
    path = submit.ROOT / f"{name}.zip"
    return zipfile.ZipFile(path).namelist(), path.read_bytes(), capsys.readouterr().out


def test_make_submission_keeps_the_claimed_weights_and_fits(tmp_path, capsys, monkeypatch):
    claim = {"claim": {"run": "english-1"}, "kind": "result", "name": "dev accuracy"}
    shown = {"data": {"application/vnd.gpt2-course+json": claim}}
    notebook = json.dumps({"cells": [{}, {"outputs": [{"text": "x"}, shown]}]}).encode()
    weights, noise = "runs/{}/best_model/model.safetensors", os.urandom(1_000_000)
    files = {"mine.ipynb": notebook, "other.ipynb": b"{", "gpt2/model.py": b"x = 1"}
    files |= {"data/sample/XNLI-1.0/dev.tsv": b"x", weights.format("english-1"): 3 * noise}
    files |= {"runs/a/result.json": b"{}"}
    files |= {weights.format("a"): 2 * noise, weights.format("b"): noise}
    out = {"XNLI-1.0/dev.tsv", "env/pyvenv.cfg", "env/x.py", "old.zip", "runs/a/checkpoint-152.pt"}
    put(tmp_path, files | dict.fromkeys(out, b"1"))
    newest = datetime(2026, 11, 20, 10, 30).timestamp()
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        os.utime(path, (newest, newest))
    monkeypatch.setattr(submit, "ROOT", tmp_path)
    names, content, said = packed(capsys)
    assert set(names) == set(files) and "left out" not in said and f"{len(files)} files" in said
    assert packed(capsys, "Ada")[:2] == (names, content)
    names, content, said = packed(capsys, limit=4_100_000)
    assert set(files) - set(names) == {weights.format("a")} and len(content) <= 4_100_000
    assert f"left out, 2 MB: {weights.format('a')}\n" in said
    names, _, said = packed(capsys, limit=2_500_000)
    assert set(files) - set(names) == {weights.format("english-1"), weights.format("a")}
    assert "left out, 3 MB: runs/english-1" in said and "keep it, you may be asked for it" in said
    (found,) = find([tmp_path / "submission.zip"])
    assert not found.problem and found.handed_in == "2026-11-20T10:30:00 (newest file inside)"
