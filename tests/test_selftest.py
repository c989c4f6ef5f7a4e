from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from devbench import timing
from devbench.frameworks import base
from devbench.frameworks.base import Framework, WallTimer
from devbench.measure import known
from devbench.model import Target
from devbench.selftest import Host, error_bar, framework_checks, judge, median_interval
from tests.helpers import PLUGINS, DevBench
from tests.plugins.devbench_fake import FakeFramework


class Machine:
    """A simulated one, whose time passes when a clock is read or work is done.

    noise: relative scatter of the work, and neighbours that take the CPU away for a millisecond.
    """

    READING_NS = 250

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        self.now_ns = 0
        self._noise = noise
        self._random = random.Random(seed)
        self._disturbed_ns = self._next()

    def _next(self) -> float:
        return math.inf if not self._noise else self.now_ns + self._random.expovariate(1 / 3e6)

    def _pass(self, ns: int) -> None:
        self.now_ns += ns
        if self.now_ns >= self._disturbed_ns:
            self.now_ns += round(self._random.expovariate(1 / 1e6))
            self._disturbed_ns = self._next()

    def clock(self) -> int:
        self._pass(self.READING_NS)
        return self.now_ns

    def work(self, units: int) -> None:
        self._pass(round(500 * units * self._random.lognormvariate(0, self._noise)))

    def host(self, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], int]) -> Host:
        """The self-test of the real WallTimer reading `clock`."""
        clocks = SimpleNamespace(perf_counter_ns=clock, perf_counter=lambda: clock() * 1e-9)
        monkeypatch.setattr(base, "time", clocks)
        monkeypatch.setattr(timing, "clocks", clocks)  # devbench.time, which takes the first call
        return Host(
            timer=WallTimer(None, "simulated"),
            clock=clock,
            truth=self.clock,
            work=self.work,
            seconds=0.02,
        )


def verdicts(host: Host) -> dict[str, str]:
    return {check.name: check.verdict for group in host.checks() for check in group}


def double_speed_for_long_steps(machine: Machine) -> Callable[[], int]:
    """Counts twice what passed since it was last read, where that was more than a millisecond."""
    last, shown = machine.clock(), 0

    def clock() -> int:
        nonlocal last, shown
        now = machine.clock()
        passed, last = now - last, now
        shown += 2 * passed if passed > 1_000_000 else passed
        return shown

    return clock


def ticks_of_a_millisecond(machine: Machine) -> Callable[[], int]:
    return lambda: machine.clock() // 1_000_000 * 1_000_000


def slow_to_read(machine: Machine) -> Callable[[], int]:
    def clock() -> int:
        machine.now_ns += 5_000
        return machine.clock()

    return clock


def test_an_honest_clock_on_a_quiet_machine_passes_every_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    found = verdicts(machine.host(monkeypatch, machine.clock))
    assert set(found.values()) == {"holds"}, found
    assert len(found) == 12


@pytest.mark.parametrize(
    ("lie", "caught"),
    [
        (double_speed_for_long_steps, {"spin of 2 ms", "spin of 20 ms", "block of 64 to 1"}),
        (
            ticks_of_a_millisecond,
            {"clock tick", "spin of 20 µs", "spin of 200 µs"},
        ),
        (slow_to_read, {"clock tick", "empty step", "spin of 20 µs"}),
    ],
)
def test_a_lying_clock_is_broken(
    lie: Callable[[Machine], Callable[[], int]], caught: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    found = verdicts(machine.host(monkeypatch, lie(machine)))
    broken = {name for name, verdict in found.items() if verdict == "broken"}
    assert caught <= broken, found


def test_a_lying_clock_is_broken_amid_noise_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(noise=0.1)
    found = verdicts(machine.host(monkeypatch, double_speed_for_long_steps(machine)))
    assert found["spin of 20 ms"] == "broken"


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_noise_alone_breaks_nothing(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        machine = Machine(noise, seed)
        found = verdicts(machine.host(monkeypatch, machine.clock))
        assert "broken" not in found.values(), found


def test_great_noise_is_said_to_hide_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(noise=1.0)
    check = machine.host(monkeypatch, machine.clock).twice()
    assert check.verdict == "cannot tell"
    assert "too noisy just now to tell whether twice the work" in check.meaning


def test_a_ruler_that_takes_a_trend_for_steady_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()

    class Blind(WallTimer):
        def __call__(self, run: Callable[[], object], block: int) -> tuple[float, ...]:
            run()
            return (1e-3,)

    host = machine.host(monkeypatch, machine.clock)
    blind = Host(
        timer=Blind(None, "always the same"),
        clock=host.clock,
        truth=host.truth,
        work=host.work,
        seconds=host.seconds,
    )
    assert blind.trend().verdict == "broken"


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([(0.99, 1.01), (0.98, 1.0)], "holds"),
        ([(0.99, 1.01), (0.8, 1.2)], "holds"),
        ([(0.8, 1.2), (0.8, 1.2)], "cannot tell"),
        ([(0.99, 1.01), (1.2, 1.3)], "cannot tell"),
        ([(1.2, 1.3), (0.8, 1.2)], "cannot tell"),
        ([(1.2, 1.3), (0.7, 0.8)], "cannot tell"),
        ([(1.2, 1.3)], "cannot tell"),
        ([(1.2, 1.3), (1.1, 1.15)], "broken"),
        ([(0.7, 0.8), (0.6, 0.9)], "broken"),
    ],
)
def test_only_two_intervals_outside_on_one_side_are_broken(
    intervals: Sequence[tuple[float, float]], verdict: str
) -> None:
    assert judge(intervals, 0.95, 1.05) == verdict


