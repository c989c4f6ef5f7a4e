"""The ruler is tested: steps of known duration, timed, and what this machine's figures are worth.

Order and ratio are judged, never absolute speed. Every figure is taken in two repetitions of
interleaved readings, each with the interval of its median. A check is broken only if both intervals
lie outside the tolerance on the same side; noise widens them, and then it cannot be told.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from devbench import registry, timing
from devbench.detection import usable_threads
from devbench.frameworks.base import Framework, Timer, WallTimer
from devbench.measure import known, sampling
from devbench.measure.known import Clock, Spin
from devbench.model import Json
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.settings import Settings

Verdict: TypeAlias = Literal["holds", "cannot tell", "broken"]
Interval: TypeAlias = tuple[float, float]

#: A known duration must be read this well: a share of it, and what two clock readings and a call may
#: cost. The CUDA documentation gives events a resolution of 0.5 µs each, which comes to the same.
RELATIVE: Final = 0.02
ABSOLUTE_S: Final = 1e-6
#: A clock must show steps as short as this.
TICK_S: Final = 1e-6
#: How twice the work may read; two products may share what waking the threads costs.
DOUBLE: Final = (1.94, 2.06)
PRODUCTS: Final = (1.9, 2.1)
SPINS_S: Final = (20e-6, 200e-6, 2e-3, 20e-3)
#: About as long as the steps of work whose ratios are judged: short, so that most of them run
#: between two disturbances.
WORK_S: Final = 200e-6
COLD_S: Final = 20e-3
WORKER_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a ruler must do. claim: what holds if it does it.

    value, intervals, tolerance: of the figure that was judged, with an interval a repetition; None
    and empty for what is seen or not seen and has no figure.
    """

    where: str
    name: str
    claim: str
    verdict: Verdict
    figure: str
    value: float | None = None
    intervals: tuple[Interval, ...] = ()
    tolerance: tuple[float | None, float | None] | None = None

    @property
    def meaning(self) -> str:
        if self.verdict == "holds":
            return self.claim
        if self.verdict == "broken":
            return f"it is not so that {self.claim}; do not believe times from here"
        return f"too noisy just now to tell whether {self.claim}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBar:
    """How far one figure of this machine can be trusted.

    medians: seconds of the same work in fresh processes, spread over the whole test. spread: their
    standard deviation as a share. smallest_difference: what two cases of `rounds` rounds must
    differ by before the 95 % interval of their ratio leaves 1.
    """

    medians: tuple[float, ...]
    spread: float
    rounds: int
    smallest_difference: float


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]
    error_bar: ErrorBar

    @property
    def broken(self) -> bool:
        return any(check.verdict == "broken" for check in self.checks)

    def to_json(self) -> Json:
        return {
            "schema": "devbench.selftest/1",
            "broken": self.broken,
            "checks": [{**asdict(check), "meaning": check.meaning} for check in self.checks],
            "error_bar": asdict(self.error_bar),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """seconds: of a repetition of a check. processes: fresh ones for the error bar."""

    seconds: float
    processes: int


SHORT: Final = Effort(seconds=0.2, processes=8)
THOROUGH: Final = Effort(seconds=2.0, processes=32)


# ---- judging


def median_interval(values: Sequence[float], confidence: float = 0.99) -> Interval:
    """The order-statistic interval of the median, exact for any continuous distribution.

    The largest k with P(Binomial(n, ½) < k) ≤ (1 − confidence)/2 gives the k-th value from either
    end (Hahn & Meeker, Statistical Intervals, §5.2). Infinite where there are too few values.
    """
    ordered, count = sorted(values), len(values)
    below, tail = 0, 0.0
    while (tail := tail + math.comb(count, below) * 0.5**count) <= (1 - confidence) / 2:
        below += 1
    return (ordered[below - 1], ordered[-below]) if below else (-math.inf, math.inf)


def judge(intervals: Sequence[Interval], low: float, high: float) -> Verdict:
    """Whether a figure lies in [low, high], from intervals of independent repetitions."""
    if len(intervals) >= 2 and (
        all(top < low for _, top in intervals) or all(bottom > high for bottom, _ in intervals)
    ):
        return "broken"
    outside = any(top < low or bottom > high for bottom, top in intervals)
    inside = any(low <= bottom and top <= high for bottom, top in intervals)
    return "holds" if inside and not outside else "cannot tell"


def judged(
    where: str,
    name: str,
    repetitions: Sequence[Sequence[float]],
    tolerance: Interval,
    claim: str,
    show: Callable[[float], str] = lambda value: f"{value:.3f}",
) -> Check:
    """The check that the median of every repetition lies within the tolerance."""
    intervals = tuple(median_interval(values) for values in repetitions)
    value = statistics.median(value for values in repetitions for value in values)
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    verdict = judge(intervals, *tolerance)
    return Check(
        where=where,
        name=name,
        claim=claim,
        verdict=verdict,
        figure=f"{show(value)} ({show(low)}–{show(high)})",
        value=value,
        intervals=intervals,
        tolerance=(tolerance[0], tolerance[1] if math.isfinite(tolerance[1]) else None),
    )


def allowed(seconds: float) -> Interval:
    """The tolerance of a reading of a known duration, as a ratio."""
    reach = RELATIVE + ABSOLUTE_S / seconds
    return 1 - reach, 1 + reach


# ---- what needs no framework


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The checks of the CPU's timer.

    timer reads `clock` (nanoseconds); `truth` is the clock that it is held against, and `work` does
    so many units of the same work. seconds: of a repetition.
    """

    timer: Timer
    clock: Clock
    truth: Clock
    work: Callable[[int], Any]
    seconds: float

    def checks(self) -> Iterator[Sequence[Check]]:
        tick = self.tick()
        yield [tick]
        yield [self.empty()]
        yield [self.spin(seconds) for seconds in SPINS_S]
        yield [self.blocks()]
        yield [self.twice()]
        yield self.order()
        yield [self.trend()]
        if tick.verdict == "holds":  # blocks long enough for a coarse clock would take minutes
            yield [self.cold()]

    def units(self) -> int:
        """Of work that take about WORK_S; a multiple of 20, so that 5 % of it can be added."""
        self.work(1000)
        start = self.truth()
        self.work(1000)
        unit_s = (self.truth() - start) / 1000 * 1e-9
        return 20 * max(1, round(WORK_S / unit_s / 20))

    def tick(self) -> Check:
        tick_s = sampling.clock_tick(self.clock, tries=100)
        readings = [self.clock() for _ in range(10_000)]
        backwards = any(later < earlier for earlier, later in pairwise(readings))
        verdict: Verdict = "broken" if backwards or tick_s > TICK_S else "holds"
        return Check(
            where="host",
            name="clock tick",
            claim=f"the clock never goes back, and shows steps of {_time(TICK_S)}",
            verdict=verdict,
            figure="goes backwards" if backwards else _time(tick_s),
            value=tick_s,
            tolerance=(0.0, TICK_S),
        )

    def empty(self) -> Check:
        repetitions = [
            [statistics.fmean(self.timer(_nothing, 1)) for _ in range(1000)] for _ in range(2)
        ]
        claim = f"timing a step adds less than {_time(ABSOLUTE_S)}"
        return judged("host", "empty step", repetitions, (0.0, ABSOLUTE_S), claim, _time)

    def spin(self, seconds: float) -> Check:
        rounds = known.rounds_in(self.seconds, seconds)
        spin = Spin(seconds, self.truth)
        repetitions = [
            [known.read_against_itself(self.timer, spin, 1) for _ in range(rounds)]
            for _ in range(2)
        ]
        claim = f"{_time(seconds)} by another clock are read as that"
        return judged("host", f"spin of {_time(seconds)}", repetitions, allowed(seconds), claim)

    def blocks(self) -> Check:
        spin = Spin(100e-6, self.truth)

        def alone() -> float:
            # The first finds nothing in the caches where neighbours are at work: 3 µs more.
            taken = [known.read_against_itself(self.timer, spin, 1) for _ in range(5)]
            return statistics.median(taken)

        readings = [lambda: known.read_against_itself(self.timer, spin, 64), alone]
        rounds = known.rounds_in(self.seconds, 69 * 100e-6)
        claim = "the length of a block of steps does not change the reading"
        repetitions = known.two_repetitions(readings, rounds)
        return judged("host", "block of 64 to 1", repetitions, allowed(100e-6), claim)

    def twice(self) -> Check:
        units = self.units()
        readings = [self._reading(2 * units), self._reading(units)]
        rounds = known.rounds_in(self.seconds, 3 * WORK_S)
        repetitions = known.two_repetitions(readings, rounds)
        claim = "twice the work reads twice as long"
        return judged("host", "twice the work", repetitions, DOUBLE, claim)

    def order(self) -> Sequence[Check]:
        units = self.units()
        steps = [self._reading(units * percent // 100) for percent in (100, 105, 125)]
        rounds = known.rounds_in(self.seconds, 3.3 * WORK_S)
        taken = [list(known.interleave(steps, rounds)) for _ in range(2)]
        return [
            judged(
                "host",
                f"{more} more work",
                [[known.ratio(times[slow], times[fast]) for times in each] for each in taken],
                (1.0, math.inf),
                f"{more} more work reads longer",
            )
            for more, slow, fast in (("5 %", 1, 0), ("19 %", 2, 1))
        ]

    def cold(self) -> Check:
        """A step whose first call takes a hundred times as long, timed by `devbench.time`."""
        verdicts: list[Verdict] = []
        for _ in range(2):
            calls: list[float] = []
            found = timing.time(self._cold_step(calls), seconds=0.1)
            apart = found.first_call_s >= COLD_S
            if apart and max(found.samples) < COLD_S / 2:
                verdicts.append("holds")
            elif apart and max(calls[1:]) >= COLD_S / 2:
                verdicts.append("cannot tell")  # a later call was held up for as long
            else:
                verdicts.append("broken")
        verdict = _of_both(verdicts)
        return Check(
            where="host",
            name="cold first call",
            claim="a slow first call stays out of the statistics",
            verdict=verdict,
            figure=f"{_time(found.median)}; first call {_time(found.first_call_s)}",
        )

    def _cold_step(self, calls: list[float]) -> Callable[[], None]:
        def step() -> None:
            spin = Spin(COLD_S / 100 if calls else COLD_S, self.truth)
            spin()
            calls.append(spin.spent_ns * 1e-9)

        return step

    def trend(self) -> Check:
        """A step that doubles every 30 ms must not be called steady, unless its own clock, too, saw
        so much scatter that the trend drowned in it."""
        verdicts: list[Verdict] = []
        for _ in range(2):
            lasted: list[float] = []
            warm = sampling.warm_up(
                partial(self.timer, self._growing_step(lasted), 1),
                sampling.Limits(warmup_s=0.12, share_s=0.0),
                now=lambda: self.truth() * 1e-9,
            )
            if not warm.steady:
                verdicts.append("holds")
            else:
                drowned = sampling.steady(lasted)[0]
                verdicts.append("cannot tell" if drowned else "broken")
        verdict = _of_both(verdicts)
        trend = "" if warm.trend is None else f": {warm.trend:+.0%}".replace("%", " %")
        return Check(
            where="host",
            name="trending step",
            claim="a step that gets slower is called not steady",
            verdict=verdict,
            figure=f"{'steady' if warm.steady else 'not steady'}{trend}",
        )

    def _growing_step(self, lasted: list[float]) -> Callable[[], None]:
        begun = self.truth()

        def step() -> None:
            age_s = (self.truth() - begun) * 1e-9
            spin = Spin(200e-6 * 2 ** (age_s / 0.03), self.truth)
            spin()
            lasted.append(spin.spent_ns * 1e-9)

        return step

    def _reading(self, units: int) -> Callable[[], float]:
        return lambda: statistics.fmean(self.timer(lambda: self.work(units), 1))


def _nothing() -> None:
    return None


def _of_both(verdicts: Sequence[Verdict]) -> Verdict:
    first, *others = set(verdicts)
    return "cannot tell" if others else first


# ---- the frameworks' own timers


def framework_checks(name: str, framework: Framework, seconds: float) -> list[Check]:
    """The checks of one framework's timers, one device of a kind, in a worker of its own."""
    threads = usable_threads()
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="devbench-") as folder:
        worker = WorkerProcess(framework.environment(None, threads), Path(folder) / "worker.log")
        try:
            worker.send("selftest", framework=name, threads=threads, seconds=seconds)
            while (answer := worker.receive(WORKER_TIMEOUT_S))["type"] == "readings":
                where = f"{name}:{answer['address']}"
                checks += [_device_check(where, reading) for reading in answer["readings"]]
            error = answer["error"]
        except (WorkerGone, WorkerTimeout) as gone:
            error = str(gone)
        finally:
            worker.kill()
    if error is not None:
        checks.append(
            Check(
                where=name,
                name="worker",
                claim=f"{name} runs in a worker ({error})",
                verdict="cannot tell",
                figure="–",
            )
        )
    return checks


