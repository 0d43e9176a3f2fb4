"""A class: who is in it, what was added by hand, who is late, alike, first, or nameless."""

import csv
import json
import re

import pytest

from grading.__main__ import main
from grading.checks.results import LANGUAGES
from grading.edition.release import student_edition
from grading.edition.release import write as put_files
from grading.report import class_page, load, student_page, write
from grading.report.byhand import ByHand
from grading.report.grades import Grade
from grading.report.ledger import leaderboard, read_shared
from grading.submissions.similar import alike, own_tokens
from tests.grading.test_report import grade, graded, item, raw, read


def rows_of(path):
    return list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))


def test_moodle_and_canvas_get_their_columns(tmp_path):
    sources = {
        "ada": "Ada Lovelace_4711_assignsubmission_file_",
        "bob": "class.zip/Bob Müller_4712_assignsubmission_file_",
        "cleo": "cleopatra_LATE_99_1234_submission.zip",
        "dan": "dan.zip",
    }
    write([grade(name, source=source) for name, source in sources.items()], tmp_path)
    ada, bob = (list(row.values())[:3] for row in rows_of(tmp_path / "moodle.csv"))
    assert ada == ["Participant 4711", "Ada Lovelace", "8.0"]
    assert bob == ["Participant 4712", "Bob Müller", "8.0"]
    (row,) = rows_of(tmp_path / "canvas.csv")
    assert (row["Student"], row["ID"], row["GPT-2 project"]) == ("cleopatra", "99", "8.0")


# ---- By hand, and late -------------------------------------------------------------------------


def test_points_and_comments_by_hand_survive_and_count(tmp_path):
    load(graded(tmp_path, raw("alice"), raw("bob")))
    path = tmp_path / "alice" / "comments.toml"
    text = path.read_text().replace('comment = ""', 'comment = "Well done."')
    text = text.replace("# attention, add", "add = 5").replace("# task3-read = 0", "task3-read = 2")
    path.write_text(text + 'add = "the sum is right"\n')
    write(load(tmp_path), tmp_path)
    graded(tmp_path, raw("alice", seconds=3.0))  # again
    alice, bob = load(tmp_path)
    assert (alice.points, bob.points) == (15, 8) and path.read_text().startswith(text)
    _, text = read(student_page(alice))
    for shown in ("Well done.", "the sum is right", "by hand", "15 of 16", "task3-read 2 points"):
        assert shown in text, shown
    results = json.loads((tmp_path / "alice" / "results.json").read_text())
    assert results["score"] == 15 and "Well done." in results["output"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[points]\nattention = 8\nattention = 9",
            "nothing in it counts: Cannot overwrite a value",
        ),
        ("[points]\natention = 8", "points has no 'atention'; there are attention, add"),
        ("[points]\nattention = true", "points.attention must be a number, got True"),
        ("points = 3", "points must be a table, got 3"),
        ("[answers]\ntask3-read = nan", "answers.task3-read must be a number, got nan"),
        ("[comments]\nadd = 3", "comments.add must be a text, got 3"),
        ("late_days = -1", "late_days must be a whole number, got -1"),
        ("coment = ''", "the file has no 'coment'; there are comment, late_days, points"),
    ],
)
def test_a_mistake_by_hand_is_one_sentence_and_costs_nobody(text, said, tmp_path):
    graded(tmp_path, raw("alice"), raw("bob"))
    (tmp_path / "alice" / "comments.toml").write_text(text)
    alice, bob = load(tmp_path)
    assert alice.points == bob.points == 8
    assert alice.flags[0].kind == "comments.toml" and said in alice.flags[0].text
    assert len(bob.flags) == len(alice.flags) - 1


@pytest.mark.parametrize(
    ("deadline", "days"),
    [("2026-12-02T12:00", 0), ("2026-12-02T11:59", 1), ("2026-11-30T12:00", 2), ("", 0)],
)
def test_late_days_follow_from_the_deadline(deadline, days):
    shared = {"deadline": deadline, "points_a_day": 1.5}
    late = Grade.of(raw(), ByHand(), shared)
    assert (late.late_days, late.penalty, late.points) == (days, 1.5 * days, 8 - 1.5 * days)
    assert Grade.of(raw(), ByHand(late_days=9), shared).points == 0  # and not less
    assert Grade.of(raw(), ByHand(late_days=0), shared).late_days == 0


# ---- A class -----------------------------------------------------------------------------------


def test_one_more_joins_the_class_and_a_broken_grade_says_so(tmp_path):
    write(load(graded(tmp_path, raw("bob"), raw("alice"))), tmp_path)
    (tmp_path / "zed").mkdir()
    (tmp_path / "zed" / "grade.json").write_text("{")
    write(load(graded(tmp_path, raw("cleo"))), tmp_path)
    rows = rows_of(tmp_path / "gradebook.csv")
    assert [row["student"] for row in rows] == ["alice", "bob", "cleo", "zed"]
    assert "can't be read" in rows[3]["problem"]
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        *("gradebook.csv", "index.html", "seed.json")
    ]
    assert sorted(path.name for path in tmp_path.glob("cleo/*")) == [
        *("comments.toml", "grade.json", "index.html", "results.json")
    ]


