"""Run a student's program, of which nothing is known, without harm to the machine or the grades.

    outcome = run([sys.executable, "train.py"], scratch_copy, Limits(wall_seconds=60))

Three processes stand between the grader and the program, and each has one reason:

    grader    run() reads what is printed, polls the process tree, and stops it at a limit
    launcher  this file as a script: leaves the grader's namespaces (Linux: namespaces(7))
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

import ctypes
import errno
import fcntl
import functools
import json
import os
import platform
import resource
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LINUX = sys.platform == "linux"
INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CUDA_VISIBLE_DEVICES")
PRIVATE = ("/home", "/root", "/run", "/var/run", "/etc/shadow", "/etc/gshadow", "/etc/ssh")
DEVICES = ("null", "zero", "full", "random", "urandom")
POLL = 0.1  # seconds between two looks at the process tree
PATIENCE = 256  # a program that prints this many times what is kept is stopped
RESERVE = 2**28  # bytes of memory and of disk that must stay free for the grader itself
INSIDE_USER = 1000  # not 0: several doors of /proc ask for user 0 and not for a capability


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
        with _scratch_folder() as folder:
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
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)


@contextmanager
def _scratch_folder() -> Iterator[str]:
    scratch = tempfile.mkdtemp()
    try:
        yield scratch
    finally:
        remove(Path(scratch))


def _rules(folder: Path, hidden: Sequence[Path], kept: Sequence[Path]) -> dict[str, str]:
    """What becomes of each place, by its path without links."""
    fixed = {"/tmp": "scratch", "/dev": "devices", "/dev/shm": "scratch", "/proc": "proc"}
    private = (*PRIVATE, os.path.expanduser("~"))
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
    with _scratch_folder() as scratch, selectors.DefaultSelector() as ready:
        ours, theirs = socket.socketpair()
        plan = {"command": list(command), "folder": str(folder), "limits": vars(limits)}
        plan |= {"features": features, "rules": rules or _rules(folder, (), ())}
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        variables |= {"HOME": str(folder), "USER": "student", "LOGNAME": "student"}
        variables |= {"TMPDIR": "/tmp" if isolation.files else scratch, "HF_HUB_OFFLINE": "1"}
        variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
        launcher = subprocess.Popen(
            [sys.executable, "-I", __file__, str(theirs.fileno())],
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
            watch = _Watch(launcher.pid, places, limits, int(isolation.processes))
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
        -signal.SIGXFSZ: f"stopped: it wrote a file of more than {_size(limits.file_size)}",
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
                return messages, f"stopped: it printed {_size(kept.total)}, and no end was in sight"
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


class _Watch:
    """The tree of processes below the launcher, and what it uses."""

    def __init__(self, launcher: int, folders: Sequence[Path], limits: Limits, keepers: int):
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
        tree = _tree(self.launcher)
        self.seen = tree + [each for each in {*self.seen} - {*tree} if _alive(each)]
        count = len(self.seen) - self.keepers
        if count > limits.processes:
            return f"stopped: it ran {count} processes at once (limit {limits.processes})"
        return self._memory() or self._cpu() or self._disk()

    def _memory(self) -> str:
        held = sum(_ask(each, lambda process: process.memory_info().rss) for each in self.seen)
        if held > self.limits.memory:  # that counts shared pages twice; the exact sum is slow
            held = sum(_ask(each, _proportional_memory) for each in self.seen)
        if held > self.limits.memory:
            return f"stopped: it held {_size(held)} of memory (limit {_size(self.limits.memory)})"
        system = psutil.virtual_memory()  # a file in memory (memfd) is no process's: see it here
        grown = system.shared - self.shared if LINUX else 0
        if grown > self.limits.memory + RESERVE:
            return f"stopped: {_size(grown)} of files in memory appeared while it ran"
        if system.available < min(RESERVE, system.total // 20):
            return "stopped: the machine had almost no memory left"
        return ""

    def _cpu(self) -> str:
        """Of those alive with the children they waited for, or of all ever seen, if more."""
        times = {each: _ask(each, lambda process: process.cpu_times()) for each in self.seen}
        self.cpu |= {each: used.user + used.system for each, used in times.items() if used}
        used = max(sum(self.cpu.values()), sum(sum(used[:4]) for used in times.values() if used))
        if used > self.limits.cpu_seconds:
            return f"stopped after {self.limits.cpu_seconds} s of processor time (the limit)"
        return ""

    def _disk(self) -> str:
        """A few milliseconds of a walk that goes on at the next look: it may be a million files."""
        if time.monotonic() < self.next_walk:
            return ""
        end = time.monotonic() + 0.02
        try:
            for total in self.walk:
                if total > self.limits.disk:
                    return (
                        f"stopped: its folder held {_size(total)} (limit {_size(self.limits.disk)})"
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


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except (psutil.Error, OSError):
        return []


def _ask(process: psutil.Process, question) -> float:
    """The answer, or 0 if the process is gone."""
    try:
        return question(process)
    except (psutil.Error, OSError):
        return 0


def _alive(process: psutil.Process) -> bool:
    return _ask(process, lambda each: each.is_running() and each.status() != "zombie")


def _proportional_memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (AttributeError, psutil.AccessDenied):
        return process.memory_info().rss


def _kill_tree(root: psutil.Process, others: Sequence[psutil.Process] = ()) -> bool:
    """Kill all below `root`, and these others, until none is left; False if some stay.

    In a process namespace the first to die is the keeper, and with it all. Elsewhere a process
    group dies in one blow, faster than it can fork, and who left its group dies one by one.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        alive = [each for each in {*_tree(root), *others} if _alive(each)]
        if not alive:
            return True
        groups = {_ask(each, lambda process: os.getpgid(process.pid)) for each in alive}
        for group in groups - {0, os.getpgrp(), root.pid}:
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        for process in alive:
            _ask(process, lambda each: each.kill())
        time.sleep(0.005)
    return False


