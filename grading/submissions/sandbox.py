"""Run a student's program, of which nothing is known, without harm to the machine or the grades.

    outcome = run([sys.executable, "train.py"], scratch_copy, Limits(wall_seconds=60))

Three processes stand between the grader and the program, and each has one reason:

    grader    run() reads what is printed, polls the process tree, and stops it at a limit
    launcher  confine.py as a script: leaves the grader's namespaces (Linux: namespaces(7))
    keeper    process 1 of the new process namespace: it lays out the file system, starts the
              program and reaps. When it ends, by itself or killed, the kernel kills all the rest
    program   as user 1000 without any capability, and without a way to gain one

Inside, all files are read-only but the program's folder and a private /tmp; the homes of all
users, the system's sockets and secrets and what the caller hides are empty; of the devices only
harmless ones (and NVIDIA's) exist; the only network is a loopback of its own. Where the system
does not allow this (available() says why), the keeper is a "subreaper", so that the polled
tree still holds every orphan, and the resource limits stay; but then a hostile program can read
and write what the grader can.

What comes back in the folder is as hostile as the program: a result file may be a link to a
secret, a pipe that never ends, or four gigabytes. Open it with os.O_NOFOLLOW, and look first.
"""

import errno
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from grading.submissions import confine
from grading.submissions.confine import LINUX, kill_tree
from grading.submissions.watch import Watch, size

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CUDA_VISIBLE_DEVICES")
PRIVATE = ("/home", "/root", "/run", "/var/run", "/etc/shadow", "/etc/gshadow", "/etc/ssh")
POLL = 0.1  # seconds between two looks at the process tree
PATIENCE = 256  # a program that prints this many times what is kept is stopped


@dataclass(frozen=True)
class Limits:
    """What a program may use before it is stopped; bytes, seconds, counts."""

    wall_seconds: float = 600
    cpu_seconds: int = 1200  # of the whole tree, as far as it can be known
    memory: int = 8 * 2**30  # resident, of the whole tree, what is shared counted once
    processes: int = 64  # at once; threads may be many more
    output: int = 2**20  # what is kept of stdout and of stderr, each
    file_size: int = 2**30  # of any one file
    disk: int = 4 * 2**30  # of all that its folder holds


@dataclass(frozen=True)
class Isolation:
    """What stands between the program and the machine, and a sentence for each thing missing."""

    network: bool = False
    processes: bool = False
    files: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a program ended. `returncode` is None if it was stopped; negative is a signal."""

    returncode: int | None
    stopped: str  # "" if it ended by itself, else one sentence
    stdout: str
    stderr: str
    seconds: float
    isolation: Isolation


@functools.cache
def available() -> Isolation:
    """What this system allows, found by trying it."""
    if not LINUX:
        return Isolation(problems=("no isolation: namespaces exist on Linux alone",))
    names = ("network", "processes", "files")
    together = _trial(names)
    failures = {name: _trial((name,)) if together else "" for name in names}
    problems = [f"no isolation of {name}: {why}" for name, why in failures.items() if why]
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if problems and restricted.exists() and restricted.read_text().strip() == "1":
        problems.append(f"AppArmor forbids it here: {restricted} is 1")
    if os.geteuid() == 0:
        problems.append("the grader is root, so a program can read root's files; use another user")
    return Isolation(**{name: not why for name, why in failures.items()}, problems=tuple(problems))


def _trial(names: Sequence[str]) -> str:
    """Why these can't be isolated, or ""."""
    try:
        with scratch_folder() as folder:
            isolation = Isolation(**dict.fromkeys(names, True))
            outcome = _run([sys.executable, "-I", "-c", ""], Path(folder), Limits(60), isolation)
    except OSError as error:
        return error.strerror
    return "" if outcome.returncode == 0 else outcome.stopped or outcome.stderr


