"""What instructors get of grades, whatever stands in them."""

import csv
import io
import json
import subprocess
import zipfile
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics import wilson_interval
from grading import report
from grading.__main__ import main
from grading.checks.results import LANGUAGES
from grading.report import class_page, gradebook, gradescope, load, student_page, write
from grading.report.grades import Grade, clean


def accuracy(language, correct, n):
    low, high = wilson_interval(correct, n)
    return {"language": language, "accuracy": correct / n, "low": low, "high": high, "n": n}


def item(name, state="passed", **more):
    hint = "" if state == "passed" else "what should the weights of a row sum to?"
    found = {"what": "values", "got": "3.1e-01", "expected": "at most 1e-05", "hint": hint}
    found["passed"] = state == "passed"
    points = 8.0 if state == "passed" else 0.0
    return {
        **{"id": name, "title": name.capitalize(), "section": "3.2", "kind": "exercise"},
        **{"state": state, "points": points, "max_points": 8.0, "problem": "", "found": [found]},
        **more,
    }


def raw(student="alice", **more):
    rows = [accuracy(language, 1700 + 30 * i, 5010) for i, language in enumerate(LANGUAGES)]
    flag = {"kind": "order", "where": "task2-test-evaluate", "text": "not executed in order"}
    known = {"claimed": rows[0]["accuracy"], "recomputed": 0.1, "n": 5010}
    return {
        **{"student": student, "source": f"{student}.zip", "digest": "d1" * 16},
        **{"graded_at": "2026-11-26T10:00:00", "seconds": 41.2, "points": 8.0, "max_points": 16},
        "items": [item("attention"), item("add", "failed")],
        "flags": [flag, {"kind": "changed", "where": "settings", "text": "no fault"}],
        "claims": {
            "toy curve": {
                **{"run": "toy", "note": "", "first_loss": 10.8, "unigram": 6.7},
                **{"train_loss": [9.0, 7.0, 6.0], "held_out_loss": [9.5, 7.5, 6.5]},
            },
            "dev accuracy": {"run": "en", "note": "", **accuracy("en", 1100, 2490)},
            "fifteen accuracies": {"run": "en", "note": "", "rows": rows},
            "selection": {"chosen": ["es", "fr"]},
        },
        "recomputed": {
            "accuracy": {"test.en": known},
            "predictions": {"compared": 40, "agree": 39, "split": "test.en"},
        },
        "sandboxed": False,
        "answers": {"pretraining-read": "The loss falls.", "task3-read": ""},
        "handed_in": "2026-12-02T12:00:00 (newest file inside)",
        "problem": "",
        **more,
    }


def grade(*arguments, **more):
    return Grade.of(raw(*arguments, **more))


EMPTY = {"items": [], "flags": [], "claims": {}, "recomputed": {}, "answers": {}}
BROKEN = grade("zed", **EMPTY, problem="zed.zip is not a zip")


def graded(folder, *raws, **shared):
    """A folder of grades, as the grader leaves it before there are pages."""
    for each in raws:
        path = folder / each["student"] / "grade.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(each))
    (folder / "seed.json").write_text(json.dumps({"seed": 1, **shared}))
    return folder


