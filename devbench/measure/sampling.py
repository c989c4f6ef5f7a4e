"""Warm-up, block length and stopping: from a step that runs to its samples.

Everything takes its clock as an argument, so that the rules are tested with a fake one.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devbench.declare import Step
from devbench.errors import DeclarationError
from devbench.frameworks.base import Timer

#: A sample is at least this many ticks of the clock, and this many times what waiting costs.
TICKS_A_SAMPLE: Final = 1000
WAITS_A_SAMPLE: Final = 100
#: Queued steps with an event pair each: enough to fill this time, but not more than this many.
EVENT_BLOCK_S: Final = 0.02
EVENT_BLOCK_MAX: Final = 256
#: A step is timed in rows of so many at least, unless that takes longer than this.
ROW: Final = 10
ROW_S: Final = 0.05
#: How often the yardstick is laid beside the samples.
BESIDE_EVERY_S: Final = 0.1
BESIDE_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a visit may take.

    warmup_s: bound of the warm-up. share_s: time for samples, once `precision` is not reached
    earlier. precision: relative half-width of the interval of the round's median that ends it.
    min_samples: taken even if they exceed the share. step_s: a slower step is not worth repeating.
    """

    warmup_s: float
    share_s: float
    precision: float = 0.01
    min_samples: int = 5
    step_s: float = 5.0


@dataclass(frozen=True, slots=True)
class WarmUp:
    """steady: None where too few samples were taken to tell. trend: relative change at the end."""

    seconds: float
    steps: int
    steady: bool | None
    trend: float | None


def clock_tick(clock: Callable[[], int] = time.perf_counter_ns, tries: int = 200) -> float:
    """The smallest step in seconds that the clock really shows, which exceeds what it reports."""
    smallest = math.inf
    for _ in range(tries):
        start = clock()
        now = clock()
        while now == start:
            now = clock()
        smallest = min(smallest, now - start)
    return smallest * 1e-9


def waiting_cost(timer: Timer, tries: int = 25) -> float:
    """Seconds that the timer adds to a sample by waiting for the device: an empty step, timed."""

    def nothing() -> None:
        return None

    return statistics.median(statistics.median(timer(nothing, 1)) for _ in range(tries))


def block_length(step_s: float, tick_s: float, wait_s: float) -> int:
    """Steps in a row that make one sample long enough for the clock."""
    shortest = max(TICKS_A_SAMPLE * tick_s, WAITS_A_SAMPLE * wait_s)
    return max(1, math.ceil(shortest / max(step_s, 1e-9)))


def event_block_length(step_s: float) -> int:
    """Steps queued at a time where every one of them has its own pair of device events."""
    return max(1, min(EVENT_BLOCK_MAX, math.ceil(EVENT_BLOCK_S / max(step_s, 1e-9))))


def choose_block(timer: Timer, step_s: float, tick_s: float) -> int:
    """Steps a sample, for a step that takes about `step_s`, as the kind of timer wants it."""
    if timer.per_step:
        return event_block_length(step_s)
    return block_length(step_s, tick_s, waiting_cost(timer))


def find_block(timer: Timer, run: Callable[[], Any], tick_s: float) -> int:
    """Steps a sample. A short step is timed in a row too, and in ever longer ones: alone it costs
    several times as much, and the block would come out as much too short."""
    step_s = min(*timer(run, 1), *timer(run, 1))
    block = choose_block(timer, step_s, tick_s)
    while (row := max(block, ROW)) * step_s < ROW_S:
        step_s = min(*timer(run, row), *timer(run, row))
        wanted = choose_block(timer, step_s, tick_s)
        if wanted <= 1.25 * block:
            break
        block = wanted
    return block


def steady(samples: Sequence[float]) -> tuple[bool, float]:
    """Whether the recent samples no longer trend, and by how much they did.

    The medians of the last two thirds may differ by 2 %, or by what their own scatter explains
    (two standard errors of the difference). The scatter is told from successive differences, as in
    von Neumann's ratio (1941): a trend hardly enters them, while it would widen the deviation from
    the median and so excuse itself. pyperf's calibration of warm-ups compares quartiles of halves
    in the same spirit.
    """
    third = len(samples) // 3
    earlier, later = samples[third : 2 * third], samples[2 * third :]
    before, after = statistics.median(earlier), statistics.median(later)
    if before <= 0 or after <= 0:
        return True, 0.0
    trend = after / before - 1
    jump = statistics.median(abs(b - a) for a, b in itertools.pairwise(samples[third:]))
    # 1.4826·median/√2 estimates sigma; a median's standard error is 1.2533·sigma/√n, and the
    # difference of two has √2 times that.
    allowed = 2 * 1.2533 * 1.4826 * jump / math.sqrt(len(later)) / after
    return abs(trend) <= max(0.02, allowed), trend


