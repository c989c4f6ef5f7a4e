"""No claim without evidence: ratios, their intervals, and what is compared with what."""

from __future__ import annotations

import pytest

from devbench.model import Result
from devbench.stats import ratio as ratios
from devbench.stats.ratio import Ratio
from devbench_reports import comparison
from tests.reports import factory


def ratio(base: Result, subject: Result) -> Ratio:
    item = ratios.ratio(base, subject)
    assert item is not None
    return item


def test_ratio_has_an_interval_round_the_ratio_of_the_medians() -> None:
    item = ratio(factory.result(median=0.02), factory.result(median=0.01))
    assert item.value == pytest.approx(2)
    assert item.low is not None
    assert item.high is not None
    # two half widths of 2 % add as squares to 2.8 %
    assert item.low == pytest.approx(2 / 1.0287, rel=1e-3)
    assert item.high == pytest.approx(2 * 1.0287, rel=1e-3)
    assert item.verdict == "faster"
    assert item.inverse.verdict == "slower"
    assert item.inverse.low == pytest.approx(1 / item.high)


@pytest.mark.parametrize(("median", "verdict"), [(0.0103, "no difference"), (0.0105, "faster")])
def test_nothing_is_claimed_while_the_intervals_overlap(median: float, verdict: str) -> None:
    assert ratio(factory.result(median=median), factory.result(median=0.01)).verdict == verdict


@pytest.mark.parametrize(("median", "verdict"), [(0.013, "no difference"), (0.015, "faster")])
def test_single_rounds_need_a_difference_beyond_chance_and_give_no_interval(
    median: float, verdict: str
) -> None:
    item = ratio(factory.result(median=median, rounds=1), factory.result(median=0.01, rounds=1))
    assert item.verdict == verdict
    assert item.low is None
    assert not item.has_interval


def test_single_rounds_whose_spreads_overlap_claim_nothing_however_far_apart() -> None:
    wide = factory.result(median=0.02, rounds=1, within_p5=0.009)
    assert ratio(wide, factory.result(median=0.01, rounds=1)).verdict == "no difference"


def test_wrong_and_unfinished_rows_are_compared_with_nothing() -> None:
    good = factory.result()
    for bad in (
        factory.result(quality="invalid"),
        factory.result(status="crashed"),
        factory.result(median=None, status="skipped"),
    ):
        assert ratios.ratio(good, bad) is None
        assert ratios.ratio(bad, good) is None


def test_speed_ups_stay_within_a_framework_and_a_point() -> None:
    found = comparison.speed_ups(factory.sweep())
    assert len(found) == 2 * (10 + 9 + 1)
    assert all(item.subject.framework == item.base.framework for item in found)
    assert all(item.subject.params == item.base.params for item in found)
    assert {item.base.physical_device for item in found} == {"cpu"}


def test_frameworks_are_joined_on_the_physical_device() -> None:
    found = comparison.between_frameworks(factory.sweep())
    assert len(found) == 2 * (10 + 9 + 1)
    assert {item.subject.framework for item in found} == {"torch"}
    assert all(item.subject.physical_device == item.base.physical_device for item in found)


def test_the_cpu_with_the_most_threads_is_the_base_of_a_speed_up() -> None:
    one = factory.result(target="torch:cpu;threads=1", threads=1, median=0.2)
    two = factory.result(threads=2, median=0.1)
    (item,) = comparison.speed_ups([one, two, factory.result("torch:cuda:0", median=0.01)])
    assert item.base is two
