"""Kill a process again and again until it comes to its end."""

import multiprocessing
import os
import signal
from collections.abc import Callable


def processes():
    """Return a context whose server has imported torch once, so that processes start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.languages"])
    return context


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
