from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from devbench.declare import Step
from devbench.errors import DeclarationError
from devbench.measure.sampling import (
    EVENT_BLOCK_MAX,
    EVENT_BLOCK_S,
    TICKS_A_SAMPLE,
    WAITS_A_SAMPLE,
    Limits,
    block_length,
    clock_tick,
    event_block_length,
    find_block,
    median_half_width,
    sampler,
    steady,
    take_samples,
    waiting_cost,
    warm_up,
)

LIMITS = Limits(warmup_s=1.0, share_s=0.6)


class Clock:
    """Time that passes only when somebody spends it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def sampling(self, seconds: Callable[[int], float]) -> Callable[[], Sequence[float]]:
        """A sampler whose sample number i takes `seconds(i)`."""
        count = itertools.count()

        def sample() -> Sequence[float]:
            taken = seconds(next(count))
            self.spend(taken)
            return (taken,)

        return sample


class FakeTimer:
    """Runs steps and reads the fake clock, adding what waiting for a device would cost."""

    name = "fake"

    def __init__(self, clock: Clock, wait_s: float = 0.0, per_step: bool = False) -> None:
        self.clock, self.wait_s, self.per_step = clock, wait_s, per_step
        self.resolution_s: float | None = None
        self.blocks: list[int] = []

    def __call__(self, run: Callable[[], Any], block: int) -> tuple[float, ...]:
        self.blocks.append(block)
        times = []
        for _ in range(block):
            start = self.clock()
            run()
            times.append(self.clock() - start)
        if self.per_step:
            return tuple(times)
        self.clock.spend(self.wait_s)
        return ((sum(times) + self.wait_s) / block,)


# ---- warm-up


def test_warm_up_ends_once_the_samples_no_longer_trend() -> None:
    clock = Clock()
    sample = clock.sampling(lambda i: 0.001 * (1 + 4 * math.exp(-i / 10)))
    warm = warm_up(sample, LIMITS, clock)
    assert warm.steady is True
    assert warm.trend is not None
    assert abs(warm.trend) <= 0.02
    assert warm.seconds < LIMITS.warmup_s
    assert sample()[0] == pytest.approx(0.001, rel=0.02)


def test_a_flat_step_is_warm_after_the_least_time_and_samples() -> None:
    clock = Clock()
    warm = warm_up(clock.sampling(lambda i: 0.0001), LIMITS, clock, min_s=0.03, min_samples=9)
    assert warm.steady is True
    assert warm.seconds == pytest.approx(0.03)
    slow = warm_up(clock.sampling(lambda i: 0.02), LIMITS, clock, min_s=0.03, min_samples=9)
    assert slow.steps == 9


def test_a_step_that_keeps_getting_slower_is_not_steady_and_says_by_how_much() -> None:
    clock = Clock()
    warm = warm_up(clock.sampling(lambda i: 0.001 * 1.01**i), LIMITS, clock)
    assert warm.steady is False
    assert warm.trend is not None
    assert warm.trend > 0.02
    assert warm.seconds == pytest.approx(LIMITS.warmup_s, rel=0.05)


def test_a_step_that_keeps_getting_faster_has_a_negative_trend() -> None:
    clock = Clock()
    warm = warm_up(clock.sampling(lambda i: 0.05 * (1 - 0.01 * i)), LIMITS, clock)
    assert warm.steady is False
    assert warm.trend is not None
    assert warm.trend < -0.02


def test_too_few_samples_before_the_bound_leave_steadiness_unknown() -> None:
    clock = Clock()
    warm = warm_up(clock.sampling(lambda i: 0.3), LIMITS, clock)
    assert (warm.steady, warm.trend, warm.steps) == (None, None, 4)


def test_a_flat_noisy_series_is_judged_steady() -> None:
    rng = random.Random(1)
    series = [[rng.lognormvariate(-7, 0.1) for _ in range(90)] for _ in range(500)]
    calm = sum(steady(samples)[0] for samples in series)
    assert calm >= 0.90 * len(series)


def test_a_flat_series_with_outliers_is_judged_steady() -> None:
    rng = random.Random(2)
    series = [
        [rng.gauss(1, 0.01) * (10 if rng.random() < 0.05 else 1) for _ in range(90)]
        for _ in range(300)
    ]
    assert sum(steady(samples)[0] for samples in series) >= 0.90 * len(series)


def test_a_drift_of_ten_percent_is_found() -> None:
    rng = random.Random(3)
    series = [
        [rng.gauss(1, 0.02) * (1 + 0.1 * max(0, i - 30) / 30) for i in range(90)]
        for _ in range(300)
    ]
    found = [steady(samples) for samples in series]
    assert sum(not calm for calm, _ in found) >= 0.99 * len(series)
    assert all(0.05 < trend < 0.15 for _, trend in found)


def test_a_clock_that_reads_zero_does_not_divide_by_it() -> None:
    assert steady([0.0] * 9) == (True, 0.0)


# ---- blocks


@pytest.mark.parametrize("step_s", [0.0, 1e-9, 2e-7, 3e-6, 4.99e-5, 5e-5, 1e-3, 10.0])
@pytest.mark.parametrize("wait_s", [0.0, 1e-5])
def test_a_block_is_just_long_enough_for_the_tick_and_the_waiting(
    step_s: float, wait_s: float
) -> None:
    tick_s = 5e-8
    block = block_length(step_s, tick_s, wait_s)
    shortest = max(TICKS_A_SAMPLE * tick_s, WAITS_A_SAMPLE * wait_s)
    step_s = max(step_s, 1e-9)
    assert block * step_s >= shortest * (1 - 1e-12)
    assert block == 1 or (block - 1) * step_s < shortest


@pytest.mark.parametrize("step_s", [0.0, 1e-6, 1e-4, 1e-3, 0.019, 0.021, 10.0])
def test_queued_events_fill_their_time_but_stay_bounded(step_s: float) -> None:
    block = event_block_length(step_s)
    assert 1 <= block <= EVENT_BLOCK_MAX
    assert block == EVENT_BLOCK_MAX or block * step_s >= EVENT_BLOCK_S
    assert block == 1 or (block - 1) * step_s < EVENT_BLOCK_S


@pytest.mark.parametrize(("alone_s", "more_s"), [(8e-7, 2e-7), (5e-5, 1e-6), (2e-7, 2e-7)])
def test_a_step_that_costs_more_alone_than_in_a_row_still_gets_a_block_that_is_long_enough(
    alone_s: float, more_s: float
) -> None:
    clock, tick_s = Clock(), 4e-8

    class Cold(FakeTimer):
        """The first step of a block finds nothing in the caches."""

        def __call__(self, run: Callable[[], Any], block: int) -> tuple[float, ...]:
            self.cold = True
            return super().__call__(run, block)

    timer = Cold(clock)

    def run() -> None:
        clock.spend(alone_s if timer.cold else more_s)
        timer.cold = False

    block = find_block(timer, run, tick_s)
    sample_s = block * timer(run, block)[0]
    assert sample_s >= 0.79 * TICKS_A_SAMPLE * tick_s
    assert sample_s <= 2 * TICKS_A_SAMPLE * tick_s + alone_s


def test_a_step_that_is_long_enough_is_timed_alone_and_twice_only() -> None:
    clock = Clock()
    timer = FakeTimer(clock)
    calls: list[int] = []

    def run() -> None:
        calls.append(1)
        clock.spend(0.5)

    assert find_block(timer, run, 4e-8) == 1
    assert len(calls) == 2


def test_a_clock_that_reads_zero_does_not_make_blocks_grow_for_ever() -> None:
    assert find_block(FakeTimer(Clock()), lambda: None, 4e-8) == 40_000
    assert find_block(FakeTimer(Clock(), per_step=True), lambda: None, 4e-8) == EVENT_BLOCK_MAX


def test_the_tick_is_the_smallest_step_that_the_clock_shows() -> None:
    readings = (1000 + 50 * (i // 3) for i in itertools.count())
    assert clock_tick(lambda: next(readings), tries=20) == pytest.approx(50e-9)


def test_the_waiting_cost_is_what_an_empty_step_takes() -> None:
    assert waiting_cost(FakeTimer(Clock(), wait_s=1e-5)) == pytest.approx(1e-5)
    assert waiting_cost(FakeTimer(Clock())) == 0


# ---- when to stop


def test_sampling_ends_early_once_the_median_is_precise() -> None:
    clock = Clock()
    start = clock()
    taken = take_samples(clock.sampling(lambda i: 0.001), LIMITS, clock)
    assert median_half_width(taken) <= LIMITS.precision
    assert LIMITS.share_s / 4 <= clock() - start < LIMITS.share_s / 2


def test_sampling_of_a_noisy_step_ends_with_its_share_of_time() -> None:
    clock, rng = Clock(), random.Random(4)
    start = clock()
    taken = take_samples(clock.sampling(lambda i: rng.uniform(0.001, 0.01)), LIMITS, clock)
    assert median_half_width(taken) > LIMITS.precision
    assert clock() - start == pytest.approx(LIMITS.share_s, abs=0.01)


def test_every_sample_that_was_taken_is_kept() -> None:
    clock = Clock()
    given_out: list[float] = []
    inner = clock.sampling(lambda i: 0.01 * (1 + 9 * (i % 7 == 0)))

    def sample() -> Sequence[float]:
        values = inner()
        given_out.extend(values)
        return values

    assert take_samples(sample, LIMITS, clock) == given_out


def test_the_least_number_of_samples_is_taken_beyond_the_share() -> None:
    clock = Clock()
    taken = take_samples(clock.sampling(lambda i: 0.5), LIMITS, clock)
    assert len(taken) == LIMITS.min_samples


@pytest.mark.parametrize(("step_s", "samples"), [(10.0, 2), (4.0, 4), (3.0, 5), (100.0, 2)])
def test_a_very_slow_step_ends_after_few_samples(step_s: float, samples: int) -> None:
    clock = Clock()
    assert len(take_samples(clock.sampling(lambda i: step_s), LIMITS, clock)) == samples


@pytest.mark.parametrize("count", [6, 7, 8, 9, 10, 11, 12, 13, 17, 25, 50, 99, 100, 401, 1000])
def test_the_stopping_interval_covers_the_median_as_the_binomial_says(count: int) -> None:
    """Samples 1 … n tell which ranks the interval reaches; the binomial tells what those cover."""
    width = median_half_width([float(rank) for rank in range(1, count + 1)])
    span = round(width * 2 * (count + 1) / 2)  # upper rank less lower rank
    covers = max(
        binom.cdf(low + span - 1, count, 0.5) - binom.cdf(low - 1, count, 0.5)
        for low in range(1, count - span + 1)
    )
    assert covers >= 0.95
    if count >= 50:  # small counts have few ranks to choose from
        assert covers <= 0.98


@pytest.mark.parametrize("count", [6, 9, 20, 45])
def test_the_stopping_interval_contains_the_median_of_skewed_samples(count: int) -> None:
    rng = random.Random(count)
    held = 0
    for _ in range(1500):
        samples = sorted(rng.expovariate(1) for _ in range(count))
        reach = 0.98 * math.sqrt(count)
        low = samples[max(0, math.floor(count / 2 - reach))]
        high = samples[min(count - 1, math.ceil(count / 2 + reach))]
        middle = (samples[(count - 1) // 2] + samples[count // 2]) / 2
        assert median_half_width(samples) == pytest.approx((high - low) / 2 / middle)
        held += low <= math.log(2) <= high
    assert held >= 0.935 * 1500


@given(st.lists(st.floats(1e-9, 1e3), max_size=40), st.randoms(use_true_random=False))
def test_the_stopping_interval_ignores_the_order_of_the_samples(
    samples: list[float], rng: random.Random
) -> None:
    shuffled = list(samples)
    rng.shuffle(shuffled)
    assert median_half_width(shuffled) == median_half_width(samples)
    assert len(samples) >= 5 or median_half_width(samples) == math.inf


def test_a_median_of_zero_is_never_precise() -> None:
    assert median_half_width([0.0] * 20) == math.inf


# ---- samplers


def test_a_plain_step_is_timed_in_blocks() -> None:
    clock = Clock()
    timer = FakeTimer(clock, wait_s=0.001)
    sample = sampler(Step(run=lambda: clock.spend(0.01)), timer, 10)
    assert sample() == pytest.approx((0.0101,))
    assert timer.blocks == [10]


def test_device_events_give_one_sample_a_step() -> None:
    clock = Clock()
    sample = sampler(Step(run=lambda: clock.spend(0.01)), FakeTimer(clock, per_step=True), 4)
    assert sample() == pytest.approx((0.01,) * 4)


def test_reset_runs_before_each_step_and_is_not_timed() -> None:
    clock = Clock()
    log: list[str] = []

    def reset() -> None:
        log.append("reset")
        clock.spend(5.0)

    def run() -> None:
        log.append("run")
        clock.spend(0.01)

    sample = sampler(Step(run=run, reset=reset), FakeTimer(clock), 8)
    assert [*sample(), *sample()] == pytest.approx([0.01, 0.01])
    assert log == ["reset", "run", "reset", "run"]


def test_a_step_with_its_own_clock_is_not_timed_by_ours() -> None:
    clock = Clock()
    timer = FakeTimer(clock)

    def run() -> None:
        raise AssertionError("the clock runs the step, not the sampler")

    sample = sampler(Step(run=run, clock=lambda: 0.25), timer, 8)
    assert sample() == (0.25,)
    assert timer.blocks == []


def test_a_step_with_its_own_clock_is_reset_before_each_sample_too() -> None:
    """Cold caches are made by the reset."""
    log: list[str] = []

    def clock() -> float:
        log.append("clock")
        return 0.25

    step = Step(run=lambda: None, clock=clock, reset=lambda: log.append("reset"))
    sample = sampler(step, FakeTimer(Clock()), 1)
    assert [*sample(), *sample()] == [0.25, 0.25]
    assert log == ["reset", "clock", "reset", "clock"]


@pytest.mark.parametrize("answer", [0.0, -1.0, math.nan, math.inf])
def test_a_step_whose_own_clock_gives_no_duration_is_refused(answer: float) -> None:
    step = Step(run=lambda: None, clock=lambda: answer)
    sample = sampler(step, FakeTimer(Clock()), 1, where="suite.py:7")
    with pytest.raises(DeclarationError, match=r"^suite\.py:7: the step's clock says"):
        sample()
