"""What a person sees while something runs: bars, Ctrl-C, and errors in one line."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tqdm import tqdm


def progress_bar(*args, **settings) -> tqdm:
    """Return a tqdm bar as wide as the terminal; in a log file it is a plain line a minute.

    Of the processes of a launcher one shows it.
    """
    if os.environ.get("RANK", "0") != "0":
        settings["disable"] = True
    if sys.stderr.isatty():
        settings["dynamic_ncols"] = True
    elif "ipykernel" in sys.modules:
        settings.setdefault("ncols", 100)
    else:
        settings |= {"file": _Lines(), "mininterval": 60, "maxinterval": 60, "ncols": 100}
    return tqdm(*args, **settings)


class _Lines:
    """A file for tqdm that writes a line for each state of the bar."""

    def write(self, text: str) -> None:
        if text := text.replace("\x1b[A", "").strip():
            print(text, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass


@contextmanager
def memory_errors(fix: str) -> Iterator[None]:
    """Turn what torch raises where memory is too small into a MemoryError that says the fix."""
    try:
        yield
    except Exception as error:  # safetensors and the system have classes of their own
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        words = ("allocate memory", "out of memory", "not enough memory")  # Linux, MPS, Windows
        if not (short or any(word in str(error) for word in words)):
            raise
        reason = str(error).strip().split("\n")[0] or "out of memory"
        raise MemoryError(f"not enough memory: {fix} ({reason})") from error


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print an error of ours as one line on stderr and exit with status 2; Ctrl-C with 130.

    What a console cannot show (cp1252 has no Chinese) is replaced and is no error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        yield
    except KeyboardInterrupt as stop:
        saved = str(stop) or "the same command continues"
        print(f"stopped: {saved}", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        ours = ArithmeticError, ImportError, LookupError, MemoryError, OSError, RuntimeError
        if not isinstance(error, (*ours, TypeError, ValueError)):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def ctrl_c_noted(pressed: list[bool]) -> Iterator[None]:
    """Let the first Ctrl-C inside only append to `pressed`; the second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        pressed.append(True)
        print("stopping after this step; Ctrl-C again stops at once", file=sys.stderr)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
