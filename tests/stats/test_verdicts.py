"""Verdicts of series whose answer is known, and the errors that they are promised to keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from devbench.stats import verdicts
from devbench.stats.verdicts import ALPHA, FAMILY, Estimate, judge, paired, unpaired

Floats = NDArray[np.float64]
LIMIT = math.log1p(0.03)


def estimate(center: float, error: float, rounds: tuple[int, ...] = (16,)) -> Estimate:
    """One of pairs, with so many of them."""
    return Estimate(
        center=center,
        error=error,
        freedom=rounds[0] - 1,
        spreads=(error * math.sqrt(rounds[0]),),
        rounds=rounds,
        shift=center,
        p=0.5,
    )


def test_rounds_of_two_runs_are_judged_by_welchs_interval() -> None:
    base, new = [0.1, 0.12, 0.09, 0.11, 0.1], [0.2, 0.26, 0.19]
    found = unpaired(base, new)
    known = stats.ttest_ind(new, base, equal_var=False)
    assert found.center / found.error == pytest.approx(known.statistic)
    assert found.freedom == pytest.approx(known.df)
    low, high = known.confidence_interval(0.998)
    reach = verdicts.reach(found.error, found.freedom, 0.001)
    assert (found.center - reach, found.center + reach) == pytest.approx((low, high))
    above = stats.ttest_ind(new, base, equal_var=False, alternative="greater")
    assert verdicts.p_above(found.center, found.error, found.freedom, 0.0) == pytest.approx(
        above.pvalue
    )
    assert found.shift == pytest.approx(np.median(np.subtract.outer(new, base)))


def test_pairs_are_judged_by_the_interval_of_their_differences() -> None:
    logs = [0.05, 0.06, 0.04, 0.055, 0.07, 0.045]
    found = paired(logs)
    known = stats.ttest_1samp(logs, 0.0)
    assert (found.center / found.error, found.freedom) == pytest.approx((known.statistic, known.df))
    walsh = [(a + b) / 2 for i, a in enumerate(logs) for b in logs[i:]]
    assert found.shift == pytest.approx(np.median(walsh))


def test_randomisation_goes_through_every_arrangement_where_there_are_few() -> None:
    assert paired([0.01 * k for k in range(1, 9)]).p == 2 / 2**8  # as small as eight pairs can get
    assert unpaired([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]).p == 2 / math.comb(6, 3)
    logs = [0.1, -0.2, 0.3, 0.05, -0.01]
    known = stats.permutation_test(
        (logs,), np.mean, permutation_type="samples", alternative="two-sided"
    )
    assert paired(logs).p == pytest.approx(known.pvalue)


def test_randomisation_of_many_rounds_draws_and_is_never_zero() -> None:
    many = paired([0.1 + 0.001 * k for k in range(64)])
    assert many.p == pytest.approx(1e-4)
    assert unpaired([0.0] * 40, [0.01 * (k % 3) for k in range(40)]).p > 0


@pytest.mark.parametrize(
    ("center", "verdict", "certain"),
    [
        (0.10, "regressed", "slower"),
        (-0.10, "improved", "faster"),
        (0.0, "equivalent", None),
        (0.02, "equivalent", "slower"),
        (-0.02, "equivalent", "faster"),
        (LIMIT, "inconclusive", "slower"),
    ],
)
def test_the_interval_alone_decides(center: float, verdict: str, certain: str | None) -> None:
    (found,) = judge([estimate(center, 0.002)])
    assert (found.verdict, found.certain) == (verdict, certain)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.ratio < found.high
    assert found.ratio == pytest.approx(math.exp(center))


def test_a_wide_interval_says_how_many_more_pairs_would_decide_it() -> None:
    (found,) = judge([estimate(0.0, 0.02)])
    assert (found.verdict, found.certain) == ("inconclusive", None)
    assert found.more is not None
    spread = 0.02 * math.sqrt(16)
    for pairs, decided in ((16 + found.more, True), (15 + found.more, False)):
        reach = verdicts.reach(spread / math.sqrt(pairs), pairs - 1, ALPHA)
        assert bool(reach < LIMIT) is decided


def test_what_lies_at_the_margin_is_decided_by_no_number_of_rounds() -> None:
    (found,) = judge([estimate(LIMIT, 0.002)])
    assert (found.verdict, found.more) == ("inconclusive", None)


@pytest.mark.parametrize(
    "found",
    [
        paired([0.5]),
        unpaired([0.0], [0.5]),
        unpaired([0.0, 0.1, 0.2], [0.5]),
        unpaired([0.1, 0.1], [0.5, 0.5]),  # a clock that reads the same whatever happens
        paired([0.5, 0.5, 0.5]),
    ],
)
def test_where_nothing_is_known_of_the_next_process_nothing_is_said(found: Estimate) -> None:
    (said,) = judge([found])
    assert (said.verdict, said.low, said.high, said.certain, said.more) == (
        "inconclusive",
        None,
        None,
        None,
        None,
    )


def test_many_cases_are_held_to_stricter_errors_and_holm_gives_back_what_he_can() -> None:
    clear, open_ = estimate(0.5, 0.002), estimate(0.0, 0.5)
    (alone,) = judge([clear])
    assert alone.level == ALPHA  # a case by itself never gets the error of a whole family
    found = judge([clear] * 90 + [open_] * 10)
    levels = sorted({round(FAMILY / one.level) for one in found if one.verdict == "regressed"})
    # "slower" is tested in steps from 100 cases down to 11; the other end stays at the first step.
    assert {one.verdict for one in found[:90]} == {"regressed"}
    assert levels == list(range(11, 101))
    assert {round(FAMILY / one.level) for one in found[90:]} == {10}


def test_cases_of_an_earlier_look_count_in_the_family() -> None:
    (found,) = judge([estimate(0.0, 0.5)], others=99)
    assert found.level == pytest.approx(FAMILY / 100)


# --- a margin a case --------------------------------------------------------------------------------


def test_equal_margins_a_case_judge_as_one_for_all() -> None:
    found = [estimate(center, 0.004) for center in (-0.08, -0.001, 0.02, 0.06, 0.9)]
    assert judge(found, margin=[0.05] * 5, others=3) == judge(found, margin=0.05, others=3)


def test_each_case_is_held_against_its_own_margin() -> None:
    slower = estimate(0.06, 0.002)
    found = judge([slower, slower], margin=[0.2, 0.01])
    assert [one.verdict for one in found] == ["equivalent", "regressed"]
    assert [one.margin for one in found] == [0.2, 0.01]
    assert found == [judge([slower], margin=margin)[0] for margin in (0.2, 0.01)]


def test_margins_of_their_own_leave_holms_errors_as_they_are() -> None:
    """Twenty cases with twenty margins, each as far from its own in units of its error as the others
    are from one for all: the errors that they are tested at are the same."""
    rng = np.random.default_rng(5)
    scales = rng.uniform(0.2, 5, 20)
    centers = rng.normal(0.03, 0.08, 20)
    wanted = judge([estimate(center, 0.004) for center in centers], margin=0.05)
    found = judge(
        [estimate(s * c, s * 0.004) for s, c in zip(scales, centers, strict=True)],
        margin=np.expm1(scales * math.log1p(0.05)).tolist(),
    )
    assert [one.verdict for one in found] == [one.verdict for one in wanted]
    assert [one.level for one in found] == pytest.approx([one.level for one in wanted])
    assert len({one.level for one in wanted}) > 1


def test_an_interval_that_says_nothing_does_not_overflow() -> None:
    [_, said] = judge([estimate(0.0, 0.01), estimate(0.0, 900.0)], margin=[0.01, 0.9])
    assert said.verdict == "inconclusive"
    assert said.high == math.exp(700)


# --- errors, over the tails that times have ---------------------------------------------------------

DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "student, 3 degrees": lambda rng, size: rng.standard_t(3, size),
    "skewed": lambda rng, size: rng.exponential(size=size),
    "bursts": lambda rng, size: (
        0.1 * rng.standard_normal(size) + (rng.random(size) < 0.1) * rng.exponential(5, size)
    ),
}


def most(rate: float, trials: int) -> float:
    """The share of errors that a rate exceeds once in a thousand times."""
    return float(stats.binom.ppf(0.999, trials, rate)) / trials


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("rounds", [3, 5, 16])
def test_unchanged_code_is_called_slower_no_more_often_than_said(name: str, rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    trials = 10_000
    base, new = (DRAWS[name](rng, (trials, rounds)) for _ in range(2))
    for found in (verdicts.welch_t(base, new), verdicts.paired_t(new - base)):
        p = verdicts.p_above(*found, 0.0)
        for alpha in (0.025, ALPHA):
            assert (p <= alpha).mean() <= most(alpha, trials)


def test_of_normal_pairs_as_many_are_wrong_as_said_and_no_fewer() -> None:
    rng = np.random.default_rng(0)
    trials = 40_000
    p = verdicts.p_above(*verdicts.paired_t(rng.standard_normal((trials, 16))), 0.0)
    assert stats.binomtest(int((p <= 0.025).sum()), trials, 0.025).pvalue > 1e-3


def test_samples_that_resemble_their_neighbours_do_no_harm_but_only_as_medians() -> None:
    rng = np.random.default_rng(1)
    trials, rounds, samples = 1500, 5, 30
    noise = rng.standard_normal((2, trials, rounds, samples))
    for place in range(1, samples):  # an autoregression: what one sample has, the next has half of
        noise[..., place] += 0.5 * noise[..., place - 1]
    noise += rng.standard_normal((2, trials, rounds, 1))  # what a process has all its life
    medians = np.median(noise, axis=-1)
    wrong = (verdicts.p_above(*verdicts.welch_t(*medians), 0.0) <= 0.025).mean()
    assert wrong <= most(0.025, trials)
    pooled = noise.reshape(2, trials, rounds * samples)
    assert (verdicts.p_above(*verdicts.welch_t(*pooled), 0.0) <= 0.025).mean() > 5 * wrong


@pytest.mark.parametrize("name", DRAWS)
def test_a_comparison_of_fifty_unchanged_cases_hardly_ever_has_an_alarm(name: str) -> None:
    rng = np.random.default_rng(2)
    trials, cases = 1000, 50
    base, new = (0.05 * DRAWS[name](rng, (trials, cases, 5)) for _ in range(2))
    center, error, freedom = verdicts.welch_t(base, new)
    # Holm's first step decides whether there is any alarm at all.
    p = verdicts.p_above(center, error, freedom, 0.0).min(axis=1)
    assert (p <= min(ALPHA, FAMILY / cases)).mean() <= most(FAMILY, trials)


def test_a_real_slowdown_is_found_and_a_small_one_is_certain_though_equivalent() -> None:
    rng = np.random.default_rng(3)
    said = {}
    for change in (0.0, 0.01, 0.05, 0.10):
        pairs = math.log1p(change) + 0.012 * rng.standard_normal((60, 64))
        found = [judge([paired(row.tolist())])[0] for row in pairs]
        regressed = [one.verdict == "regressed" for one in found]
        slower = [one.certain == "slower" for one in found]
        said[change] = float(np.mean(regressed)), float(np.mean(slower))
    assert said[0.0][0] == said[0.01][0] == 0
    assert said[0.0][1] <= most(ALPHA, 60)
    assert said[0.01][1] > 0.95
    assert said[0.05] == said[0.10] == (1.0, 1.0)
