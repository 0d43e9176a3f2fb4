"""Read executed notebooks without running or trusting them.

    path, reading = find(submission, release, "default_final_project.ipynb")
    reading.results  # the claims of the cells that were handed out to show a result
    reading.answers  # the written answers
    reading.flags    # what a grader should look at

A cell is the handed-out one of its id or, where an editor has dropped or renewed ids, of its
source. Of what a result's cell shows only the claim is used; its check is made here again.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from grading.checks.findings import MIME, Findings
from grading.checks.results import RESULTS, Result, check_claim
from grading.checks.shapes import misfit, short
from grading.edition.release import ANSWER

LARGEST = 32 * 2**20  # bytes of a notebook; a list of short texts takes 15 times as many
MOST = 200_000  # brackets in it: each may begin an object, of 600 bytes in memory
MOST_NOTEBOOKS, MOST_CELLS = 40, 5_000
LONGEST_CLAIM = 50_000  # characters of JSON
LONGEST_ANSWER, LONGEST_SOURCE = 5_000, 2_000
NO_PART = {"env", "venv", "site-packages", "node_modules", "__pycache__"}  # of what is handed in
PAYLOAD = {"kind": str, "name": str, "claim": {}}


@dataclass(frozen=True)
class Flag:
    """Something that a grader should know of.

    | kind | what it says |
    |---|---|
    | not read | a notebook is none |
    | notebook | the one that counts has another name, or there are several |
    | not run, order, error | cells not executed; not one after another; ended in an error |
    | missing, duplicated | handed-out cells are not there, or several times |
    | source | a cell that shows a result is not as handed out, so its result does not count |
    | payload | what it shows is no claim of its result, so it does not count |
    | text | beside the claim stands another text than its check gives |
    | ids | no fault: an editor has dropped or renewed ids |
    | changed, added | no fault: other cells that were changed; code cells of the student's own |
    """

    kind: str
    where: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """A result that a cell shows."""

    cell: str
    findings: Findings
    claim: dict


@dataclass
class Reading:
    """What a notebook shows."""

    results: dict[str, Evidence] = field(default_factory=dict)  # by name, as in RESULTS
    answers: dict[str, str] = field(default_factory=dict)  # by the id of the handed-out cell
    flags: list[Flag] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # of results' cells, by the result
    problem: str = ""  # why there is no notebook
    known: int = 0  # handed-out cells in it

    def why_not(self, name: str) -> str:
        """Return why a result is not there."""
        return self.problem or self.faults.get(name) or "the notebook has no cell that shows it"


def find(root: Path, handed_out, usual: str) -> tuple[Path | None, Reading]:
    """Return the notebook below a folder that shows most results, then most handed-out cells."""
    flags, readings = [], {}
    paths = [path for path in sorted(root.rglob("*.ipynb")) if _handed_in(path.relative_to(root))]
    for path in paths[:MOST_NOTEBOOKS]:
        name = path.relative_to(root).as_posix()
        try:
            if path.is_symlink():
                raise ValueError("a link, not a notebook")
            readings[name] = look(read(path), handed_out)
        except (OSError, ValueError) as error:
            flags.append(Flag("not read", name, str(error).replace(f"{path}: ", "")))
    if not any(reading.known for reading in readings.values()):
        why = "; ".join(f"{flag.where}: {flag.text}" for flag in flags[:2])
        why = why or ("none of its notebooks is the one handed out" if readings else "")
        return None, Reading(flags=flags, problem=why or "no notebook was handed in")
    name, found = max(
        readings.items(), key=lambda each: (len(each[1].results), each[1].known, each[0] == usual)
    )
    if others := [each for each in readings if each != name and readings[each].known]:
        flags.append(Flag("notebook", name, f"it shows most; not used: {', '.join(others)}"))
    elif name != usual:
        flags.append(Flag("notebook", name, f"renamed; it was handed out as {usual}"))
    found.flags = flags + found.flags
    return root / name, found


def _handed_in(path: Path) -> bool:
    return not any(part in NO_PART or part.startswith(".") for part in path.parts)


def read(path: Path) -> dict:
    """Return the notebook in a file; ValueError names what is wrong with it, and the fix."""
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
        raise ValueError(f"{path}: not a notebook ({error})"[:300]) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("cells"), list):
        raise ValueError(f"{path}: not a notebook of format 4; open it in JupyterLab and save it")
    return raw


def look(notebook, handed_out) -> Reading:
    """Return what a notebook shows; `handed_out` is the one that students got.

    Both are as JSON has them; the notebook may be any value.
    """
    originals = {cell.id: cell for cell in _cells(handed_out)}
    cells, ids = _identified(_cells(notebook), originals)
    known = [id for id in ids if id]
    reading = Reading(known=len(set(known)), answers=_answers(cells, ids, originals))
    reading.flags += _structure(cells, ids, originals)
    promised = {id: name for id, cell in originals.items() if (name := _promise(cell))}
    for cell, id in zip(cells, ids, strict=True):
        name, where = promised.get(id), id or cell.where
        if not cell.code or not (name or cell.shows_result()):
            continue
        kind, fault, claim = "payload", "", {}
        try:
            if name is None:
                raise ValueError("it shows a result and was not handed out to show one")
            claim = cell.claim(name)
        except (ValueError, RecursionError) as error:
            fault = str(error)
        if not fault and not cell.same(originals[id]):
            kind, fault = "source", "it is to stay as handed out, so what it shows does not count"
        if fault:
            reading.faults.setdefault(name, fault if cell.count else "its cell was not run")
            if cell.count or cell.payloads():
                reading.flags.append(Flag(kind, where, fault))
        elif name not in reading.results:
            findings = check_claim(name, claim)
            reading.results[name] = Evidence(where, findings, claim)
            if cell.shown() != str(Result(name, claim, findings)):
                text = "what stands there is not what the check of its claim says"
                reading.flags.append(Flag("text", where, text))
    # A cell that is there twice has shown its result where one of them has.
    shown = {each.cell for each in reading.results.values()}
    reading.flags = [f for f in reading.flags if f.kind != "payload" or f.where not in shown]
    return reading


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

    @cached_property
    def form(self) -> str:
        """What of the source decides: no layout and, where a result is shown, no comments."""
        if self.code and "graded." in self.source and len(self.source) <= LONGEST_SOURCE:
            try:
                return ast.dump(ast.parse(self.source))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                pass
        return " ".join(self.source.split())

    def same(self, other: "_Cell") -> bool:
        return self.code == other.code and self.form == other.form

    def payloads(self) -> list[tuple[dict, dict]]:
        """Outputs that hold what a check shows to programs, and their data."""
        outputs = [(output, _dict(output.get("data"))) for output in self.outputs]
        return [(output, data) for output, data in outputs if MIME in data]

    def shows_result(self) -> bool:
        """Whether it shows a result, and not the report of exercises' checks."""
        return any(_dict(data[MIME]).get("kind") != "exercises" for _, data in self.payloads())

    def shown(self) -> str:
        return "".join(_text(data.get("text/plain")) for _, data in self.payloads())

    def claim(self, name: str) -> dict:
        """The claim that a run of this cell has left; ValueError says why there is none."""
        payloads = self.payloads()
        if len(payloads) != 1:
            raise ValueError(f"it shows {len(payloads) or 'no'} results, and is to show one")
        ((output, data),) = payloads
        if output.get("output_type") != "execute_result" or (
            self.count is None or output.get("execution_count") not in (self.count, None)
        ):
            raise ValueError("its result was not left by a run of this cell")
        payload = data[MIME]
        if wrong := misfit(payload, PAYLOAD, "payload"):
            where, _, got, expected = wrong
            raise ValueError(f"{where}: {got}, not {expected}")
        if (payload["kind"], payload["name"]) != ("result", name):
            raise ValueError(f"it shows {short(payload['name'])}, and is to show {name}")
        if len(json.dumps(payload["claim"])) > LONGEST_CLAIM:
            raise ValueError("payload.claim: not the few names and numbers of a claim")
        return payload["claim"]


