"""What students handed in: found by its content, told apart by its digest, unpacked safely.

A project is a folder with a `gpt2` package, a `config.py` or a notebook. A submission is a folder
or archive that holds one, some folders or archives further down, and is named by the outermost;
several side by side are a class. `work (1).zip` is what browsers call a second download: in one
student's folder the newest, which counts; between students' another student's, since all may be
called submission.zip. Nothing that a student wrote is run or followed.
"""

import hashlib
import os
import posixpath
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import chain, count
from pathlib import Path, PurePosixPath

from grading.submissions import archives
from grading.submissions.archives import Budget, Entry, Limits, SubmissionError
from grading.submissions.names import PLATFORM, owner, safe_name, shown

LIMITS = Limits()
CONTENTS = 32 * 2**20  # bytes of the table of contents of a whole class's zip
HANDED_IN = re.compile(r"\.(zip|rar|7z|tar|tgz|tar\.(gz|bz2|xz)|ipynb)$", re.IGNORECASE)
COPY = re.compile(r" ?\((\d+)\)(?=\.)")
GRADESCOPE = re.compile(r"^(\S+):\n  :submitters:\n((?:  [- ].*\n)+)", re.MULTILINE)
TAKEN = ("index.html", "gradebook.csv", "moodle.csv", "canvas.csv", "seed.json")  # not students
PACKAGE, STARTER, CONFIG, NOTEBOOK = 8, 4, 2, 1  # what marks a project, the surest first
MARK = re.compile(
    r"(?:(.+)/)?(?:(gpt2/[^/]+\.py)|((?:models/gpt2|modules/attention|sanity_check)\.py)|"
    r"(config\.py)|([^/]+\.ipynb))"
)
DEEPEST = 4  # folders between a submission and its project
NESTED = 2  # archives between them
TRIED = 8  # archives in a submission that may hold its project
EARLIEST, LATEST = 347_155_200, 2**32  # other times are no file's: archives that keep none say 1980
NONE = "there is no gpt2 package, config.py or notebook; hand in the whole project folder, zipped"
SEVERAL = "there are several projects ({} and {}); hand in one"
OTHER = "this is the course's starter layout ({}), not this project's; move your code into gpt2/"


class NoProject(SubmissionError):
    """There is nothing to grade, though all of it can be read."""


@dataclass(frozen=True)
class Submission:
    """One student's work, where it lies."""

    student: str  # the folder's or archive's name, made safe and unique
    source: Path  # the folder or archive on disk
    digest: str  # of file names and contents, whatever holds them; "" if there is a problem
    problem: str = ""  # why it can't be read
    inside: str = ""  # where in `source`, if that holds a whole class
    name: str = ""  # of what was handed in, as it lies there: platforms say in it whose it is
    notes: tuple[str, ...] = ()  # what was left out, and that it is late
    handed_in: str = ""  # such as "2026-12-01T23:59:00 (newest file inside)", local time


@dataclass(frozen=True)
class _Place:
    """A folder or archive, as the entries that it consists of where it lies."""

    source: Path
    inside: str
    student: str  # as a platform gives it, else ""
    entries: list[Entry]

    @property
    def name(self) -> str:
        return self.student or HANDED_IN.sub("", self.entries[0].parts[0])

    @property
    def is_archive(self) -> bool:
        top = self.entries[0]
        return len(top.parts) == 1 and top.kind == "file" and bool(HANDED_IN.search(top.parts[0]))

    def listing(self, stack: ExitStack, budget: Budget) -> list[Entry]:
        tops = {entry.parts[0] for entry in self.entries}
        if len(tops) > 1:  # a student's several files
            return self.entries
        if all(len(entry.parts) > 1 or entry.kind == "folder" for entry in self.entries):
            return [replace(e, parts=e.parts[1:]) for e in self.entries if e.parts[1:]]
        if len(self.entries) > 1:
            raise SubmissionError("there is more than one of this name; rename one")
        return archives.list_archive(self.entries[0], stack, budget)

    def said(self, error: SubmissionError) -> str:
        name = shown(self.inside.rpartition("/")[2] or self.source.name)
        where = f"{shown(self.source.name)}/{shown(self.inside)}" if self.inside else name
        return str(error) if re.match(re.escape(name) + "[ /]", str(error)) else f"{where}: {error}"


