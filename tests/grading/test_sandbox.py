"""A student's program is run with what it may do, and stopped at what it may not."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import psutil
import pytest

from grading.submissions import sandbox
from grading.submissions.sandbox import Isolation, Limits, run
from tests import ROOT as PROJECT

MIB = 2**20


@pytest.fixture
def folder(tmp_path):
    """The program's own folder, beside others of the test."""
    (tmp_path / "submission").mkdir()
    return tmp_path / "submission"


@pytest.fixture
def python(folder):
    """Run lines of Python in the folder."""

    def run_lines(code: str, limits: Limits | None = None, **arguments):
        limits = limits or Limits(wall_seconds=20)
        return run([sys.executable, "-c", textwrap.dedent(code)], folder, limits, **arguments)

    return run_lines


@pytest.fixture(params=["isolated", "degraded"])
def isolation(request, monkeypatch):
    """With all that the system allows, and as on a system that allows nothing."""
    if request.param == "degraded":
        monkeypatch.setattr(sandbox, "available", lambda: Isolation(problems=("a test",)))
    elif not sandbox.available().processes:
        pytest.skip(str(sandbox.available().problems))
    return request.param


def need(*names: str):
    """Skip a test of what this system can't isolate."""
    if not all(getattr(sandbox.available(), name) for name in names):
        pytest.skip(str(sandbox.available().problems))


def still_grows(path: Path) -> bool:
    size = path.stat().st_size
    time.sleep(0.3)
    return path.stat().st_size > size


BEAT = """
import time
while True:
    with open("beats", "a") as file:
        file.write("x")
    time.sleep(0.02)
"""
DAEMON = (
    """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
"""
    + textwrap.indent(BEAT, " " * 8)
    + """
    os._exit(0)
os.wait()
while not os.path.exists("beats"):
    pass
"""
)


def test_a_harmless_program_gives_output_files_and_exit_code(python, folder, isolation):
    outcome = python(
        """
        import os, sys, tempfile
        print("héllo", os.getcwd() == os.environ["HOME"], repr(sys.stdin.read()))
        print("to the other", file=sys.stderr)
        open("result", "w").write("42")
        tempfile.TemporaryFile().write(b"x")
        sys.exit(3)
        """
    )
    assert outcome.stdout == "héllo True ''\n"
    assert outcome.stderr == "to the other\n"
    assert (outcome.returncode, outcome.stopped) == (3, "")
    assert (folder / "result").read_text() == "42"
    assert 0 < outcome.seconds < 10
    assert outcome.isolation == sandbox.available()


def test_a_pipeline_in_a_shell_works_as_anywhere(folder, isolation):
    outcome = run(["sh", "-c", "yes | head -1"], folder)  # SIGPIPE ends the first
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("y\n", "", 0)


@pytest.mark.parametrize(
    "ending, code",
    [
        ("import sys; sys.exit()", 0),
        ("import os; os._exit(7)", 7),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.abort()", -signal.SIGABRT),
        ("raise ValueError('no')", 1),
        ("def", 1),
        ("import os; os.close(1); os.close(2); os.chmod('.', 0)", 0),
    ],
)
def test_however_a_program_ends_is_an_outcome(python, ending, code, isolation):
    outcome = python(ending)
    assert (outcome.returncode, outcome.stopped) == (code, "")


