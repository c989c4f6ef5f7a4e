"""Sustained load on one device, in windows, and whether it still computes the same in each."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

from devbench.measure.yardstick import Yardsticks
from devbench.model import DTYPES, DType, Work
from devbench.stress.arithmetic import Place
from devbench.stress.endurance import Repeated

CPU_N: Final = 1024
ACCELERATOR_N: Final = 8192
#: Windows of a load; each is at most so long, so that a live view moves.
WINDOWS: Final = 12
LONGEST_S: Final = 5.0
#: Length of a sample, and most steps that are queued for one.
SAMPLE_S: Final = 0.02
MOST_STEPS: Final = 256
WARM_UP: Final = 0.05


def load_dtype(place: Place) -> DType:
    """What draws the most power: a GPU's matrix units in bfloat16, a CPU's vector units in float32."""
    narrow = DTYPES["bfloat16"]
    if place.is_cpu or place.framework.unsupported(narrow, place.address) is not None:
        return DTYPES["float32"]
    return narrow


def load_n(place: Place) -> int:
    return CPU_N if place.is_cpu else ACCELERATOR_N


def sustain(place: Place, cache_bytes: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Products of random matrices for so many seconds; yields the fields of a `Window` each.

    A twentieth of the time goes before, as warm-up. Each window ends with one product that is compared
    bit for bit with what it gave at the beginning.
    """
    framework, address = place.framework, place.address
    dtype, n = load_dtype(place), load_n(place)
    timer = framework.timer(address)
    yardstick = Yardsticks(framework, address, cache_bytes).beside(Work(flops=1))
    repeated = Repeated(place, dtype)
    with framework.math(dtype):
        step = place.probes.gemm(n, dtype)
    length = min(LONGEST_S, seconds / WINDOWS)

    def sample(block: int) -> float:
        with framework.math(dtype):
            return statistics.fmean(timer(step, block))

    once = min(sample(1), sample(1))
    block = min(MOST_STEPS, max(1, math.ceil(SAMPLE_S / max(once, 1e-9))))
    begun = time.perf_counter()
    while time.perf_counter() - begun < WARM_UP * seconds:
        sample(block)
    start = time.perf_counter()
    while (at_s := time.perf_counter() - start) < seconds:
        samples: list[float] = []
        yardstick.burst()
        opened = time.perf_counter()
        while not samples or time.perf_counter() - opened < length:
            samples.append(sample(block))
        yardstick.burst()
        yield {
            "at_s": at_s,
            "seconds": time.perf_counter() - opened,
            "flop": 2 * n**3,
            "samples": samples,
            "block": block,
            "yardstick": yardstick.name,
            "yardstick_s": yardstick.take(),
            "differing": repeated.again()[0],
            "clock": timer.name,
        }
