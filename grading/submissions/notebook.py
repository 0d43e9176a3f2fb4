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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from grading.checks.results import MIME, RESULTS, Result, check_claim
from grading.edition.release import ANSWER

LARGEST = 32 * 2**20  # bytes of a notebook; a list of short texts takes 15 times as many
MOST = 200_000  # brackets in it: each may begin an object, of 600 bytes in memory
MOST_NOTEBOOKS, MOST_CELLS = 40, 5_000
LONGEST_CLAIM, MOST_PARTS = 50_000, 200  # characters of JSON; brackets
LONGEST_ANSWER, LONGEST_SOURCE = 5_000, 2_000


@dataclass(frozen=True)
class Flag:
    """Something that a grader should know of.

    | kind | what it says |
    |---|---|
    | not read | a file is no notebook |
    | notebook | the one that counts has another name, or there are several |
    | ids | no fault: an editor has dropped or renewed ids |
    | order | cells were not run, or not one after another |
    | payload | a cell shows a result that does not count |
    """

    kind: str
    where: str
    text: str


@dataclass
class Reading:
    """What a notebook shows."""

    results: dict[str, Result] = field(default_factory=dict)  # by name, as in RESULTS
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
    for path in sorted(root.rglob("*.ipynb"))[:MOST_NOTEBOOKS]:
        name = path.relative_to(root).as_posix()
        try:
            readings[name] = look(read(path), handed_out)
        except (OSError, ValueError) as error:
            flags.append(Flag("not read", name, str(error).removeprefix(f"{path}: ")))
    known = [name for name in readings if readings[name].known]
    if not known:
        why = "none of its notebooks is the one handed out" if readings else ""
        why = "; ".join(f"{flag.where}: {flag.text}" for flag in flags[:2]) or why
        return None, Reading(flags=flags, problem=why or "no notebook was handed in")
    best = max(known, key=lambda n: (len(readings[n].results), readings[n].known, n == usual))
    known.remove(best)
    if known:
        flags.append(Flag("notebook", best, f"it shows most; not used: {', '.join(known)}"))
    elif best != usual:
        flags.append(Flag("notebook", best, f"renamed; it was handed out as {usual}"))
    readings[best].flags[:0] = flags
    return root / best, readings[best]


def read(path: Path) -> dict:
    """Return the notebook in a file; ValueError names what is wrong with it, and the fix."""
    if path.is_symlink():
        raise ValueError(f"{path}: a link, not a notebook")
    fix = "clear what prints or draws so much, run it again and save it"
    if (size := path.stat().st_size) > LARGEST:
        much = f"{size / 2**20:.0f} MB, more than {LARGEST / 2**20:.0f}"
        raise ValueError(f"{path}: {much}; {fix}")
    content = path.read_bytes()
    if (brackets := content.count(b"{") + content.count(b"[")) > MOST:
        raise ValueError(f"{path}: {brackets:,} brackets in it, more than {MOST:,}; {fix}")
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
    originals, cells = _cells(handed_out), _cells(notebook)
    by_id = {cell.id: cell for cell in originals}
    by_form = {cell.form: cell for cell in originals if cell.source != ANSWER}
    for cell in cells:
        cell.original = by_id.get(cell.id) or by_form.get(cell.form)
    reading = Reading(answers=_answers(cells, originals), flags=[*_flags(cells)])
    reading.known = len({cell.original.id for cell in cells if cell.original})
    for cell in cells:
        name = cell.original.promise if cell.original else ""
        if not name and not cell.shown:
            continue
        try:
            claim = cell.claim(name)
        except (ValueError, RecursionError) as error:
            reading.faults.setdefault(name, str(error))
            if cell.shown:
                reading.flags.append(Flag("payload", cell.where, str(error)))
            continue
        # A cell that is there twice has shown its result where one of them has.
        reading.results.setdefault(name, Result(name, claim, check_claim(name, claim)))
    return reading


# ---- Cells -------------------------------------------------------------------------------------