def warm_up(
    sample: Callable[[], Sequence[float]],
    limits: Limits,
    now: Callable[[], float] = time.perf_counter,
    min_s: float = 0.03,
    min_samples: int = 9,
) -> WarmUp:
    """Run samples until they are steady or the bound is reached."""
    start = now()
    taken: list[float] = []
    trend: float | None = None
    while True:
        taken += sample()
        elapsed = now() - start
        if len(taken) >= min_samples and elapsed >= min_s:
            settled, trend = steady(taken)
            if settled:
                return WarmUp(elapsed, len(taken), True, trend)
        if elapsed >= limits.warmup_s:
            return WarmUp(elapsed, len(taken), None if trend is None else False, trend)


def median_half_width(samples: Sequence[float]) -> float:
    """Relative half-width of the 95 % order-statistic interval of the median; infinite below five.

    Ranks n/2 ∓ 0.98·√n, the normal approximation to the binomial (Hahn & Meeker, Statistical
    Intervals, §5.2); of five samples the smallest and the largest, which hold the median in 94 % of cases.
    It rules the stopping only and says nothing about the next process.
    """
    count = len(samples)
    if count < 5:
        return math.inf
    ordered = sorted(samples)
    reach = 0.98 * math.sqrt(count)
    low = ordered[max(0, math.floor(count / 2 - reach))]
    high = ordered[min(count - 1, math.ceil(count / 2 + reach))]
    middle = statistics.median(ordered)
    return (high - low) / 2 / middle if middle > 0 else math.inf


def take_samples(
    sample: Callable[[], Sequence[float]],
    limits: Limits,
    now: Callable[[], float] = time.perf_counter,
    beside: Callable[[], None] | None = None,
) -> list[float]:
    """Samples until the median is known to the precision, or the share of time is used up.

    A quarter of the share is always used: a few samples in a row agree with each other far better
    than with those of the next tenth of a second.

    beside: called before, after and between the samples, every `BESIDE_EVERY_S` seconds and so many
    samples at most, so that what it leaves in the caches meets few of them.
    """
    if beside is not None:
        beside()
        try:
            return _take(sample, limits, now, beside)
        finally:
            beside()
    return _take(sample, limits, now, lambda: None)


def _take(
    sample: Callable[[], Sequence[float]],
    limits: Limits,
    now: Callable[[], float],
    beside: Callable[[], None],
) -> list[float]:
    start = now()
    taken: list[float] = []
    checked = 0
    last_s, last_count = 0.0, 0
    while True:
        taken += sample()
        elapsed = now() - start
        if elapsed - last_s >= BESIDE_EVERY_S and len(taken) - last_count >= BESIDE_EVERY:
            beside()
            last_s, last_count = elapsed, len(taken)
        if elapsed >= limits.share_s and len(taken) >= limits.min_samples:
            return taken
        if elapsed >= 3 * max(limits.share_s, limits.step_s) and len(taken) >= 2:
            return taken
        enough = elapsed >= limits.share_s / 4 and len(taken) >= 2 * limits.min_samples
        if (
            enough and len(taken) >= 1.2 * checked
        ):  # sorting again each time would cost more than it saves
            checked = len(taken)
            if median_half_width(taken) <= limits.precision:
                return taken


def sampler(
    step: Step, timer: Timer, block: int, where: str | None = None
) -> Callable[[], Sequence[float]]:
    """One call is one sample (or a block of event pairs), whatever kind of step it is.

    where: file and line of the benchmark, for what is refused.
    """
    clock, reset = step.clock, step.reset

    def sample() -> Sequence[float]:
        if reset is not None:
            reset()
        if clock is not None:
            return _own_clock(clock, where)
        return timer(step.run, block if reset is None else 1)

    return sample


def _own_clock(clock: Callable[[], float], where: str | None) -> Sequence[float]:
    seconds = float(clock())
    if not 0 < seconds < math.inf:
        raise DeclarationError(
            f"the step's clock says {seconds!r}; a time must be a positive number", where
        )
    return (seconds,)
