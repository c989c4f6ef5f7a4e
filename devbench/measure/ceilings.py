"""What a device can do at best, measured on this very device: the ceilings of the roofline.

After Williams, Waterman & Patterson (2009), "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from devbench.frameworks.base import Framework, Timer
from devbench.frameworks.probes import Probe, Probes
from devbench.measure.sampling import find_block
from devbench.model import DType, Json

#: Sizes of the square products that are tried, ascending, and then two beside the best of them: rows that
#: lie a power of two apart meet in the same lines of a cache. Of torch on an AMD EPYC, float16 reads
#: 3.0 GFLOP/s at 256 and 6.9 at 320, float64 105 at 1024 and 123 at 768.
GEMM_SIZES: Final = (256, 512, 1024, 2048, 4096, 8192, 16384)


@dataclass(frozen=True, slots=True)
class Gemm:
    """Products of n×n matrices in one dtype, in operations per second.

    burst: the fastest sample of the best size, what the device does when nothing disturbs it.
    typical: the median of the same. sustained: the rate over the last half of a longer load.
    """

    n: int
    burst: float
    typical: float
    sustained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Best rates of one device as one framework drives it; None where it has no such thing.

    gemm: by dtype. copy, triad: bytes per second on vectors four times the last cache;
    cached_copy: on vectors of an eighth of it. dispatch_s: seconds of the least step.
    transfers: bytes per second between host and device.
    """

    gemm: dict[str, Gemm] = field(default_factory=dict)
    copy: float | None = None
    triad: float | None = None
    cached_copy: float | None = None
    dispatch_s: float | None = None
    cache_bytes: int | None = None
    transfers: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Json) -> Ceilings:
        known = {name: data.get(name) for name in cls.__dataclass_fields__ if name in data}
        gemm = {name: Gemm(**figures) for name, figures in data.get("gemm", {}).items()}
        return cls(**{**known, "gemm": gemm})


class CeilingMeter:
    """Measures the ceilings of one device, giving each probe `seconds`."""

    def __init__(
        self, framework: Framework, address: str, cache_bytes: int, tick_s: float, seconds: float
    ):
        self._framework = framework
        self._address = address
        self._cache_bytes = cache_bytes
        self._timer: Timer = framework.timer(address)
        self._tick_s = tick_s
        self._seconds = seconds
        self._probes: Probes = framework.probes(address, cache_bytes)

    def measure(self, dtypes: Sequence[DType]) -> Ceilings:
        """All ceilings; GEMM in the given dtypes, those left out that the device cannot do."""
        with self._framework.scope(self._address):
            far, near = self._cache_bytes, max(1024, self._cache_bytes // 32)
            found = Ceilings(
                gemm={
                    dtype.name: self._gemm(dtype)
                    for dtype in dtypes
                    if dtype.is_float and self._framework.unsupported(dtype, self._address) is None
                },
                # `far` numbers of 4 bytes are a vector of four times the cache.
                copy=8 * far / min(self._times(self._probes.copy(far))),
                triad=12 * far / min(self._times(self._probes.triad(far))),
                cached_copy=8 * near / min(self._times(self._probes.copy(near))),
                dispatch_s=min(self._times(self._probes.nothing())),
                cache_bytes=self._cache_bytes,
                transfers={
                    name: 4 * far / min(self._times(step))
                    for name, step in self._probes.transfers(far).items()
                },
            )
        self._framework.release()
        return found

    def _gemm(self, dtype: DType) -> Gemm:
        with self._framework.math(dtype):
            return self._best_gemm(dtype)

    def _best_gemm(self, dtype: DType) -> Gemm:
        taken: dict[int, list[float]] = {}

        def burst(n: int) -> float:
            return 2 * n**3 / min(taken[n])

        for n in GEMM_SIZES:
            taken[n] = self._times(self._probes.gemm(n, dtype))
            # Twice the size is eight times the work.
            if 8 * min(taken[n]) > max(4 * self._seconds, 0.02):
                break
        best = max(taken, key=burst)
        for n in (best - best // 4, best + best // 4):
            if n <= GEMM_SIZES[-1]:
                taken[n] = self._times(self._probes.gemm(n, dtype))
        n = max(taken, key=burst)
        typical = 2 * n**3 / statistics.median(taken[n])
        return Gemm(n, burst(n), typical, self._sustained(self._probes.gemm(n, dtype), 2 * n**3))

    def _sustained(self, step: Probe, operations: float) -> float:
        """Rate over the last half of a load ten times as long as a probe: heat and power limits show."""
        step()
        block, long = find_block(self._timer, step, self._tick_s), 10 * self._seconds
        taken: list[tuple[float, float]] = []
        start = time.perf_counter()
        while not taken or taken[-1][0] < long:
            seconds = statistics.fmean(self._timer(step, block))
            taken.append((time.perf_counter() - start, seconds))
        return operations / statistics.fmean(seconds for at, seconds in taken if at >= long / 2)

    def _times(self, step: Probe) -> list[float]:
        """Seconds of one step, sampled for the probe's share of time after a third of that."""
        step()
        self._framework.synchronize(self._address)
        block = find_block(self._timer, step, self._tick_s)
        self._sample(step, block, self._seconds / 3, at_least=1)
        return self._sample(step, block, self._seconds, at_least=3)

    def _sample(self, step: Probe, block: int, seconds: float, at_least: int) -> list[float]:
        samples: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or len(samples) < at_least:
            samples += self._timer(step, block)
        return samples
