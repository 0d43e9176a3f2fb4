"""A program's processes: kept together, watched, and ended all at once.

    python -I processes.py COMMAND [WORD ...]    # ends as the command does, or when its stdin does

As a script it stands between the grader and a program. What the program starts and leaves alone
becomes its child (a "subreaper", prctl(2)), so that all of it can be found. It ends them when the
program ends, when the grader closes its stdin, and so also when the grader is killed.
"""

import ctypes
import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

RESERVE = 2**28  # bytes of memory and of disk that must stay free for the grader itself
PATIENCE = 256  # a program that prints this many times what is kept is stopped
APART = 3  # processes that are not the program's: the keeper and two of bubblewrap's
ENTRY = 2**14  # bytes that a file's name counts for: so few fit that measuring takes no long time


def keep(command: Sequence[str]) -> int:
    """Run a command; return its exit code, where that of a signal is 128 more, as in a shell."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    with suppress(OSError):  # if memory is short, the system shall kill this, not the grader
        Path("/proc/self/oom_score_adj").write_text("1000")
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    status = None
    while status is None and not select.select([0], [], [], 0.02)[0]:
        with suppress(ChildProcessError):  # there is none any more
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = ended[1] if ended[0] == program.pid else status
    while left := family(os.getpid())[1:]:
        for process in left:  # a process group dies in one blow, faster than it can fork
            with suppress(OSError):
                os.killpg(os.getpgid(process.pid), signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.1)
    code = os.waitstatus_to_exitcode(status or 0)
    return code if code >= 0 else 128 - code


def watch(keeper: subprocess.Popen, folders: Sequence[Path], output, limits) -> str:
    """Wait until a keeper ends; if what it keeps passes a limit before, return that in a sentence.

    `folders` are measured together, `output` is an open file, `limits` are sandbox.Limits.
    """
    start = time.monotonic()
    for look in itertools.count():
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(0.1)
            return ""
        # What is slow to measure of many processes comes last.
        tree = family(keeper.pid)
        if (count := len(tree) - APART) > limits.processes:
            return f"stopped: it ran {count} processes at once (limit {limits.processes})"
        if time.monotonic() - start > limits.wall_seconds:
            return f"stopped after {limits.wall_seconds:g} s of wall time (the limit)"
        if (printed := os.fstat(output.fileno()).st_size) > PATIENCE * limits.output:
            return f"stopped: it printed {size(printed)}, and no end was in sight"
        cpu_seconds, held = _use(tree)
        if cpu_seconds > limits.cpu_seconds:
            return f"stopped after {limits.cpu_seconds} s of processor time (the limit)"
        if held > limits.memory:
            return f"stopped: it held {size(held)} of memory (limit {size(limits.memory)})"
        try:
            disk = shutil.disk_usage(folders[0])
            used = _disk_use(folders) if look % 10 == 0 else 0
        except OSError as error:
            return f"stopped: its folder can't be measured ({error.strerror})"
        if used > limits.disk:
            return f"stopped: its folder held {size(used)} (limit {size(limits.disk)})"
        memory = psutil.virtual_memory()
        if memory.available < min(RESERVE, memory.total // 20):
            return "stopped: the machine had almost no memory left"
        if disk.free < min(RESERVE, disk.total // 20):
            return "stopped: the disk was almost full"


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _use(processes: Sequence[psutil.Process]) -> tuple[float, int]:
    """Return their seconds of processor time, with those of children that they waited for, and the
    bytes of memory that they hold, where what is shared counts once."""
    seconds, held = 0.0, 0
    for process in processes:
        with suppress(psutil.Error, OSError):  # it is gone
            seconds += sum(process.cpu_times()[:4])
            try:
                held += process.memory_full_info().pss
            except psutil.AccessDenied:  # a process can hide what it shares
                held += process.memory_info().rss
    return seconds, held


def _disk_use(folders: Sequence[Path]) -> int:
    """Return the bytes of all files below these folders; OSError where a folder is closed."""
    total, waiting = 0, [str(folder) for folder in folders]
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it is allowed to delete its files
                    total += ENTRY + 512 * entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total


def size(count: float) -> str:
    """Return a number of bytes, to read."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
