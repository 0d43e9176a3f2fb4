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
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from grading.checks.findings import MIME
from grading.checks.results import RESULTS, Result, check_claim
from grading.checks.shapes import misfit, short
from grading.edition.release import ANSWER

LARGEST = 32 * 2**20  # bytes of a notebook; a list of short texts takes 15 times as many
MOST = 200_000  # brackets in it: each may begin an object, of 600 bytes in memory
MOST_NOTEBOOKS, MOST_CELLS = 40, 5_000
LONGEST_CLAIM, DEEPEST_CLAIM = 50_000, 20  # characters of JSON; open brackets
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
    names = [path.relative_to(root) for path in sorted(root.rglob("*.ipynb"))]
    names = [path.as_posix() for path in names
             if not any(part in NO_PART or part[0] == "." for part in path.parts)]  # fmt: skip
    for name in names[:MOST_NOTEBOOKS]:
        try:
            readings[name] = look(read(root / name), handed_out)
        except (OSError, ValueError) as error:
            flags.append(Flag("not read", name, str(error).replace(f"{root / name}: ", "")))
    others = [name for name in readings if readings[name].known]
    if not others:
        why = "; ".join(f"{flag.where}: {flag.text}" for flag in flags[:2])
        why = why or ("none of its notebooks is the one handed out" if readings else "")
        return None, Reading(flags=flags, problem=why or "no notebook was handed in")
    name = max(others, key=lambda n: (len(readings[n].results), readings[n].known, n == usual))
    others.remove(name)
    if others:
        flags.append(Flag("notebook", name, f"it shows most; not used: {', '.join(others)}"))
    elif name != usual:
        flags.append(Flag("notebook", name, f"renamed; it was handed out as {usual}"))
    readings[name].flags[:0] = flags
    return root / name, readings[name]


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
    _recognize(cells, originals)
    reading = Reading(answers=_answers(cells, originals), flags=[*_structure(cells, originals)])
    reading.known = len({cell.original.id for cell in cells if cell.original})
    shown = set()
    for cell in cells:
        name = cell.original.promise if cell.original else None
        if not cell.code or not (name or cell.shows_result()):
            continue
        kind, fault, claim = "payload", "", {}
        try:
            if name is None:
                raise ValueError("it shows a result and was not handed out to show one")
            claim = cell.claim(name)
        except (ValueError, RecursionError) as error:
            fault = str(error)
        if not fault and not cell.same(cell.original):
            kind, fault = "source", "it is to stay as handed out, so what it shows does not count"
        if fault:
            reading.faults.setdefault(name, fault if cell.count else "its cell was not run")
            if cell.count or cell.payloads():
                reading.flags.append(Flag(kind, cell.where, fault))
        elif name not in reading.results:
            shown.add(cell.where)
            reading.results[name] = result = Result(name, claim, check_claim(name, claim))
            if cell.text() != str(result):
                text = "what stands there is not what the check of its claim says"
                reading.flags.append(Flag("text", cell.where, text))
    # A cell that is there twice has shown its result where one of them has.
    reading.flags = [f for f in reading.flags if f.kind != "payload" or f.where not in shown]
    return reading


# ---- Cells -------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Cell:
    """A cell whose every field is of its type, whatever the file held."""

    number: int
    id: str
    code: bool
    source: str
    count: int | None
    outputs: list[dict]
    original: "_Cell | None" = None  # the handed-out cell that it is; None: it is the student's own

    @property
    def where(self) -> str:
        return (self.original or self).id or f"cell {self.number}"

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

    @cached_property
    def promise(self) -> str | None:
        """The result that a handed-out cell is to show."""
        called = re.search(r"^graded\.(\w+)\(", self.source, re.MULTILINE) if self.code else None
        name = called[1].replace("_", " ") if called else None
        return name if name in RESULTS else None

    @property
    def is_open(self) -> bool:
        """Whether students are to write in this handed-out cell."""
        return "raise NotImplementedError" in self.source or self.source == ANSWER

    def payloads(self) -> list[tuple[dict, dict]]:
        """Outputs that hold what a check shows to programs, and their data."""
        outputs = [(output, _dict(output.get("data"))) for output in self.outputs]
        return [(output, data) for output, data in outputs if MIME in data]

    def shows_result(self) -> bool:
        """Whether it shows a result, and not the report of exercises' checks."""
        return any(_dict(data[MIME]).get("kind") != "exercises" for _, data in self.payloads())

    def text(self) -> str:
        return "".join(_text(data.get("text/plain")) for _, data in self.payloads())

    def claim(self, name: str) -> dict:
        """The claim that a run of this cell has left; ValueError says why there is none."""
        payloads = self.payloads()
        if len(payloads) != 1:
            raise ValueError(f"it shows {len(payloads) or 'no'} results, and is to show one")
        ((output, data),) = payloads
        counted = self.count and output.get("execution_count") in (self.count, None)
        if output.get("output_type") != "execute_result" or not counted:
            raise ValueError("its result was not left by a run of this cell")
        payload = data[MIME]
        if wrong := misfit(payload, PAYLOAD, "payload"):
            where, _, got, expected = wrong
            raise ValueError(f"{where}: {got}, not {expected}")
        if (payload["kind"], payload["name"]) != ("result", name):
            raise ValueError(f"it shows {short(payload['name'])}, and is to show {name}")
        claim = json.dumps(payload["claim"])
        depths = accumulate((c in "[{") - (c in "]}") for c in claim)
        if len(claim) > LONGEST_CLAIM or max(depths) > DEEPEST_CLAIM:
            raise ValueError("payload.claim: not the few names and numbers of a claim")
        return payload["claim"]


