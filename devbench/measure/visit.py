"""One visit of a worker to a case: build, first call, check, warm-up, samples."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devbench.declare import Step
from devbench.errors import DeclarationError, Unsupported
from devbench.frameworks.base import Framework, Timer
from devbench.measure import binding, memory, sampling
from devbench.measure.bench import Bench
from devbench.measure.check import check
from devbench.measure.inputs import case_dtype, held_bytes
from devbench.measure.yardstick import Yardstick, Yardsticks


@dataclass(frozen=True, slots=True)
class Warm:
    """A case that is built, checked and warmed up: ready to be sampled.

    sample: one call is one sample, or a block of them. peak_bytes: the most memory that it held; the
    warm-up has shown it, and what is timed beside the samples is not the case's. facts: fields of a
    `Measurement` so far. threads: those of this process that worked in the warm-up, by their ids, where
    it computes on a CPU.
    """

    sample: Callable[[], Sequence[float]]
    yardstick: Yardstick
    step: Step
    peak_bytes: int | None
    facts: dict[str, Any]
    threads: tuple[int, ...]


def visit(
    bench: Bench,
    limits: sampling.Limits,
    tick_s: float,
    expected: Path | None,
    yardsticks: Yardsticks,
    doing: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a case. Returns fields of a `Measurement`, whatever happens short of a crash.

    expected: where the reference worker left the expected values, or None when this visit need not
    check the result (another round does).
    """

    def measure() -> dict[str, Any]:
        with warmed_up(bench, limits, tick_s, expected, yardsticks, doing) as warm:
            doing("timing")
            start = time.perf_counter()
            samples = sampling.take_samples(warm.sample, limits, beside=warm.yardstick.burst)
            timing_s = time.perf_counter() - start
            doing("closing")  # what follows is not in the window that is watched
            return warm.facts | {"samples": samples, "timing_s": timing_s} | closing(bench, warm)

    return {"clock_tick_s": tick_s} | outcome(bench, measure)


