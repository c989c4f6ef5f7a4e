"""Margins and intervals that a calibration gives, the errors of these, and the store that holds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import stdtr

from devbench.errors import UsageError
from devbench.model import Case, Target, Work
from devbench.regress.compare import compare
from devbench.regress.comparison import Row
from devbench.regress.margins import (
    CaseCalibration,
    environment_of,
    margins_in_turn,
    parse_margin,
    stored,
)
from devbench.regress.sides import Side, side_of
from devbench.stats import power
from devbench.stats.sequential import LOOKS
from devbench.stats.verdicts import ALPHA, judge
from devbench.store import Store
from tests.regress.factory import QUIET, make_case, make_run, timed
from tests.regress.test_calibrate import CASE, case_of, environment, run_of

Floats = NDArray[np.float64]
STICK = "gemm 192x192 float32"


# Of pairs


def test_unchanged_code_is_found_unchanged_within_its_calibrated_margin() -> None:
    case = case_of(CASE, spread=0.05)
    margin = case.margin_in_turn()
    logs = np.random.default_rng(6).normal(0, 0.05, (4000, LOOKS[-1]))
    assert power.decide(logs, margin).share("equivalent") > 0.99
    assert case_of(CASE, spread=1e-5).margin_in_turn() == 0.01  # never less


def test_few_pairs_make_a_wider_margin_than_many() -> None:
    few, many = (case_of(CASE, pairs=pairs).margin_in_turn() for pairs in (4, 64))
    assert few > 1.5 * many


# Of rounds


def test_margins_of_two_runs_grow_with_fewer_rounds() -> None:
    case = case_of(CASE, 0.001)
    many, some, one = (case.margin_by_rounds(n, n) for n in (15, 5, 1))
    assert 0.01 < many < some / 2
    assert some < one < 0.3


def test_rounds_in_yardsticks_are_judged_by_their_own_spread() -> None:
    case = replace(case_of(CASE, 0.01), yardstick=STICK)
    assert case.spread_of("another") is None
    assert math.isinf(case.margin_by_rounds(5, 5, STICK))  # as there are none
    steady = replace(case, in_yardsticks=tuple(0.01 * one for one in case.rounds))
    assert steady.spread_of(STICK) == pytest.approx(0.001)
    assert steady.margin_by_rounds(5, 5, STICK) < 0.05 < steady.margin_by_rounds(5, 5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_unchanged_single_processes_are_found_unchanged_within_their_margin(rounds: int) -> None:
    """Were the spread known to be what the calibration says it may be at most."""
    case = case_of(CASE, spread=0.001)
    margin = case.margin_by_rounds(rounds, 1)
    most = power.spread_at_most(0.01, 15)
    rng = np.random.default_rng(8)
    base, new = rng.normal(0, most, (300, rounds)), rng.normal(0, most, (300, 1))
    found = [
        case.estimate(one.tolist(), other.tolist()) for one, other in zip(base, new, strict=True)
    ]
    verdicts = [judge([one], margin=margin)[0].verdict for one in found if one is not None]
    assert stats.binomtest(verdicts.count("equivalent"), 300, 0.99).pvalue > 1e-3


TAILS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "student, 3 degrees": lambda rng, size: rng.standard_t(3, size),
    "skewed": lambda rng, size: rng.exponential(size=size),
    "both ways": lambda rng, size: rng.laplace(size=size),
}


def _p_of_single(draw: str, rounds: int, trials: int, *, plain: bool = False) -> Floats:
    """The p of "slower" of two single processes of the same code, a calibration a trial; as `estimate`
    has it, or plain: by the calibration's standard deviation and all its degrees of freedom."""
    rng = np.random.default_rng(rounds)
    known, base, new = (TAILS[draw](rng, (trials, n)) for n in (rounds, 1, 1))
    # The units of `estimate`, from a calibration that spreads by one.
    logs = np.linspace(-1, 1, rounds)
    unit = CaseCalibration(case_id=CASE, rounds=tuple(logs / logs.std(ddof=1)))
    one = unit.estimate([0.0], [0.0])
    assert one is not None
    error = math.sqrt(2) if plain else one.error
    freedom = rounds - 1 if plain else one.freedom
    found = stdtr(freedom, -(new - base)[:, 0] / (known.std(axis=1, ddof=1) * error))
    return np.asarray(found)


