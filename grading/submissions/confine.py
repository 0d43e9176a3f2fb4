"""What runs between the grader and the program: it isolates, starts the program, and reaps.

    python -I confine.py DESCRIPTOR     # of a socket that gives the plan (see sandbox.py)

It runs as a script, knows nothing of the grader, and takes no more than the standard library and
psutil. The ways to find and kill a process tree are the grader's, too.
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

LINUX = sys.platform == "linux"
DEVICES = ("null", "zero", "full", "random", "urandom")
INSIDE_USER = 1000  # not 0: several doors of /proc ask for user 0 and not for a capability
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
        kill_tree(psutil.Process())


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
        # Of time, the kernel sends SIGXCPU at the soft limit, which tells why, SIGKILL at the hard.
        pair = (value, value + 2 * (name == resource.RLIMIT_CPU))
        if hard != resource.RLIM_INFINITY:
            pair = tuple(min(each, hard) for each in pair)
        resource.setrlimit(name, pair)
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


# ---- Process trees, for both sides ---------------------------------------------------------------


def descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except (psutil.Error, OSError):
        return []


def ask(process: psutil.Process, question) -> float:
    """The answer, or 0 if the process is gone."""
    try:
        return question(process)
    except (psutil.Error, OSError):
        return 0


def alive(process: psutil.Process) -> bool:
    return ask(process, lambda each: each.is_running() and each.status() != "zombie")


def kill_tree(root: psutil.Process, others: Sequence[psutil.Process] = ()) -> bool:
    """Kill all below `root`, and these others, until none is left; False if some stay.

    In a process namespace the first to die is the keeper, and with it all. Elsewhere a process
    group dies in one blow, faster than it can fork, and who left its group dies one by one.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        left = [each for each in {*descendants(root), *others} if alive(each)]
        if not left:
            return True
        groups = {ask(each, lambda process: os.getpgid(process.pid)) for each in left}
        for group in groups - {0, os.getpgrp(), root.pid}:
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        for process in left:
            ask(process, lambda each: each.kill())
        time.sleep(0.005)
    return False


if __name__ == "__main__":
    _launch(socket.socket(fileno=int(sys.argv[1])))
