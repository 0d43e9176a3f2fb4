"""Which submissions have the same solutions, token by token.

Compared is what a student has put into the files with exercises: groups of six tokens that the
handed-out files have not, without comments and layout, and with all names alike that the student
has made up. Where a class has ten students or more, groups that a fifth of it has are left out:
what the handout's formulas suggest.

Two submissions are alike from a Jaccard index of 0.5 on. Our own solution and a copy of it with
all local names changed have 0.63, a copy with half of it written anew 0.50, and a solution written
independently, in another style, 0.08.
"""

import keyword
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from grading.checks.places import FILES

ALIKE = 0.5
TOGETHER = 6  # tokens
FEW, MOST = 30, 20_000  # groups: below FEW nothing can be said
LARGEST = 2**18  # bytes of a file
COMPARED = ("gpt2/", "optim/")  # not exercises/, which are too short to differ
COMMON, CLASS = 0.2, 10
SKIPPED = re.compile(r'"""[\s\S]*?"""|#[^\n]*')


def own_tokens(root: Path, edition: Mapping[str, bytes]) -> list[int]:
    """The groups of tokens, as numbers, that a submission has added to the handed-out files."""
    found: set[int] = set()
    for name in [name for name in {*FILES.values()} if name.startswith(COMPARED)]:
        path, known = root / name, _tokens(edition.get(name, b""))
        if path.is_file() and path.stat().st_size <= LARGEST:
            theirs = _tokens(path.read_bytes())
            found |= _groups(theirs, {*known, *keyword.kwlist}) - _groups(known, {*known})
    return sorted(found)[:MOST]


def _tokens(content: bytes) -> list[str]:
    return re.findall(r"\.?\w+|[^\w\s]", SKIPPED.sub("", content.decode("utf-8", "replace")))


def _groups(tokens: list[str], known: set[str]) -> set[int]:
    tokens = [each if each in known or not each.isidentifier() else "x" for each in tokens]
    ends = range(TOGETHER, len(tokens) + 1)
    return {zlib.crc32(" ".join(tokens[end - TOGETHER : end]).encode()) for end in ends}


def alike(tokens: Mapping[str, Sequence[int]]) -> list[tuple[str, str, float]]:
    """The pairs of students whose submissions are alike, with their index, the highest first."""
    sets = {student: set(groups) for student, groups in tokens.items()}
    if len(sets) >= CLASS:
        times = Counter(group for groups in sets.values() for group in groups)
        often = {group for group, count in times.items() if count > COMMON * len(sets)}
        sets = {s: g - often if len(g - often) >= FEW else g for s, g in sets.items()}
    enough = sorted((student, groups) for student, groups in sets.items() if len(groups) >= FEW)
    pairs = [
        (one, other, len(first & second) / len(first | second))
        for (one, first), (other, second) in combinations(enough, 2)
    ]
    return sorted((pair for pair in pairs if pair[2] >= ALIKE), key=lambda pair: -pair[2])
