from __future__ import annotations

from typing import Any

import pytest

from devbench.model import REASONS, Case, Measurement, Target, Work
from devbench.prune import reason_to_skip
from devbench.settings import Settings

CPU = Target("torch", ("cpu",))
SETTINGS = Settings(step_s=5.0, case_timeout_s=300.0)


def case(n: int, target: Target = CPU, dtype: str = "float16", **work: float) -> Case:
    declared: dict[str, Any] = work or {"flops": 2 * n**3, "footprint": 6 * n * n}
    return Case("linear", "gemm", (("n", n), ("dtype", dtype)), target, Work(**declared))


SMALL, MIDDLE, LARGE = case(512), case(1024), case(2048)
CASES = (SMALL, MIDDLE, LARGE)


def visited(of: Case, seconds: float | None = None, **changes: Any) -> dict[str, Measurement]:
    fields: dict[str, Any] = {"status": "ok", "samples": () if seconds is None else (seconds,) * 3}
    measurement = Measurement(
        case_id=of.id, round=0, started_at="2026-01-31T12:00:00.000+00:00", **(fields | changes)
    )
    return {of.id: measurement}


def skip(
    of: Case,
    first_round: dict[str, Measurement],
    size: str | None = "n",
    cases: tuple[Case, ...] = CASES,
    free: int | None = None,
) -> tuple[str, str] | None:
    found = reason_to_skip(of, size, cases, first_round, free, SETTINGS)
    assert found is None or found[0] in REASONS
    return found


# ---- too slow


def test_a_slow_case_is_predicted_from_its_operations_with_the_figures() -> None:
    assert skip(LARGE, visited(MIDDLE, 7.9)) == (
        "too-slow",
        "a step would take 63.2 s, predicted from 7.9 s at n=1024; the limit is 5 s",
    )


def test_samples_that_a_neighbour_held_up_cost_no_larger_size_its_measurement() -> None:
    """A product of 32 × 32 once took 16 ms in the median, and 2 µs where it was left alone."""
    disturbed = visited(MIDDLE, samples=(2.0, 2.0, 0.5))
    assert reason_to_skip(LARGE, "n", CASES, disturbed, None, SETTINGS) is None


def test_a_case_at_the_limit_is_measured() -> None:
    assert skip(LARGE, visited(MIDDLE, 0.625)) is None
    assert skip(LARGE, visited(MIDDLE, 0.626)) is not None


def test_the_largest_size_that_was_measured_predicts() -> None:
    first = visited(SMALL, 1.0) | visited(MIDDLE, 0.5)
    assert skip(LARGE, first) is None
    assert skip(LARGE, visited(SMALL, 1.0)) is not None


def test_a_size_that_was_skipped_as_too_slow_does_not_hide_the_one_that_predicts() -> None:
    first = visited(SMALL, 1.0) | visited(MIDDLE, status="skipped", reason="too-slow")
    found = skip(LARGE, first)
    assert found is not None
    assert "predicted from 1 s at n=512" in found[1]


@pytest.mark.parametrize(
    ("small", "large", "predicted"),
    [
        ({"flops": 100.0}, {"flops": 800.0}, "16 s"),
        ({"bytes": 100.0}, {"bytes": 400.0}, "8 s"),
        ({"flops": 0.0, "bytes": 100.0}, {"flops": 0.0, "bytes": 500.0}, "10 s"),
        ({"items": 5.0}, {"items": 5.0}, "6 s"),
    ],
)
def test_growth_is_that_of_flops_else_of_bytes_else_of_the_size(
    small: dict[str, float], large: dict[str, float], predicted: str
) -> None:
    cases = case(100, CPU, "float16", **small), case(300, CPU, "float16", **large)
    found = skip(cases[1], visited(cases[0], 2.0), cases=cases)
    assert found is not None
    assert f"a step would take {predicted}, predicted from 2 s at n=100" in found[1]


