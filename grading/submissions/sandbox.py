"""Run a student's program, of which nothing is known, without harm to the machine or the grades.

    outcome = run([sys.executable, "train.py"], scratch_copy, Limits(wall_seconds=60))

Bubblewrap, bwrap(1), shows the program what VISIBLE lists and the running interpreter, read-only,
and its own folder and a private /tmp, which it can change; no network, no other process, no
capability. `processes.py` watches the limits from outside. With sandboxed=False the limits stay,
but a hostile program can read and change what the grader can or, where root names another user in
the limits, what that user can.

What comes back in the folder is as hostile as the program: a result file may be a link to a
secret, a pipe that never ends, or a gigabyte.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_path

from grading.submissions import processes

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CUDA_VISIBLE_DEVICES")
VARIABLES = {"USER": "student", "LOGNAME": "student", "PYTHONDONTWRITEBYTECODE": "1"}
VARIABLES |= {"PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
VARIABLES |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
VISIBLE = "/usr /bin /sbin /lib /lib32 /lib64 /libx32 /sys/devices/system /etc/alternatives "
VISIBLE += "/etc/fonts /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime "
VISIBLE += "/etc/ssl/certs /etc/ssl/openssl.cnf /etc/passwd /etc/group /etc/hosts "
VISIBLE += "/etc/nsswitch.conf"
PREFIX = ("bin", "lib", "lib64", "share", "etc", "ssl", "pyvenv.cfg")  # of an interpreter's folder
# The solutions, also where they are installed beside the libraries: never visible.
PACKAGES = ("gpt2", "optim", "exercises", "grading")
HIDDEN = (Path(__file__).parents[2], *(Path(get_path("purelib"), name) for name in PACKAGES))
BWRAP = """exec bwrap --unshare-all --unshare-user --disable-userns --uid 1000 --gid 1000 \
--cap-drop ALL --new-session --die-with-parent --seccomp 3 --json-status-fd 4 "$@" \
3<"$0/filter" 4>"$0/status" """
# Processor seconds, too: for a program that has killed its keeper, so that nobody watches it.
LIMITED = """{{ ulimit -c 0; ulimit -n 4096; ulimit -f {blocks}; ulimit -d {kilobytes}
ulimit -t {seconds}; ulimit -u {tasks} || ulimit -p {tasks}; }} >/dev/null 2>&1
exec nice -n 5 "$@" """
CALLS = {  # AUDIT_ARCH; socket; io_uring_setup, add_key, request_key, keyctl, memfd_create, shmget
    "x86_64": (0xC000003E, 41, (425, 248, 249, 250, 319, 29)),
    "aarch64": (0xC00000B7, 198, (425, 217, 218, 219, 279, 194)),
}


@dataclass(frozen=True)
class Limits:
    """What a program may use before it is stopped; bytes, seconds, counts."""

    wall_seconds: float = 600
    cpu_seconds: int = 1200  # of the whole tree, as far as it can be known
    memory: int = 8 * 2**30  # resident, of the whole tree, what is shared counted once
    processes: int = 64  # at once; threads may be many more
    output: int = 2**20  # what is kept of stdout and stderr
    file_size: int = 2**30  # of any one file
    disk: int = 4 * 2**30  # of all that its folder and its /tmp hold
    user: str = ""  # as whom it runs where there is no sandbox; "" is the grader's own


@dataclass(frozen=True)
class Outcome:
    """How a program ended. `returncode` is None if it was stopped; above 128 it is a signal's."""

    returncode: int | None
    stopped: str  # "" if it ended by itself, else one sentence
    output: str  # of stdout and stderr


@functools.cache
def missing(user: str = "") -> str:
    """Return why this system has no sandbox, or can't run Python as this user instead, or "".

    It is found by trying.
    """
    if not (user or shutil.which("bwrap")):
        return "bubblewrap is not installed (apt install bubblewrap, or see grading/Containerfile)"
    try:
        with scratch_folder() as scratch:
            (folder := scratch / "submission").mkdir()
            command = [sys.executable, "-I", "-c", ""]
            trial = run(command, folder, Limits(user=user), sandboxed=not user)
        why = "" if trial.returncode == 0 else trial.stopped or trial.output.strip()
    except (OSError, KeyError) as error:
        why = str(error)
    what = f"running Python as {user}" if user else "bubblewrap"
    return f"{what} fails here ({why})" if why else ""


