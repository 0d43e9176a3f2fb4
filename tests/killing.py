"""A process that is killed again and again until it comes to its end."""

import multiprocessing
import os
import signal
from collections.abc import Callable


def processes():
    """Of a server that has imported torch once, so that each starts in no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.languages", "test_finetune"])
    return context


def kill_until_finished(target: Callable, arguments: tuple, delays: Callable[[], float]) -> int:
    """How often it was killed; `delays()` gives the seconds before the next."""
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