def _end(launcher: subprocess.Popen, watch: _Watch) -> bool:
    """Kill until the launcher has gone, too: it may only now be starting the program."""
    end = time.monotonic() + 5
    while launcher.poll() is None and time.monotonic() < end:
        _kill_tree(watch.launcher, watch.seen)
        with suppress(subprocess.TimeoutExpired):
            launcher.wait(0.05)
    launcher.kill()
    launcher.wait()
    return _kill_tree(watch.launcher, watch.seen)


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


# --- Below here runs in the launcher, which no longer is the grader --------------------------

CLONE = {"network": 0x40000000, "processes": 0x28000000, "files": 0, "user and mounts": 0x10020000}
READ_ONLY, NO_SETUID, NO_DEVICES = 1, 2, 4  # mount_setattr(2)
BIND, RECURSIVE, PRIVATE_MOUNTS = 0x1000, 0x4000, 0x40000  # mount(2)
SET_DEATH_SIGNAL, SET_DUMPABLE, DROP_BOUND, SET_SUBREAPER, NO_NEW_PRIVILEGES = 1, 4, 24, 36, 38

SYSTEM_CALLS = {  # AUDIT_ARCH; socket; io_uring_setup, add_key, request_key, keyctl
    "x86_64": (0xC000003E, 41, (425, 248, 249, 250)),
    "aarch64": (0xC00000B7, 198, (425, 217, 218, 219)),
}


def _call(function: str, *arguments) -> None:
    """A function of the C library; an OSError that names it if it fails."""
    numbers = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    encoded = [os.fsencode(each) if isinstance(each, str) else each for each in numbers]
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*encoded) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}{arguments} is refused: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = ""):
    _call("mount", source, target, kind, flags, options)


def _restrict(target: str, flags: int, recursive: bool = False) -> None:
    """mount_setattr(2), number 442 on every machine, since Linux 5.12."""
    attributes = struct.pack("4Q", flags, 0, 0, 0)
    _call("syscall", 442, -100, target, 0x8000 if recursive else 0, attributes, len(attributes))