class Page(HTMLParser):
    """A page's elements and text; every element is closed where it should be."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attributes for each, attributes in self.elements if each == tag]


# ---- Gradescope and the gradebook --------------------------------------------------------------


def test_gradescope_gets_its_fields_and_students_no_flags():
    results = json.loads(json.dumps(gradescope(grade()), allow_nan=False))
    assert results["score"] == 8 and results["execution_time"] == 41
    assert results["visibility"] == "visible" and results["stdout_visibility"] == "hidden"
    assert results["test_output_format"] == results["output_format"] == "text"
    attention, add, flags = results["tests"]
    assert attention["status"] == "passed" and attention["score"] == attention["max_score"] == 8
    assert set(attention) == {"name", "score", "max_score", "status", "output", "tags"}
    assert attention["tags"] == ["exercise", "3.2"]
    assert add["status"] == "failed" and add["score"] == 0
    assert "values: got 3.1e-01, expected at most 1e-05" in add["output"]
    assert "Hint: what should the weights" in add["output"]
    assert flags["visibility"] == "hidden" and "not executed in order" in flags["output"]
    assert "score" not in flags and "max_score" not in flags
    assert "not executed" not in json.dumps([results["output"], attention, add])
    broken = gradescope(BROKEN)
    assert broken["score"] == 0 and broken["tests"] == [] and "not a zip" in broken["output"]


def test_the_autograder_holds_what_grades_and_no_runs(tmp_path):
    main(["gradescope", str(tmp_path / "autograder.zip"), "--options=--jobs 2"])
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        names = archive.namelist()
        scripts = [archive.read(each).decode() for each in names[:2]]
        modes = [archive.getinfo(each).external_attr >> 16 for each in names[:2]]
    assert names[:2] == ["setup.sh", "run_autograder"] and modes == [0o755, 0o755]
    assert "--out /tmp/grades --jobs 2\n" in scripts[1] and len(names) == len(set(names))
    assert {"grading/__main__.py", "grading/rubric.toml", "gpt2/model.py"} <= set(names)
    assert not [n for n in names if "__pycache__" in n or n.startswith(("runs/", "tests/"))]
    for text in scripts:
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_gradebook_has_a_row_a_student():
    table = gradebook([grade("Alice", items=[item("attention")]), grade("bob"), BROKEN])
    assert list(table.columns) == [
        *("student", "points", "max_points", "attention", "add"),
        *("answers", "late_days", "penalty", "flags", "problem"),
    ]
    assert list(table["student"]) == ["Alice", "bob", "zed"]
    assert table.loc[1].tolist() == ["bob", 8, 16, 8, 0, 0, 0, 0, 1, ""]
    assert table["add"].isna().tolist() == [True, False, True]
    assert gradebook([]).empty


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n@", " +", "\u200b=", "＝"])
def test_a_spreadsheet_computes_nothing_of_a_submission(start):
    table = gradebook([grade(problem=f"{start}cmd|' /C calc'!A0;\n=1")])
    ((*_, cell),) = csv.reader(io.StringIO(table.to_csv(index=False, header=False)))
    assert cell[0] == "'" and cell[1] in "=+-@＝" and not set(cell) & set("\n\r\t;")


# ---- Pages -------------------------------------------------------------------------------------


def test_a_students_page_shows_everything_and_needs_nothing():
    page, figures = Page(student_page(grade())), plt.get_fignums()
    images = page.all("img")
    assert len(images) == 2 and all(each["src"].startswith("data:image/svg") for each in images)
    assert all(each["alt"] for each in images) and figures == []  # none is left open
    assert not page.all("script") and not page.all("link")
    assert [each["href"] for each in page.all("a")] == ["../index.html"]
    for shown in (
        *("alice", "8 of 16", "To look at: 1 flag", "not executed in order", "no fault"),
        *("OK", "FAIL", "Hint: what should", "✗ differs", "not recomputed", "39 of 40"),
        *("NONE: graded without a sandbox", "{'chosen': ['es', 'fr']}"),
        *("pretraining-read not graded The loss falls.", "task3-read not graded nothing"),
    ):
        assert shown in " ".join(page.text.split()), shown


def test_the_reason_comes_first_and_a_common_one_once():
    same = "ModuleNotFoundError: No module named 'requests' (utils.py, line 3)"
    names = ("attention", "embed", "generation")
    items = [item(name, "failed", problem=same, found=[]) for name in names]
    text = " ".join(Page(student_page(grade(items=[*items, item("add", "failed")]))).text.split())
    assert text.count(same) == 1 and text.count("As above.") == 3
    assert text.index("3 items have the same problem") < text.index("Points")
    assert "values: got 3.1e-01, expected at most 1e-05 Hint: what should" in text


def test_a_class_page_lists_students_by_name_and_links_them(tmp_path):
    graded(tmp_path, raw("bob"), raw("Alice"), raw("王-小明"))
    page = Page(class_page([*load(tmp_path), BROKEN]))
    links = [each["href"] for each in page.all("a")]
    assert links[:3] == ["gradebook.csv", "Alice/index.html", "bob/index.html"]
    assert links[3] == "%E7%8E%8B-%E5%B0%8F%E6%98%8E/index.html" and links[4] == "zed/index.html"
    assert len(page.all("img")) == 1 and "Not graded: zed.zip" in " ".join(page.text.split())
    assert "WITHOUT A SANDBOX4" in " ".join(page.text.split())
    assert page.text.count("⚑ order") == 3 and "no fault" not in page.text
    assert "✗" in page.text and "✓" in page.text and "Attention: 75%" in page.text
    for grades in ([], [BROKEN], [grade(items=[])]):
        Page(class_page(grades))


EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>{{ 7*7 }}&amp;$\\frac{"


def test_texts_of_a_submission_stay_texts():
    evil = grade(
        EVIL,
        items=[item(EVIL, "failed", title=EVIL, section=EVIL, problem=EVIL, kind=EVIL)],
        flags=[{"kind": EVIL, "where": EVIL, "text": EVIL}],
        claims={EVIL: EVIL, "dev accuracy": accuracy(EVIL, 5, 9)},
        recomputed={"accuracy": {EVIL: {"recomputed": 0.5}}},
        **dict.fromkeys(("source", "digest", "graded_at", "problem"), EVIL),
    )
    for page in map(Page, (student_page(evil), class_page([evil]))):
        assert not page.all("script") and "49" not in page.text and EVIL[:20] in page.text
        assert all(each["src"].startswith("data:") for each in page.all("img"))
        assert all(not key.startswith("on") for _, keys in page.elements for key in keys)


def test_no_text_turns_others_around_or_breaks_a_file():
    text = "a\u202eb\x00c\ud800d\x1b[31me\u2028f"
    assert clean(text) == "ab\ufffdc\ufffdd\ufffd[31me f"
    student_page(grade(problem=text)).encode()
    assert len(clean("x" * 10**7)) < 450


def test_nothing_huge_gets_onto_a_page():
    finding = {**item("a")["found"][0], "got": "x" * 10**7}
    huge = grade(
        items=[item("a", found=[finding], problem="p" * 10**7)],
        flags=[{"kind": "order", "where": str(i), "text": "z" * 10**4} for i in range(10**4)],
        claims={
            "selection": list(range(10**5)),
            "toy curve": {"first_loss": 1, "unigram": 1, "train_loss": [1.0] * 10**6},
            "fifteen accuracies": {"rows": [accuracy("en", 5, 9)] * 1000},
        },
        problem="p" * 10**7,
    )
    assert len(student_page(huge)) < 800_000 and len(class_page([huge])) < 800_000
    assert len(json.dumps(gradescope(huge))) < 200_000


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"toy curve": {"first_loss": float("nan")}}, "toy curve is no train_loss"),
        ({"dev accuracy": {**accuracy("en", 5, 9), "accuracy": 45.2}}, "no share"),
        ({"fifteen accuracies": {"rows": [[1]]}}, "rows[0] is [1]"),
    ],
)
def test_claims_that_cannot_be_shown_are_left_out_with_a_word(claims, said):
    page = Page(student_page(grade(claims=claims, recomputed={})))
    assert not page.all("img") and said in " ".join(page.text.split())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@settings(max_examples=12)
@given(claims=st.dictionaries(st.sampled_from([*raw()["claims"], "x"]), JSON), text=st.text())
def test_any_claim_and_any_text_has_a_page(claims, text):
    found = grade(claims=claims, problem=text, answers={"task3-read": text})
    json.dumps(gradescope(found), allow_nan=False)
    gradebook([found]).to_csv().encode()
    Page(student_page(found))


# ---- Written -----------------------------------------------------------------------------------


def test_everything_is_written_and_a_page_again_only_for_another_grade(tmp_path, monkeypatch):
    made = []

    def page(grade):
        made.append(grade.student)
        return student_page(grade)

    monkeypatch.setattr(report, "student_page", page)
    write([grade("alice"), grade("bob")], tmp_path)
    before = (tmp_path / "alice/index.html").read_bytes()
    write([grade("alice"), grade("bob", seconds=9.0)], tmp_path)
    (tmp_path / "alice/index.html").write_bytes(before[:1000])
    write([grade("alice"), grade("bob", seconds=9.0)], tmp_path)
    assert made == ["alice", "bob", "bob", "alice"]
    assert (tmp_path / "alice/index.html").read_bytes() == before
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    pages = {f"{s}/{file}" for s in ("alice", "bob") for file in ("index.html", "results.json")}
    assert names == {*pages, "gradebook.csv", "index.html"}
    rows = list(csv.reader(io.StringIO((tmp_path / "gradebook.csv").read_text("utf-8-sig"))))
    assert [row[0] for row in rows] == ["student", "alice", "bob"]
