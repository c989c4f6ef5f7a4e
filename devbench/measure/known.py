"""Steps whose duration, or the ratio of whose durations, is known beforehand, and how a timer reads
them: what ``devbench selftest`` judges.

``python -m devbench.measure.known UNITS`` prints the median time of UNITS of work, measured as a
visit measures: one round in a process of its own.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from devbench.declare import Step
from devbench.frameworks.base import Framework, Timer, WallTimer
from devbench.measure import sampling
from devbench.model import Json, dtype

#: A clock in nanoseconds.
Clock: TypeAlias = Callable[[], int]

#: Sides of the square products that a framework's step is chosen from, ascending.
GEMM_SIZES: Final = (128, 256, 512, 1024, 2048, 4096, 8192)
#: The least duration of a framework's step whose double is timed, and of those that device events
#: and the CPU clock both time.
TWICE_S: Final = 100e-6
EVENTS_S: Final = (20e-6, 1e-3)

_CHUNK = bytes(range(256)) * 4


def independent_clock() -> Clock:
    """A clock other than the one behind `perf_counter`, where the system has one.

    CLOCK_MONOTONIC_RAW counts the same oscillator, but nobody adjusts its speed.
    """
    raw: int | None = getattr(time, "CLOCK_MONOTONIC_RAW", None)
    return time.monotonic_ns if raw is None else lambda: time.clock_gettime_ns(raw)


class Spin:
    """A step that lasts `seconds` by a clock of its own, and adds up what its calls really lasted:
    a neighbour may have held it up, and then both clocks must say so."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._least_ns = round(seconds * 1e9)
        self._clock = clock
        self.spent_ns = 0

    def __call__(self) -> None:
        clock, least_ns = self._clock, self._least_ns
        start = now = clock()
        while now - start < least_ns:
            now = clock()
        self.spent_ns += now - start


def work(units: int) -> bytes:
    """So many times the same work: a kilobyte hashed. Returns the digest."""
    digest = hashlib.sha256()
    for _ in range(units):
        digest.update(_CHUNK)
    return digest.digest()


def read_against_itself(timer: Timer, spin: Spin, block: int) -> float:
    """What the timer reads of a block of spins, over what they lasted by their own clock."""
    spin.spent_ns = 0
    seconds = statistics.fmean(timer(spin, block))
    return seconds * block / (spin.spent_ns * 1e-9)


def interleave(readings: Sequence[Callable[[], float]], rounds: int) -> Iterator[tuple[float, ...]]:
    """Each reading once a round, in turn and back, so that drift meets all of them alike."""
    for index in range(rounds):
        taken = [0.0] * len(readings)
        order = range(len(readings))
        for place in order if index % 2 == 0 else reversed(order):
            taken[place] = readings[place]()
        yield tuple(taken)


def rounds_in(seconds: float, each_s: float) -> int:
    """How many rounds of `each_s` fill `seconds`: enough for an interval, and not absurdly many."""
    return min(1000, max(11, round(seconds / each_s)))


def ratio(numerator: float, denominator: float) -> float:
    """Of two times in seconds; a clock too coarse to see one of them reads it as a nanosecond."""
    return max(numerator, 1e-9) / max(denominator, 1e-9)


def two_repetitions(readings: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Ratios of the first reading to the second, `rounds` of them, twice."""
    return [[ratio(*pair) for pair in interleave(readings, rounds)] for _ in range(2)]


def device_readings(
    framework: Framework, address: str, tick_s: float, seconds: float
) -> list[Json]:
    """How the framework's own timer of a device reads steps whose ratio is known.

    Each entry has `check` (``twice`` or ``events``), `step_s`, and `repetitions`: two lists of
    ratios, which take about `seconds` each. ``twice``: two products against one. ``events``, where
    the timer uses device events: what they say against the CPU clock round the same steps.
    """
    with framework.scope(address):
        timer = framework.timer(address)
        found = [_twice(framework, address, timer, tick_s, seconds)]
        if timer.per_step:
            found += [_events(framework, address, timer, least, seconds) for least in EVENTS_S]
    framework.release()
    return found


def _twice(
    framework: Framework, address: str, timer: Timer, tick_s: float, seconds: float
) -> dict[str, Json]:
    step, step_s = _product(framework, address, timer, TWICE_S)

    def double() -> None:
        step()
        step()

    def reading(run: Callable[[], Any]) -> float:
        # Threads that fell asleep since make the first product slower: on a busy machine by so much that
        # two would read as one.
        step()
        return statistics.median(timer(run, block))

    block = max(5, sampling.choose_block(timer, step_s, tick_s))
    readings = [lambda: reading(double), lambda: reading(step)]
    repetitions = two_repetitions(readings, rounds_in(seconds, 3 * block * step_s))
    return {"check": "twice", "step_s": step_s, "repetitions": repetitions}


def _events(
    framework: Framework, address: str, events: Timer, least_s: float, seconds: float
) -> dict[str, Json]:
    step, step_s = _product(framework, address, events, least_s)
    wall = WallTimer(lambda: framework.synchronize(address), "one wait a block")
    block = sampling.event_block_length(step_s)
    readings = [lambda: statistics.fmean(events(step, block)), lambda: wall(step, block)[0]]
    repetitions = two_repetitions(readings, rounds_in(seconds, 2 * block * step_s))
    return {"check": "events", "step_s": step_s, "repetitions": repetitions}


def _product(
    framework: Framework, address: str, timer: Timer, least_s: float
) -> tuple[Callable[[], Any], float]:
    """The smallest product that takes `least_s`, warm, and what it takes."""
    probes = framework.probes(address, cache_bytes=0)
    for n in GEMM_SIZES:
        step = probes.gemm(n, dtype("float32"))
        step()
        warm_until = time.perf_counter() + 0.05
        step_s = math.inf
        while time.perf_counter() < warm_until:
            step_s = min(step_s, *timer(step, 20))
        if step_s >= least_s:
            break
    return step, step_s


def round_median(units: int) -> float:
    """Seconds of `units` of work: the median of one round of a short visit."""
    timer = WallTimer(None, "CPU calls block")
    step = Step(run=lambda: work(units))
    step.run()  # the first call is no sample
    block = sampling.find_block(timer, step.run, sampling.clock_tick())
    sample = sampling.sampler(step, timer, block)
    limits = sampling.Limits(warmup_s=0.2, share_s=0.2)
    sampling.warm_up(sample, limits)
    return statistics.median(sampling.take_samples(sample, limits))


if __name__ == "__main__":
    print(round_median(int(sys.argv[1])))