def _cells(notebook) -> list[_Cell]:
    cells = _dict(notebook).get("cells")
    found = []
    for number, cell in enumerate(cells[:MOST_CELLS] if isinstance(cells, list) else [], 1):
        cell = _dict(cell)
        id, count, outputs = (cell.get(key) for key in ("id", "execution_count", "outputs"))
        id = id if isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) else ""
        source = "\n".join(line.rstrip() for line in _text(cell.get("source")).splitlines())
        found.append(
            _Cell(
                id=id,
                where=id or f"cell {number}",
                code=cell.get("cell_type") == "code",
                source=source.strip(),
                count=count if type(count) is int and count > 0 else None,
                outputs=[_dict(each) for each in outputs] if isinstance(outputs, list) else [],
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


def _identified(cells: list[_Cell], originals: Mapping[str, _Cell]) -> tuple[list, list[str]]:
    """The cells and, of each, the id of the handed-out cell that it is; "" for the student's own.

    Of handed-out cells with the same source, those without their ids are taken in their order;
    of the cell of a result there may be copies.
    """
    own = {cell.id for cell in cells}
    waiting: dict[tuple, list[str]] = {}
    for id, cell in originals.items():
        waiting.setdefault((cell.code, cell.form), []).append(id)
    ids = []
    for cell in cells:
        id = cell.id if cell.id in originals else ""
        same = waiting.get((cell.code, cell.form), []) if cell.source and not id else []
        if open := [each for each in same if each not in own]:
            id = open[0]
            own.add(id)
        elif same and _promise(originals[same[0]]):
            id = same[0]
        ids.append(id)
    return cells, ids


def _promise(cell: _Cell) -> str | None:
    """The result that a handed-out cell is to show."""
    called = re.search(r"^graded\.(\w+)\(", cell.source, re.MULTILINE) if cell.code else None
    name = called[1].replace("_", " ") if called else None
    return name if name in RESULTS else None


def _answers(cells: list[_Cell], ids: list[str], originals: Mapping[str, _Cell]) -> dict[str, str]:
    """What was written in place of each ANSWER, or in text cells below it."""
    order = list(originals)
    asked = [id for id in order if originals[id].source == ANSWER]
    answers: dict[str, list[str]] = {id: [] for id in asked}
    place = -1
    for cell, id in zip(cells, ids, strict=True):
        place = order.index(id) if id else place
        # Where ids were renewed an answer is the text above which stands the cell before it.
        ahead = order[place + 1] if place + 1 < len(order) else ""
        belongs = id or (order[place] if place >= 0 and order[place] in asked else ahead)
        if not cell.code and belongs in answers:
            answers[belongs].append(cell.source.replace(ANSWER, "").strip())
    return {id: "\n\n".join(filter(None, texts))[:LONGEST_ANSWER] for id, texts in answers.items()}


def _structure(cells: list[_Cell], ids: list[str], originals: Mapping) -> Iterator[Flag]:
    """What there is to say of the notebook as a whole, a flag for each kind of thing."""
    renewed = [cell for cell, id in zip(cells, ids, strict=True) if id and cell.id != id]
    lists: dict[str, list[str]] = {"missing": [id for id in originals if id not in ids]}
    lists["duplicated"] = [id for id, times in Counter(filter(None, ids)).items() if times > 1]
    lists |= {kind: [] for kind in ("not run", "order", "error", "changed", "added")}
    before = 0
    for cell, id in zip(cells, ids, strict=True):
        where, original = id or cell.where, originals.get(id)
        if original is None and cell.code and cell.source:
            lists["added"].append(where)
        elif original and not (cell.same(original) or _promise(original) or _open(original)):
            lists["changed"].append(where)
        if cell.code and cell.source and cell.count is None:
            lists["not run"].append(where)
        elif cell.code and cell.count is not None:
            if cell.count != before + 1:
                lists["order"].append(where)
            before = cell.count
        if any(output.get("output_type") == "error" for output in cell.outputs):
            lists["error"].append(where)
    if renewed:
        yield Flag("ids", "", f"{len(renewed)} cells were recognized by their source")
    for kind, found in lists.items():
        if found:
            more = f" and {len(found) - 20} more" if len(found) > 20 else ""
            yield Flag(kind, "", ", ".join(found[:20]) + more)


def _open(original: _Cell) -> bool:
    """Whether students are to write here."""
    return "raise NotImplementedError" in original.source or original.source == ANSWER
