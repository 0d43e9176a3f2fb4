"""The findings of checks: what came out beside what was expected, a hint, and how it is shown."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from grading.checks.cases import Case
from grading.checks.places import explain

MARKS = {"passed": "OK", "failed": "FAIL", "to do": "TODO", "waits": "WAIT"}


@dataclass(frozen=True)
class Finding:
    """One comparison of a check."""

    what: str
    got: str
    expected: str
    passed: bool
    hint: str = ""


class Stopped(Exception):
    """The end of a check at its first failure."""


@dataclass
class Findings:
    """The findings of one check; `state` is a key of MARKS."""

    exercise: str
    found: list[Finding] = field(default_factory=list)
    problem: str = ""  # why it stopped early
    state_if_stopped: str = ""

    @property
    def state(self) -> str:
        passed = self.found and not self.first_failure
        return self.state_if_stopped or ("passed" if passed else "failed")

    @property
    def first_failure(self) -> Finding | None:
        return next((finding for finding in self.found if not finding.passed), None)

    def observe(self, produce: Callable, *arguments) -> Any:
        """Return what the code under test gives: `produce(*arguments)`, or its recorded value.

        A check calls that code nowhere else. Values are plain: tensors, numbers, texts, and lists
        and dictionaries of them (see grading.submissions.recording).
        """
        return produce(*arguments)

    def true(self, what: str, passed: bool, got: str, expected: str, hint: str = "") -> bool:
        """Note that something holds; Stopped where it does not."""
        self.found.append(Finding(what, got, expected, bool(passed), "" if passed else hint))
        if not passed:
            raise Stopped
        return True

    def holds(self, what: str, passed: bool, otherwise: str, expected: str, hint: str = "") -> bool:
        """Note that something is as expected, or otherwise; Stopped where it is otherwise."""
        return self.true(what, passed, expected if passed else otherwise, expected, hint)

    def equal(self, what: str, got, *right, hint: str = "", show: Callable = repr) -> bool:
        """Note a value that is one of the right ones; Stopped for another one."""
        return self.true(what, got in right, show(got), show(right[0]), hint)

    def shape(self, what: str, got, expected: tuple, hint: str = "") -> bool:
        """Note a tensor's shape; Stopped for another one."""
        found = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
        return self.equal(what, found, tuple(expected), hint=hint, show=str)

    def close(self, what: str, got, *right: Tensor, hint: str = "", atol: float = 1e-5) -> bool:
        """Note the largest difference to the nearest of the right results; Stopped above `atol`.

        Whole numbers must be equal.
        """
        off = min(distance(got, each) for each in right)
        if math.isnan(off) and self.exercise == "attention":
            hint = "NaN is what the softmax of nothing but -inf gives: keep the mask finite"
        if not right[0].is_floating_point():
            return self.true(what, off == 0, _shown(got), _shown(right[0]), hint)
        if not isinstance(got, Tensor) or got.shape != right[0].shape:
            return self.shape(what, got, right[0].shape, hint)
        shown = f"largest difference {off:.1e}", f"at most {atol:.0e}"
        return self.true(what, off <= atol, *shown, hint)

    def case(self, given: Case, got, hint: str = "", what: str = "", atol: float = 1e-5) -> bool:
        """Compare with a Case; the result of one of its mistakes gets the mistake's hint."""
        slips = [(distance(got, wrong), mistake) for mistake, wrong in given.mistakes]
        slip, mistake = min(slips, default=(math.inf, ""))
        hint = mistake if slip <= 10 * atol else hint
        what, right = what or given.what, (given.expected, *given.also)
        return self.close(what, got, *right, hint=hint, atol=atol)

    def line(self) -> tuple[str, str, str, str]:
        """Return mark, exercise, result beside what was expected, and hint."""
        text, hint = self.problem, ""
        if not text and (worst := self.first_failure):
            text = f"{worst.what}: got {worst.got}, expected {worst.expected}"
            hint = worst.hint
        text = text or f"{len(self.found)} of {len(self.found)} as expected"
        return MARKS[self.state], self.exercise, text, hint


@dataclass(frozen=True)
class Report:
    """Several checks, in one line if all have passed, else in a line each with hints.

    `print` it, or leave it as the last line of a notebook cell.
    """

    checks: list[Findings]

    def __bool__(self) -> bool:
        return all(each.state == "passed" for each in self.checks)

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Return mark, exercise, text and hint of every line."""
        if not self:
            return [each.line() for each in self.checks]
        together = Findings(
            ", ".join(each.exercise for each in self.checks),
            [finding for each in self.checks for finding in each.found],
        )
        return [together.line()]

    def __repr__(self) -> str:
        lines = []
        for mark, exercise, text, hint in self.lines():
            lines.append(f"[{mark:4s}] {exercise}: {text}")
            lines += [f"       hint: {hint}"] if hint else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colors = {"OK": "#1b7f3b", "FAIL": "#b3261e", "TODO": "#666666", "WAIT": "#666666"}
        rows = []
        for mark, *texts in self.lines():
            exercise, text, hint = map(html.escape, texts)
            hint = f"<br><i>Hint: {hint}</i>" if hint else ""
            rows.append(
                f'<tr><td style="color:{colors[mark]}"><b>{mark}</b></td>'
                f'<td style="text-align:left"><code>{exercise}</code></td>'
                f'<td style="text-align:left">{text}{hint}</td></tr>'
            )
        return f"<table>{''.join(rows)}</table>"


def run(
    exercise: str, function: Callable[[Findings], None], findings: Findings | None = None
) -> Findings:
    """Return a check's findings; an error of the code under test is one of them."""
    findings = findings or Findings(exercise)
    try:
        function(findings)
    except Stopped:
        pass
    except Exception as error:  # any error of the code under test is a finding
        findings.state_if_stopped, findings.problem = explain(error, exercise)
    return findings


def distance(got, expected: Tensor) -> float:
    """Return the largest difference to a tensor, in which inf stands for any number.

    It is infinite for another shape or type, and NaN where `got` has a NaN.
    """
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return math.inf
    difference = (got.detach().double() - expected.double()).abs()
    difference = difference.masked_fill(expected.isinf() & ~got.isnan(), 0.0)
    return difference.max().item() if got.numel() else 0.0


def _shown(value) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.numel() > 200:
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{value.item():,}" if value.dim() == 0 else str(value.tolist())
