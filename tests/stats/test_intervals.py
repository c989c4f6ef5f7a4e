from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from devbench.stats.intervals import log_t_interval

DURATIONS = st.lists(st.floats(1e-7, 1e3), min_size=2, max_size=20)


@given(DURATIONS, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_student_s_on_the_logs(medians: list[float], confidence: float) -> None:
    logs = np.log(medians)
    spread = logs.std(ddof=1) / np.sqrt(logs.size)
    if spread > 20:
        return  # the ends would leave the range of numbers; such rounds do not exist
    low, high = logs.mean(), logs.mean()
    if spread > 0:
        low, high = stats.t.interval(confidence, logs.size - 1, logs.mean(), spread)
    if max(abs(low), abs(high)) < 700:
        assert log_t_interval(medians, confidence) == pytest.approx((np.exp(low), np.exp(high)))


def test_one_round_says_nothing_about_the_next_process() -> None:
    assert log_t_interval([]) is None
    assert log_t_interval([0.5]) is None


def test_a_round_that_read_zero_gives_no_interval() -> None:
    assert log_t_interval([0.5, 0.0, 0.5]) is None


def test_equal_rounds_give_an_interval_without_width() -> None:
    assert log_t_interval([0.5, 0.5, 0.5]) == pytest.approx((0.5, 0.5))


@given(st.lists(st.floats(1e-6, 10), min_size=2, max_size=8), st.floats(1e-3, 1e3))
def test_the_interval_scales_with_the_unit_of_time(medians: list[float], factor: float) -> None:
    interval = log_t_interval(medians)
    scaled = log_t_interval([median * factor for median in medians])
    assert interval is not None
    assert scaled is not None
    assert np.log(scaled) == pytest.approx(np.log(interval) + np.log(factor), abs=1e-6)


@pytest.mark.parametrize("rounds", [2, 3, 5, 15])
def test_the_interval_covers_the_truth_over_processes_with_autocorrelated_samples(
    rounds: int,
) -> None:
    """Processes differ by 12 %, and samples inside one follow each other: the unit is the round."""
    rng = np.random.default_rng(rounds)
    trials, samples, stickiness = 4000, 40, 0.9
    process = 0.12 * rng.standard_normal((trials, rounds, 1))
    within = np.empty((trials, rounds, samples))
    within[..., 0] = rng.standard_normal((trials, rounds))
    for i in range(1, samples):
        fresh = rng.standard_normal((trials, rounds))
        within[..., i] = stickiness * within[..., i - 1] + np.sqrt(1 - stickiness**2) * fresh
    medians = np.median(np.exp(np.log(0.01) + process + 0.05 * within), axis=-1)
    intervals = np.array([log_t_interval(row.tolist()) for row in medians])
    covered = np.mean((intervals[:, 0] <= 0.01) & (intervals[:, 1] >= 0.01))
    assert 0.94 <= covered <= 0.96


def test_pooled_samples_would_not_cover_the_truth() -> None:
    """Why samples of one process are not taken as independent."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        process = 0.12 * rng.standard_normal((5, 1))
        pooled = np.exp(process + 0.05 * rng.standard_normal((5, 40))).ravel()
        interval = log_t_interval(pooled.tolist())
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert covered < 0.5 * 300
