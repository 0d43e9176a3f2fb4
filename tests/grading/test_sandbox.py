"""A student's program is run with what it may do, and stopped at what it may not."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from grading.submissions import sandbox
from grading.submissions.sandbox import Limits, missing, run
from tests import ROOT as PROJECT
from tests.grading.programs import DAEMON, FILL, LOOK, MIB, SHARED, STOPPED

need_sandbox = pytest.mark.skipif(bool(missing()), reason=missing())
both = pytest.mark.parametrize("sandboxed", [pytest.param(True, marks=need_sandbox), False])


@pytest.fixture
def folder(tmp_path):
    """The program's own folder, beside others of the test."""
    (tmp_path / "submission").mkdir()
    return tmp_path / "submission"


@pytest.fixture
def python(folder):
    """Run lines of Python in the folder."""

    def run_lines(code: str, sandboxed=True, **limits):
        command = [sys.executable, "-c", textwrap.dedent(code)]
        return run(command, folder, Limits(**{"wall_seconds": 25} | limits), sandboxed=sandboxed)

    return run_lines


def still_grows(path: Path) -> bool:
    size = path.stat().st_size if path.exists() else 0
    time.sleep(0.3)
    return path.exists() and path.stat().st_size > size


# ---- How programs end ----------------------------------------------------------------------------


THREADS = "import threading, time\nfor _ in range(100):\n    "
THREADS += "threading.Thread(target=time.sleep, args=(0.5,)).start()"
HARMLESS = """
import os, sys, tempfile, subprocess
print("héllo", os.getcwd() == os.environ["HOME"], repr(sys.stdin.read()))
names = "SECRET", "PYTHONPATH", "LANG", "OMP_NUM_THREADS", "HF_HUB_OFFLINE"
print(*map(os.environ.get, names), flush=True)
subprocess.run(["sh", "-c", "yes | head -1"])  # SIGPIPE ends the first
os.write(2, bytes([255]))
tempfile.TemporaryFile().write(b"x")
sys.exit(3)
"""
ENDINGS = {  # a program, its limits, its exit code, and what it prints
    "harmless": (HARMLESS, {}, 3, "héllo True ''\nNone None C 1 1\ny\n\ufffd"),
    "exit": ("import os; os._exit(7)", {}, 7, ""),
    "a crash": ("import ctypes; ctypes.string_at(0)", {}, 128 + signal.SIGSEGV, ""),
    "a signal": ("import os; os.kill(os.getpid(), 9)", {}, 128 + signal.SIGKILL, ""),
    "all is closed": ("import os; os.close(1); os.close(2); os.chmod('.', 0)", {}, 0, ""),
    "no program": ("def", {}, 1, "SyntaxError"),
    "bwrap's error": ("raise SystemExit('bwrap: no namespace')", {}, 1, "bwrap: no namespace"),
    "threads": (THREADS, {"processes": 2}, 0, ""),
    "shared memory": (SHARED, {"memory": 300 * MIB}, 0, ""),
    "memory that there is not": ("bytearray(2**33)", {"memory": 200 * MIB}, 1, "MemoryError"),
    "a large file": (FILL.format(""), {"file_size": 10 * MIB}, 1, "File too large"),
    "a daemon left behind": (DAEMON, {}, 0, ""),
    "output": ("import os\nfor _ in range(200): os.write(1, b'x' * 2**20)", {}, 0, "x" * MIB),
}


@both
@pytest.mark.parametrize("name", ENDINGS)
def test_however_a_program_ends_is_an_outcome(python, folder, monkeypatch, name, sandboxed):
    code, limits, returncode, printed = ENDINGS[name]
    for variable, value in (("SECRET", "1"), ("PYTHONPATH", "/secret"), ("LANG", "C")):
        monkeypatch.setenv(variable, value)
    outcome = python(code, sandboxed, **limits)
    assert (outcome.returncode, outcome.stopped) == (returncode, "")
    assert printed in outcome.output and len(outcome.output) <= MIB
    assert folder.stat().st_mode & 0o700 == 0o700
    assert not (folder / "large").exists() or (folder / "large").stat().st_size <= 10 * MIB
    assert not (folder / "beats").exists() or not still_grows(folder / "beats")


