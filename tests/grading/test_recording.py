"""What one process observes another judges as if it had seen it itself, and it trusts nothing."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from config import GPT2Config
from grading.checks import CHECKS, check_function
from grading.checks.cases import case, other_cases
from grading.checks.findings import run
from grading.edition.release import SHAPE
from grading.submissions.expected import fresh_cases
from grading.submissions.recording import OTHER, TENSOR, check_predictions, judge, record

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def cases():
    return fresh_cases(20)


def judged(tmp_path, cases, function):
    """Observed with the inputs alone, judged with what is expected."""
    handed_out, bare = case("add").expected, cases.without_answers()
    with other_cases(bare.tensors, bare.hints):
        record("add", function, tmp_path / "observed")
    with other_cases(cases.tensors, cases.hints):
        assert not torch.equal(case("add").expected, handed_out)
        found = judge("add", function, tmp_path / "observed")
    assert torch.equal(case("add").expected, handed_out)
    return found


@pytest.mark.parametrize("name", ["add", "generation"])
def test_our_own_code_passes_without_seeing_what_is_expected(name, tmp_path, cases):
    function = check_function(name, GPT2Config(**SHAPE))
    found, seen = judged(tmp_path, cases, function), run(name, function)
    assert found.state == "passed", found.line()
    assert [each.what for each in found.found] == [each.what for each in seen.found]


def test_cases_without_answers_hold_nothing_that_is_expected(cases):
    bare = cases.without_answers()
    assert bare.hints.keys() == cases.hints.keys() and not any(bare.hints.values())
    assert not [key for key in bare.tensors if "|mistake" in key or "|also" in key]
    expected = [tensor for key, tensor in bare.tensors.items() if key.endswith("|expected")]
    assert len(expected) == len(cases.hints) and not any(tensor.any() for tensor in expected)


def test_fresh_cases_come_out_the_same_again_and_a_tie_is_passed_over(cases, monkeypatch):
    again = fresh_cases.__wrapped__(20)  # not from the cache
    assert all(torch.equal(cases.tensors[key], tensor) for key, tensor in again.tensors.items())

    def all_but_7(seed):
        assert seed != 7
        return seed

    monkeypatch.setattr("grading.submissions.expected.all_cases", all_but_7)
    assert fresh_cases.__wrapped__(7) == 8


@settings(max_examples=30)
@given(value=PLAIN)
def test_plain_values_come_back_as_they_were(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "observed"
    seen = []

    def check(findings):
        seen.append(findings.observe(lambda: [value, torch.arange(3), np.ones(2)]))
        findings.true("seen", True, "", "")

    record("add", check, path)
    assert judge("add", check, path).state == "passed"
    one, other = seen
    assert repr(one[0]) == repr(other[0])
    assert torch.equal(other[1], torch.arange(3)) and other[2].tolist() == [1.0, 1.0]


class Odd:
    """A tensor only by its own word."""

    shape = (2, 5, 12)


def unwritten(*exercise):
    raise NotImplementedError(*exercise)


@pytest.mark.parametrize(
    ("gives", "state", "text"),
    [
        (lambda: torch.ones(2), "failed", "shape: got (2,), expected (3,)"),
        (lambda: Odd(), "failed", "shape: got Odd, expected (3,)"),
        (lambda: 1 / 0, "failed", "by zero (tests/grading/test_recording.py, line"),
        (lambda: exit("x" * 10**6), "failed", "xxx ... (1,000,0"),
        (lambda: torch.ones(3) * torch.nan, "failed", "largest difference nan"),
        (lambda: unwritten("add"), "to do", "not written yet"),
        (lambda: unwritten(), "waits", "waits for tests/grading/test_recording.py"),
        (lambda: unwritten("embed"), "waits", "waits for embed"),
    ],
)
def test_any_wrong_value_is_a_failure_of_its_own_check(gives, state, text, tmp_path, cases):
    def check(findings):
        got = findings.observe(gives)
        findings.shape("shape", got, (3,))
        findings.close("ones", got, torch.ones(3))

    found = judged(tmp_path, cases, check)
    assert found.state == state and text in found.line()[2] and len(found.line()[2]) < 600


def test_a_long_value_is_cut_in_what_is_found(tmp_path, cases):
    def check(findings):
        findings.equal("a text", findings.observe(lambda: "x" * 10**6), "y", show=str)

    found = judged(tmp_path, cases, check)
    assert found.found[0].got == "x" * 500 + " ... (1,000,000 characters)"


def link(path):
    (path.parent / "other").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(path.parent / "other")


class Harmful:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded with its code",)


def written(observed):
    text = observed if isinstance(observed, str) else json.dumps(observed)
    return lambda path: save_file({}, path, {"observed": text})


@pytest.mark.parametrize(
    "tamper",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(pickle.dumps(Harmful())),
        lambda path: torch.save(Harmful(), path),
        link,
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: save_file({}, path),
        written("[" * 100_000),
        written([{"value": {TENSOR: "0"}}]),
        written([{"value": {OTHER: [1]}}] * 3),
        written([{"value": {OTHER: "a\0b"}}, {"value": None}, 7]),
        written({"value": 1}),
        written([7]),
        written([{"state": "passed", "problem": "x" * 10**6}]),
        written([{"problem": 3, "state": {}}]),
    ],
)
def test_a_changed_record_is_a_failure_and_no_error(tamper, tmp_path):
    path = tmp_path / "observed"
    record("add", CHECKS["add"], path)
    tamper(path)
    found = judge("add", CHECKS["add"], path)
    assert found.state == "failed" and len(found.line()[2]) < 1000


@pytest.mark.parametrize("gives", [torch.ones(3), torch.full((2,), torch.nan), "12", Odd()])
def test_predictions_that_are_no_tokens_are_a_failure(gives, tmp_path):
    def check(findings):
        check_predictions(findings, "weights", [torch.ones(1), torch.ones(1)])

    record("predictions", lambda findings: findings.observe(lambda: gives), tmp_path / "observed")
    assert judge("predictions", check, tmp_path / "observed").state == "failed"


def test_a_check_that_looks_on_in_a_recording_finds_nothing(tmp_path):
    """So what code gives can't depend on what is expected of it."""
    looked = []

    def check(findings):
        looked.append(findings.close("x", torch.ones(1), torch.zeros(1)))
        looked.append(findings.shape("x", torch.ones(1), (2,)))

    record("add", check, tmp_path / "observed")
    assert looked == [True, True]
