"""A fixed step timed beside a case's samples, by which the machine's drift is told from the case.

A shared machine gets slower and faster by a tenth within minutes, and a case with it. What the same
fixed work takes in the same seconds tells how much of a change is the machine's: small matrix products
varied by 15.8 % over 16 fresh processes and by 1.4 % in units of a chain of other small products, an
MLP's training step by 18.8 and 10.0 % (2 cores of a shared virtual machine). Copies went with copies
only (36.8 and 26.7 %), so there are two yardsticks.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Final

from devbench.frameworks.base import Framework, Timer
from devbench.frameworks.probes import Probe
from devbench.model import Work, dtype

#: A burst is this many samples of at least so many seconds each: 1.5 ms every 100 ms.
BURST: Final = 3
SAMPLE_S: Final = 0.0005
#: Products of this size keep neither a CPU's caches nor its other threads busy for long; on an
#: accelerator one of them must last longer than its launch.
CPU_N: Final = 192
ACCELERATOR_N: Final = 1024
#: Below so many operations a byte, and beyond the cache, a case waits for its memory.
MEMORY_BOUND_INTENSITY: Final = 4.0


@dataclass(slots=True)
class Yardstick:
    """One fixed step. `burst` times it a few times; `take` tells what it took."""

    name: str
    _step: Probe
    _timer: Timer
    _block: int
    _samples: list[float] = field(default_factory=list)

    def burst(self) -> None:
        for _ in range(BURST):
            self._samples += self._timer(self._step, self._block)

    def take(self) -> float | None:
        """Median seconds of one step since the last call of this method; None without a burst."""
        taken, self._samples = self._samples, []
        return statistics.median(taken) if taken else None


class Yardsticks:
    """The yardsticks of one device, made when a case first needs one."""

    def __init__(self, framework: Framework, address: str, cache_bytes: int) -> None:
        self._framework = framework
        self._address = address
        self._cache_bytes = cache_bytes
        self._made: dict[str, Yardstick] = {}

    def beside(self, work: Work) -> Yardstick:
        """The one that goes with a case of this work."""
        kind = "copy" if self._waits_for_memory(work) else "gemm"
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def _waits_for_memory(self, work: Work) -> bool:
        if work.bytes is None or work.bytes <= self._cache_bytes:
            return False
        return (work.flops or 0) < MEMORY_BOUND_INTENSITY * work.bytes

    def _make(self, kind: str) -> Yardstick:
        probes = self._framework.probes(self._address, self._cache_bytes)
        if kind == "copy":
            # Both vectors together are twice the cache.
            count = self._cache_bytes // 4
            name, step = f"copy of {count} float32", probes.copy(count)
        else:
            n = CPU_N if self._address.lower().startswith("cpu") else ACCELERATOR_N
            name, step = f"gemm {n}x{n} float32", probes.gemm(n, dtype("float32"))
        timer = self._framework.timer(self._address)
        for _ in range(3):
            once = min(timer(step, 1))
        block = max(1, math.ceil(SAMPLE_S / max(once, 1e-9)))
        return Yardstick(name, step, timer, block)
