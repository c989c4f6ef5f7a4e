from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devbench.measure.sampling import BESIDE_EVERY, Limits, take_samples
from devbench.measure.yardstick import Yardsticks
from devbench.model import Work
from tests.measure.test_sampling import Clock
from tests.plugins.devbench_fake import FakeFramework

CACHE = 1 << 16


@pytest.fixture
def yardsticks() -> Yardsticks:
    return Yardsticks(FakeFramework(), "cpu", CACHE)


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (Work(), "gemm"),
        (Work(flops=1e9, bytes=1e7), "gemm"),
        (Work(flops=1e7, bytes=1e7), "copy"),
        (Work(bytes=2 * CACHE), "copy"),
        (Work(bytes=CACHE), "gemm"),  # stays in the cache
    ],
)
def test_a_case_that_waits_for_memory_gets_a_yardstick_that_does(
    yardsticks: Yardsticks, work: Work, kind: str
) -> None:
    assert yardsticks.beside(work).name.startswith(kind)


def test_a_yardstick_is_made_once_and_forgets_the_last_case(yardsticks: Yardsticks) -> None:
    first = yardsticks.beside(Work())
    assert yardsticks.beside(Work(flops=1)) is first
    first.burst()
    taken = first.take()
    assert taken is not None
    assert taken > 0
    assert first.take() is None


def sampled(step_s: float, burst_s: float = 0.002) -> tuple[str, list[float]]:
    """What happened in which order (``s`` a sample, ``b`` a burst), and the samples."""
    clock, happened = Clock(), []
    inner = clock.sampling(lambda i: step_s * (1 + 0.5 * (i % 2)))

    def noting(letter: str, act: Callable[[], Any]) -> Callable[[], Any]:
        def noted() -> Any:
            happened.append(letter)
            return act()

        return noted

    limits = Limits(warmup_s=1.0, share_s=1.0, precision=0.0)
    sample: Callable[[], Sequence[float]] = noting("s", inner)
    taken = take_samples(sample, limits, clock, noting("b", lambda: clock.spend(burst_s)))
    return "".join(happened), taken


def test_the_yardstick_is_laid_at_both_ends_and_ten_times_a_second() -> None:
    happened, taken = sampled(0.001)
    assert happened[0] == happened[-1] == "b"
    assert 9 <= happened.count("b") <= 12
    assert happened.count("s") == len(taken)


def test_few_samples_follow_a_yardstick_directly() -> None:
    happened, _ = sampled(0.08)
    assert all(len(run) >= BESIDE_EVERY for run in happened.strip("b").split("b")[:-1])
