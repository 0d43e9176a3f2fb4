"""Programs that do harm, in Python: STOPPED at a limit, and LOOK, which tries every way out."""

import textwrap

MIB = 2**20
BEAT = """
import time
while True:
    with open("beats", "a") as file:
        file.write("x")
    time.sleep(0.02)
"""
DAEMON = f"""
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        {textwrap.indent(BEAT, " " * 8).strip()}
    os._exit(0)
os.wait()
while not os.path.exists("beats"):
    pass
"""
BOMB = """
import os, time
for _ in range(2000):  # the test's own bound, should the sandbox fail
    if os.fork() == 0:
        {}
        open("beats", "a").write("x")
        time.sleep(30)
        os._exit(0)
    time.sleep(0.001)  # a fast processor forks more often than the sandbox looks
time.sleep(30)
"""
FILL = """
import signal, time
{}
with open("large", "wb") as file:
    for _ in range(100):
        file.write(bytes(2**20))
time.sleep(30)
"""
FAMILY = "import os, time\n{}\nfor _ in range(4):\n    if os.fork() == 0:\n        {}\n{}"
BIG = "held = b'x' * (120 * 2**20)"
SHARED = FAMILY.format(BIG, "time.sleep(0.5); os._exit(0)", "for _ in range(4): os.wait()")
DEAF = """
import os, signal
for each in {*signal.Signals} - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(each, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGSTOP)
"""
DOUBLE = "import os, time\nfor _ in range(11):\n    os.fork()\n    open('beats', 'a').write('x')"
GROW = "held = []\nwhile True:\n    held.append(bytearray(b'x') * 2**23); time.sleep(0.01)"
CHANNEL = """
import contextlib, os
for number in range(3, 64):  # where a sandbox reads, had it left a descriptor open
    with contextlib.suppress(OSError):
        os.write(number, b'{"status": 0}\\n{"exit-code": 0}\\n{"error": "full", "errno": 28}\\n')
while True: pass
"""
DEFAULT = "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)"
SLEEP = "import time; time.sleep(60)\n"
LOOPS = FAMILY.format("", "while True: pass", "os.wait()")
HOGS = FAMILY.format("", f"{BIG}; time.sleep(30)", SLEEP)
BESIDE = DAEMON + "while True: pass"
STOPPED = {
    "loop": ("while True: pass", {"cpu_seconds": 1}, "after 1 s of processor time"),
    "loops in children": (LOOPS, {"cpu_seconds": 2}, "after 2 s of processor time"),
    "deaf to signals": (DEAF, {"wall_seconds": 1.5}, "after 1.5 s of wall time"),
    "fork bomb": (BOMB.format(""), {"processes": 20}, r"processes at once \(limit 20\)"),
    "bomb of sessions": (BOMB.format("os.setsid()"), {"processes": 20}, "processes at once"),
    "doubling bomb": (f"{DOUBLE}\n{SLEEP}", {"processes": 20}, "processes at once"),
    "a daemon beside": (BESIDE, {"wall_seconds": 2}, "wall time"),
    "stopped as it starts": (BESIDE, {"wall_seconds": 0}, "wall time"),
    "stopped a little later": (BESIDE, {"wall_seconds": 0.2}, "wall time"),
    "memory": (f"import time\n{GROW}", {"memory": 200 * MIB}, r"held .* \(limit 200.0 MiB\)"),
    "memory of children": (HOGS, {"memory": 300 * MIB}, "of memory"),
    "output": ("import os\nwhile True: os.write(1, bytes(2**20))", {}, "it printed "),
    "a large file": (FILL.format(DEFAULT), {"file_size": 10 * MIB}, "a file of more than 10.0 MiB"),
    "a full folder": (FILL.format(""), {"disk": 20 * MIB}, r"its folder held .*limit 20.0 MiB"),
    "control channel": (CHANNEL, {"wall_seconds": 1}, "wall time"),
}

LOOK = """
import ctypes, json, os, socket, sys
secret, port, *places = sys.argv[1:]
def outcome(action, *arguments):
    try:
        return type(action(*arguments)).__name__
    except OSError as error:
        return type(error).__name__
def writable(place):
    return outcome(open, os.path.join(place, "made inside"), "w") == "TextIOWrapper"
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname(), timeout=5)
c, unix = ctypes.CDLL(None), socket.socket(socket.AF_UNIX)
sysctl = ("kernel/core_pattern", "user/max_user_namespaces", "vm/swappiness")
print(json.dumps({
    "top": sorted(os.listdir("/")),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:4],  # the last lists them
    "user": os.getuid(),
    "capabilities": [l.split()[1].strip("0") for l in open("/proc/self/status") if l[:3] == "Cap"],
    "written": [place for place in places if writable(place)],
    "kernel": [name for name in sysctl
               if outcome(open, f"/proc/sys/{name}", "r+") == "TextIOWrapper"],
    "devices": [name for name in ("vda", "sda", "mem", "kmsg") if os.path.exists(f"/dev/{name}")],
    "secret": [outcome(open, secret), outcome(unix.connect, secret + ".socket"),
               outcome(unix.connect, "\\0" + secret), outcome(open, "/etc/shadow")],
    "network": [outcome(socket.create_connection, (host, int(port)), 5)
                for host in ("127.0.0.1", "192.0.2.1")],
    "refused": [c.unshare(0x10000000), c.umount2(b"/proc", 2), c.setuid(0), c.chroot(b"."),
                c.mount(b"none", b"/", None, 0x1020, None)],
    "sockets": outcome(socket.socket, getattr(socket, "AF_VSOCK", 40)),
    "memory": [outcome(os.memfd_create, "x"), c.shmget(0, 4096, 0o1600)],  # that no process has
}))
os.kill(1, 9), os.kill(1, 19)
"""