def _launch(channel: socket.socket) -> None:
    """Read the plan, isolate, start the program, report; never returns."""
    command = None
    try:
        plan = json.loads(channel.makefile().readline())
        features, parent = plan["features"], os.getppid()
        with suppress(OSError):  # if memory is short, the system shall kill this, not the grader
            Path("/proc/self/oom_score_adj").write_text("1000")
        if features:
            _leave_namespaces(features)
        if LINUX:  # the program may not look into this process, though it is the same user's
            _call("prctl", SET_DUMPABLE, 0, 0, 0, 0)
        if "processes" in features:
            _call("prctl", SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the grader died before the line above
                return
            if keeper := os.fork():
                os.waitpid(keeper, 0)
                return
            _call("prctl", SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        elif LINUX:
            _call("prctl", SET_SUBREAPER, 1, 0, 0, 0)
        if "files" in features:
            _lay_out_files(plan)
        elif "processes" in features:
            _mount_proc("/proc", plan)
        program = os.fork()
        if program == 0:
            _confine(plan)
            command = plan["command"][0]
            os.execvp(command, plan["command"])
        _keep(channel, program, alone="processes" not in features)
    except Exception as error:  # a student's page shall not show our traceback
        number, text = getattr(error, "errno", None) or errno.EIO, str(error)
        if command is not None:
            text = f"{os.strerror(number)} (as seen from inside the sandbox)"
        message = {"error": text, "errno": number, "file": command}
        channel.sendall(json.dumps(message).encode() + b"\n")
    finally:
        os._exit(0)


def _keep(channel: socket.socket, program: int, alone: bool) -> None:
    """Reap until the program ends or the grader does; then leave nothing behind."""
    status = None
    while status is None and not select.select([channel], [], [], 0.02)[0]:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = ended[1] if ended[0] == program else status
    if status is not None:
        channel.sendall(json.dumps({"status": status}).encode() + b"\n")
    if alone:
        _kill_tree(psutil.Process())


def _leave_namespaces(features: Sequence[str]) -> None:
    user, group = os.geteuid(), os.getegid()
    flags = CLONE["user and mounts"]
    for feature in features:
        flags |= CLONE[feature]
    _call("unshare", flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INSIDE_USER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{INSIDE_USER} {group} 1")
    if "network" in features:  # programs of several processes talk over the loopback
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            up = struct.pack("16sH14x", b"lo", 0x41)  # IFF_UP | IFF_RUNNING
            fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
    _mount("none", "/", None, RECURSIVE | PRIVATE_MOUNTS)


def _lay_out_files(plan: Mapping) -> None:
    """A copy of the tree of mounts, read-only, with the rules' places put over it."""
    new = "/proc"  # a mount point that no rule takes anything from; pivot_root frees it again
    _mount("/", new, None, BIND | RECURSIVE)
    _restrict(new, READ_ONLY | NO_SETUID | NO_DEVICES, recursive=True)
    limits, sealed = plan["limits"], []
    size = min(limits["disk"], limits["memory"]) // 4
    for path, rule in sorted(plan["rules"].items(), key=lambda item: item[0].count("/")):
        target = new + path
        if not os.path.lexists(target):  # inside of what was hidden
            os.makedirs(target if os.path.isdir(path) else os.path.dirname(target), exist_ok=True)
            if not os.path.isdir(path):
                Path(target).touch()
        if rule == "proc":
            if "processes" in plan["features"]:
                _mount_proc(target, plan)
        elif rule in ("keep", "write"):
            _mount(path, target, None, BIND | RECURSIVE)
            flags = NO_SETUID | NO_DEVICES | (READ_ONLY if rule == "keep" else 0)
            _restrict(target, flags, recursive=True)
        elif not os.path.isdir(path):
            _mount("/dev/null", target, None, BIND)
            _restrict(target, READ_ONLY | NO_DEVICES)
        elif rule == "scratch":
            _mount("tmpfs", target, "tmpfs", NO_SETUID | NO_DEVICES, f"size={size},mode=1777")
        else:  # hide, devices
            _mount("tmpfs", target, "tmpfs", NO_SETUID, "size=1m,mode=755")
            sealed.append(target)
        if rule == "devices":
            _make_devices(Path(target))
    for target in sealed:
        _restrict(target, READ_ONLY)
    os.chdir(new)
    _call("pivot_root", ".", ".")
    _call("umount2", ".", 2)  # MNT_DETACH: the old tree, which lies over the new one
    os.chdir("/")


def _make_devices(target: Path) -> None:
    graphics = [path.name for path in Path("/dev").glob("nvidia*") if not path.is_dir()]
    for name in (*DEVICES, *graphics):
        (target / name).touch()
        _mount(f"/dev/{name}", str(target / name), None, BIND)
    for name, end in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (target / name).symlink_to(f"/proc/self/fd{end}")
    (target / "shm").mkdir()


def _tasks(plan: Mapping) -> int:
    """How many processes and threads the kernel itself allows, where it can."""
    return 1024 + 64 * plan["limits"]["processes"]


def _mount_proc(target: str, plan: Mapping) -> None:
    """A /proc that shows only the new processes. Read-only: root's program could else set, without
    any capability, what the kernel runs when a process crashes."""
    _mount("proc", target, "proc", NO_SETUID | NO_DEVICES | 8)  # MS_NOEXEC
    for name, value in {"user/max_user_namespaces": 0, "kernel/pid_max": _tasks(plan)}.items():
        with suppress(OSError):  # the second is for all the system before Linux 6.14
            Path(target, "sys", name).write_text(str(value))
    _restrict(target, READ_ONLY | NO_SETUID | NO_DEVICES)


def _filter_system_calls(machine: int, make_socket: int, refused: Sequence[int]) -> None:
    """Refuse sockets of families that no namespace isolates, and what would get around that.

    AF_VSOCK is the one that matters: it reaches the host of a virtual machine. io_uring makes
    sockets without the call that is looked at, and the keyring is the login session's.
    """
    missing, no_family = 0x50000 | errno.ENOSYS, 0x50000 | errno.EAFNOSUPPORT
    load, equal, at_least, allow = 0x20, 0x15, 0x35, 0x7FFF0000  # classic BPF, seccomp(2)

    def step(code: int, value: int, skip_if: int = 0, skip_unless: int = 0) -> bytes:
        return struct.pack("HBBI", code, skip_if, skip_unless, value)

    def answer(value: int) -> bytes:
        return step(0x06, value)

    program = step(load, 4) + step(equal, machine, skip_if=1) + answer(missing)
    program += step(load, 0)  # x32, from 2**30 on, is a second table of the same calls
    program += step(at_least, 2**30, skip_unless=1) + answer(missing)
    for number in refused:
        program += step(equal, number, skip_unless=1) + answer(missing)
    program += step(equal, make_socket, skip_if=1) + answer(allow)
    program += step(load, 16)  # the call's first argument
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
        program += step(equal, family, skip_unless=1) + answer(allow)
    program += answer(no_family)
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _call("prctl", 22, 2, pointer, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _confine(plan: Mapping) -> None:
    """The last steps before the program: what it inherits, its limits, no privilege."""
    os.setsid()
    os.nice(5)  # so that the grader gets a processor when it wants to stop it
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(each, signal.SIG_DFL)
    limits = plan["limits"]
    values = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits["cpu_seconds"] + 1,
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NOFILE: 4096,
        # What is mapped to be written, more than is held: torch needs no more than this. (RLIMIT_AS
        # counts what is only reserved, too, and torch reserves much.)
        resource.RLIMIT_DATA: 2 * limits["memory"] + 2**32,
    }
    if plan["features"]:  # there it counts the sandbox's tasks, elsewhere all that the user runs
        values[resource.RLIMIT_NPROC] = _tasks(plan)
    for name, value in values.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))
    os.chdir(plan["folder"])
    if LINUX:
        for capability in range(64):
            with suppress(OSError):  # without the capability to drop, none is there to drop
                _call("prctl", DROP_BOUND, capability, 0, 0, 0)
        _call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))
        _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if platform.machine() in SYSTEM_CALLS:
            _filter_system_calls(*SYSTEM_CALLS[platform.machine()])
        _call("prctl", SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    _launch(socket.socket(fileno=int(sys.argv[1])))
