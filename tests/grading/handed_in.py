"""A class, in the scripts of its names, and the layouts in which it hands in."""

import io
import struct
import tarfile
import zipfile
import zlib
from uuid import uuid4

import pytest

from grading.submissions.archives import Limits, SubmissionError
from grading.submissions.names import safe_name
from grading.submissions.submission import Submission, find, unpack

PROJECT = {
    "default_final_project.ipynb": b'{"cells": []}',
    "config.py": b"x = 1\n",
    "gpt2/model.py": b"class GPT2Model: ...\n",
    "runs/toy/model.safetensors": bytes(range(256)) * 40,
}
NAMES = ["Zoë Müller", "Иванов Пётр", "Παπαδόπουλος Νίκος", "王小明", "山田さくら", "김민준"]
NAMES += ["محمد علي", "अमित शर्मा"]
OTHERS = {  # by the code page of a system that packs their names without saying so
    "gbk": ["王小明", "李娜", "张伟", "刘洋", "陈静", "杨磊", "赵敏", "黄志强"],
    "cp932": ["山田太郎", "佐藤花子", "鈴木一郎", "高橋美咲", "能見表", "伊藤さくら", "林葵"],
    "cp949": ["김민준", "이서연", "박지훈", "최수빈", "정하은", "강도윤", "조현우", "윤지우"],
    "big5": ["陳怡君", "林志明", "黃雅婷", "張家豪", "李淑芬", "王建功", "吳佩珊", "許蓋"],
    "cp437": ["Zoë Müller", "André Muñoz", "Åsa Öberg", "François Lévêque", "Jürgen Groß", "Eva"],
    "cp1252": ["João Gonçalves", "André Muñoz", "Åsa Öberg", "Søren Holm", "Jürgen Groß", "Eva"],
    "cp1251": ["Иванов Пётр", "Смирнова Анна", "Кузнецов Олег", "Попова Елена", "Щукин Илья"],
    "cp866": ["Иванов Пётр", "Смирнова Анна", "Кузнецов Олег", "Попова Елена", "Щукин Илья"],
    "cp737": ["Παππάς Γιώργος", "Νικολάου Μαρία", "Δημητρίου Ελένη", "Γεωργίου Νίκος"],
    "cp1253": ["Παππάς Γιώργος", "Νικολάου Μαρία", "Δημητρίου Ελένη", "Γεωργίου Νίκος"],
    "cp1256": ["محمد علي", "فاطمة حسن", "أحمد خالد", "عمر يوسف"],
    "cp720": ["محمد علي", "فاطمة حسن", "أحمد خالد", "عمر يوسف"],
    "utf-8": NAMES,
}


DATE = (2026, 11, 26, 10, 0, 0)