def test_a_larger_size_a_case_of_another_series_and_itself_predict_nothing() -> None:
    other_dtype = case(512, dtype="float32")
    other_target = case(512, Target("torch", ("cuda:0",)))
    cases = (*CASES, other_dtype, other_target)
    first = visited(other_dtype, 99.0) | visited(other_target, 99.0) | visited(LARGE, 99.0)
    assert skip(MIDDLE, first | visited(MIDDLE, 99.0), cases=cases) is None


def test_without_a_size_axis_nothing_is_predicted() -> None:
    first = visited(MIDDLE, 99.0) | visited(SMALL, status="oom")
    assert skip(LARGE, first, size=None) is None


def test_the_first_of_a_series_is_measured() -> None:
    assert skip(SMALL, {}) is None


def test_numbers_are_compared_as_numbers() -> None:
    cases = case(9), case(10)
    found = skip(cases[1], visited(cases[0], 10.0), cases=cases)
    assert found is not None
    assert skip(cases[0], visited(cases[1], 10.0), cases=cases) is None


# ---- after a smaller one failed


def test_what_is_larger_than_what_ran_out_of_memory_is_skipped() -> None:
    first = visited(SMALL, status="oom", reason="out-of-memory")
    assert skip(MIDDLE, first) == ("after-oom", "n=512 ran out of memory")
    first |= visited(MIDDLE, status="skipped", reason="after-oom")
    assert skip(LARGE, first) == ("after-oom", "n=512 ran out of memory")


def test_memory_that_ran_out_on_another_target_says_nothing() -> None:
    gpu = case(512, Target("torch", ("cuda:0",)))
    assert skip(MIDDLE, visited(gpu, status="oom"), cases=(*CASES, gpu)) is None


def test_what_is_larger_than_what_timed_out_is_too_slow() -> None:
    first = visited(SMALL, status="timeout", reason="case-timeout")
    assert skip(MIDDLE, first) == ("too-slow", "n=512 was ended after 300 s")


@pytest.mark.parametrize("status", ["failed", "crashed", "skipped"])
def test_a_smaller_case_that_failed_otherwise_does_not_prevent_a_larger(status: str) -> None:
    assert skip(MIDDLE, visited(SMALL, status=status, reason="error")) is None


# ---- memory


def test_what_does_not_fit_is_skipped_with_both_figures() -> None:
    large = case(2048, footprint=24e9)
    assert skip(large, {}, free=8_000_000_000) == ("does-not-fit", "needs 24 GB and 8 GB are free")


def test_a_case_that_two_devices_hold_together_is_measured() -> None:
    both = case(1, Target("torch", ("cuda:0", "cuda:1")), footprint=12e9)
    assert skip(both, {}, free=10_000_000_000) is None
    assert skip(both, {}, free=5_000_000_000) == (
        "does-not-fit",
        "needs 6 GB on each of 2 devices and 5 GB are free",
    )


def test_what_fits_just_so_is_measured() -> None:
    assert skip(case(1, footprint=1000), {}, free=1000) is None


def test_without_a_footprint_or_without_knowledge_of_memory_nothing_is_skipped() -> None:
    assert skip(case(1, flops=1), {}, free=0) is None
    assert skip(case(1, footprint=1e30), {}, free=None) is None


def test_memory_is_checked_for_benchmarks_without_a_size_axis_too() -> None:
    found = skip(case(1, footprint=2e9), {}, size=None, free=10**9)
    assert found is not None
    assert found[0] == "does-not-fit"


def test_a_step_of_less_than_a_millisecond_is_taken_for_overhead() -> None:
    tiny, huge = case(32), case(2048)
    assert skip(huge, visited(tiny, 0.0009), cases=(tiny, huge)) is None
    assert skip(huge, visited(tiny, 0.0011), cases=(tiny, huge)) is not None


def test_even_a_tiny_step_predicts_what_is_absurd() -> None:
    tiny, absurd = case(1), case(20_000)
    assert skip(absurd, visited(tiny, 1e-6), cases=(tiny, absurd)) is not None


def test_work_that_stays_at_nothing_does_not_grow() -> None:
    small, large = case(1, flops=0.0, bytes=0.0), case(10**6, flops=0.0, bytes=0.0)
    assert skip(large, visited(small, 0.01), cases=(small, large)) is None
