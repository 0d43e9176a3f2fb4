"""What a program that runs in the sandbox uses, and whether that is too much."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from grading.submissions.confine import LINUX, alive, ask, descendants

if TYPE_CHECKING:
    from grading.submissions.sandbox import Limits

RESERVE = 2**28  # bytes of memory and of disk that must stay free for the grader itself


class Watch:
    """The tree of processes below the launcher, and what it uses."""

    def __init__(self, launcher: int, folders: Sequence[Path], limits: "Limits", keepers: int):
        self.launcher = psutil.Process(launcher)
        self.folders, self.limits, self.keepers = folders, limits, keepers
        self.start = time.monotonic()
        self.seen: list[psutil.Process] = []  # also what has left the tree, as far as it was seen
        self.cpu: dict[psutil.Process, float] = {}
        self.shared = psutil.virtual_memory().shared if LINUX else 0
        self.walk, self.next_walk = _disk_use(folders), 0.0

    def complaint(self) -> str:
        """Why it must be stopped now, or "". The cheap and the urgent come first."""
        limits = self.limits
        if time.monotonic() - self.start > limits.wall_seconds:
            return f"stopped after {limits.wall_seconds:g} s of wall time (the limit)"
        tree = descendants(self.launcher)
        self.seen = tree + [each for each in {*self.seen} - {*tree} if alive(each)]
        count = len(self.seen) - self.keepers
        if count > limits.processes:
            return f"stopped: it ran {count} processes at once (limit {limits.processes})"
        return self._memory() or self._cpu() or self._disk()

    def _memory(self) -> str:
        held = sum(ask(each, lambda process: process.memory_info().rss) for each in self.seen)
        if held > self.limits.memory:  # that counts shared pages twice; the exact sum is slow
            held = sum(ask(each, _proportional_memory) for each in self.seen)
        if held > self.limits.memory:
            return f"stopped: it held {size(held)} of memory (limit {size(self.limits.memory)})"
        system = psutil.virtual_memory()  # a file in memory (memfd) is no process's: see it here
        grown = system.shared - self.shared if LINUX else 0
        if grown > self.limits.memory + RESERVE:
            return f"stopped: {size(grown)} of files in memory appeared while it ran"
        if system.available < min(RESERVE, system.total // 20):
            return "stopped: the machine had almost no memory left"
        return ""

    def _cpu(self) -> str:
        """Of those alive with the children they waited for, or of all ever seen, if more."""
        times = {each: ask(each, lambda process: process.cpu_times()) for each in self.seen}
        self.cpu |= {each: used.user + used.system for each, used in times.items() if used}
        used = max(sum(self.cpu.values()), sum(sum(used[:4]) for used in times.values() if used))
        if used > self.limits.cpu_seconds:
            return f"stopped after {self.limits.cpu_seconds} s of processor time (the limit)"
        return ""

    def _disk(self) -> str:
        """Walk for a few milliseconds, and continue at the next look: it may be a million files."""
        if time.monotonic() < self.next_walk:
            return ""
        end = time.monotonic() + 0.02
        try:
            for total in self.walk:
                if total > self.limits.disk:
                    return (
                        f"stopped: its folder held {size(total)} (limit {size(self.limits.disk)})"
                    )
                if time.monotonic() > end:
                    return ""
            disk = shutil.disk_usage(self.folders[0])
        except OSError as error:
            return f"stopped: its folder can't be measured ({error.strerror})"
        self.walk, self.next_walk = _disk_use(self.folders), time.monotonic() + 1
        if disk.free < min(RESERVE, disk.total // 20):
            return "stopped: the disk was almost full"
        return ""


def _disk_use(folders: Sequence[Path]) -> Iterator[int]:
    """Bytes so far, file by file, and 4 KiB for its name; OSError if a folder hides what it has."""
    total, waiting = 0, [str(folder) for folder in folders]
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it is allowed to delete its files
                    total += 4096 + 512 * entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                yield total


def _proportional_memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (AttributeError, psutil.AccessDenied):
        return process.memory_info().rss


def size(count: float) -> str:
    """A number of bytes, to read."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
