"""Looks at 8, 16, 32 and 64 pairs, against published boundaries and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from devbench.stats import verdicts
from devbench.stats.sequential import LOOKS, boundaries, level_at, levels
from devbench.stats.verdicts import ALPHA


@pytest.mark.parametrize(
    ("looks", "published"),
    [  # one-sided 0.025 at equal steps, as published for the first function of Lan and DeMets
        (2, (2.9626, 1.9686)),
        (4, (4.3326, 2.9631, 2.3590, 2.0141)),
        (5, (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
    ],
)
def test_boundaries_are_the_published_ones(looks: int, published: tuple[float, ...]) -> None:
    times = [look / looks for look in range(1, looks + 1)]
    spent = [2 * float(ndtr(ndtri(0.025 / 2) / math.sqrt(time))) for time in times]
    found = boundaries(times, spent)
    assert [-ndtri(level) for level in found] == pytest.approx(published, abs=2e-4)


def test_the_whole_error_is_spent_at_the_last_look_and_never_more() -> None:
    found = levels(ALPHA)
    assert list(found) == sorted(found)
    assert found[0] == pytest.approx(ALPHA * (LOOKS[0] / LOOKS[-1]) ** 3)
    assert 0.9 * ALPHA < found[-1] < ALPHA  # the last look costs hardly more than a single one


def first_alarm(
    logs: np.ndarray[tuple[int, ...], np.dtype[np.float64]], errors: tuple[float, ...]
) -> float:
    """The share of series that are called slower at any look."""
    alarmed = np.zeros(len(logs), bool)
    for pairs, error in zip(LOOKS, errors, strict=True):
        alarmed |= verdicts.p_above(*verdicts.paired_t(logs[:, :pairs]), 0.0) <= error
    return float(alarmed.mean())


@pytest.mark.parametrize("tails", ["normal", "student"])
def test_four_looks_together_are_wrong_no_more_often_than_said(tails: str) -> None:
    rng = np.random.default_rng(5)
    trials = 10_000
    size = (trials, LOOKS[-1])
    logs = rng.standard_normal(size) if tails == "normal" else rng.standard_t(3, size)
    for alpha in (0.025, ALPHA):
        allowed = float(stats.binom.ppf(0.999, trials, alpha)) / trials
        assert first_alarm(logs, levels(alpha)) <= allowed


def test_four_looks_at_the_error_of_one_would_cry_wolf() -> None:
    logs = np.random.default_rng(6).standard_normal((10_000, LOOKS[-1]))
    assert first_alarm(logs, (0.025,) * 4) > 1.8 * 0.025


def test_neighbouring_pairs_that_drift_together_are_what_the_promise_does_not_cover() -> None:
    """Pairs must be independent: an autocorrelation of 0.5 between them more than doubles the alarms.
    That is why each pair has fresh processes and the null comparison stands beside it."""
    logs = np.random.default_rng(7).standard_normal((5000, LOOKS[-1]))
    for place in range(1, LOOKS[-1]):
        logs[:, place] += 0.5 * logs[:, place - 1]
    assert first_alarm(logs, levels(0.025)) > 2 * 0.025


def test_a_slowdown_of_five_percent_is_decided_by_half_of_the_pairs() -> None:
    rng = np.random.default_rng(8)
    logs = math.log1p(0.05) + 0.012 * rng.standard_normal((200, LOOKS[-1]))
    half = [
        verdicts.judge(
            [verdicts.paired(row[:32].tolist())], level=lambda alpha: level_at(32, alpha)
        )[0]
        for row in logs
    ]
    assert np.mean([one.verdict == "regressed" for one in half]) > 0.97