class _Cell:
    """What counts of a cell, each value of its type, whatever the file holds."""

    def __init__(self, number: int, raw: dict):
        id, count = raw.get("id"), raw.get("execution_count")
        self.id = id if isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) else ""
        self.number = number
        self.code = raw.get("cell_type") == "code"
        self.source = _text(raw.get("source")).strip()
        self.count = count if type(count) is int and count > 0 else None
        self.outputs = [_dict(output) for output in _list(raw.get("outputs"))]
        self.original: _Cell | None = None  # the handed-out cell; None for the student's own

    @property
    def where(self) -> str:
        return (self.original or self).id or f"cell {self.number}"

    @cached_property
    def form(self) -> tuple[bool, str]:
        """What tells a cell from others: no layout and, where a result is shown, no comments."""
        if self.code and "graded." in self.source and len(self.source) <= LONGEST_SOURCE:
            with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                return True, ast.dump(ast.parse(self.source))
        return self.code, " ".join(self.source.split())

    @property
    def promise(self) -> str:
        """The result that a handed-out cell is to show, or ""."""
        called = re.search(r"^graded\.(\w+)\(", self.source, re.MULTILINE) if self.code else None
        name = called[1].replace("_", " ") if called else ""
        return name if name in RESULTS else ""

    @cached_property
    def shown(self) -> list[tuple[dict, dict]]:
        """Return the outputs that hold a result, and what they hold."""
        outputs = [(output, _dict(output.get("data"))) for output in self.outputs]
        return [(output, _dict(data[MIME])) for output, data in outputs if MIME in data]

    def claim(self, name: str) -> dict:
        """Return the claim of this result that a run of the cell has left.

        ValueError says why there is none that counts.
        """
        if not name:
            raise ValueError("it shows a result and was not handed out to show one")
        if self.count is None:
            raise ValueError("its cell was not run")
        if self.form != self.original.form:
            raise ValueError("it is to stay as handed out, so what it shows does not count")
        if len(self.shown) != 1:
            raise ValueError(f"it shows {len(self.shown) or 'no'} results, and is to show one")
        ((output, payload),) = self.shown
        by_this_run = output.get("execution_count") in (self.count, None)
        if output.get("output_type") != "execute_result" or not by_this_run:
            raise ValueError("its result was not left by a run of this cell")
        claim = payload.get("claim")
        if (payload.get("kind"), payload.get("name")) != ("result", name) or not _dict(claim):
            raise ValueError(f"what it shows is no claim of {name}")
        text = json.dumps(claim)
        if len(text) > LONGEST_CLAIM or text.count("[") + text.count("{") > MOST_PARTS:
            raise ValueError("what it claims are not the few names and numbers of a claim")
        return claim


def _cells(notebook) -> list[_Cell]:
    cells = _list(_dict(notebook).get("cells"))[:MOST_CELLS]
    return [_Cell(number, _dict(cell)) for number, cell in enumerate(cells, 1)]


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _list(value) -> list:
    return value if isinstance(value, list) else []


def _text(value) -> str:
    """A text that may be kept as a list of its lines."""
    if isinstance(value, list):
        return "".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) else ""


def _answers(cells: list[_Cell], originals: list[_Cell]) -> dict[str, str]:
    """Return what was written in place of each ANSWER, or in text cells below it."""
    answers: dict[str, list[str]] = {each.id: [] for each in originals if each.source == ANSWER}
    below = {above.id: cell.id for above, cell in pairwise(originals)}
    below |= {id: id for id in answers}
    place = ""
    for cell in cells:
        if cell.original:
            place = cell.original.id
        # Where ids were renewed an answer is the text above which stands the cell before it.
        question = place if cell.original else below.get(place)
        if not cell.code and question in answers:
            answers[question].append(cell.source.replace(ANSWER, "").strip())
    return {id: "\n\n".join(filter(None, texts))[:LONGEST_ANSWER] for id, texts in answers.items()}


def _flags(cells: list[_Cell]) -> Iterator[Flag]:
    """Yield what there is to say of the notebook as a whole."""
    if renewed := [cell for cell in cells if cell.original and cell.id != cell.original.id]:
        yield Flag("ids", "", f"{len(renewed)} cells were recognized by their source")
    code = [cell for cell in cells if cell.code and cell.source]
    if wrong := [cell for number, cell in enumerate(code, 1) if cell.count != number]:
        text = "from here on cells were not run, or not one after another"
        yield Flag("order", wrong[0].where, text)
