from __future__ import annotations

from dataclasses import replace

import pytest

from devbench.measure.ceilings import Ceilings, Gemm
from devbench.model import Work
from devbench.stats.roofline import Position, best, locate

CEILINGS = Ceilings(
    gemm={"float32": Gemm(1024, burst=100e9, typical=95e9, sustained=90e9)},
    copy=10e9,
    triad=8e9,
    cached_copy=50e9,
    dispatch_s=1e-6,
    cache_bytes=1 << 20,
    transfers={"h2d": 2e9, "h2d_pinned": 5e9},
)


def place(work: Work, seconds: float, dtype: str = "float32") -> Position:
    return locate(work, seconds, dtype, CEILINGS, {"float32": 200e9}, 20e9)


@pytest.mark.parametrize(
    ("work", "bound", "least_s"),
    [
        (Work(flops=1e9, bytes=1e6, footprint=1e9), "compute", 0.01),
        (Work(flops=1e6, bytes=1e8, footprint=1e8), "memory", 0.01),
        (Work(bytes=1e5, footprint=1e5), "memory", 2e-6),  # stays in the cache
        (Work(flops=10, bytes=10, footprint=10), "dispatch", 1e-6),
        (Work(bytes=1e8, over="h2d"), "link", 0.05),
        (Work(bytes=1e8, over="h2d_pinned"), "link", 0.02),
    ],
)
def test_what_takes_longest_at_its_ceiling_is_the_bound(
    work: Work, bound: str, least_s: float
) -> None:
    found = place(work, 2 * least_s)
    assert found.bound == bound
    assert found.ceiling_fraction == pytest.approx(0.5)


@pytest.mark.parametrize(
    "work",
    [
        Work(bytes=1e8, over="elsewhere"),
        Work(bytes=1e8, over="d2h"),
        Work(),
        Work(bytes=0, footprint=1e6),  # a view, which launches nothing
        Work(flops=0),
    ],
)
def test_nothing_is_said_where_the_ceiling_that_it_needs_was_not_measured(work: Work) -> None:
    assert place(work, 1.0) == Position()


def test_a_clock_that_read_zero_divides_nothing() -> None:
    assert place(Work(flops=1e9, bytes=1e6, footprint=1e9), 0.0) == Position()


def test_a_dtype_without_a_ceiling_has_no_place() -> None:
    assert place(Work(flops=1e9), 1.0, "int8") == Position()


def test_the_datasheet_is_held_against_what_limits_the_case() -> None:
    assert place(Work(flops=1e9), 0.02).peak_fraction == pytest.approx(0.25)
    assert place(Work(bytes=1e8, footprint=1e8), 0.02).peak_fraction == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("share", "bandwidth", "has_peak"),
    [(0.3, 50e9, False), (0.8, 50e9, False), (1.9, 50e9, False), (3, 10e9, False), (5, 10e9, True)],
)
def test_what_may_lie_in_the_cache_is_not_held_against_the_memory(
    share: float, bandwidth: float, has_peak: bool
) -> None:
    held = share * (1 << 20)
    found = place(Work(bytes=held, footprint=held), 2 * held / bandwidth)
    assert found.bound == "memory"
    assert found.ceiling_fraction == pytest.approx(0.5)
    assert (found.peak_fraction is not None) == has_peak


def test_a_framework_that_supposes_a_large_cache_widens_nobody_s() -> None:
    supposes = replace(CEILINGS, cache_bytes=64 << 20, cached_copy=90e9)
    assert best([CEILINGS], supposes).cache_bytes == 1 << 20
    assert best([supposes], CEILINGS).cache_bytes == 1 << 20
    assert best([], replace(CEILINGS, cache_bytes=None)).cache_bytes is None
