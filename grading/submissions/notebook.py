"""Read an executed notebook without running it or trusting it.

    notebook, handed_out = read(submission), read(release)
    shown = results(notebook, handed_out)   # what counts: results and exercises that cells show
    found = flags(notebook, handed_out)     # what a grader should look at, and why the rest is out

What a cell shows counts where the cell is one that was handed out to show it, unchanged, and its
output is whole: one payload under `MIME`, of that cell's run, that its own numbers bear out.
"""

import ast
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4.rwbase import rejoin_lines

from grading.checks.findings import MARKS, MIME, Finding, Findings, Report
from grading.checks.results import RESULTS, Result, check_claim, misfit, short
from grading.edition.release import ANSWER

LARGEST = 32 * 2**20  # bytes of a notebook; a list of short texts takes 15 times as many
MOST = 200_000  # brackets in it: each may begin an object, of 600 bytes in memory
LONGEST_CLAIM = 50_000  # characters of JSON
AGAIN = "put your code into the notebook as handed out, run it and save it"


@dataclass(frozen=True)
class Flag:
    """Something that a grader should know of.

    | kind | what it says |
    |---|---|
    | not run | a code cell was not executed |
    | order | it was not executed just after the one above it |
    | error | it ended in an error |
    | missing, duplicated, moved | a handed-out cell is not there, is there twice, is elsewhere |
    | source | a cell that shows a result is not as handed out, so its result does not count |
    | payload | what it shows is not what this cell's code leaves, so it does not count |
    | text | beside its numbers stands something that they don't say, so it does not count |
    | printed | it prints what looks like a report |
    | changed | no fault: the other handed-out cells that were changed |
    | added | no fault: code cells that were not handed out |
    """

    kind: str
    where: str  # a cell's id, or its number if it has none that can be printed; "" for no one cell
    text: str


@dataclass(frozen=True)
class Evidence:
    """What one cell shows of one result or exercise."""

    cell: str
    findings: Findings
    claim: dict | None = None  # of a result


@dataclass(frozen=True)
class Shown:
    """What counts, by the name of the result (RESULTS) or exercise (CHECKS)."""

    results: dict[str, Evidence] = field(default_factory=dict)
    exercises: dict[str, Evidence] = field(default_factory=dict)