def _cells(notebook) -> list[_Cell]:
    cells = _dict(notebook).get("cells")
    found = []
    for number, cell in enumerate(cells[:MOST_CELLS] if isinstance(cells, list) else [], 1):
        cell = _dict(cell)
        id, count, outputs = (cell.get(key) for key in ("id", "execution_count", "outputs"))
        source = "\n".join(line.rstrip() for line in _text(cell.get("source")).splitlines())
        found.append(
            _Cell(
                number,
                id if isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) else "",
                cell.get("cell_type") == "code",
                source.strip(),
                count if type(count) is int and count > 0 else None,
                [_dict(each) for each in outputs] if isinstance(outputs, list) else [],
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


def _recognize(cells: list[_Cell], originals: list[_Cell]) -> None:
    """Note of each cell which handed-out one it is.

    Of handed-out cells with the same source, those without their ids are taken in their order;
    of the cell of a result there may be copies.
    """
    by_id, taken = {each.id: each for each in originals}, {cell.id for cell in cells}
    for cell in cells:
        cell.original = by_id.get(cell.id)
        if cell.original is None and cell.source:
            same = [each for each in originals if each.same(cell)]
            free = [each for each in same if each.id not in taken]
            copied = [each for each in same if each.promise]
            cell.original = next(iter(free + copied), None)
            taken |= {each.id for each in free[:1]}


def _answers(cells: list[_Cell], originals: list[_Cell]) -> dict[str, str]:
    """What was written in place of each ANSWER, or in text cells below it."""
    order = ["", *(each.id for each in originals), ""]
    answers: dict[str, list[str]] = {each.id: [] for each in originals if each.source == ANSWER}
    place = 0
    for cell in cells:
        if cell.original:
            place = order.index(cell.original.id)
        # Where ids were renewed an answer is the text above which stands the cell before it.
        belongs = order[place if cell.original or order[place] in answers else place + 1]
        if not cell.code and belongs in answers:
            answers[belongs].append(cell.source.replace(ANSWER, "").strip())
    return {id: "\n\n".join(filter(None, texts))[:LONGEST_ANSWER] for id, texts in answers.items()}


def _structure(cells: list[_Cell], originals: list[_Cell]) -> Iterator[Flag]:
    """What there is to say of the notebook as a whole, a flag for each kind of thing."""
    times = Counter(cell.original.id for cell in cells if cell.original)
    lists = {
        "missing": [each.id for each in originals if not times[each.id]],
        "duplicated": [id for id, count in times.items() if count > 1],
        **{kind: [] for kind in ("not run", "order", "error", "changed", "added")},
    }
    before = 0
    for cell in cells:
        original = cell.original
        if original is None and cell.code and cell.source:
            lists["added"].append(cell.where)
        elif original and not (cell.same(original) or original.promise or original.is_open):
            lists["changed"].append(cell.where)
        if cell.code and cell.source and cell.count is None:
            lists["not run"].append(cell.where)
        elif cell.code and cell.count is not None:
            if cell.count != before + 1:
                lists["order"].append(cell.where)
            before = cell.count
        if any(output.get("output_type") == "error" for output in cell.outputs):
            lists["error"].append(cell.where)
    if renewed := [cell for cell in cells if cell.original and cell.id != cell.original.id]:
        yield Flag("ids", "", f"{len(renewed)} cells were recognized by their source")
    for kind, found in lists.items():
        if found:
            more = f" and {len(found) - 20} more" if len(found) > 20 else ""
            yield Flag(kind, "", ", ".join(found[:20]) + more)
