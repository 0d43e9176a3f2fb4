"""Run a student's program, of which nothing is known, without harm to the machine or the grades.

    outcome = run([sys.executable, "train.py"], scratch_copy, Limits(wall_seconds=60))

Bubblewrap, bwrap(1), shows the program what VISIBLE lists and the running interpreter, read-only,
and its own folder and a private /tmp, which it can change; no network, no other process, no
capability. `processes.py` watches the limits from outside. With sandboxed=False the limits stay,
but a hostile program can read and change what the grader can.

What comes back in the folder is as hostile as the program: a result file may be a link to a
secret, a pipe that never ends, or four gigabytes. Open it with os.O_NOFOLLOW, and look first.
"""

import errno
import functools
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from grading.submissions import processes
from grading.submissions.processes import Watch, size

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CUDA_VISIBLE_DEVICES")
VISIBLE = "/usr /bin /sbin /lib /lib32 /lib64 /libx32 /sys/devices/system /etc/alternatives "
VISIBLE += "/etc/fonts /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime "
VISIBLE += "/etc/ssl/certs /etc/ssl/openssl.cnf /etc/passwd /etc/group /etc/hosts "
VISIBLE += "/etc/nsswitch.conf"
PREFIX = ("bin", "lib", "lib64", "share", "etc", "ssl", "pyvenv.cfg")  # of an interpreter's folder
APART = "--unshare-all --unshare-user --disable-userns --uid 1000 --gid 1000 --cap-drop ALL "
APART += "--new-session --die-with-parent"
CALLS = {  # AUDIT_ARCH; socket; io_uring_setup, add_key, request_key, keyctl
    "x86_64": (0xC000003E, 41, (425, 248, 249, 250)),
    "aarch64": (0xC00000B7, 198, (425, 217, 218, 219)),
}
LIMITING = """{{ ulimit -c 0; ulimit -n 4096; ulimit -f {0}; ulimit -d {1}; ulimit -S -t {2}
ulimit -H -t {3}; ulimit -u {4} || ulimit -p {4}; }} >/dev/null 2>&1; exec nice -n 5 "$@" """


@dataclass(frozen=True)
class Limits:
    """What a program may use before it is stopped; bytes, seconds, counts."""

    wall_seconds: float = 600
    cpu_seconds: int = 1200  # of the whole tree, as far as it can be known
    memory: int = 8 * 2**30  # resident, of the whole tree, what is shared counted once
    processes: int = 64  # at once; threads may be many more
    output: int = 2**20  # what is kept of stdout and of stderr, each
    file_size: int = 2**30  # of any one file
    disk: int = 4 * 2**30  # of all that its folder and its /tmp hold


@dataclass(frozen=True)
class Outcome:
    """How a program ended. `returncode` is None if it was stopped; above 128 it is a signal's."""

    returncode: int | None
    stopped: str  # "" if it ended by itself, else one sentence
    stdout: str
    stderr: str
    seconds: float


@functools.cache
def missing() -> str:
    """Return why this system has no sandbox, found by trying it, or ""."""
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (apt install bubblewrap)"
    try:
        with scratch_folder() as folder:
            trial = run([sys.executable, "-I", "-c", ""], folder)
        why = "" if trial.returncode == 0 else trial.stopped or trial.stderr
    except OSError as error:
        why = str(error)
    return f"bubblewrap fails here ({why})" if why else ""