@pytest.mark.parametrize("draw", TAILS)
@pytest.mark.parametrize("rounds", [4, 8, 16, 64])
def test_two_single_processes_of_the_same_code_are_called_slower_no_more_often_than_said(
    draw: str, rounds: int
) -> None:
    trials = 20_000
    p = _p_of_single(draw, rounds, trials)
    for alpha in (0.025, ALPHA):
        assert (p <= alpha).mean() <= stats.binom.ppf(0.999, trials, alpha) / trials


def test_by_students_distribution_alone_heavy_tails_would_cry_wolf() -> None:
    """Why its degrees of freedom are cut and the upper bound is taken."""
    plain = _p_of_single("student, 3 degrees", 16, 20_000, plain=True)
    assert (plain <= ALPHA).mean() > 5 * ALPHA
    assert (_p_of_single("normal", 16, 20_000, plain=True) <= ALPHA).mean() < 2 * ALPHA


def test_what_a_burst_does_to_a_single_process_is_taken_for_a_slowdown() -> None:
    """The limit of it: one process in ten is struck, and which is told by nothing."""
    TAILS["bursts"] = lambda rng, size: (
        0.1 * rng.standard_normal(size) + (rng.random(size) < 0.1) * rng.exponential(5, size)
    )
    share = (_p_of_single("bursts", 16, 20_000) <= ALPHA).mean()
    del TAILS["bursts"]
    assert 0.01 < share < 0.04


def test_a_slowdown_far_beyond_the_spread_is_caught_by_single_processes() -> None:
    case = case_of(CASE, spread=0.001)  # rounds spread by 1 %
    verdicts = []
    for factor in (1.0, 1.05, 1.3):
        one = case.estimate([math.log(1.0)], [math.log(factor)])
        assert one is not None
        verdicts.append(judge([one])[0].verdict)
    assert verdicts == ["inconclusive", "inconclusive", "regressed"]


def test_where_the_calibration_knows_nothing_there_is_no_estimate() -> None:
    assert CaseCalibration(case_id=CASE, rounds=(0.1, 0.2)).estimate([0.0], [1.0]) is None


# In a comparison

TIMED = make_case()
HOST = {"host": {"cpu_model": "x", "usable_cores": 2, "usable_cpus": 2.0, "cpu_limit": None}}


def side(name: str, rounds: list[float], cpu: str = "x", **more: object) -> Side:
    host = {"machine": {"host": HOST["host"] | {"cpu_model": cpu}}}
    return side_of(make_run(name, {TIMED: timed(TIMED, rounds, **more)}, environment=host))


def calibrated(spread: float = 0.01) -> dict[str, CaseCalibration]:
    found = case_of(TIMED.id, spread / 10)
    steady = tuple(one / 10 for one in found.rounds)
    return {TIMED.id: replace(found, yardstick=STICK, in_yardsticks=steady)}


def row_of(base: Side, new: Side, **how: object) -> Row:
    (row,) = compare(base, new, **how).rows  # type: ignore[arg-type]
    return row


def test_a_calibrated_margin_is_that_of_the_rounds_that_there_are() -> None:
    slow = [1.06 * one for one in QUIET]
    sides = side("a", list(QUIET)), side("b", slow)
    assert row_of(*sides).verdict == "regressed"
    known = calibrated(0.02)
    row = row_of(*sides, margin=None, calibrated=known)
    assert (row.verdict, row.certain, row.calibrated) == ("equivalent", "slower", False)
    assert row.margin == known[TIMED.id].margin_by_rounds(5, 5)
    assert compare(*sides, margin=None, calibrated=known).margin == row.margin


def test_a_calibrated_margin_is_in_yardsticks_where_the_rounds_are() -> None:
    base, new = (side(name, list(QUIET), yardstick_s=[0.1] * 5, yardstick=STICK) for name in "ab")
    known = calibrated(0.02)
    row = row_of(base, new, margin=None, calibrated=known)
    assert row.yardstick == STICK
    assert row.margin == known[TIMED.id].margin_by_rounds(5, 5, STICK)


