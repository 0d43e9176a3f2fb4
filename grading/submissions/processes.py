"""A program's processes: kept together, watched, and ended all at once.

    python -I processes.py COMMAND [WORD ...]    # ends as the command does, or when its stdin does

As a script it stands between the grader and a program. What the program starts and leaves alone
becomes its child (a "subreaper", prctl(2)), so that all of it can be found. It ends them when the
program ends, when the grader closes its stdin, and so also when the grader is killed.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

RESERVE = 2**28  # bytes of memory and of disk that must stay free for the grader itself
PATIENCE = 256  # a program that prints this many times what is kept is stopped


def keep(command: Sequence[str]) -> int:
    """Run a command; return its exit code, where that of a signal is 128 more, as in a shell."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    with suppress(OSError):  # if memory is short, the system shall kill this, not the grader
        Path("/proc/self/oom_score_adj").write_text("1000")
    nothing, status = subprocess.DEVNULL, None
    program = subprocess.Popen(command, stdin=nothing, close_fds=False, start_new_session=True)
    while status is None and not select.select([0], [], [], 0.02)[0]:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = ended[1] if ended[0] == program.pid else status
    me = psutil.Process()
    while left := [p for p in descendants(me) if ask(p, lambda each: each.status() != "zombie")]:
        # A process group dies in one blow, faster than it can fork; who left it, one by one.
        for group in {ask(each, lambda process: os.getpgid(process.pid)) for each in left} - {0}:
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        for process in left:
            ask(process, lambda each: each.kill())
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status or 0)
    return code if code >= 0 else 128 - code


def descendants(root: psutil.Process) -> list[psutil.Process]:
    return ask(root, lambda process: process.children(recursive=True)) or []


def ask(process: psutil.Process, question: Callable):
    """Return the answer, or 0 if the process is gone."""
    try:
        return question(process)
    except (psutil.Error, OSError):
        return 0


class Watch:
    """What the processes below a keeper use, but for the `apart` ones of the sandbox itself."""

    def __init__(self, keeper: int, apart: int, folders: Sequence[Path], outputs, limits):
        self.keeper, self.apart, self.start = psutil.Process(keeper), apart, time.monotonic()
        self.folders, self.outputs, self.limits = folders, outputs, limits
        self.walk, self.next_walk = _disk_use(folders), 0.0

    def complaint(self) -> str:
        """Return why it must be stopped now, or ""."""
        return next((f"stopped{text}" for text in self._exceeded()), "") or self._disk()

    def _exceeded(self) -> Iterator[str]:
        """Yield what is beyond its limit; what is slow to measure of many processes comes last."""
        limits, tree = self.limits, descendants(self.keeper)
        if (count := len(tree) - self.apart) > limits.processes:
            yield f": it ran {count} processes at once (limit {limits.processes})"
        if time.monotonic() - self.start > limits.wall_seconds:
            yield f" after {limits.wall_seconds:g} s of wall time (the limit)"
        printed = max(os.fstat(output.fileno()).st_size for output in self.outputs)
        if printed > PATIENCE * limits.output:
            yield f": it printed {size(printed)}, and no end was in sight"
        times = [ask(each, lambda process: process.cpu_times()) for each in (self.keeper, *tree)]
        # With children that it waited for.
        if sum(sum(each[:4]) for each in times if each) > limits.cpu_seconds:
            yield f" after {limits.cpu_seconds} s of processor time (the limit)"
        held = sum(ask(each, _resident) for each in tree)
        if held > limits.memory:  # that counts shared pages twice; the exact sum is slow
            held = sum(ask(each, _proportional) or ask(each, _resident) for each in tree)
        if held > limits.memory:
            yield f": it held {size(held)} of memory (limit {size(limits.memory)})"
        system = psutil.virtual_memory()
        if system.available < min(RESERVE, system.total // 20):
            yield ": the machine had almost no memory left"

    def _disk(self) -> str:
        """Walk for a few milliseconds, and continue at the next look: it may be a million files."""
        now, limit = time.monotonic(), self.limits.disk
        if now < self.next_walk:
            return ""
        try:
            for total in self.walk:
                if total > limit:
                    return f"stopped: its folder held {size(total)} (limit {size(limit)})"
                if time.monotonic() > now + 0.02:
                    return ""
            disk = shutil.disk_usage(self.folders[0])
        except OSError as error:
            return f"stopped: its folder can't be measured ({error.strerror})"
        self.walk, self.next_walk = _disk_use(self.folders), now + 1
        few = disk.free < min(RESERVE, disk.total // 20)
        return "stopped: the disk was almost full" if few else ""


def _disk_use(folders: Sequence[Path]) -> Iterator[int]:
    """Yield the bytes so far, file by file, and 4 KiB for its name; OSError for a closed folder."""
    total, waiting = 0, [str(folder) for folder in folders]
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it is allowed to delete its files
                    total += 4096 + 512 * entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                yield total


def _resident(process: psutil.Process) -> int:
    return process.memory_info().rss


def _proportional(process: psutil.Process) -> int:  # which a process can deny
    return process.memory_full_info().pss


def size(count: float) -> str:
    """Return a number of bytes, to read."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
