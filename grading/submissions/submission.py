"""What students handed in: found by its content, told apart by its digest, unpacked safely.

    for submission in find([Path("class_download.zip"), Path("late/alice")]):
        if not submission.problem:
            root = unpack(submission, scratch / submission.student)

A project is a folder with a `gpt2` package, a `config.py` or a notebook. A submission is a folder
or zip that holds one, perhaps some folders or one more zip further down, and has the name of the
outermost. Several of them side by side are a class, in a folder or in a zip. Nothing that a
student wrote is run or followed.
"""

import hashlib
import os
import re
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from grading.submissions.archives import (
    LIMITS,
    Budget,
    Entry,
    Limits,
    SubmissionError,
    accepted,
    list_file,
    list_folder,
    list_zip,
    shown,
)

HANDED_IN = re.compile(r"\.(zip|rar|7z|tar|tgz|tar\.(gz|bz2|xz)|ipynb)$", re.IGNORECASE)
MOODLE = "_assignsubmission_"  # in a folder's name: before it the student's, after it the plugin's
TAKEN = ("index.html", "gradebook.csv", "seed.json")  # beside the students in a folder of grades
PACKAGE, CONFIG, NOTEBOOK = 4, 2, 1  # what marks a project, the surest first
DEEPEST = 4  # folders between a submission and its project
NESTED = 2  # zips between them
NONE = "there is no gpt2 package, config.py or notebook; hand in the whole project folder, zipped"


@dataclass(frozen=True)
class Submission:
    """One student's work, where it lies."""

    student: str  # the folder's or zip's name, made safe and unique
    source: Path  # the folder or zip on disk
    digest: str  # of file names and contents, whatever holds them; "" if there is a problem
    problem: str = ""  # why it can't be read
    inside: str = ""  # where in `source`, if that is a zip of a whole class
    notes: tuple[str, ...] = ()  # what was left out


@dataclass(frozen=True)
class _Place:
    """A folder or zip, and how to list it; what the listing opens, the stack closes."""

    source: Path
    inside: str
    listing: Callable[[ExitStack], list[Entry]]

    @property
    def name(self) -> str:
        return self.inside.rpartition("/")[2] or os.path.basename(os.path.abspath(self.source))

    def said(self, error: SubmissionError) -> str:
        text, name = str(error), shown(self.name)
        where = f"{shown(self.source.name)}/{shown(self.inside)}" if self.inside else name
        return text if text.startswith((f"{name} ", f"{name}/")) else f"{where}: {text}"


def find(paths: Sequence[Path], *, limits: Limits = LIMITS) -> list[Submission]:
    """All submissions in these folders and zips, each with a student's name of its own.

    A path is a submission or holds those of a class (folders and zips, as Moodle, Canvas and
    Gradescope give them out). FileNotFoundError if there is nothing at a path, ValueError if it is
    an ordinary file, or the only path and a folder without any project. A submission that can't be
    read is in the list and says why. Reads all files, for the digests, and unpacks nothing but zips
    in zips, to temporary files.
    """
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        if not (path.is_dir() or HANDED_IN.search(path.name) or zipfile.is_zipfile(path)):
            raise ValueError(f"{path} is neither a folder nor a zip")
        with ExitStack() as stack:
            place = _on_disk(path, limits)
            places = _split(place, stack, limits)
            if not places and (path.is_file() or len(paths) > 1):  # somebody's, and one of many
                places = [place]
            if not places:
                raise ValueError(f"{path} holds no project: no gpt2 package, config.py or notebook")
            found += [_examined(place, limits) for place in places]
    return _unique(found)