def run(
    command: Sequence[str | os.PathLike],
    folder: Path,
    limits: Limits | None = None,
    *,
    hidden: Sequence[Path] = (),
    kept: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program in `folder`, the one place it may change; whatever it does is an Outcome.

    `hidden` paths are empty for it, but for `kept` ones inside them, which it can read; of two
    paths one inside the other, the inner one's rule holds. The interpreter that runs this is
    kept unless it lies in a hidden path. `environment` adds to the few variables it gets.

    The caller's mistakes raise: FileNotFoundError or NotADirectoryError for a path or a command
    that isn't there inside, PermissionError for one that can't be executed, ValueError,
    TypeError. So does an OSError when the isolation that available() found can't be had now:
    nothing runs with less than `available` says.
    """
    if isinstance(command, str | bytes) or not command:
        raise TypeError(f"command must be a sequence of words, not {command!r}")
    words = [os.fspath(word) for word in command]
    if any("\0" in word for word in words):
        raise ValueError("a word of the command holds a zero byte")
    if not Path(folder).resolve(strict=True).is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "the program's folder is none", str(folder))
    rules = _rules(Path(folder).resolve(), hidden, kept)
    return _run(words, folder, limits or Limits(), available(), rules, environment or {})


def remove(folder: Path) -> None:
    """Delete a folder that a program has had, as far as that can be done, whatever is in it.

    shutil.rmtree fails where folders lie a thousand deep, and at one without permissions.
    """
    if folder.is_symlink():  # which chmod would follow
        folder.unlink()
        return
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A temporary folder for a program to write to, deleted afterwards whatever is in it."""
    scratch = tempfile.mkdtemp()
    try:
        yield scratch
    finally:
        remove(Path(scratch))


def _rules(folder: Path, hidden: Sequence[Path], kept: Sequence[Path]) -> dict[str, str]:
    """What becomes of each place, by its path without links."""
    fixed = {"/tmp": "scratch", "/dev": "devices", "/dev/shm": "scratch", "/proc": "proc"}
    private = (*PRIVATE, os.path.expanduser("~"), tempfile.gettempdir())
    rules = {os.path.realpath(path): "hide" for path in private if os.path.exists(path)}
    hidden = [Path(path).resolve(strict=True) for path in hidden]
    if folder in hidden:
        raise ValueError(f"the program's folder is hidden from it: {folder}")
    for prefix in {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}:
        if not any(prefix.is_relative_to(path) for path in hidden):
            rules[str(prefix)] = "keep"
    rules |= {str(path): "hide" for path in hidden}
    rules |= {str(Path(path).resolve(strict=True)): "keep" for path in kept}
    rules |= fixed | {str(folder): "write"}
    return {path: rule for path, rule in rules.items() if path != "/"}


def _run(
    command: Sequence[str],
    folder: Path,
    limits: Limits,
    isolation: Isolation,
    rules: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    folder = Path(folder).resolve()
    features = [name for name in ("network", "processes", "files") if getattr(isolation, name)]
    with scratch_folder() as scratch, selectors.DefaultSelector() as ready:
        ours, theirs = socket.socketpair()
        plan = {"command": list(command), "folder": str(folder), "limits": vars(limits)}
        plan |= {"features": features, "rules": rules or _rules(folder, (), ())}
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        variables |= {"HOME": str(folder), "USER": "student", "LOGNAME": "student"}
        variables |= {"TMPDIR": "/tmp" if isolation.files else scratch, "HF_HUB_OFFLINE": "1"}
        variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
        launcher = subprocess.Popen(
            [sys.executable, "-I", confine.__file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=variables | dict(environment or {}),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # no terminal to type into, and a process group to kill
        )
        with launcher, ours:
            theirs.close()
            places = [folder, Path(scratch)]
            watch = Watch(launcher.pid, places, limits, int(isolation.processes))
            streams = {launcher.stdout: _Kept(limits.output), launcher.stderr: _Kept(limits.output)}
            for stream in (ours, *streams):
                ready.register(stream, selectors.EVENT_READ)
            try:
                with suppress(BrokenPipeError):
                    ours.sendall(json.dumps(plan).encode() + b"\n")
                messages, stopped = _attend(ready, ours, streams, watch)
            finally:  # also when the grader is interrupted
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_WR)  # tells the keeper that it is over
                gone = _end(launcher, watch)
            _drain(ready, ours, streams)
    for message in messages:
        if "error" in message:
            raise OSError(message["errno"], message["error"], message["file"])
    status = next((message["status"] for message in messages if "status" in message), None)
    code = None if stopped or status is None else os.waitstatus_to_exitcode(status)
    by_kernel = {
        -signal.SIGXCPU: f"stopped after {limits.cpu_seconds} s of processor time (the limit)",
        -signal.SIGXFSZ: f"stopped: it wrote a file of more than {size(limits.file_size)}",
    }
    if code in by_kernel:
        code, stopped = None, by_kernel[code]
    elif code is None and not stopped:
        stopped = "stopped: the process that kept it was killed, by it or for want of memory"
    if not gone:
        stopped = f"{stopped or 'it ended by itself'}; some of its processes could not be killed"
    texts = [kept.text() for kept in streams.values()]
    return Outcome(code, stopped, *texts, time.monotonic() - watch.start, isolation)


def _attend(ready, channel, streams, watch) -> tuple[list[dict], str]:
    """Read until the launcher has gone, or until a limit is passed: messages and why stopped."""
    received, ended, next_look = b"", None, 0.0
    while True:
        for key, _ in ready.select(max(0.0, next_look - time.monotonic())):
            data = os.read(key.fd, 2**16)
            if key.fileobj is not channel:
                streams[key.fileobj].feed(data)
            received += data if key.fileobj is channel else b""
            if not data:
                ready.unregister(key.fileobj)
        messages = [json.loads(line) for line in received.splitlines() if line.endswith(b"}")]
        if channel not in ready.get_map():
            return messages, ""
        ended = ended or (time.monotonic() if messages else None)
        if ended and time.monotonic() - ended > 10:  # it should have cleaned up and gone by now
            return messages, ""
        for kept in () if ended else streams.values():
            if kept.total > PATIENCE * max(kept.limit, 2**16):
                return messages, f"stopped: it printed {size(kept.total)}, and no end was in sight"
        if time.monotonic() >= next_look:
            complaint = "" if ended else watch.complaint()
            if complaint:
                return messages, complaint
            next_look = time.monotonic() + POLL


def _drain(ready, channel, streams) -> None:
    """What is still in the pipes; but a process that got away may hold them open for ever."""
    end = time.monotonic() + 1
    with suppress(KeyError):
        ready.unregister(channel)
    while ready.get_map() and time.monotonic() < end:
        for key, _ in ready.select(0.1):
            data = os.read(key.fd, 2**16)
            streams[key.fileobj].feed(data)
            if not data:
                ready.unregister(key.fileobj)


class _Kept:
    """The first `limit` bytes of a stream, and how many there were."""

    def __init__(self, limit: int):
        self.limit, self.total, self.data = limit, 0, bytearray()

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        self.data += data[: self.limit - len(self.data)]

    def text(self) -> str:
        text = self.data.decode(errors="replace")
        more = self.total - len(self.data)
        return f"{text}\n[{more:,} more bytes were not kept]" if more else text


def _end(launcher: subprocess.Popen, watch: Watch) -> bool:
    """Kill until the launcher has gone, too: it may only now be starting the program."""
    end = time.monotonic() + 5
    while launcher.poll() is None and time.monotonic() < end:
        kill_tree(watch.launcher, watch.seen)
        with suppress(subprocess.TimeoutExpired):
            launcher.wait(0.05)
    launcher.kill()
    launcher.wait()
    return kill_tree(watch.launcher, watch.seen)