def test_what_is_no_fault_of_the_program_is_an_error(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(["true"], tmp_path / "nowhere", sandboxed=False)
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho bwrap: refused >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(OSError, match="bwrap: refused"):
        run(["true"], folder)
    assert "bwrap: refused" in missing.__wrapped__()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert "apt install bubblewrap" in missing.__wrapped__()


@both
@pytest.mark.parametrize("name", STOPPED)
def test_a_program_is_stopped_at_its_limits(python, folder, name, sandboxed):
    code, limits, why = STOPPED[name]
    before, start = psutil.Process().memory_info().rss, time.monotonic()
    outcome = python(code, sandboxed, **limits)
    assert outcome.returncode is None and outcome.stopped.startswith("stopped")
    assert re.search(why, outcome.stopped) and time.monotonic() - start < 15
    assert len(outcome.output) < 2 * MIB
    assert psutil.Process().memory_info().rss - before < 50 * MIB
    assert "beats" not in code or not still_grows(folder / "beats")


@both
def test_of_a_killed_grader_nothing_stays(tmp_path, sandboxed):
    code = f"""
import sys
from grading.submissions.sandbox import run, scratch_folder
with scratch_folder() as scratch:
    run([sys.executable, "-c", {DAEMON + "while True: pass"!r}], scratch, sandboxed={sandboxed})
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    grader = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=environment)
    try:
        end = time.monotonic() + 15
        while not (beats := [*tmp_path.glob("*/beats")]) and time.monotonic() < end:
            time.sleep(0.05)
        assert still_grows(beats[0])
    finally:
        grader.kill()
        grader.wait()
    time.sleep(0.5)
    assert not still_grows(beats[0])
    other = [sys.executable, "-c", code.replace("while True: pass", "")]
    subprocess.run(other, cwd=PROJECT, env=environment, check=True)
    assert [*tmp_path.iterdir()] == []


def test_what_a_program_leaves_can_be_removed_and_no_more(python, folder):
    kept = folder.with_name("kept")
    kept.mkdir(mode=0o500)
    try:
        python(
            """
            import os
            os.symlink("../kept", "link")
            os.mkdir("closed", 0)
            for _ in range(1200):
                os.mkdir("d" * 100)
                os.chdir("d" * 100)
            """,
            sandboxed=False,
        )
        for path in (folder / "link", folder):
            assert path.exists()
            sandbox.remove(path)
            assert not path.exists() and kept.stat().st_mode & 0o777 == 0o500
    finally:  # or pytest, which uses shutil.rmtree, would fail here for ever
        subprocess.run(["rm", "-rf", folder], check=False)


# ---- What programs see ---------------------------------------------------------------------------


def as_nobody(words: list[str], folder: Path) -> str:
    """What the system's Python prints in the sandbox of a grader who is an ordinary user."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", place], check=True)
        (packages,) = place.glob("lib/*/site-packages")
        shutil.copytree(Path(psutil.__file__).parent, packages / "psutil")
        shutil.copytree(Path(sandbox.__file__).parent, packages / "grading" / "submissions")
        place.chmod(0o755)
        shutil.chown(folder, 65534, 65534)
        code = "import sys; from grading.submissions.sandbox import run; "
        code += "print(run([sys.executable, *sys.argv[2:]], sys.argv[1]).output)"
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        words = [*user, place / "bin" / "python", "-c", code, folder, *words]
        return subprocess.check_output(words, text=True, cwd="/", env={"PATH": os.environ["PATH"]})


@need_sandbox
@pytest.mark.parametrize("user", ["as this user", "as nobody"])
def test_only_what_is_listed_can_be_seen_and_only_its_folder_changed(user):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, socket.socket(socket.AF_UNIX) as one:
        folder, secret = Path(name, "submission"), Path(name, "secret")
        Path(name).chmod(0o755), folder.mkdir(), secret.write_text("42")
        one.bind(f"{secret}.socket"), one.listen()
        places = "/tmp /dev/shm / /etc /usr /var/tmp /dev /root /proc/sys/kernel /sys /../var/tmp"
        places = [folder, *places.split(), PROJECT, f"{sys.prefix}/lib"]
        with socket.socket(socket.AF_UNIX) as two, socket.create_server(("127.0.0.1", 0)) as tcp:
            two.bind(f"\0{secret}"), two.listen()
            words = ["-c", LOOK, *map(str, (secret, tcp.getsockname()[1], *places))]
            if user == "as nobody":
                found = json.loads(as_nobody(words, folder))
            else:
                found = json.loads(run([sys.executable, *words], folder).output)
        for place in places[1:]:  # the private /tmp is not ours
            assert not os.path.exists(f"{place}/made inside")
    interpreter = () if user == "as nobody" else (sys.prefix, sys.base_prefix, sys._base_executable)
    paths = [Path(p) for p in (*sandbox.VISIBLE.split(), *interpreter) if Path(p).exists()]
    paths += [path.resolve() for path in paths if path.parts[1] not in ("bin", "sbin", "lib64")]
    assert set(found.pop("top")) <= {p.parts[1] for p in paths} | {"tmp", "proc", "dev", "var"}
    assert found == {
        **{"processes": [1, 2], "descriptors": ["0", "1", "2", "3"], "user": 1000},
        **{"capabilities": [""] * 5, "kernel": [], "devices": [], "refused": [-1] * 5},
        "written": [str(folder), "/tmp", "/dev/shm"],
        "secret": [*["FileNotFoundError"] * 2, "ConnectionRefusedError", "FileNotFoundError"],
        "network": ["ConnectionRefusedError", "OSError"],
        "sockets": "OSError",
        "memory": ["OSError", -1],
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_without_a_sandbox_root_can_run_it_as_a_user_who_may_not_read_or_stop_its_own(tmp_path):
    (folder := tmp_path / "submission").mkdir()
    for name in ("secret", "submission/theirs"):
        (tmp_path / name).write_text("42")
        (tmp_path / name).chmod(0o600)
    code = f"""
import os, subprocess, tempfile
open("made", "w"), tempfile.TemporaryFile().write(open("theirs", "rb").read())
print(os.getuid(), os.getgroups(), subprocess.run(["id", "-u"], capture_output=True).stdout)
for action, place in ((open, {str(tmp_path / "secret")!r}), (os.mkdir, {str(tmp_path / "new")!r}),
                      (os.listdir, ".."), (lambda pid: os.kill(pid, 9), os.getppid())):
    try:
        print(action(place))
    except PermissionError:
        print("refused")
"""
    words = ["/usr/bin/python3", "-c", code]
    outcome = run(words, folder, Limits(user="nobody"), sandboxed=False)
    assert outcome.output.split("\n") == ["65534 [] b'65534\\n'", *["refused"] * 4, ""]
    assert (outcome.returncode, (folder / "made").stat().st_uid) == (0, 65534)
    assert "name not found" in missing("no such user")


@need_sandbox
def test_torch_runs_where_the_solutions_are_hidden(python, monkeypatch):
    library = Path(pytest.__file__).parent  # as if they were installed there
    monkeypatch.setattr(sandbox, "HIDDEN", (*sandbox.HIDDEN, library))
    outcome = python(
        f"""
        import os, torch
        print((torch.ones(300, 300) @ torch.ones(300, 300)).sum().item())
        loader = torch.utils.data.DataLoader(torch.arange(8.0), batch_size=4, num_workers=1)
        print([batch.sum().item() for batch in loader])
        print(os.path.exists({str(PROJECT / "gpt2")!r}), os.listdir({str(library)!r}))
        open({str(library / "new")!r}, "w")
        """,
        **{"wall_seconds": 60, "memory": 2 * 2**30},
    )
    first, second, third, *_, last = outcome.output.splitlines()
    assert (first, second, third) == ("27000000.0", "[6.0, 22.0]", "False []")
    assert last.startswith("OSError: [Errno 30] Read-only file system")
