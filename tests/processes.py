"""Processes that start fast: one that is killed again and again, several that work together."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from grading.edition.release import PRELOADED


def processes():
    """Return a context whose server has imported torch once, so that processes start fast."""
    context = multiprocessing.get_context("forkserver")
    # The server of a test process is one: what the first to ask for it wants is what it has.
    context.set_forkserver_preload([*PRELOADED, "experiments.cli", "experiments.sharding"])
    return context


def together(count: int, target: Callable, *arguments, output: Path) -> CompletedProcess:
    """Call a function in processes that know each other as torchrun's do; their code and output.

    One process alone knows of no launcher. When one fails the others are killed. torchrun itself,
    or a python, takes seconds of imports for each.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count}
    started = [
        processes().Process(target=_ranked, args=(shared, rank, output, target, arguments))
        for rank in range(count)
    ]
    for process in started:
        process.start()
    codes = {None}
    while None in codes and codes <= {None, 0}:
        time.sleep(0.02)
        codes = {process.exitcode for process in started}
    for process in started:
        process.kill()
        process.join()
    texts = [Path(f"{output}.{name}").read_text(encoding="utf-8") for name in ("out", "err")]
    return CompletedProcess([], max(codes - {None}, key=abs), *texts)


def _ranked(shared: dict, rank: int, output: Path, target: Callable, arguments: tuple) -> None:
    shared |= {"RANK": rank, "LOCAL_RANK": rank}
    known = shared if shared["WORLD_SIZE"] > 1 else {}
    os.environ |= {name: str(value) for name, value in known.items()} | {"CUDA_VISIBLE_DEVICES": ""}
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        with open(f"{output}.{name}", "ab") as file:
            os.dup2(file.fileno(), stream.fileno())
    target(*arguments)


def kill_until_finished(
    target: Callable, arguments: tuple, delays: Callable[[], float | None]
) -> int:
    """Return how often the process was killed.

    `delays()` gives the seconds until the next kill, or None for no further one.
    """
    kills = 0
    while True:
        process = processes().Process(target=target, args=arguments)
        process.start()
        process.join(timeout=delays())
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            return kills