def read(path) -> nbformat.NotebookNode:
    """Return the notebook in a file; ValueError names what is wrong with it, and the fix."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such notebook; save it under this name")
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(
            f"{path}: {size / 2**20:.0f} MB, more than {LARGEST / 2**20:.0f}; "
            "clear what prints or draws so much, run it again and save it"
        )
    content = path.read_bytes()
    if (brackets := content.count(b"{") + content.count(b"[")) > MOST:
        raise ValueError(
            f"{path}: {brackets:,} brackets in it, more than {MOST:,}; "
            "clear what prints so much, run it again and save it"
        )
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a notebook ({error}); {AGAIN}") from error
    cells = raw.get("cells") if isinstance(raw, dict) else None
    if not isinstance(cells, list) or raw.get("nbformat") != 4:
        raise ValueError(f"{path}: not a notebook of format 4; open it in JupyterLab and save it")
    for number, cell in enumerate(cells, start=1):
        if not isinstance(cell, dict) or not isinstance(cell.get("id"), str):
            raise ValueError(f"{path}: cell {number} has no id, as in formats before 4.5; {AGAIN}")
    try:
        return rejoin_lines(nbformat.from_dict(raw))
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: its outputs are damaged ({error}); {AGAIN}") from error


def results(notebook, handed_out) -> Shown:
    """Return the results that count; `handed_out` is the notebook as students got it."""
    return _look(notebook, handed_out)[0]


def flags(notebook, handed_out) -> list[Flag]:
    """Return what a grader should look at: first of the whole notebook, then cell by cell."""
    return _look(notebook, handed_out)[1]


def _look(notebook, handed_out) -> tuple[Shown, list[Flag]]:
    cells, originals = _cells(notebook), {cell.id: cell for cell in _cells(handed_out)}
    promises = {cell.id: promise for cell in originals.values() if (promise := _promise(cell))}
    shown, found = Shown(), list(_structure(cells, originals, promises))
    times, before = Counter(cell.id for cell in cells), 0
    reports = _reports({name for promise in promises.values() for name in promise.names})
    for cell in cells:
        promise, faults, evidence = promises.get(cell.id), [], {}
        if promise and not cell.same(originals[cell.id]):
            text = "it shows a result and is to stay as handed out; what it shows does not count"
            faults = [Flag("source", cell.where, text)]
        elif cell.code:
            faults, evidence = _evidence(cell, promise)
        if cell.code:
            found += _execution(cell, before)
            before = cell.count or before
            if any(reports.search(text) for text in cell.printed()):
                text = "it prints what looks like a check's report"
                found.append(Flag("printed", cell.where, text))
        found += faults
        if not faults and times[cell.id] == 1:
            kept = shown.results if promise and promise.kind == "result" else shown.exercises
            kept.update(evidence)
    return shown, found


# ---- Cells -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """A cell whose every field is of its type, whatever the file held."""

    id: str
    where: str
    code: bool
    source: str
    count: int | None
    outputs: list[dict]
    to_fill_in: bool  # if handed out: students are to write here

    def same(self, other: "_Cell") -> bool:
        return self.code == other.code and self.source == other.source

    def printed(self) -> Iterator[str]:
        """The texts that it shows, apart from those beside a payload and errors."""
        for output in self.outputs:
            data = _dict(output.get("data"))
            if MIME not in data:
                yield _text(output.get("text"))
                yield _text(data.get("text/plain"))


def _cells(notebook) -> list[_Cell]:
    cells = _dict(notebook).get("cells")
    found = []
    for number, cell in enumerate(cells if isinstance(cells, list) else [], start=1):
        cell = _dict(cell)
        id, count, outputs = (cell.get(key) for key in ("id", "execution_count", "outputs"))
        id = id if isinstance(id, str) else ""
        source = "\n".join(line.rstrip() for line in _text(cell.get("source")).splitlines())
        found.append(
            _Cell(
                id=id,
                where=id if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) else f"cell {number}",
                code=cell.get("cell_type") == "code",
                source=source.strip(),
                count=count if type(count) is int and count > 0 else None,
                outputs=[_dict(each) for each in outputs] if isinstance(outputs, list) else [],
                to_fill_in="raise NotImplementedError" in source or source.strip() == ANSWER,
            )
        )
    return found


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _text(value) -> str:
    """A text that may be kept as a list of its lines."""
    if isinstance(value, list):
        return "".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class _Promise:
    """What a handed-out cell is to show; no names: all exercises."""

    kind: str
    names: tuple[str, ...]


def _promise(cell: _Cell) -> _Promise | None:
    try:
        nodes = list(ast.walk(ast.parse(cell.source))) if cell.code else []
    except (SyntaxError, ValueError):
        return None
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="graded"), attr=function)):
                if (name := function.replace("_", " ")) in RESULTS:
                    return _Promise("result", (name,))
            case ast.Call(func=ast.Name(id="check"), args=names):
                names = (each.value for each in names if isinstance(each, ast.Constant))
                return _Promise("exercises", tuple(map(str, names)))
    return None


# ---- The notebook as a whole -------------------------------------------------------------------


def _structure(cells: list[_Cell], originals: dict, promises: dict) -> Iterator[Flag]:
    there = [cell for cell in cells if cell.id in originals]
    times = Counter(cell.id for cell in there)
    for id in originals:
        if times[id] != 1:
            kind = "duplicated" if times[id] else "missing"
            yield Flag(kind, id, f"{times[id] or 'no'} cells with the id of this handed-out one")
    places = {id: place for place, id in enumerate(originals)}
    once = [cell.id for cell in there if times[cell.id] == 1]
    staying = _longest_rise([places[id] for id in once])
    for id in once:
        if places[id] not in staying:
            yield Flag("moved", id, "it stands elsewhere among the handed-out cells")
    changed = [
        cell.id
        for cell in there
        if cell.id not in promises
        and not originals[cell.id].to_fill_in
        and not cell.same(originals[cell.id])
    ]
    if changed:
        yield Flag("changed", "", ", ".join(dict.fromkeys(changed)))
    if added := [c.where for c in cells if c.code and c.source and c.id not in originals]:
        yield Flag("added", "", ", ".join(added))


def _longest_rise(numbers: list[int]) -> set[int]:
    """The members of a longest rising subsequence of different numbers."""
    ends: list[int] = []  # the least end of a rise of each length
    before: dict[int, int | None] = {}
    for number in numbers:
        length = bisect_left(ends, number)
        before[number] = ends[length - 1] if length else None
        ends[length : length + 1] = [number]
    rise, number = set(), ends[-1] if ends else None
    while number is not None:
        rise.add(number)
        number = before[number]
    return rise


def _execution(cell: _Cell, before: int) -> Iterator[Flag]:
    if cell.source and cell.count is None:
        yield Flag("not run", cell.where, "this cell was not executed")
    elif cell.count is not None and cell.count != before + 1:
        count, last = short(cell.count), short(before)
        if cell.count > before:
            text = f"run {count} after run {last}: cells between were run again or taken out"
        else:
            text = f"run {count} below run {last}: not run top to bottom in one session"
        yield Flag("order", cell.where, text)
    for output in cell.outputs:
        if output.get("output_type") == "error":
            yield Flag("error", cell.where, f"it ended in {short(output.get('ename'))}")


def _reports(names: set[str]) -> re.Pattern:
    """What a line of a report looks like."""
    names = "|".join(re.escape(name) for name in sorted({*RESULTS, *names}))
    return re.compile(rf"\[ {{0,9}}({'|'.join(MARKS.values())}) {{0,9}}\] {{0,99}}({names})", re.I)


# ---- What a cell shows -------------------------------------------------------------------------

FINDING = {"what": str, "got": str, "expected": str, "passed": bool, "hint": str}
CHECK = {"exercise": str, "state": str, "problem": str, "found": [FINDING]}
PAYLOADS = {
    "result": {"kind": str, "name": str, "state": str, "found": [FINDING]},
    "exercises": {"kind": str, "checks": [CHECK]},
}


def _evidence(cell: _Cell, promise: _Promise | None) -> tuple[list[Flag], dict[str, Evidence]]:
    """What is wrong with what the cell shows, and what it shows if nothing is."""
    bundles = [data for output in cell.outputs if (data := _dict(output.get("data")))]
    payloads = [data[MIME] for data in bundles if MIME in data]
    if promise is None:
        text = "it shows a result and was not handed out to show one"
        return [Flag("payload", cell.where, text)] if payloads else [], {}
    if len(payloads) != 1:
        text = f"it shows {len(payloads) or 'no'} results, and is to show one"
        return [Flag("payload", cell.where, text)], {}
    (output,) = (output for output in cell.outputs if MIME in _dict(output.get("data")))
    count, expected = output.get("execution_count"), cell.count
    if output.get("output_type") != "execute_result" or expected is None or count != expected:
        return [Flag("payload", cell.where, "its result was not left by a run of this cell")], {}
    try:
        shown, report = _believed(payloads[0], promise)
    except (ValueError, RecursionError) as error:
        return [Flag("payload", cell.where, str(error))], {}
    texts = {"text/plain": str(report), "text/html": report._repr_html_()}
    beside = [(kind, value) for data in bundles for kind, value in data.items() if kind != MIME]
    if other := [kind for kind, value in beside if _text(value) != texts.get(kind)]:
        text = f"its {short(other[0])} is not what its numbers say"
        return [Flag("text", cell.where, text)], {}
    return [], {name: Evidence(cell.where, *each) for name, each in shown.items()}


def _believed(payload, promise: _Promise) -> tuple[dict[str, tuple], Report]:
    """Findings (and the claim) by name, and how they are shown; ValueError says what is wrong."""
    if wrong := misfit(payload, PAYLOADS[promise.kind], "payload"):
        where, _, got, expected = wrong
        raise ValueError(f"{where}: {got}, not {expected}")
    if payload["kind"] != promise.kind:
        raise ValueError(f"payload.kind: {short(payload['kind'])}, not {promise.kind!r}")
    if promise.kind == "exercises":
        told = [_findings(each, each["exercise"]) for each in payload["checks"]]
        names = [each.exercise for each in told]
        if names != list(promise.names or dict.fromkeys(names)):
            raise ValueError(f"it shows {short(names)}, and is to show {', '.join(promise.names)}")
        return {each.exercise: (each,) for each in told}, Report(told)
    (name,), claim = promise.names, payload.get("claim")
    if not isinstance(claim, dict) or len(json.dumps(claim)) > LONGEST_CLAIM:
        raise ValueError("payload.claim: not the few names and numbers of a claim")
    told, found = _findings(payload, name), check_claim(name, claim)
    if payload["name"] != name or _seen(told) != _seen(found):
        raise ValueError("its findings are not those that its claim gives")
    return {name: (found, claim)}, Result(name, claim, told).report


def _seen(findings: Findings) -> list[tuple]:
    """All but what was expected and the hints, which later releases may word in another way."""
    return [(each.what, each.got, each.passed) for each in findings.found]


def _findings(told: dict, name: str) -> Findings:
    """The findings that a payload tells of; ValueError if its state is not theirs."""
    found = [Finding(**{key: each[key] for key in FINDING}) for each in told["found"]]
    findings = Findings(name, found)
    if problem := told.get("problem"):
        findings.problem = problem
        findings.state_if_stopped = told["state"]
    if findings.state != told["state"] or told["state"] not in MARKS:
        raise ValueError(f"its state {short(told['state'])} is not that of its findings")
    if problem and findings.state == "passed":
        raise ValueError("it has passed and has a problem")
    return findings