def outcome(bench: Bench, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` returns, or what was in its way, as fields of a `Measurement`."""
    facts: dict[str, Any] = {"mode": bench.mode, "threads": bench.threads}
    try:
        return facts | {"status": "ok"} | measure()
    except Unsupported as error:
        return facts | {"status": "skipped", "reason": error.reason, "detail": str(error)}
    except DeclarationError as error:
        return facts | {"status": "failed", "reason": "declaration", "detail": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever a benchmark does becomes its row
        if bench.framework.is_out_of_memory(error):
            first = _first_line(error)
            return facts | {"status": "oom", "reason": "out-of-memory", "detail": first}
        return facts | {"status": "failed", "reason": "error", "detail": describe_error(error)}


@contextmanager
def warmed_up(
    bench: Bench,
    limits: sampling.Limits,
    tick_s: float,
    expected: Path | None,
    yardsticks: Yardsticks,
    doing: Callable[[str], None],
) -> Iterator[Warm]:
    """Build, call, check and warm up a case; released at the end. The check is on the first call of
    the build, before anything is timed: it is fresh then, whatever state the step may have.

    Raises Unsupported for what framework or device cannot do.
    """
    framework, address = bench.framework, bench.address
    dtype = case_dtype(bench.params)
    if reason := framework.unsupported(dtype, address):
        raise Unsupported(reason)
    if bench.mode not in framework.modes:
        raise Unsupported(
            f"{framework.name} has no mode {bench.mode!r}; it has {', '.join(framework.modes)}"
        )
    with framework.scope(address), framework.math(dtype):
        # What these hold is not the case's memory.
        yardstick = yardsticks.beside(bench.benchmark.work(bench.params))
        yardstick.take()  # a case that failed has left its bursts
        flush = bench.flush()
        if flush is not None:
            flush()  # its buffer is there from the first time on
        doing("build")
        start = time.perf_counter()
        host = bench.draw()
        # The inputs on the host are not the case's: its output is held against them.
        peak = Peak(framework, bench.devices)
        aside = None if flush is None else peak.without(flush)
        with bench.build(host, aside) as (step, _):
            framework.synchronize(address)
            facts: dict[str, Any] = {"build_s": time.perf_counter() - start}
            facts["input_bytes"] = held_bytes(host, dtype)
            if step.reset is not None:
                step.reset()
            start = time.perf_counter()
            result = step.run()
            framework.synchronize(address)
            facts["first_call_s"] = time.perf_counter() - start
            if expected is not None:
                doing("check")
                peak.pause()
                start = time.perf_counter()
                facts |= check(bench, step, host, result, expected)
                facts["check_s"] = time.perf_counter() - start
                peak.go_on()
            del result

            doing("warm-up")
            timer, where = framework.timer(address), bench.benchmark.where
            worked = binding.watch(bench.bystanders)
            sample, more = _warm_up(step, timer, limits, tick_s, where)
            threads = worked() if address.lower().startswith("cpu") else ()
            peak.pause()
            yield Warm(sample, yardstick, step, peak.bytes, facts | more, threads)


def _warm_up(
    step: Step, timer: Timer, limits: sampling.Limits, tick_s: float, where: str
) -> tuple[Callable[[], Sequence[float]], dict[str, Any]]:
    start = time.perf_counter()
    alone = step.reset is not None or step.clock is not None
    block = 1 if alone else sampling.find_block(timer, step.run, tick_s)
    sample = sampling.sampler(step, timer, block, where)
    warm = sampling.warm_up(sample, limits)
    own = step.clock is not None
    return sample, {
        "clock": "the step's own clock" if own else timer.name,
        "clock_tick_s": tick_s if own or timer.resolution_s is None else timer.resolution_s,
        "block": 1 if timer.per_step else block,
        "warmup_s": time.perf_counter() - start,
        "warmup_steps": warm.steps * (1 if timer.per_step else block),
        "steady": warm.steady,
        "trend": warm.trend,
    }


def closing(bench: Bench, warm: Warm) -> dict[str, Any]:
    """What is asked for once the last sample is taken."""
    metrics = {} if warm.step.metrics is None else _metrics(bench, warm.step.metrics())
    # A step that works in other processes tells itself what they held.
    peak = metrics.pop("peak_memory_bytes", warm.peak_bytes)
    return {
        "yardstick": warm.yardstick.name,
        "yardstick_s": warm.yardstick.take(),
        "peak_memory_bytes": None if peak is None else int(peak),
        "metrics": metrics,
    }


def _metrics(bench: Bench, found: Any) -> dict[str, float | str]:
    """Numbers as floats; what is neither number nor text, or not finite, is refused by name."""
    if not isinstance(found, Mapping):
        raise DeclarationError(
            f"{bench.benchmark.name}'s metrics must be a dict, not {type(found).__name__}",
            bench.benchmark.where,
        )
    kept: dict[str, float | str] = {}
    for name, value in found.items():
        if isinstance(value, str):
            kept[str(name)] = value
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise DeclarationError(
                f"{bench.benchmark.name}'s metric {name!r} is {value!r}; give a finite number or a text",
                bench.benchmark.where,
            )
        kept[str(name)] = number
    return kept


class Peak:
    """The most memory that a case held: on its devices together as their allocators tell, each at its own
    highest, or this process's."""

    def __init__(self, framework: Framework, devices: Sequence[str]) -> None:
        self._framework = framework
        self._devices = devices
        self._reset()
        # What the worker itself holds there, such as a yardstick.
        self._held = self._told() or 0
        self._resident = memory.reset_peak()
        self._counts = True
        self.bytes: int | None = None

    def pause(self) -> None:
        """Take the peak so far; what follows, until `go_on`, is not the case's."""
        found = self._told()
        if found is not None:
            found = max(0, found - self._held)
        elif self._resident is not None and (most := memory.peak()) is not None:
            found = max(0, most - self._resident)
        if found is not None:
            self.bytes = max(found, self.bytes or 0)
        self._counts = False

    def go_on(self) -> None:
        self._reset()
        memory.reset_peak()
        self._counts = True

    def _reset(self) -> None:
        for address in self._devices:
            self._framework.reset_peak_memory(address)

    def _told(self) -> int | None:
        told = [self._framework.peak_memory(address) for address in self._devices]
        known = [one for one in told if one is not None]
        return sum(known) if known else None

    def without(self, act: Callable[[], None]) -> Callable[[], None]:
        """The same act, and what it takes for a moment is not the case's."""

        def aside() -> None:
            counts = self._counts
            if counts:
                self.pause()
            act()
            if counts:
                self.go_on()

        return aside


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def describe_error(error: BaseException) -> str:
    """The error in one line, with the place in the suite's code where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    engine = str(Path(__file__).parent.parent)
    own = [
        f for f in frames if not f.filename.startswith(engine) and "site-packages" not in f.filename
    ]
    place = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
    text = _first_line(error)[:400]
    lines = str(error).strip().splitlines()
    if any(line.startswith("Original Traceback") for line in lines):
        # torch's loaders and replicas hand on an error with its traceback; the cause is its last line.
        text = f"{text} {lines[-1].strip()[:400]}"
    return f"{text}{place}"