def run(
    command: Sequence[str | os.PathLike],
    folder: Path,
    limits: Limits | None = None,
    *,
    sandboxed: bool = True,
) -> Outcome:
    """Run a program in `folder`, the one place it may change; whatever it does is an Outcome.

    OSError for what is no fault of the program: nothing runs with less than the sandbox that was
    asked for.
    """
    folder, limits = Path(folder).resolve(strict=True), limits or Limits()
    limited = LIMITED.format(
        blocks=limits.file_size // 512,
        # What is mapped to be written may be more than is held: torch needs no more than this.
        kilobytes=(2 * limits.memory + 2**32) // 1024,
        seconds=limits.cpu_seconds + 10,
        tasks=1024 + 64 * limits.processes if sandboxed else "",  # else it is all the user's
    )
    words = ["sh", "-c", limited, "sh", *command]
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables |= VARIABLES | {"HOME": str(folder)}
    with scratch_folder() as scratch:
        temporary, status = scratch / "tmp", scratch / "status"
        temporary.mkdir()
        variables["TMPDIR"] = "/tmp" if sandboxed else str(temporary)
        if sandboxed:
            (scratch / "filter").write_bytes(_filter())
            status.touch()
            words = ["sh", "-c", BWRAP, scratch, *_places(folder, temporary), "--", *words]
        elif limits.user:
            words = [*_as_user(limits.user, folder, temporary), *words]
        with open(scratch / "output", "ab+") as output:
            keeper = subprocess.Popen(
                [sys.executable, "-I", processes.__file__, *words],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=variables,
                start_new_session=True,  # no terminal to type into
            )
            try:
                stopped = processes.watch(keeper, [folder, scratch], output, limits)
            finally:  # also when the grader is interrupted
                keeper.stdin.close()  # tells the keeper that it is over
                with suppress(subprocess.TimeoutExpired):
                    keeper.wait(60)
                keeper.kill()
                with suppress(FileNotFoundError):
                    folder.chmod(0o700)  # which the program may have taken from us
            code = keeper.wait()
            with open(scratch / "output", "rb") as printed:  # whose flags the program cannot change
                text = printed.read(limits.output).decode(errors="replace")
        ran = not sandboxed or b"exit-code" in status.read_bytes()
    if 0 < code < 128 and not (ran or stopped):
        raise OSError(text.strip())
    if code == 128 + signal.SIGXFSZ:
        stopped = f"stopped: it wrote a file of more than {processes.size(limits.file_size)}"
    elif not stopped and (code < 0 or not ran):
        stopped = "stopped: the process that kept it was killed, by it or for want of memory"
    return Outcome(None if stopped else code, stopped, text)


def remove(path: Path) -> None:
    """Delete a folder that a program has had, or a file, as far as that can be done.

    shutil.rmtree fails where folders lie a thousand deep, and at one without permissions.
    """
    quietly = {"stderr": subprocess.DEVNULL, "check": False}
    if not path.is_symlink():  # whose target chmod would change
        subprocess.run(["chmod", "-R", "u+rwX", "--", path], **quietly)
    subprocess.run(["rm", "-rf", "--", path], **quietly)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a temporary folder, deleted afterwards whatever is in it; so are those of graders that
    were killed before they could do that."""
    for old in Path(tempfile.gettempdir()).glob("grading-[0-9]*-*"):
        with suppress(OSError):
            lives = Path("/proc", old.name.split("-")[1]).exists()
            if not lives and old.lstat().st_uid == os.geteuid():
                remove(old)
    scratch = Path(tempfile.mkdtemp(prefix=f"grading-{os.getpid()}-")).resolve()
    try:
        yield scratch
    finally:
        remove(scratch)


def _as_user(name: str, *folders: Path) -> list[str]:
    """Hand these folders over to a user; return the words that run what follows as that user."""
    from pwd import getpwnam  # which Windows has not

    user = getpwnam(name)
    for folder in folders:
        if not folder.parent.stat().st_mode & 0o7:  # closed to that user
            folder.parent.chmod(0o711)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", "--", folder], check=True)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    return ["setpriv", *ids, "--clear-groups", "--no-new-privs", "--"]


def _places(folder: Path, temporary: Path) -> Iterator[str | Path]:
    """Yield bwrap's options that lay out the file system, the outer places before the inner."""
    shown = [Path(prefix, name) for prefix in {sys.prefix, sys.base_prefix} for name in PREFIX]
    link = Path(sys.executable)
    while link.is_symlink():
        link = Path(os.path.normpath(link.parent / link.readlink()))
        shown.append(link)
    shown += [path.resolve() for path in shown] + [Path(path) for path in VISIBLE.split()]
    rules = {path: ["--ro-bind", path] for path in shown if path.exists()}
    rules |= {path: ["--dev-bind", path] for path in Path("/dev").glob("nvidia*")}
    hidden = [path.resolve() for path in HIDDEN if path.exists()]
    rules |= {path: ["--tmpfs"] for path in hidden}
    rules |= {Path("/proc"): ["--proc"], Path("/dev"): ["--dev"], folder: ["--bind", folder]}
    rules |= {Path(path): ["--bind", temporary] for path in ("/tmp", "/dev/shm")}
    done = {Path("/"): "--tmpfs"}
    for path in sorted(rules, key=lambda path: len(path.parts)):
        what = rules[path][0]
        if what == "--bind" or what != next(done[each] for each in path.parents if each in done):
            yield from (*rules[path], path)
            done[path] = what
    for path in ("/", "/proc", "/dev", *(path for path in hidden if path in done)):
        yield from ("--remount-ro", path)
    yield from ("--chdir", folder)


def _filter() -> bytes:
    """Return a seccomp(2) program that refuses sockets of families that no namespace isolates, and
    what would get around that; OSError for a processor whose calls are not known.

    AF_VSOCK matters: it reaches a virtual machine's host. io_uring makes sockets without the call
    that is looked at, the keyring is the login session's, and what memfd_create and shmget hold is
    nobody's memory by any process's own account.
    """
    if platform.machine() not in CALLS:
        raise OSError(f"the calls of {platform.machine()} to its system are not known")
    machine, make_socket, refused = CALLS[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06  # (code, skip if, skip unless, value)
    allow, refuse = (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x50000 | errno.ENOSYS)
    steps = [(load, 0, 0, 4), (equal, 1, 0, machine), refuse]
    steps += [(load, 0, 0, 0), (at_least, 0, 1, 2**30), refuse]  # not x32
    for call in refused:
        steps += [(equal, 0, 1, call), refuse]
    steps += [(equal, 1, 0, make_socket), allow, (load, 0, 0, 16)]
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
        steps += [(equal, 0, 1, family), allow]
    steps += [(answer, 0, 0, 0x50000 | errno.EAFNOSUPPORT)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