def test_without_a_calibration_or_with_one_that_says_nothing_there_is_no_margin() -> None:
    base, new = side("a", list(QUIET)), side("b", list(QUIET))
    with pytest.raises(UsageError, match=r"no calibration by this machine of matmul\[n=256"):
        compare(base, new, margin=None)
    with pytest.raises(UsageError, match="at rest; of two runs, take more rounds"):
        compare(base, new, margin=None, calibrated=calibrated(0.4))


def test_single_rounds_are_judged_by_a_calibration_of_the_machine_of_both() -> None:
    base, new = side("a", [1.0]), side("b", [1.5])
    assert row_of(base, new).verdict == "inconclusive"
    row = row_of(base, new, calibrated=calibrated())
    assert (row.verdict, row.calibrated, row.p) == ("regressed", True, 1.0)
    elsewhere = row_of(side("a", [1.0], cpu="y"), new, calibrated=calibrated())
    assert (elsewhere.verdict, elsewhere.low) == ("inconclusive", None)
    many = row_of(side("a", list(QUIET)), side("b", list(QUIET)), calibrated=calibrated(0.9))
    assert (many.verdict, many.calibrated) == ("equivalent", False)


def test_single_rounds_are_taken_in_yardsticks_only_where_the_calibration_knows_them() -> None:
    sides = [
        side(name, [1.3 * drift], yardstick_s=[0.1 * drift], yardstick=STICK)
        for name, drift in (("a", 1.0), ("b", 1.3))
    ]
    row = row_of(*sides, calibrated=calibrated())
    assert row.yardstick == STICK
    assert row.ratio == pytest.approx(1.0)
    plain = {TIMED.id: case_of(TIMED.id, 0.001)}
    row = row_of(*sides, calibrated=plain)
    assert row.yardstick is None
    assert row.ratio == pytest.approx(1.3)


# Found again in the store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "results.sqlite")) as opened:
        yield opened


def test_the_newest_calibration_of_such_a_machine_counts_and_no_other(store: Store) -> None:
    def keep(run_id: str, facts: dict[str, object], minute: int, kind: str | None) -> None:
        store.create_run(run_of(run_id, kind, facts, minute), [])

    keep("old", environment("x", case_of(CASE, 0.01)), 1, "calibration")
    keep("new", environment("x", case_of(CASE, 0.02)), 2, "calibration")
    keep("few", environment("x", case_of(CASE, 0.03, pairs=3)), 3, "calibration")
    keep("another cpu", environment("y", case_of(CASE, 0.04)), 4, "calibration")
    keep("another device", environment("x", case_of(CASE, 0.05), device="GPU"), 5, "calibration")
    keep("no calibration", environment("x", case_of(CASE, 0.06)), 6, None)
    found = stored(store, environment("x"))
    assert found.keys() == {CASE}
    assert found[CASE].pair_spread == pytest.approx(0.02)
    assert stored(store, environment("z")) == {}


def test_a_run_tells_by_itself_which_calibrations_are_of_its_machine(store: Store) -> None:
    facts = environment("x", case_of(TIMED.id)) | {"machine": HOST}
    facts["targets"] = {"torch:cpu": {"device_name": "A CPU"}}
    store.create_run(run_of("one", "calibration", facts), [])
    assert stored(store, environment_of(side("a", [1.0]))).keys() == {TIMED.id}
    assert stored(store, environment_of(side("a", [1.0], cpu="y"))) == {}


def test_a_case_without_a_calibration_is_refused_by_name(store: Store) -> None:
    case = Case("fake", "sum", (("n", 7),), Target("fake", ("cpu",)), Work())
    with pytest.raises(UsageError, match=r"sum\[n=7\]@fake:cpu; `devbench calibrate`"):
        margins_in_turn(store, environment("x"), [case])


@pytest.mark.parametrize(
    ("text", "share"), [("3%", 0.03), ("0.03", 0.03), (" calibrated ", None), ("12.5 %", 0.125)]
)
def test_a_margin_is_a_share_or_the_word_calibrated(text: str, share: float | None) -> None:
    assert parse_margin(text) == share


@pytest.mark.parametrize(("text", "told"), [("much", "no share"), ("5", "do you mean 5%")])
def test_a_margin_that_is_none_is_refused_under_the_name_of_its_option(
    text: str, told: str
) -> None:
    with pytest.raises(UsageError, match=f"^--devbench-margin .*{told}"):
        parse_margin(text, "--devbench-margin")
