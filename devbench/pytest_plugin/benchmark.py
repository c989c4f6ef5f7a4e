"""pytest-benchmark's fixture made right for devices."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest

from devbench.declare import Step
from devbench.frameworks.base import Framework, WallTimer
from devbench.measure import sampling
from devbench.measure.tree import leaves
from devbench.measure.yardstick import Yardstick
from devbench.model import Device, Json, Measurement
from devbench.pytest_plugin.holding import holding
from devbench.pytest_plugin.worker import PytestWorker, case_of, key_of

#: The warm-up ends after so many seconds, steady or not.
LIMITS: Final = sampling.Limits(warmup_s=1.0, share_s=0.0)
#: Samples from which the length of a call is told, or as many as fit into so many seconds.
CALLS: Final = 5
CALLS_S: Final = 0.1
#: Bursts of the yardstick before and after a test, 1.5 ms each: nothing can come between its rounds.
BURSTS: Final = 10


class Clock:
    """The timer of pytest-benchmark: it waits for the device, then reads the clock.

    With `own`, the seconds that a step itself reports are added up instead.
    """

    #: As it stands in the file of pytest-benchmark.
    __name__ = "perf_counter, the device waited for at both ends of a round"

    def __init__(self, framework: Framework, address: str) -> None:
        self._wait = partial(framework.synchronize, address)
        self._own: float | None = None

    def __call__(self) -> float:
        if self._own is not None:
            return self._own
        self._wait()
        return time.perf_counter()

    def own(self, clock: Callable[[], float]) -> Callable[[], None]:
        """A step whose own seconds this timer tells."""
        self._own = 0.0

        def run() -> None:
            assert self._own is not None
            self._own += clock()

        return run

    def shortest_s(self) -> float:
        """How long a round must be, for what reading and waiting cost to be a hundredth of it at most."""
        waiting = sampling.waiting_cost(WallTimer(self._wait, ""))
        return max(
            sampling.TICKS_A_SAMPLE * sampling.clock_tick(), sampling.WAITS_A_SAMPLE * waiting
        )


def set_clock(item: pytest.Function) -> None:
    """Give a test the marker from which pytest-benchmark takes its timer."""
    device_id = item.callspec.params.get("devbench_device")
    if not isinstance(device_id, str):
        return
    held = holding(item.config)
    marker = item.get_closest_marker("benchmark")
    options = dict(marker.kwargs) if marker else {}
    options["timer"] = Clock(held.framework, held.device(device_id).address)
    item.add_marker(pytest.mark.benchmark(**options), append=False)


def refuse_another_device(request: pytest.FixtureRequest, device_id: str) -> None:
    """Fail the test that is not about the device that it is named after."""
    if "device" not in request.fixturenames:
        pytest.fail(
            "the test takes device_benchmark and not `device`, so it would do the same under the name of "
            "every device; take both, and put the tensors on `device`",
            pytrace=False,
        )
    given = str(request.getfixturevalue("device"))
    expected = holding(request.config).address(device_id)
    if given != expected:
        pytest.fail(
            f"the fixture `device` of this project gives {given}, and device_benchmark is to time "
            f"{expected}; build it on devbench's, by naming `device` among its arguments",
            pytrace=False,
        )


class DeviceBenchmark:
    """``device_benchmark(step, *args, **kwargs)``: time it, and give what it returned.

    device, framework: where it runs, and devbench's adapter of what runs it. extra_info: goes into the
    file of pytest-benchmark.
    """

    def __init__(self, item: pytest.Function, device_id: str, benchmark: Any) -> None:
        held = holding(item.config)
        marker = item.get_closest_marker("benchmark")
        assert marker is not None
        self.device: Device = held.device(device_id)
        self.framework = held.framework
        self.extra_info: dict[str, Json] = benchmark.extra_info
        self._item = item
        self._held = held
        self._benchmark = benchmark
        self._config = item.config
        self._options: Mapping[str, Any] = marker.kwargs
        self._clock: Clock = marker.kwargs["timer"]
        self._worker: PytestWorker | None = item.config.pluginmanager.get_plugin("devbench-worker")
        timed = benchmark.enabled and self._worker is None
        # Made here, and not where it is laid: that may be inside `torch.inference_mode()`, which would
        # make its tensors such as cannot be written to elsewhere. None: the step is not timed by this.
        self._yardstick = held.yardstick(self.device.address) if timed else None

    def __call__(self, step: Callable[..., Any] | Step, *args: Any, **kwargs: Any) -> Any:
        """step: a function, called with the arguments again and again; or a `devbench.Step`, whose
        `reset` and `clock` are heeded and whose `close` is the caller's."""
        if not isinstance(step, Step):
            step = Step(run=partial(step, *args, **kwargs))
        step = replace(step, close=None, reset=step.reset and partial(_call, step.reset))
        yardstick = self._yardstick
        if self._worker is not None:
            self._worker.keep(step)
        if yardstick is None:
            result = self._benchmark.pedantic(step.run, setup=step.reset)
        else:
            with self.framework.scope(self.device.address):
                facts, once_s = self._warm_up(step)
                _lay(yardstick)
                result = self._time(step, once_s)
                _lay(yardstick)
            self._note(facts | {"yardstick": yardstick.name, "yardstick_s": yardstick.take()})
        self._refuse_elsewhere(result)
        return result

    def _warm_up(self, step: Step) -> tuple[dict[str, Any], float]:
        """Fields of a `Measurement`, and how long a call takes, with the reset before it."""
        address = self.device.address
        if step.reset is not None:
            step.reset()
        self.framework.synchronize(address)
        start = time.perf_counter()
        step.run()
        self.framework.synchronize(address)
        first_call_s = time.perf_counter() - start
        timer = self.framework.timer(address)
        start = time.perf_counter()
        block = 1
        if step.reset is None and step.clock is None:
            block = sampling.find_block(timer, step.run, sampling.clock_tick())
        sample = sampling.sampler(step, timer, block)
        warm = sampling.warm_up(sample, LIMITS)
        warmup_s = time.perf_counter() - start
        facts = {
            "first_call_s": first_call_s,
            "warmup_s": warmup_s,
            "steady": warm.steady,
            "trend": warm.trend,
        }
        return facts, _call_seconds(sample) / block

    def _time(self, step: Step, once_s: float) -> Any:
        """By pytest-benchmark, told how often: it would calibrate on a single call, which anything may
        hold up."""
        run = step.run if step.clock is None else self._clock.own(step.clock)
        iterations = 1
        if step.reset is None and step.clock is None:
            shortest = max(self._clock.shortest_s(), self._option("min_time"))
            iterations = math.ceil(shortest / once_s)
        fit = math.ceil(self._option("max_time") / (once_s * iterations))
        rounds = max(int(self._option("min_rounds")), fit)
        return self._benchmark.pedantic(run, setup=step.reset, rounds=rounds, iterations=iterations)

    def _option(self, name: str) -> float:
        given = self._options.get(name, self._config.getoption(f"benchmark_{name}"))
        return float(given)

    def _refuse_elsewhere(self, result: Any) -> None:
        """What ran on another device was not waited for, and would stand under a name that is not its
        own. After a step on an accelerator, what lies on the host may have been copied there: noted."""
        for _, leaf in leaves(result):
            address = self.framework.address_of(leaf)
            if address is None or address == self.device.address:
                continue
            if self.device.is_cpu or not address.lower().startswith("cpu"):
                self._benchmark.has_error = True  # keeps it out of the file
                pytest.fail(
                    f"the step gave a tensor on {address}, and this is the test of "
                    f"{self.device.address}: put its tensors on `device`",
                    pytrace=False,
                )
            self.extra_info["result_on"] = f"{self.framework.name}:{address}"

    def _note(self, facts: Mapping[str, Any]) -> None:
        from devbench.stats.quality import judge  # scipy, which the gate's workers do not need

        stats = self._benchmark.stats
        told = {
            name: value
            for name, value in self._held.facts(self.device.id).items()
            if value is not None
        }
        measurement = Measurement(
            case_id=self._benchmark.fullname,
            round=0,
            status="ok",
            started_at="",
            clock_tick_s=sampling.clock_tick(),
            block=stats.iterations,
            samples=tuple(stats.stats.data),
            **facts,
        )
        quality, reasons = judge([measurement])
        self.extra_info.update(
            told,
            case_id=case_of(key_of(self._item), self.device).id,
            yardstick=facts["yardstick"],
            yardstick_s=facts["yardstick_s"],
            first_call_s=facts["first_call_s"],
            warmup_s=facts["warmup_s"],
            quality=quality,
            quality_reasons=list(reasons),
        )


def _call(reset: Callable[[], object]) -> None:
    """What a reset returns is nobody's: pytest-benchmark would take it for the step's arguments."""
    reset()


def _lay(yardstick: Yardstick) -> None:
    for _ in range(BURSTS):
        yardstick.burst()


def _call_seconds(call: Callable[[], Any]) -> float:
    """The median of a few; of long ones one is enough."""
    taken: list[float] = []
    while len(taken) < CALLS and sum(taken) < CALLS_S:
        taken.append(_seconds(call))
    return statistics.median(taken)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