def test_a_callers_mistakes_are_errors(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        run(["no-such-command"], folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(["true"], tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(["true"], folder, hidden=[tmp_path / "nowhere"])
    with pytest.raises(PermissionError):
        run(["/etc/passwd"], folder)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        run(["true"], tmp_path / "file")
    with pytest.raises(TypeError):
        run("true", folder)
    with pytest.raises(ValueError, match="zero byte"):
        run(["echo", "a\0b"], folder)
    with pytest.raises(ValueError, match="hidden from it"):
        run(["true"], folder, hidden=[folder])


def test_an_endless_loop_stops_at_its_processor_time(python, isolation):
    outcome = python("while True: pass", Limits(wall_seconds=20, cpu_seconds=1))
    assert outcome.returncode is None
    assert outcome.stopped == "stopped after 1 s of processor time (the limit)"
    assert outcome.seconds < 10


def test_processor_time_is_that_of_all_processes(python, isolation):
    outcome = python(
        """
        import os
        for _ in range(3):
            if os.fork() == 0:
                while True: pass
        os.wait()
        """,
        Limits(wall_seconds=20, cpu_seconds=2),
    )
    assert outcome.stopped == "stopped after 2 s of processor time (the limit)"


def test_sleep_stops_at_the_wall_time(python, isolation):
    outcome = python(
        "print('first', flush=True); import time; time.sleep(60)", Limits(wall_seconds=1.5)
    )
    assert outcome.stopped == "stopped after 1.5 s of wall time (the limit)"
    assert outcome.stdout == "first\n"
    assert outcome.seconds < 10


def test_a_program_that_ignores_signals_is_stopped(python, isolation):
    outcome = python(
        """
        import os, signal
        for each in {*signal.Signals} - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(each, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGSTOP)
        """,
        Limits(wall_seconds=0.5),
    )
    assert "wall time" in outcome.stopped


@pytest.mark.parametrize("leaves_its_group", [False, True])
def test_a_fork_bomb_is_stopped_quickly(python, folder, isolation, leaves_its_group):
    bound = 2000  # the test's own, should the sandbox fail
    outcome = python(
        f"""
        import os, time
        for _ in range({bound}):
            if os.fork() == 0:
                {"os.setsid()" if leaves_its_group else ""}
                open("bomb", "a").write("x")
                time.sleep(30)
                os._exit(0)
            time.sleep(0.001)  # a fast processor forks more often than the sandbox looks
        time.sleep(30)
        """,
        Limits(wall_seconds=25, processes=20),
    )
    assert "processes at once (limit 20)" in outcome.stopped
    assert outcome.seconds < 10
    assert (folder / "bomb").stat().st_size < bound
    assert not still_grows(folder / "bomb")


def test_a_bomb_that_doubles_is_stopped(python, folder, isolation):
    outcome = python(
        """
        import os, time
        for _ in range(11):  # 2,048 processes
            os.fork()
            open("bomb", "a").write("x")
        time.sleep(30)
        """,
        Limits(wall_seconds=25, processes=20),
    )
    assert "processes at once (limit 20)" in outcome.stopped
    assert outcome.seconds < 15
    assert not still_grows(folder / "bomb")


def test_many_threads_are_not_many_processes(python):
    outcome = python(
        """
        import threading, time
        for _ in range(100):
            threading.Thread(target=time.sleep, args=(0.5,)).start()
        """,
        Limits(wall_seconds=20, processes=2),
    )
    assert (outcome.returncode, outcome.stopped) == (0, "")


def test_a_daemon_does_not_outlive_the_program(python, folder, isolation):
    outcome = python(DAEMON)
    assert (outcome.returncode, outcome.stopped) == (0, "")
    assert not still_grows(folder / "beats")


def test_a_daemon_does_not_outlive_a_program_that_is_stopped(python, folder, isolation):
    outcome = python(DAEMON + "\nwhile True: pass", Limits(wall_seconds=1))
    assert "wall time" in outcome.stopped
    assert not still_grows(folder / "beats")


@pytest.mark.parametrize("wall_seconds", [0, 0.03, 0.06, 0.1, 0.2])
def test_a_program_stopped_while_it_starts_leaves_nothing(python, folder, isolation, wall_seconds):
    (folder / "beats").touch()
    outcome = python(DAEMON + "\nwhile True: pass", Limits(wall_seconds=wall_seconds))
    assert "wall time" in outcome.stopped
    assert outcome.seconds < 4
    time.sleep(0.2)
    assert not still_grows(folder / "beats")


def test_the_program_dies_with_the_grader(folder, tmp_path, isolation):
    arguments = [sys.executable, "-c", DAEMON + "\nwhile True: pass"]
    none = "sandbox.available = lambda: sandbox.Isolation()" if isolation == "degraded" else ""
    code = f"""
from pathlib import Path
from grading.submissions import sandbox
{none}
sandbox.run({arguments!r}, Path({str(folder)!r}), sandbox.Limits(wall_seconds=20))
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    grader = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=environment)
    try:
        end = time.monotonic() + 10
        while not (folder / "beats").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert still_grows(folder / "beats")
    finally:
        grader.kill()
        grader.wait()
    time.sleep(0.5)
    assert not still_grows(folder / "beats")


def test_memory_is_stopped_at_its_limit(python, isolation):
    outcome = python(
        """
        import time
        held = []
        for _ in range(100):
            held.append(bytearray(b"x") * 2**23)
            time.sleep(0.01)
        time.sleep(20)
        """,
        Limits(wall_seconds=20, memory=200 * MIB),
    )
    assert outcome.stopped.startswith("stopped: it held")
    assert outcome.stopped.endswith("of memory (limit 200.0 MiB)")


def test_memory_that_is_taken_at_one_blow_is_refused(python, isolation):
    outcome = python("bytearray(8 * 2**30)", Limits(wall_seconds=20, memory=200 * MIB))
    assert "MemoryError" in outcome.stderr or "of memory" in outcome.stopped


def test_memory_that_processes_share_counts_once(python):
    outcome = python(
        """
        import os, time
        held = b"x" * (120 * 2**20)
        for _ in range(4):
            if os.fork() == 0:
                time.sleep(0.5)
                os._exit(0)
        for _ in range(4):
            os.wait()
        """,
        Limits(wall_seconds=20, memory=300 * MIB),
    )
    assert (outcome.returncode, outcome.stopped) == (0, "")


def test_memory_is_that_of_all_processes(python, isolation):
    outcome = python(
        """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                held = b"x" * (120 * 2**20)
                time.sleep(20)
        time.sleep(20)
        """,
        Limits(wall_seconds=20, memory=300 * MIB),
    )
    assert "of memory (limit 300.0 MiB)" in outcome.stopped


def test_much_output_is_cut_and_the_grader_stays_small(python):
    tracemalloc.start()
    try:
        outcome = python(
            """
            import os
            for _ in range(200):
                os.write(1, b"x" * 2**20)
            os.write(2, b"the end")
            """,
            Limits(wall_seconds=20, output=MIB),
        )
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()
    assert (outcome.returncode, outcome.stderr) == (0, "the end")
    kept, last = outcome.stdout.split("\n")
    assert kept == "x" * MIB
    assert last == f"[{199 * MIB:,} more bytes were not kept]"


def test_two_gigabytes_of_output_stop_the_program(python, isolation):
    before = psutil.Process().memory_info().rss
    outcome = python("import os\nwhile True: os.write(1, bytes(2**20))")
    assert outcome.stopped.startswith("stopped: it printed 256")
    assert len(outcome.stdout) < 2 * MIB
    assert psutil.Process().memory_info().rss - before < 50 * MIB


def test_output_that_is_no_text_is_text(python):
    outcome = python("import os; os.write(1, bytes(range(256)))")
    assert len(outcome.stdout) == 256
    assert outcome.stdout.endswith("\ufffd")


def test_a_file_that_is_too_large_is_refused(python, folder, isolation):
    code = """
    with open("large", "wb") as file:
        for _ in range(100):
            file.write(bytes(2**20))
    """
    outcome = python(code, Limits(wall_seconds=20, file_size=10 * MIB))
    assert outcome.returncode == 1
    assert "File too large" in outcome.stderr
    assert (folder / "large").stat().st_size <= 10 * MIB
    line = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
    outcome = python(line + textwrap.dedent(code), Limits(wall_seconds=20, file_size=10 * MIB))
    assert outcome.stopped == "stopped: it wrote a file of more than 10.0 MiB"


def test_a_folder_that_is_too_full_is_stopped(python, isolation):
    outcome = python(
        """
        import time
        for number in range(100):
            open(f"file{number}", "wb").write(bytes(2**20))
        time.sleep(20)
        """,
        Limits(wall_seconds=20, disk=20 * MIB),
    )
    assert outcome.stopped.startswith("stopped: its folder held")
    assert outcome.stopped.endswith("(limit 20.0 MiB)")


def test_what_a_program_leaves_can_be_removed(python, folder):
    try:
        python(
            """
            import os
            open("file", "w").close()
            os.symlink("/", "link")
            os.mkdir("closed", 0)
            for _ in range(2000):
                os.mkdir("d" * 100)
                os.chdir("d" * 100)
            """
        )
        assert (folder / "file").exists()
        sandbox.remove(folder)
        assert not folder.exists()
    finally:  # or pytest, which uses shutil.rmtree, would fail here for ever
        subprocess.run(["rm", "-rf", folder], check=False)


def test_of_a_link_only_the_link_is_removed(tmp_path):
    (tmp_path / "kept").mkdir(mode=0o500)
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    sandbox.remove(tmp_path / "link")
    assert not (tmp_path / "link").exists() and (tmp_path / "kept").stat().st_mode & 0o777 == 0o500


def test_the_network_is_out_of_reach_but_for_its_own(python):
    need("network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = python(
            f"""
            import socket
            own = socket.create_server(("127.0.0.1", 0))
            socket.create_connection(own.getsockname(), timeout=5)
            for host in ("127.0.0.1", "192.0.2.1"):
                try:
                    socket.create_connection((host, {server.getsockname()[1]}), timeout=5)
                    print("reached")
                except OSError as error:
                    print(error)
            """
        )
    assert outcome.stdout.splitlines() == [
        "[Errno 111] Connection refused",
        "[Errno 101] Network is unreachable",
    ]


@pytest.mark.skipif(not hasattr(socket, "AF_VSOCK"), reason="no such sockets on this system")
def test_sockets_that_no_namespace_isolates_are_refused(python, isolation):
    outcome = python("import socket; socket.socket(socket.AF_VSOCK)")
    assert "Address family not supported" in outcome.stderr


def test_only_its_folder_and_a_private_tmp_can_be_written(python, folder, tmp_path):
    need("files")
    places = ["/", "/etc", "/var/tmp", "/dev", "/proc/sys/kernel", "/root", "/sys"]
    if not PROJECT.is_relative_to("/tmp"):  # of which it has one of its own
        places.append(PROJECT)
    places += ["/../var/tmp"]  # where the old tree would be, had it stayed
    (tmp_path / "made outside").touch()
    outcome = python(
        f"""
        import json, os, tempfile
        wrote = []
        for place in [*{[str(place) for place in places]}, os.environ["HOME"], "/tmp", "/dev/shm"]:
            try:
                open(os.path.join(place, "made inside"), "w").close()
                wrote.append(place)
                if place != os.getcwd():
                    os.remove(os.path.join(place, "made inside"))
            except OSError:
                pass
        for name in ("kernel/core_pattern", "user/max_user_namespaces"):
            try:
                open(f"/proc/sys/{{name}}", "r+")
                wrote.append(name)
            except OSError:
                pass
        seen = os.path.exists({str(tmp_path / "made outside")!r})
        print(json.dumps([wrote, seen, tempfile.gettempdir()]))
        """
    )
    assert json.loads(outcome.stdout) == [[str(folder), "/tmp", "/dev/shm"], False, "/tmp"]
    assert (folder / "made inside").exists()


def test_it_has_no_privilege_and_no_way_to_gain_one(python):
    need("processes", "files")
    outcome = python(
        """
        import ctypes, os
        c = ctypes.CDLL(None)
        print([line for line in open("/proc/self/status") if line.startswith("CapEff")])
        print(c.unshare(0x10000000), c.umount2(b"/proc", 2), c.setuid(0), c.chroot(b"."))
        print(c.mount(b"none", b"/", None, 0x1020, None))  # MS_REMOUNT | MS_BIND, writable again
        print(os.path.exists("/dev/vda"), os.path.exists("/dev/sda"), os.path.exists("/dev/mem"))
        for name in ("environ", "fd/1", "root/", "mem"):
            try:
                open(f"/proc/1/{name}")
            except OSError as error:
                print(type(error).__name__)
        os.kill(1, 9)
        os.kill(1, 19)
        """
    )
    assert outcome.stdout.splitlines() == [
        r"['CapEff:\t0000000000000000\n']",
        "-1 -1 -1 -1",
        "-1",
        "False False False",
        *["PermissionError"] * 4,
    ]
    assert (outcome.returncode, outcome.stopped) == (0, "")


def test_no_process_but_its_own_can_be_seen_or_killed(python):
    need("processes")
    outcome = python(
        f"""
        import os
        print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
        try:
            os.kill({os.getpid()}, 9)
        except ProcessLookupError:
            print("no such process")
        """
    )
    assert outcome.stdout == "[1, 2]\nno such process\n"


def test_hidden_folders_are_empty_but_for_kept_paths(python, tmp_path):
    need("files")
    solution = tmp_path / "solution"
    (solution / "kept" / "secret").mkdir(parents=True)
    (solution / "answers").write_text("42")
    (solution / "kept" / "public").write_text("public")
    (solution / "kept" / "secret" / "answers").write_text("42")
    (tmp_path / "key").write_text("42")
    outcome = python(
        f"""
        import os
        for place in {[str(solution), str(solution / "kept"), str(solution / "kept/secret")]}:
            print(os.listdir(place))
        for name in {[str(solution / "kept" / "public"), str(tmp_path / "key")]}:
            for mode in "rw":
                try:
                    print(open(name, mode).read())
                except OSError as error:
                    print(error.strerror)
        """,
        hidden=[solution, solution / "kept" / "secret", tmp_path / "key"],
        kept=[solution / "kept"],
    )
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == [
        "['kept']",
        "['public', 'secret']",
        "[]",
        "public",
        "Read-only file system",
        *["Permission denied"] * 2,
    ]


def test_homes_and_system_secrets_are_empty_unasked(python):
    need("files")
    outcome = python(
        f"""
        import os
        print({str(Path.home())!r} == os.path.expanduser("~"), os.listdir("/run"))
        for name in ("/etc/shadow", {str(Path.home() / ".bashrc")!r}):
            try:
                print(open(name).read())
            except OSError as error:
                print("no")
        """
    )
    assert outcome.stdout == "False []\nno\nno\n"


def test_the_graders_environment_is_not_the_programs(python, monkeypatch, isolation):
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PYTHONPATH", "/secret")
    outcome = python(
        """
        import json, os
        print(json.dumps(dict(os.environ)))
        """,
        environment={"OMP_NUM_THREADS": "1", "LANG": "C"},
    )
    seen = json.loads(outcome.stdout)
    assert not {"SECRET", "PYTHONPATH"} & seen.keys()
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["LANG"] == "C"
    assert seen["HF_HUB_OFFLINE"] == seen["PYTHONDONTWRITEBYTECODE"] == "1"


def test_torch_runs_in_it_with_the_graders_folder_hidden(python):
    outcome = python(
        f"""
        import os, torch
        print((torch.ones(300, 300) @ torch.ones(300, 300)).sum().item())
        print(sorted(os.listdir({str(PROJECT)!r}))[:5])
        loader = torch.utils.data.DataLoader(torch.arange(8.0), batch_size=4, num_workers=2)
        print([batch.sum().item() for batch in loader])
        """,
        Limits(wall_seconds=60, memory=2 * 2**30),
        hidden=[PROJECT],
        kept=[Path(sys.prefix)],
    )
    assert outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    assert lines[0] == "27000000.0"
    if outcome.isolation.files:
        assert lines[1] == "['.venv']"
    assert lines[2] == "[6.0, 22.0]"


def test_several_run_at_once(folder):
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda word: run(["echo", word], folder), "abcdefgh"))
    assert [outcome.stdout for outcome in outcomes] == [f"{word}\n" for word in "abcdefgh"]
    assert all(outcome.returncode == 0 for outcome in outcomes)


def test_what_is_missing_is_said(monkeypatch):
    def refuse(names):
        return "" if names == ("network",) else "unshare is refused"

    monkeypatch.setattr(sandbox, "_trial", refuse)
    found = sandbox.available.__wrapped__()
    assert (found.network, found.processes, found.files) == (True, False, False)
    assert "no isolation of files: unshare is refused" in found.problems