def find(paths: Sequence[Path], *, limits: Limits = LIMITS) -> list[Submission]:
    """Return all submissions in these folders and archives, each with a student's name of its own.

    A path is a submission or holds those of a class (as Moodle, Canvas and Gradescope give them
    out). FileNotFoundError if there is nothing at a path, ValueError if it is an ordinary file, or
    the only path and a folder without any project. What can't be read is in the list and says why.
    Reads all files; unpacks only archives in archives, to temporary files.
    """
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        if not (path.is_dir() or HANDED_IN.search(path.name) or zipfile.is_zipfile(path)):
            raise ValueError(f"{path} is neither a folder nor an archive")
        with ExitStack() as stack:
            place, alone = _on_disk(path), len(paths) == 1
            places = _split(place, stack, Budget(replace(limits, contents=CONTENTS)), alone)
            if not places and path.is_dir() and alone:
                raise ValueError(f"{path} holds no project: no gpt2 package, config.py or notebook")
            found += [_examined(each, limits) for each in places or [place]]
    return _unique(found)


def unpack(submission: Submission, folder: Path, *, limits: Limits = LIMITS) -> Path:
    """Copy a submission's files into an empty folder; return the project's own folder in it.

    SubmissionError if it can't be read, and then `folder` may hold a part of it. Only plain files
    arrive, with the permissions of new ones.
    """
    place, outer = _on_disk(submission.source), Budget(replace(limits, contents=CONTENTS))
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        for part in filter(None, submission.inside.split("/")):
            place = _children(place, place.listing(stack, outer))[part]
        files, root, _ = stack.enter_context(_opened(place, limits))
        budget = Budget(limits)
        for entry in files:
            target = folder.joinpath(*entry.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                file.writelines(budget.chunks(entry))
    return folder.joinpath(*root)


@contextmanager
def _opened(place: _Place, limits: Limits) -> Iterator[tuple]:
    """Yield a submission's files, its project's folder, and notes; errors inside name the place."""
    listing = Budget(limits)
    try:
        with ExitStack() as stack:
            yield _project(place.listing(stack, listing), stack, listing)
    except SubmissionError as error:
        raise type(error)(place.said(error)) from error


def _split(place: _Place, stack: ExitStack, budget: Budget, alone: bool, depth=9) -> list[_Place]:
    """Return the place if it is one submission, those in it if it is a class's, [] if neither."""
    try:
        entries = place.listing(stack, budget)
    except SubmissionError:
        return [place]  # whoever examines it gets the same error
    roots, children = _roots(entries), _children(place, entries)
    if roots.get((), 0) > NOTEBOOK or not depth:
        return [place]
    graded = {entry.parts[0] for entry in entries if entry.parts[1:] == TAKEN[1:2]}
    everyone = [child for name, child in children.items() if name not in graded]
    if any(child.student for child in everyone):
        return everyone
    # Where no project lies openly, an archive counts, whatever it holds. Two are a class.
    holding = (c for c in everyone if (c.is_archive and not roots) or _holds(c, budget.limits))
    first, more = next(holding, None), next(holding, None)
    if more:
        return everyone
    if not first or () in roots:
        return [place] if roots else []
    inner = _split(first, stack, budget, alone, depth - 1)
    in_folder = alone and first.is_archive and place.source.is_dir()  # the instructor's, perhaps
    named = in_folder and first.name != "submission"
    return inner if named or inner not in ([], [first]) else [place]


def _holds(place: _Place, limits: Limits) -> bool:
    """Return whether there is a project, or an archive that can't be read and may hold one."""
    try:
        with _opened(place, limits):
            return True
    except SubmissionError as error:
        return not isinstance(error, NoProject) and not place.entries[0].parts[0].endswith(".ipynb")


def _children(place: _Place, entries: list[Entry]) -> dict[str, _Place]:
    """Return what may be submissions of a class; of one student, where names say so, as one."""
    groups, known = defaultdict(list), _gradescope(entries)
    for entry in sorted(entries, key=lambda entry: entry.parts):
        groups[owner(entry.parts[0]) or entry.parts[0]].append(entry)
    children, in_folder = {}, place.source.is_dir()
    for name, group in groups.items():
        first, last = group[0], group[-1]
        student = known.get(name) or owner(first.parts[0])
        stray = len(last.parts) == 1 and last.kind == "file" and not last.problem
        stray |= last.kind == "environment" and len(last.parts) < 3  # the instructor's own
        if in_folder and first.parts[0] == last.parts[0]:
            place_of = place.source / first.parts[0], ""
        else:
            place_of = place.source, f"{place.inside}/{name}".lstrip("/")
        if student or HANDED_IN.search(name) or not stray:
            children[name] = _Place(*place_of, student, group)
    return children


def _gradescope(entries: list[Entry]) -> dict[str, str]:
    """Return students' names and numbers by folder, from the list in Gradescope's export."""
    names, content = {}, b""
    for entry in entries:
        if entry.parts == ("submission_metadata.yml",) and entry.kind == "file":
            with suppress(SubmissionError):  # damaged: the folders keep their own names
                content = b"".join(Budget(Limits(total=CONTENTS)).chunks(entry))
            for folder, people in GRADESCOPE.findall(content.decode(errors="replace")):
                found = re.findall(r":(?:name|sid): *['\"]?(.*?)['\"]?\n", people)
                names[folder] = "_".join(found)
    return names


def _roots(entries: list[Entry]) -> dict[tuple[str, ...], int]:
    """Return the folders that look like a project, by what marks them."""
    roots = defaultdict(int)
    for entry in entries:
        if entry.kind == "file" and (match := MARK.fullmatch("/".join(entry.parts))):
            roots[PurePosixPath(match[1] or "").parts] |= 32 >> match.lastindex
    for root in list(roots):  # the project's folder itself may be called gpt2
        if roots.get((*root, "gpt2"), 0) & PACKAGE:
            roots[root] &= ~PACKAGE
    return {root: marks for root, marks in roots.items() if marks and len(root) <= DEEPEST}


def _root(roots: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """Return the project's folder: the uppermost with a package, else with what else marks one."""
    ranks = {root: (marks & PACKAGE, -len(root), marks) for root, marks in roots.items()}
    best = sorted(root for root in roots if ranks[root] == max(ranks.values()))
    if len(best) > 1 and roots[best[0]] & PACKAGE:
        raise SubmissionError(SEVERAL.format(*(shown("/".join(root)) for root in best[:2])))
    return _common(best)


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the folders that all these paths begin with."""
    return PurePosixPath(posixpath.commonpath(["/".join(path) for path in paths])).parts


def _project(entries: list[Entry], stack: ExitStack, budget: Budget, nested: int = NESTED):
    """Return a submission's files (list of Entry), its project's folder, and notes."""
    files, notes = archives.accepted(entries, budget.limits)
    roots, found, errors = _roots(files), [], []
    if max(roots.values(), default=0) <= NOTEBOOK and nested:
        newest, older = _newest([entry for entry in files if HANDED_IN.search(entry.parts[-1])])
        notes += tuple(f"an older copy was left out: {entry.name}" for entry in older)
        for archive in newest[:TRIED]:
            try:
                inside = archives.list_archive(archive, stack, budget)
                found.append((archive.name, *_project(inside, stack, budget, nested - 1)))
            except SubmissionError as error:
                errors.append(error)
    if len(found) > 1:
        raise SubmissionError(SEVERAL.format(found[0][0], found[1][0]))
    if found:
        _, files, root, more = found[0]
        return files, root, notes + more
    if not roots:
        raise next((e for e in errors if not isinstance(e, NoProject)), NoProject(NONE))
    # Folders that hold nothing but the next one are wrapping, no part of the content.
    cut = min(map(len, (_common([entry.parts[:-1] for entry in files]), *roots)))
    files = [replace(entry, parts=entry.parts[cut:]) for entry in files]
    roots = {root[cut:]: marks for root, marks in roots.items()}
    root = _root(roots)
    ours = any({"optim", "experiments", "grading"} & set(entry.parts) for entry in files)
    if STARTER <= roots[root] < PACKAGE or (CONFIG <= roots[root] < STARTER and not ours):
        names = ["/".join(e.parts[len(root) :]) for e in files if e.parts[-1].endswith(".py")]
        raise SubmissionError(OTHER.format(shown(", ".join(names))))
    return files, root, notes


def _newest(found: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return archives, the uppermost first, and the older copies that browsers left of them."""
    newest, older = {}, []
    for entry in sorted(found, key=lambda e: (len(e.parts), *map(int, COPY.findall(e.parts[-1])))):
        key = (*entry.parts[:-1], COPY.sub("", entry.parts[-1]))
        older += [newest[key]] if key in newest else []
        newest[key] = entry
    return list(newest.values()), older


def _on_disk(path: Path) -> _Place:
    name = os.path.basename(os.path.abspath(path))
    if path.is_dir():
        entries = [Entry((name,), "folder")]
        entries += [replace(e, parts=(name, *e.parts)) for e in archives.list_folder(path)]
    else:
        opener, time = partial(archives.open_plainly, path.resolve()), path.stat().st_mtime
        entries = [Entry((name,), "file", time=time, open=opener)]
    return _Place(path, "", owner(name), entries)


def _examined(place: _Place, limits: Limits) -> Submission:
    content, budget = hashlib.blake2b(digest_size=16), Budget(limits)
    name = place.entries[0].parts[0]
    found = Submission(place.name, place.source, "", "", place.inside, name)
    try:
        with _opened(place, limits) as (files, _, notes):
            for entry in files:
                one = hashlib.blake2b()
                for chunk in budget.chunks(entry):
                    one.update(chunk)
                name = "/".join(entry.parts).encode()
                content.update(len(name).to_bytes(4, "big") + name + one.digest())
    except SubmissionError as error:
        return replace(found, problem=str(error), handed_in=_when([], place.entries))
    match, when = PLATFORM.match(place.entries[0].parts[0]), _when(files, place.entries)
    notes += ("handed in late, by its name",) if match and match["late"] else ()
    return replace(found, digest=content.hexdigest(), notes=notes, handed_in=when)


def _when(files: list[Entry], holding: list[Entry]) -> str:
    """Return the time of the newest file; where none has a time, that of the archive, or ""."""
    for entries, what in ((files, "newest file inside"), (holding, "time of the archive")):
        times = [e.time for e in entries if e.kind == "file" and EARLIEST < e.time < LATEST]
        if times:
            return f"{datetime.fromtimestamp(max(times)).isoformat(timespec='seconds')} ({what})"
    return ""


def _unique(found: list[Submission]) -> list[Submission]:
    """Return them with safe names, each once: a zip may lie beside the folder made of it."""
    taken, seen, unique = set(TAKEN), set(), []
    for submission in found:
        place = os.path.abspath(submission.source / submission.inside)
        same = (HANDED_IN.sub("", place).casefold(), submission.digest or place)
        if place in seen or same in seen:
            continue
        seen |= {place, same}
        name = safe_name(submission.student)
        names = chain((name,), (f"{name}-{number}" for number in count(2)))
        student = next(each for each in names if each.casefold() not in taken)
        taken.add(student.casefold())
        unique.append(replace(submission, student=student))
    return unique