def run(
    command: Sequence[str | os.PathLike],
    folder: Path,
    limits: Limits | None = None,
    *,
    hidden: Sequence[Path] = (),
    sandboxed: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program in `folder`, the one place it may change; whatever it does is an Outcome.

    Of what the program would see, `hidden` folders and files are empty, but for the interpreter in
    them. `environment` adds to the few variables that it gets. OSError or ValueError for what is no
    fault of the program: nothing runs with less than the sandbox that was asked for.
    """
    folder, limits = Path(folder).resolve(strict=True), limits or Limits()
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables |= {"HOME": str(folder), "USER": "student", "LOGNAME": "student"}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "HF_HUB_OFFLINE": "1"}
    with scratch_folder() as scratch, ExitStack() as stack:
        names = ("status", "filter", "stdout", "stderr")
        status, calls, *outputs = (stack.enter_context((scratch / n).open("ab+")) for n in names)
        variables["TMPDIR"] = "/tmp" if sandboxed else str(scratch / "tmp")
        (scratch / "tmp").mkdir()
        # Of time the kernel sends SIGXCPU at the soft limit, which tells why, SIGKILL at the hard
        # one. What is mapped to be written may be more than is held: torch needs no more than this.
        cpu, data = limits.cpu_seconds + 1, (2 * limits.memory + 2**32) // 1024
        tasks = 1024 + 64 * limits.processes if sandboxed else ""  # else it is all the user's
        limiting = LIMITING.format(limits.file_size // 512, data, cpu, cpu + 2, tasks)
        words, passed = ["sh", "-c", limiting, "sh", *map(os.fspath, command)], []
        if sandboxed:
            (scratch / "filter").write_bytes(_filter())
            passed = [status.fileno(), calls.fileno()]
            told = f"--json-status-fd {passed[0]} --seccomp {passed[1]}"
            words = [*_places(folder, scratch / "tmp", hidden), "--", *words]
            words = ["bwrap", *APART.split(), *told.split(), *words]
        keeper = subprocess.Popen(
            [sys.executable, "-I", processes.__file__, *words],
            stdin=subprocess.PIPE,
            stdout=outputs[0],
            stderr=outputs[1],
            cwd=folder,
            env=variables | dict(environment or {}),
            pass_fds=passed,
            start_new_session=True,  # no terminal to type into
        )
        started, stopped = time.monotonic(), ""
        watch = Watch(keeper.pid, 2 * sandboxed, [folder, scratch], outputs, limits)
        try:
            while keeper.poll() is None and not (stopped := watch.complaint()):
                with suppress(subprocess.TimeoutExpired):
                    keeper.wait(0.1)
        finally:  # also when the grader is interrupted
            keeper.stdin.close()  # tells the keeper that it is over
            with suppress(subprocess.TimeoutExpired):
                keeper.wait(60)
            gone = keeper.poll() is not None
            keeper.kill()
            folder.chmod(0o700)  # which the program may have taken from us
        code, seconds = keeper.wait(), time.monotonic() - started
        out, err = (_kept(output, limits.output) for output in outputs)
        ran = not sandboxed or b"exit-code" in (scratch / "status").read_bytes()
    if code == 1 and not (ran or stopped):
        raise OSError(err.strip())
    if code == 128 + signal.SIGXCPU:
        stopped = f"stopped after {limits.cpu_seconds} s of processor time (the limit)"
    elif code == 128 + signal.SIGXFSZ:
        stopped = f"stopped: it wrote a file of more than {size(limits.file_size)}"
    elif not stopped and (code < 0 or not ran):
        stopped = "stopped: the process that kept it was killed, by it or for want of memory"
    elif not gone:
        stopped += "; some of its processes could not be killed"
    return Outcome(None if stopped else code, stopped, out, err, seconds)


def remove(folder: Path) -> None:
    """Delete a folder that a program has had, or a file, as far as that can be done.

    shutil.rmtree fails where folders lie a thousand deep, and at one without permissions.
    """
    if folder.is_symlink() or not os.path.isdir(folder):  # chmod would follow a link
        with suppress(OSError):
            folder.unlink()
        return
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a temporary folder, deleted afterwards whatever is in it; so are those of graders that
    were killed before they could do that."""
    for old in Path(tempfile.gettempdir()).glob("grading-[0-9]*-*"):
        with suppress(OSError, ValueError):
            lives = psutil.pid_exists(int(old.name.split("-")[1]))
            if not lives and old.lstat().st_uid == os.geteuid():
                remove(old)
    scratch = Path(tempfile.mkdtemp(prefix=f"grading-{os.getpid()}-")).resolve()
    try:
        yield scratch
    finally:
        remove(scratch)


def _kept(output: BinaryIO, limit: int) -> str:
    output.seek(0)
    text = output.read(limit).decode(errors="replace")
    more = os.fstat(output.fileno()).st_size - limit
    return f"{text}\n[{more:,} more bytes were not kept]" if more > 0 else text


def _places(folder: Path, temporary: Path, hidden: Sequence[Path]) -> Iterator[str]:
    """Yield bwrap's options that lay out the file system, the outer places before the inner."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    shown = [Path(prefix, name) for prefix in prefixes for name in PREFIX]
    link = Path(sys.executable)
    while link.is_symlink():
        link = Path(os.path.normpath(link.parent / link.readlink()))
        shown.append(link)
    shown += [path.resolve() for path in shown] + [Path(path) for path in VISIBLE.split()]
    rules = {path: ["--ro-bind", str(path)] for path in shown if path.exists()}
    rules |= {path: ["--dev-bind", str(path)] for path in Path("/dev").glob("nvidia*")}
    for path in (Path(path).resolve() for path in hidden if path.exists()):
        rules[path] = ["--tmpfs"] if path.is_dir() else ["--bind", "/dev/null"]
    rules |= {Path("/proc"): ["--proc"], Path("/dev"): ["--dev"], folder: ["--bind", str(folder)]}
    rules |= {Path(path): ["--bind", str(temporary)] for path in ("/tmp", "/dev/shm")}
    done, sealed = {}, ["/", "/proc", "/dev"]
    for path in sorted(rules, key=lambda path: len(path.parts)):
        what = rules[path][0]
        around = next((done[each] for each in path.parents if each in done), "--tmpfs")
        if what != around or what == "--bind":  # else it is so already
            yield from (*rules[path], str(path))
            done[path] = what
            sealed += [str(path)] if what == "--tmpfs" else []
    for path in sealed:
        yield from ("--remount-ro", path)
    yield from ("--chdir", str(folder))


def _filter() -> bytes:
    """Return a seccomp(2) program that refuses sockets of families that no namespace isolates, and
    what would get around that. AF_VSOCK matters: it reaches a virtual machine's host. io_uring
    makes sockets without the call that is looked at, and the keyring is the login session's.
    """
    allow, missing, no_family = 0x7FFF0000, 0x50000 | errno.ENOSYS, 0x50000 | errno.EAFNOSUPPORT
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06  # (code, skip if, skip unless, value)
    steps = [(answer, 0, 0, allow)]
    if platform.machine() in CALLS:
        machine, make_socket, refused = CALLS[platform.machine()]
        steps = [(load, 0, 0, 4), (equal, 1, 0, machine), (answer, 0, 0, missing)]
        steps += [(load, 0, 0, 0), (at_least, 0, 1, 2**30), (answer, 0, 0, missing)]  # not x32
        for call in refused:
            steps += [(equal, 0, 1, call), (answer, 0, 0, missing)]
        steps += [(equal, 1, 0, make_socket), (answer, 0, 0, allow), (load, 0, 0, 16)]
        for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            steps += [(equal, 0, 1, family), (answer, 0, 0, allow)]
        steps += [(answer, 0, 0, no_family)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
