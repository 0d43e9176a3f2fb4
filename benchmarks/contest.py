"""Ways to do the same work, timed in turns: A B C A B C, and the ratios turn by turn."""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.options import Options
from console import progress_bar


@dataclass
class Timed:
    """What a way returns that has measured its own seconds."""

    seconds: float
    returned: object = None


@dataclass
class Contest:
    """One piece of work and the ways to do it.

    `ways` maps a name to a function of the turn (0, 1, ...) that does the work, `compare` lists
    pairs of names (ours, peer) whose ratio is reported, `rates` names whose own rate is. `flop`,
    and by way `traffic`, are the operations and bytes of the work as it is plainly done: they say
    how far from the machine's ceiling that is (a way that shares work may lie above it). `agree`
    receives what the ways returned last and returns what to report of it.
    """

    name: str
    unit: str
    amount: float  # units that each call does
    ways: dict[str, Callable[[int], object]]
    compare: list[tuple[str, str]] = field(default_factory=list)
    rates: list[str] = field(default_factory=list)
    flop: float | None = None
    traffic: dict[str, float] = field(default_factory=dict)
    agree: Callable[[dict[str, object]], dict] = lambda returned: {}
    warm: bool = True  # call each way once before anything is timed


def hold(contest: Contest, turns: int, ceilings: dict[str, float], device: str = "cpu") -> dict:
    """Run the contest and return its result, a dict that can become JSON."""
    seconds: dict[str, list[float]] = {name: [] for name in contest.ways}
    returned: dict[str, object] = {}
    for turn in progress_bar(range(-contest.warm, turns), desc=contest.name):
        for name, way in contest.ways.items():
            usual_memory()
            wait(device)
            started = time.perf_counter()
            result = way(turn)
            wait(device)
            took = time.perf_counter() - started
            if isinstance(result, Timed):
                took, result = result.seconds, result.returned
            returned[name] = result
            if turn >= 0:
                seconds[name].append(took)
    ways = {}
    for name, times in seconds.items():
        median = statistics.median(times)
        ways[name] = {"seconds": median, "per_second": contest.amount / median}
        precision = "bf16" if "bf16" in name else "float32"
        if contest.flop is not None and precision in ceilings:
            ways[name]["of_ceiling"] = contest.flop / median / ceilings[precision]
        if name in contest.traffic:
            ways[name]["of_copy"] = contest.traffic[name] / median / ceilings["copy"]
    ratios = []
    for ours, peer in contest.compare:
        each = [b / a for a, b in zip(seconds[ours], seconds[peer], strict=True)]
        ratios.append(
            {
                "ours": ours,
                "peer": peer,
                "times_as_fast": statistics.median(each),
                "lowest": min(each),
                "highest": max(each),
            }
        )
    return {
        "unit": contest.unit,
        "amount": contest.amount,
        "turns": turns,
        "ways": ways,
        "ratios": ratios,
        "rates": contest.rates,
        "agreement": contest.agree(returned),
    }


def measure_ceilings(options: Options) -> dict[str, float]:
    """Operations a second of the best matrix product found, by precision; bytes a second of a
    copy, read and write counted."""
    device, found = options.device, {}
    size, copied = (8192 if device == "cuda" else 1536), 2**26
    if options.quick:
        size, copied = 128, 2**16
    for name in options.precisions:
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        products = [lambda a=a, b=b: a @ b]
        onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
        if onednn is not None and device == "cpu":
            products.append(lambda a=a, b=b, f=onednn: f(a, b, None, "none", [], ""))
        found[name] = 2 * size**3 / min(quickest(product, device) for product in products)
    source = torch.randn(copied, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.nbytes / quickest(lambda: target.copy_(source), device)
    return found


def quickest(work: Callable, device: str, turns: int = 7) -> float:
    """Seconds of the quickest of several calls."""
    times = []
    for _ in range(turns):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - started)
    return min(times)


def usual_memory() -> None:
    """Set the C library's (glibc's) memory limits as they are in any long-running process.

    Training of ours changes them for its own time (`gpt2.fast.memory_reused`).
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim_threshold, mmap_threshold, largest = -1, -3, 2**25  # that it comes to by itself
        library.mallopt(mmap_threshold, largest)
        library.mallopt(trim_threshold, 2 * largest)
        library.malloc_trim(0)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