def test_the_leaderboard_has_recomputed_results_alone():
    fifteen = item("fifteen accuracies", kind="result")
    accuracy = {
        f"test.{language}": {"claimed": 0.9, "recomputed": 0.3 + 0.01 * i, "n": 5010}
        for i, language in enumerate(LANGUAGES)
    }
    recomputed = {"accuracy": accuracy, "held_out_loss": 2.4}
    honest = grade("alice", items=[fifteen], recomputed=recomputed)
    claims = grade("bob", items=[fifteen])
    failed = grade("cleo", items=[{**fifteen, "state": "failed"}], recomputed=recomputed)
    curve = grade("dan", items=[item("toy curve")], recomputed={"held_out_loss": 2.4})
    alice, dan = leaderboard([curve, honest, claims, failed])
    assert (alice["student"], alice["english"], alice["pairs"]) == ("alice", 0.3, 5010)
    assert (dan["student"], dan["loss"], alice["loss"]) == ("dan", 2.4, None)
    _, text = read(class_page([honest, claims]))
    assert "Leaderboard" in text and "0.3000 0.3750 5,010" in text


def test_copies_are_alike_whatever_their_names_and_comments_and_others_are_not(tmp_path):
    edition, solution = student_edition(), student_edition([])
    local = re.compile(rb"(?<![\w.])(scores|context|targets|counted|part|g|m|v)\b")
    renamed = {name: local.sub(rb"my_\1", content) for name, content in solution.items()}
    renamed["optim/adamw.py"] = b"# mine\n" + renamed["optim/adamw.py"].replace(b"    ", b"  ")
    found = {}
    for who, files in {"ours": solution, "renamed": renamed, "open": edition}.items():
        code = {name: files[name] for name in files if name.startswith(("gpt2/", "optim/"))}
        put_files(code, tmp_path / who)
        found[who] = own_tokens(tmp_path / who, edition)
    assert found["open"] == []
    ((one, other, share),) = alike(found)
    assert (one, other) == ("ours", "renamed") and share > 0.6
    everybody = {f"s{i}": [*range(200), *range(1000 * i, 1000 * i + 100)] for i in range(1, 12)}
    assert alike(everybody) == []  # what all of a class have is no copy
    few = {name: everybody[name] for name in ("s1", "s2")}
    assert [pair[:2] for pair in alike(few)] == [("s1", "s2")]


def test_an_anonymous_export_names_nobody(tmp_path):
    ada = raw("Ada-Lovelace", source="Ada Lovelace_4711_assignsubmission_file_")
    ada["items"][1]["problem"] = "File Ada Lovelace/gpt2/model.py, line 3"
    ada["answers"] = {"task3-read": "by ada lovelace, who passed"}
    ming = raw("王-小明") | {"answers": {"task3-read": "我叫小明，王小明。"}}
    graded(tmp_path / "in", ada, raw("passed"), ming, deadline="2026-12-01T12:00")
    (tmp_path / "in" / "Ada-Lovelace" / "comments.toml").write_text('comment = "Ada, fine."')
    main(["pages", str(tmp_path / "in"), "--anonymous", str(tmp_path / "out")])
    texts = {p: p.read_text("utf-8") for p in (tmp_path / "out").rglob("*") if p.is_file()}
    told = re.compile(r"lovelace|4711|\bada\b|王|小明|2026-12-02", re.IGNORECASE)
    assert not [path for path, text in texts.items() if told.search(f"{path.name} {text}")]
    rows = rows_of(tmp_path / "out" / "gradebook.csv")
    assert [(float(row["points"]), row["late_days"]) for row in rows] == [(8, "1")] * 3
    assert any(", fine." in text for text in texts.values())
    folders = sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir())
    assert folders == ["student-001", "student-002", "student-003"]


def test_names_of_two_letters_are_taken_out_as_a_whole(tmp_path):
    bo = raw("Bo-Li") | {"answers": {"task3-read": "I am Bo Li, and so is bo_li.zip"}}
    graded(tmp_path / "in", bo, raw("passed"))
    main(["pages", str(tmp_path / "in"), "--anonymous", str(tmp_path / "out")])
    texts = [path.read_text("utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [text for text in texts if re.search("bo.li", text, re.IGNORECASE)]


def test_mistakes_by_hand_are_printed_and_a_comment_reaches_what_cannot_be_read(tmp_path, capsys):
    broken = raw("bob", problem="bob.zip can't be read", items=[], answers={})
    graded(tmp_path, raw("ada"), broken)
    (tmp_path / "ada" / "comments.toml").write_text("late_days = 1.5")
    (tmp_path / "bob" / "comments.toml").write_text('comment = "Again, please."\n[points]\nx = 1')
    main(["pages", str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'ada' / 'comments.toml'}: nothing in it counts: late_days" in printed
    assert "bob" not in printed.replace(str(tmp_path), "")
    assert "Again, please." in (tmp_path / "bob" / "results.json").read_text("utf-8")


def test_what_is_no_folder_of_grades_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["pages", str(tmp_path / "typo")])
    assert "typo: no such folder" in capsys.readouterr().err and not [*tmp_path.iterdir()]
    with pytest.raises(SystemExit):
        main(["pages", str(tmp_path)])
    assert "holds no grades" in capsys.readouterr().err and not [*tmp_path.iterdir()]
    (tmp_path / "seed.json").write_text("{")
    with pytest.raises(ValueError, match=r"seed\.json: damaged .* delete it"):
        read_shared(tmp_path)