def unpack(submission: Submission, folder: Path, *, limits: Limits = LIMITS) -> Path:
    """Copy a submission's files into an empty folder; returns the project's own folder in it.

    SubmissionError if it can't be read, and then `folder` may hold a part of it. Only plain files
    arrive, with the permissions of new ones. FileExistsError if `folder` isn't empty.
    """
    if submission.problem:
        raise SubmissionError(submission.problem)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    place, budget = _on_disk(submission.source, limits), Budget(limits)
    try:
        with ExitStack() as stack:
            for part in filter(None, submission.inside.split("/")):
                children = _children(place, place.listing(stack), limits)
                if part not in children:
                    raise SubmissionError(f"{shown(submission.inside)} is no longer there")
                place = children[part]
            files, root, _ = _project(place, stack, limits)
            for entry in files:
                target = folder.joinpath(*entry.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    for chunk in budget.chunks(entry):
                        file.write(chunk)
    except SubmissionError as error:
        raise SubmissionError(place.said(error)) from error
    return folder.joinpath(*root)


def safe_name(text: str) -> str:
    """A file's name made from any text: readable, in its own script, and harmless anywhere."""
    text = unicodedata.normalize("NFC", text.partition(MOODLE)[0])
    kept = (c if c in "._-" or unicodedata.category(c)[0] in "LMN" else "-" for c in text)
    text = re.sub("-{2,}", "-", "".join(kept)).strip("-._").encode()[:100].decode(errors="ignore")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", text):  # Windows' devices
        text = f"student-{text}"
    return text.rstrip("-._") or "unnamed"


def _split(place: _Place, stack: ExitStack, limits: Limits) -> list[_Place]:
    """The place itself if it is one submission, those in it if it is a class's, [] if neither."""
    try:
        entries = place.listing(stack)
    except SubmissionError:
        return [place]  # whoever examines it gets the same error
    roots, children = _roots(entries), _children(place, entries, limits)
    if roots.get((), 0) > NOTEBOOK:
        return [place]
    tops = {root[0] for root in roots if root}
    holding = [name for name in children if name in tops or HANDED_IN.search(name)]
    if () in roots:  # one project without a package, or a notebook that lies among submissions
        holding = [name for name in holding if _holds_package(children[name], stack)]
        if len(holding) < 2:
            return [place]
    if len(holding) > 1 or (holding and any(MOODLE in name for name in children)):
        graded = {entry.parts[0] for entry in entries if entry.parts[1:] == TAKEN[1:2]}
        return [children[name] for name in children if name in holding or name not in graded]
    if not holding:
        return []
    inner = _split(children[holding[0]], stack, limits)
    bare_zip = place.source.is_dir() and HANDED_IN.search(
        holding[0]
    )  # in a folder of the instructor
    if len(inner) > 1 or (bare_zip and MOODLE not in place.name):
        return inner
    return [place] if inner else []


def _children(place: _Place, entries: list[Entry], limits: Limits) -> dict[str, _Place]:
    """What could be submissions of a class: folders, archives, notebooks, and what is no file."""

    def listed(group: list[Entry], stack: ExitStack) -> list[Entry]:
        alone = [entry for entry in group if len(entry.parts) == 1 and entry.kind != "folder"]
        if not alone:
            return [replace(each, parts=each.parts[1:]) for each in group if len(each.parts) > 1]
        if len(group) > 1:
            raise SubmissionError("there is more than one of this name; rename one")
        return list_zip(alone[0], stack, limits)

    groups = defaultdict(list)
    for entry in entries:
        groups[entry.parts[0]].append(entry)
    in_folder, children = place.source.is_dir(), {}
    for name, group in sorted(groups.items()):
        first = group[0]
        is_file = len(group) == len(first.parts) == 1 and first.kind == "file"
        if not is_file or first.problem or HANDED_IN.search(name):
            source = place.source / name if in_folder else place.source
            inside = "" if in_folder else f"{place.inside}/{name}".lstrip("/")
            children[name] = _Place(source, inside, lambda stack, group=group: listed(group, stack))
    return children


def _roots(entries: list[Entry]) -> dict[tuple[str, ...], int]:
    """The folders that look like a project, by what marks them."""
    roots = defaultdict(int)
    for entry in entries:
        *folder, name = entry.parts
        if entry.kind != "file" or len(folder) > DEEPEST + 1:
            continue
        if name.endswith(".ipynb"):
            roots[tuple(folder)] |= NOTEBOOK
        if name == "config.py":
            roots[tuple(folder)] |= CONFIG
        if name.endswith(".py") and folder[-1:] == ["gpt2"]:
            roots[tuple(folder[:-1])] |= PACKAGE
    for root in list(roots):  # the project's folder itself may be called gpt2
        if roots.get((*root, "gpt2"), 0) & PACKAGE:
            roots[root] &= ~PACKAGE
    return {root: marks for root, marks in roots.items() if marks and len(root) <= DEEPEST}


def _root(roots: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """The project's folder: the uppermost with a package, else with anything that marks one."""
    surest = [root for root in roots if roots[root] & PACKAGE] or list(roots)
    least = min(map(len, surest))
    upper = [root for root in surest if len(root) == least]
    best = [root for root in upper if roots[root] == max(roots[each] for each in upper)]
    if len(best) > 1 and roots[best[0]] & PACKAGE:
        names = " and ".join(shown("/".join(root)) for root in sorted(best)[:2])
        raise SubmissionError(f"there are several projects ({names}); hand in one")
    return _common(best)


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all these paths begin with."""
    first, last = min(paths), max(paths)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: [*same, False].index(False)]


def _project(place: _Place, stack: ExitStack, limits: Limits):
    """A submission's files (list of Entry), its project's folder, and notes on what was left."""
    entries = place.listing(stack)
    for _ in range(NESTED + 1):
        files, notes = accepted(entries, limits)
        roots = _roots(files)
        if roots:
            # Folders that hold nothing but the next one are wrapping, no part of the content.
            wrapping = _common([entry.parts[:-1] for entry in files])
            cut = min(map(len, (wrapping, *roots)))
            files = [replace(entry, parts=entry.parts[cut:]) for entry in files]
            return files, _root({root[cut:]: marks for root, marks in roots.items()}), notes
        archives = [entry for entry in files if HANDED_IN.search(entry.parts[-1])]
        if len(archives) != 1:
            break
        entries = list_zip(archives[0], stack, limits)
    raise SubmissionError(NONE)


def _on_disk(path: Path, limits: Limits) -> _Place:
    if path.is_dir():
        return _Place(path, "", lambda stack: list_folder(path))
    return _Place(path, "", lambda stack: list_file(path, stack, limits))


def _examined(place: _Place, limits: Limits) -> Submission:
    content, budget = hashlib.blake2b(digest_size=16), Budget(limits)
    try:
        with ExitStack() as stack:
            files, _, notes = _project(place, stack, limits)
            for entry in files:
                one = hashlib.blake2b()
                for chunk in budget.chunks(entry):
                    one.update(chunk)
                name = "/".join(entry.parts).encode()
                content.update(len(name).to_bytes(4, "big") + name + one.digest())
    except SubmissionError as error:
        return Submission(place.name, place.source, "", place.said(error), place.inside)
    return Submission(place.name, place.source, content.hexdigest(), "", place.inside, notes)


def _unique(found: list[Submission]) -> list[Submission]:
    """The submissions with safe names, each once: a zip may lie beside the folder made of it."""
    taken, seen, unique = set(TAKEN), set(), []
    for submission in found:
        place = Path(os.path.abspath(submission.source), submission.inside)
        name = safe_name(HANDED_IN.sub("", submission.student))
        same = (place.parent, name.casefold(), submission.digest or place)
        if place in seen or same in seen:
            continue
        seen |= {place, same}
        student, count = name, 1
        while student.casefold() in taken:
            count += 1
            student = f"{name.encode()[:94].decode(errors='ignore')}-{count}"
        taken.add(student.casefold())
        unique.append(replace(submission, student=student))
    return unique


def _holds_package(place: _Place, stack: ExitStack) -> bool:
    try:
        return any(marks > NOTEBOOK for marks in _roots(place.listing(stack)).values())
    except SubmissionError:
        return False