@pytest.mark.parametrize("count", [8, 15, 60, 201])
def test_the_interval_of_the_median_covers_it_as_often_as_it_says(count: int) -> None:
    draw = random.Random(count)
    trials, missed = 2000, 0
    for _ in range(trials):
        low, high = median_interval([draw.expovariate(math.log(2)) for _ in range(count)])
        missed += not low <= 1.0 <= high
    assert missed / trials < 0.02  # 1 % at most; 0.02 is 4.5 standard errors above


def test_too_few_values_have_no_interval() -> None:
    assert median_interval([1.0] * 7) == (-math.inf, math.inf)


def test_even_the_shortest_check_takes_enough_readings_for_an_interval() -> None:
    fewest = known.rounds_in(seconds=0.001, each_s=1.0)
    assert median_interval(list(map(float, range(fewest)))) == (0.0, fewest - 1)


def test_the_error_bar_is_the_t_interval_of_two_cases_of_a_run() -> None:
    """METHOD: medians that vary by 12 % leave ±27 % to three rounds a side."""
    medians = [math.exp(0.12 * sign) for sign in (-1, 1)]  # standard deviation 0.12·√2
    bar = error_bar(medians, rounds=3)
    assert bar.spread == pytest.approx(0.12 * math.sqrt(2))
    assert math.log1p(bar.smallest_difference) == pytest.approx(0.272 * math.sqrt(2), rel=1e-2)


def test_readings_are_taken_in_turn_and_back() -> None:
    order: list[str] = []

    def reading(name: str) -> Callable[[], float]:
        def read() -> float:
            order.append(name)
            return float(ord(name))

        return read

    rounds = list(known.interleave([reading(name) for name in "abc"], 2))
    assert "".join(order) == "abccba"
    assert rounds == [tuple(map(float, b"abc"))] * 2


def test_a_spin_tells_what_it_really_lasted() -> None:
    machine = Machine(noise=0.1)
    spin = known.Spin(1e-3, machine.clock)
    start = machine.now_ns
    for _ in range(10):
        spin()
    assert spin.spent_ns == pytest.approx(machine.now_ns - start, abs=10 * Machine.READING_NS)
    assert spin.spent_ns >= 10 * 1_000_000


def test_the_selftest_of_this_machine_finds_nothing_broken(devbench_cli: DevBench) -> None:
    """With every framework that is installed, and the fake one."""
    done = devbench_cli("selftest", "--json", timeout=600)
    answer = json.loads(done.stdout)
    assert [check for check in answer["checks"] if check["verdict"] == "broken"] == []
    assert done.returncode == 0, done.stderr
    assert answer["broken"] is False
    places = {check["where"] for check in answer["checks"]}
    assert {"host", "fake:cpu"} <= places
    assert answer["error_bar"]["spread"] > 0
    assert answer["error_bar"]["smallest_difference"] > answer["error_bar"]["spread"]
    assert len(answer["error_bar"]["medians"]) == 8


def test_a_framework_that_does_not_start_is_not_tested_and_nothing_is_broken() -> None:
    class Fails(FakeFramework):
        def environment(self, target: Target | None, threads: int) -> dict[str, str]:
            return {"PYTHONPATH": str(PLUGINS), "FAKE_START_FAILS": "libfake.so is missing"}

    [check] = framework_checks("fake", cast(Framework, Fails()), seconds=0.01)
    assert check.verdict == "cannot tell"
    assert "libfake.so is missing" in check.meaning
