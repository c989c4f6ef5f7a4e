"""A process with torch that answers each line of its input with one figure.

``python -m tests.bench.child ceiling``; with ``stamps`` it repeats a step until its input ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from devbench.frameworks.base import Framework
from devbench.measure.cache import last_level_cache
from devbench.measure.ceilings import GEMM_SIZES, CeilingMeter
from devbench.measure.sampling import clock_tick
from devbench.model import dtype
from devbench.registry import frameworks
from tests.bench.harness import make_step

THREADS = int(os.environ["OMP_NUM_THREADS"])
#: Time of a probe of the ceilings, and of torch's Timer for each size.
PROBE_S = 0.3


def stamps() -> None:
    """Repeats a step of about 1 ms until its input ends; then tells when each of them ended."""
    hundred = make_step(100)
    hundred()
    start = time.perf_counter()
    for _ in range(50):
        hundred()
    step = make_step(max(1, round(100 * 1e-3 / ((time.perf_counter() - start) / 50))))
    step()
    print("ready", flush=True)
    told = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        told.set()

    threading.Thread(target=listen, daemon=True).start()
    ends: list[float] = []
    while not told.is_set():
        step()
        ends.append(time.perf_counter())
    print(ends, flush=True)


def ceiling() -> None:
    """A line names who measures; the answer is the best rate in operations per second."""
    framework = frameworks()["torch"]
    framework.start(None, THREADS)
    for line in sys.stdin:
        print(_devbench(framework) if line.strip() == "devbench" else _timer(), flush=True)


def _devbench(framework: Framework) -> float:
    meter = CeilingMeter(framework, "cpu", last_level_cache(THREADS), clock_tick(), PROBE_S)
    return meter.measure([dtype("float32")]).gemm["float32"].burst


def _timer() -> float:
    import torch
    from torch.utils.benchmark import Timer

    best = 0.0
    for n in GEMM_SIZES:
        a, b, out = torch.rand(n, n), torch.rand(n, n), torch.empty(n, n)
        timer = Timer(
            "torch.mm(a, b, out=out)",
            globals={"torch": torch, "a": a, "b": b, "out": out},
            num_threads=THREADS,
        )
        least = min(timer.blocked_autorange(min_run_time=PROBE_S).times)
        best = max(best, 2 * n**3 / least)
        if 8 * least > 4 * PROBE_S:  # where the ceilings stop, too
            break
    return best


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["stamps"]:
            stamps()
        case ["ceiling"]:
            ceiling()
