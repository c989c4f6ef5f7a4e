"""Change points of series whose changes are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri

from devbench.stats import changepoints
from devbench.stats.changepoints import FEWEST, FINEST, SHORTEST, find_changes

Floats = NDArray[np.float64]


def steps(rng: np.random.Generator, *levels: tuple[int, float], spread: float = 0.01) -> Floats:
    """Noise about levels, each given as how many figures it lasts and where it lies."""
    return np.concatenate([level + spread * rng.standard_normal(count) for count, level in levels])


def test_known_changes_are_found_where_they_are_and_no_others() -> None:
    rng = np.random.default_rng(0)
    series = [steps(rng, (40, 0.0), (30, 0.08), (50, 0.03), (20, 0.10)) for _ in range(100)]
    found = find_changes(series)
    right = [
        len(places) == 3
        and all(abs(a - b) <= 1 for a, b in zip(places, (40, 70, 120), strict=True))
        for places in found
    ]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize("count", [12, 40, 200])
@pytest.mark.parametrize("tails", ["normal", "student", "bursts"])
def test_series_without_a_change_have_none(count: int, tails: str) -> None:
    rng = np.random.default_rng(count)
    size = (200, count)
    draws = {
        "normal": rng.standard_normal(size),
        "student": rng.standard_t(3, size),
        "bursts": 0.3 * rng.standard_normal(size)
        + (rng.random(size) < 0.05) * rng.exponential(6, size),
    }
    found = find_changes(list(0.01 * draws[tails]))
    assert np.mean([bool(places) for places in found]) <= 0.04


def test_a_slow_wandering_is_hardly_taken_for_changes() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((200, 200))
    for place in range(1, 200):
        noise[:, place] += 0.3 * noise[:, place - 1]
    assert np.mean([bool(places) for places in find_changes(list(0.01 * noise))]) <= 0.06


@pytest.mark.parametrize("count", [1, 2])
def test_outliers_are_no_level(count: int) -> None:
    rng = np.random.default_rng(2)
    series = [steps(rng, (30, 0.0)) for _ in range(50)]
    for values in series:
        values[12 : 12 + count] += 1.0
    assert find_changes(series) == [[]] * 50


def test_the_last_runs_are_enough_where_the_change_is_clear() -> None:
    rng = np.random.default_rng(3)
    found = find_changes([steps(rng, (50, 0.0), (4, 0.06)) for _ in range(100)])
    assert np.mean([places == [50] or places == [51] for places in found]) > 0.95


def test_series_too_short_to_tell_are_left_alone() -> None:
    assert find_changes([np.array([0.0] * 2 + [9.0] * (FEWEST - 3)), np.empty(0)]) == [[], []]


def test_figures_that_never_vary_have_no_changes_but_a_step_among_them_is_one() -> None:
    assert find_changes([np.zeros(30)]) == [[]]
    assert find_changes([np.repeat([0.0, 0.01], 15)]) == [[15]]
    assert find_changes([np.repeat([0.0, FINEST], 15)]) == [[]]  # finer than any time is


def test_a_series_is_cut_the_same_whatever_it_is_cut_together_with() -> None:
    rng = np.random.default_rng(4)
    series = [steps(rng, (20 + 3 * k, 0.0), (15, 0.05)) for k in range(30)]
    assert find_changes(series) == [find_changes([values])[0] for values in series]
    assert find_changes(series[::-1]) == find_changes(series)[::-1]


def test_no_other_cut_is_cheaper() -> None:
    """Against all cuts of a short series, each counted by itself."""
    rng = np.random.default_rng(5)
    for _ in range(5):
        values = steps(rng, (5, 0.0), (4, 0.06), (4, -0.02))
        spread = changepoints.noise(values)
        pulled = changepoints.clipped(values - np.median(values), spread) / spread
        penalty = float(ndtri(changepoints.ALPHA / (2 * len(values)))) ** 2

        def cost(
            places: tuple[int, ...], pulled: Floats = pulled, penalty: float = penalty
        ) -> float:
            parts = np.split(pulled, places)
            if min(map(len, parts)) < SHORTEST:
                return np.inf
            squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
            return squares + penalty * len(places)

        cuts = [
            places
            for count in range(4)
            for places in itertools.combinations(range(1, len(values)), count)
        ]
        assert tuple(find_changes([values])[0]) == min(cuts, key=cost)