def zipped(files, prefix="", method=zipfile.ZIP_DEFLATED, page=None, unicode_path=False, date=DATE):
    """Return a zip's bytes; names may be anything that a zip can hold, in any code page."""

    class Info(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            flagged = super()._encodeFilenameFlags()
            return flagged if page is None else (self.filename.encode(page, "replace"), 0)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            info = Info("x", date)
            info.filename, info.compress_type = prefix + name, method
            if unicode_path:
                text, raw = info.filename.encode(), info.filename.encode(page, "replace")
                info.extra = struct.pack("<HHBI", 0x7075, 5 + len(text), 1, zlib.crc32(raw)) + text
            archive.writestr(info, content)
    return buffer.getvalue()


def tarred(files, packed="gz", **fields):
    """Return a tar's bytes; `fields` are those of its last entry."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{packed}") as archive:
        for i, (name, content) in enumerate(files.items(), 1):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items() if i == len(files) else ():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def project(i, prefix=""):
    return {prefix + name: data for name, data in {**PROJECT, "who.txt": b"%d" % i}.items()}


def _canvas(name, i, file):
    letters = name.replace(" ", "").lower()
    return f"{letters}_{'LATE_' * (i % 2)}{34000 + i}_{2084000 + i}_{file}"


def _moodle(name, i, plugin="file_"):
    return f"{name}_{1234567 + i}_assignsubmission_{plugin}"


def _attempt(name, i, file=""):
    return f"GPT-2 project_{name.lower()}_attempt_2026-11-26-10-00-{i % 60:02d}{file}"


def _brightspace(name, i):
    return f"{34000 + i}-{2084000 + i} - {name} - Nov 26, 2026 {100 + i} PM"


def _copies(name, i):
    copies = {"submission.zip": 50, "submission (2).zip": 51, "submission (10).zip": i}
    return {f"{name}/{file}": zipped(project(who)) for file, who in copies.items()}


LAYOUTS = {  # what a student's part of the class's folder or archive is
    "folders": lambda name, i: project(i, f"{name}/"),
    "folders, deep": lambda name, i: project(i, f"{name}/Desktop/project/"),
    "folders of zips": lambda name, i: {f"{name}/submission.zip": zipped(project(i))},
    "folders of deep zips": lambda name, i: {f"{name}/x/work.zip": zipped(project(i, "a/b/"))},
    "folders of copies": _copies,
    "folders of a zip and a notebook": lambda name, i: {
        f"{name}/submission.zip": zipped(project(i)),
        f"{name}/default_final_project.ipynb": b"{}",
        f"{name}/data.zip": zipped({"x.txt": b""}),
    },
    "zips": lambda name, i: {f"{name}.zip": zipped(project(i))},
    "deep zips": lambda name, i: {f"{name}.zip": zipped(project(i), "Users/me/")},
    "zips of zips": lambda name, i: {f"{name}.zip": zipped({"x/p.zip": zipped(project(i))})},
    "PowerShell's zips": lambda name, i: {
        f"{name}.zip": zipped({k.replace("/", "\\"): v for k, v in project(i, "project/").items()})
    },
    "tars": lambda name, i: {f"{name}.{('tgz', 'tar.gz')[i % 2]}": tarred(project(i, "./"))},
    "folders of tars": lambda name, i: {f"{name}/p.tar.xz": tarred(project(i, "p/"), "xz")},
    "Moodle": lambda name, i: {f"{_moodle(name, i)}/submission.zip": zipped(project(i))},
    "Moodle, unpacked": lambda name, i: project(i, f"{_moodle(name, i)}/project/"),
    "Moodle, no folders": lambda name, i: {f"{_moodle(name, i)}p.zip": zipped(project(i))},
    "Moodle, with texts": lambda name, i: {
        f"{_moodle(name, i)}/submission.zip": zipped(project(i)),
        f"{_moodle(name, i, 'onlinetext_')}/onlinetext.html": b"done",
    },
    "Canvas": lambda name, i: {_canvas(name, i, "submission-1.zip"): zipped(project(i))},
    "Canvas, two files": lambda name, i: {
        _canvas(name, i, "submission.zip"): zipped(project(i)),
        _canvas(name, i, "report.pdf"): b"%PDF",
        _canvas(name, i, "default_final_project.ipynb"): b"{}",
    },
    "Blackboard": lambda name, i: {
        _attempt(name, i, ".txt"): b"Name: ...",
        _attempt(name, i, "_submission.zip"): zipped(project(i)),
        _attempt(name, i, "_default_final_project.ipynb"): b"{}",
    },
    "Brightspace": lambda name, i: {f"{_brightspace(name, i)}/p.zip": zipped(project(i))},
    "Brightspace, no folders": lambda name, i: {
        f"{_brightspace(name, i)} - submission.zip": zipped(project(i)),
        f"{_brightspace(name, i)} - report.ipynb": b"{}",
    },
    "Gradescope": lambda name, i: project(i, f"submission_{98765 + i}/"),
}
MIXED = ("folders of zips", "zips", "tars", "folders, deep", "PowerShell's zips", "zips of zips")
LAYOUTS["a mixture"] = lambda name, i: LAYOUTS[MIXED[i % len(MIXED)]](name, i)


def handed_in(layout, students=8):
    """Return the class's files in a layout, and the name that each student is known by."""
    places = (divmod(i, len(NAMES)) for i in range(students))
    whole = [f"{NAMES[i]} {turn}" if turn else NAMES[i] for turn, i in places]
    files = {k: v for i, name in enumerate(whole) for k, v in LAYOUTS[layout](name, i).items()}
    names = [name.replace(" ", "-") for name in whole]
    if layout.startswith("Moodle"):
        names = [f"{name}_{1234567 + i}" for i, name in enumerate(names)]
    if layout.startswith("Canvas"):
        names = [f"{n.replace('-', '').lower()}_{34000 + i}" for i, n in enumerate(names)]
    if layout == "Blackboard":
        names = [safe_name(_attempt(name, i)) for i, name in enumerate(whole)]
    if layout.startswith("Brightspace"):
        names = [safe_name(_brightspace(name, i)) for i, name in enumerate(whole)]
    if layout == "Gradescope":
        lines = [
            f"submission_{98765 + i}:\n  :submitters:\n  - :name: {name}\n    :sid: '{3030 + i}'\n"
            f"    :email: x@example.edu\n  :created_at: 2026-11-26 10:00:00.0 Z\n  :score: 0.0\n"
            for i, name in enumerate(whole)
        ]
        files["submission_metadata.yml"] = "".join(lines).encode()
        names = [f"{name}_{3030 + i}" for i, name in enumerate(names)]
    return files, names


def put(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def tree(folder):
    """Every path below a folder, with a file's content."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


def contents(folder):
    return {name: content for name, content in tree(folder).items() if content is not None}


def one(path, **limits):
    (submission,) = find([path], limits=Limits(**limits))
    return submission


def problem(path, content, **limits):
    """What is wrong with an archive of these bytes, by `find` and `unpack`, which must agree."""
    path = path / "alice.zip"
    path.write_bytes(content)
    found = one(path, **limits)
    assert found.student == "alice" and not found.digest
    with pytest.raises(SubmissionError) as error:
        unpack(Submission("alice", path, ""), path.with_name(uuid4().hex), limits=Limits(**limits))
    assert str(error.value) == found.problem
    assert "\n" not in found.problem and found.problem.startswith("alice.zip")
    return found.problem