def _device_check(where: str, reading: Mapping[str, Any]) -> Check:
    repetitions, step_s = reading["repetitions"], reading["step_s"]
    if reading["check"] == "twice":
        claim = f"two products read twice as long as one ({_time(step_s)})"
        return judged(where, "two products", repetitions, PRODUCTS, claim)
    claim = f"device events and the CPU clock agree on steps of {_time(step_s)}"
    return judged(where, "events to clock", repetitions, allowed(step_s), claim)


# ---- the error bar


def fresh_median(units: int) -> float:
    """Seconds of the same work in a process of its own."""
    words = [sys.executable, "-P", "-m", known.__name__, str(units)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def error_bar(medians: Sequence[float], rounds: int) -> ErrorBar:
    """What medians of fresh processes say of a run with so many rounds a case.

    The half-width of Student's t interval of the difference of two means of log medians, from
    2·(rounds − 1) degrees of freedom: t · s · √(2/rounds).
    """
    from scipy.special import stdtrit

    spread = statistics.stdev(map(math.log, medians))
    reach = float(stdtrit(2 * (rounds - 1), 0.975)) * spread * math.sqrt(2 / rounds)
    return ErrorBar(
        medians=tuple(medians),
        spread=spread,
        rounds=rounds,
        smallest_difference=math.expm1(reach),
    )


# ---- all of it


def run(effort: Effort = SHORT, tell: Callable[[str], None] = lambda what: None) -> Report:
    """All checks, one after the other: nothing else may run while something is timed.

    tell: is given what is done next.
    """
    host = Host(
        timer=WallTimer(None, "CPU calls block"),
        clock=time.perf_counter_ns,
        truth=known.independent_clock(),
        work=known.work,
        seconds=effort.seconds,
    )
    units = host.units()
    checks: list[Check] = []
    medians: list[float] = []
    groups = host.checks()
    tell("timing steps of known duration on the host")
    for _ in range(effort.processes):  # in between, so that they spread over the whole time
        medians.append(fresh_median(units))
        checks += next(groups, ())
    checks += chain.from_iterable(groups)
    for name, framework in registry.frameworks().items():
        if registry.is_installed(framework):
            tell(f"importing {name} in a worker and timing products in it")
            checks += framework_checks(name, framework, effort.seconds)
    return Report(tuple(checks), error_bar(medians, Settings().rounds))


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
