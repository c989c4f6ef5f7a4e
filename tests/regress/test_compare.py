"""Two sides whose answer is known, and all that keeps a comparison from being green."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devbench.errors import NothingMeasured, UsageError
from devbench.model import Case, Measurement
from devbench.regress.compare import compare, compare_pairs
from devbench.regress.comparison import Comparison, Row
from devbench.regress.sides import side_of
from devbench.stats.verdicts import judge, paired
from tests.regress.factory import QUIET, failed, make_case, make_run, timed

CASE = make_case()


def times(factor: float) -> list[float]:
    return [factor * seconds for seconds in QUIET]


def compared(
    base: dict[Case, list[Measurement]],
    new: dict[Case, list[Measurement]],
    *,
    new_facts: dict[str, Any] | None = None,
    allow_inconclusive: bool = False,
    **new_run: Any,
) -> Comparison:
    return compare(
        side_of(make_run("base", base)),
        side_of(make_run("new", new, target_facts=new_facts, **new_run)),
        allow_inconclusive=allow_inconclusive,
    )


def only(comparison: Comparison) -> Row:
    (row,) = comparison.rows
    return row


@pytest.mark.parametrize(
    ("factor", "verdict", "certain", "code"),
    [
        (1.00, "equivalent", None, 0),
        (1.015, "equivalent", "slower", 0),
        (1.08, "regressed", "slower", 1),
        (0.90, "improved", "faster", 0),
        (1.03, "inconclusive", "slower", 4),
    ],
)
def test_a_known_change_has_its_verdict_and_its_exit_code(
    factor: float, verdict: str, certain: str | None, code: int
) -> None:
    comparison = compared({CASE: timed(CASE, QUIET)}, {CASE: timed(CASE, times(factor))})
    row = only(comparison)
    assert (row.verdict, row.certain, comparison.exit_code) == (verdict, certain, code)
    assert row.ratio == pytest.approx(factor)
    assert (row.base_s, row.new_s) == pytest.approx((1.0, factor))
    assert (row.base_rounds, row.new_rounds) == (5, 5)
    assert row.shift == pytest.approx(factor, rel=0.005)


def test_rounds_that_scatter_leave_it_open_and_say_what_would_decide_it() -> None:
    wide = [0.9, 1.1, 1.0, 1.05, 0.95]
    comparison = compared({CASE: timed(CASE, wide)}, {CASE: timed(CASE, wide)})
    row = only(comparison)
    assert (row.verdict, comparison.exit_code) == ("inconclusive", 4)
    assert row.more is not None
    assert row.reason == f"about {row.more} more rounds a side would decide it"
    assert replace(comparison, allow_inconclusive=True).exit_code == 0


def test_one_round_is_never_enough_however_large_the_change() -> None:
    comparison = compared({CASE: timed(CASE, [1.0])}, {CASE: timed(CASE, [9.0])})
    row = only(comparison)
    assert (row.verdict, row.low, row.p, comparison.exit_code) == ("inconclusive", None, None, 4)
    assert "--rounds" in str(row.reason)
    assert "devbench ab" in str(row.reason)


def test_drift_of_the_machine_is_taken_out_where_both_sides_have_the_same_yardstick() -> None:
    drift = (1.0, 1.3, 0.8, 1.1, 0.9)
    base = timed(CASE, [a * b for a, b in zip(QUIET, drift, strict=True)], yardstick_s=drift)
    slow = [1.4 * one for one in drift]
    new = timed(CASE, [a * b for a, b in zip(QUIET, slow, strict=True)], yardstick_s=slow)
    row = only(compared({CASE: base}, {CASE: new}))
    assert (row.verdict, row.yardstick) == ("equivalent", "gemm 192x192 float32")
    assert row.ratio == pytest.approx(1.0)
    assert (row.base_s, row.new_s) == pytest.approx((1.002, 1.4 * 1.002), rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "stick", "verdict", "certain"),
    [
        (0.94, 0.77, "inconclusive", None),  # the step got faster than the case did
        (1.02, 0.9, "inconclusive", "slower"),
        (1.06, 1.3, "inconclusive", None),
        (0.999, 0.98, "equivalent", None),
        (1.2, 1.0, "regressed", "slower"),
        (1.2, 1.05, "regressed", "slower"),
        (0.8, 1.0, "improved", "faster"),
    ],
)
def test_a_fixed_step_that_drifts_more_than_the_case_makes_no_change_of_it(
    seconds: float, stick: float, verdict: str, certain: str | None
) -> None:
    base = timed(CASE, QUIET, yardstick_s=[0.1] * 5)
    new = timed(CASE, times(seconds), yardstick_s=[0.1 * stick] * 5)
    row = only(compared({CASE: base}, {CASE: new}))
    assert (row.verdict, row.certain) == (verdict, certain)
    if verdict == "inconclusive":
        assert row.reason == (
            f"the case takes {seconds:.3g} times the seconds and the fixed step beside it {stick:.3g} times: "
            "a change is not told from drift of the machine"
        )


@pytest.mark.parametrize(
    "what",
    [
        {"new_facts": {"framework_version": "2.14.0"}},  # which may have made the yardstick faster
        {"new_facts": {"threads": 1}},
        {"devbench_version": "0.2.0"},
        {"environment": {"variables": {"ONEDNN_MAX_CPU_ISA": "SSE41"}}},
    ],
)
def test_a_yardstick_that_may_have_changed_takes_nothing_out(what: dict[str, Any]) -> None:
    base = timed(CASE, QUIET, yardstick_s=[0.1] * 5)
    new = timed(CASE, times(1.5), yardstick_s=[0.15] * 5)
    row = only(compared({CASE: base}, {CASE: new}, **what))
    assert (row.verdict, row.yardstick) == ("regressed", None)


def test_fewer_modes_in_a_run_leave_the_yardstick() -> None:
    other = make_case(512)
    base = {
        CASE: timed(CASE, QUIET, yardstick_s=[0.1] * 5),
        other: timed(other, QUIET, yardstick_s=[0.1] * 5, mode="compiled"),
    }
    new = timed(CASE, times(1.3), yardstick_s=[0.13] * 5)
    comparison = compared(base, {CASE: new})
    assert [one.what for one in comparison.differences] == ["mode"]
    (row,) = (row for row in comparison.rows if row.case_id == CASE.id)
    assert (row.verdict, row.yardstick) == ("equivalent", "gemm 192x192 float32")


@pytest.mark.parametrize("missing", ["another yardstick", "a round without one"])
def test_rounds_without_the_same_yardstick_are_compared_as_they_are(missing: str) -> None:
    base = timed(CASE, QUIET, yardstick_s=[0.1] * 5)
    sticks = [0.15] * 5 if missing == "another yardstick" else [0.15] * 4 + [None]
    new = timed(CASE, times(1.5), yardstick_s=sticks, yardstick="copy")
    assert only(compared({CASE: base}, {CASE: new})).verdict == "regressed"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            {"physical_device": "GPU-2", "device_name": "B"},
            "another device: cpu on the base, GPU-2 now",
        ),
        ({"device_name": "B CPU"}, "another device: A CPU on the base, B CPU now"),
    ],
)
def test_another_device_is_never_compared(facts: dict[str, str], told: str) -> None:
    comparison = compared(
        {CASE: timed(CASE, QUIET)}, {CASE: timed(CASE, times(9))}, new_facts=facts
    )
    row = only(comparison)
    assert (row.verdict, row.ratio, row.reason) == ("not-measured", None, told)
    assert comparison.exit_code == 3
    assert comparison.differences[0].severity == "blocks"


OTHER = make_case(512)
FINE = {OTHER: timed(OTHER, QUIET)}


@pytest.mark.parametrize(
    ("base", "new", "told", "code"),
    [
        (timed(CASE, QUIET), None, "only on the base: it was not measured now", 4),
        (None, timed(CASE, QUIET), "only now: the base has none of it", 4),
        (timed(CASE, QUIET), failed(CASE, "failed"), "failed now: error: it broke", 1),
        (timed(CASE, QUIET), failed(CASE, "crashed", "signal"), "crashed now: signal: it broke", 1),
        (timed(CASE, QUIET), failed(CASE, "timeout"), "timeout now: error: it broke", 1),
        (None, failed(CASE, "failed"), "failed now: error: it broke", 1),
        (failed(CASE, "failed"), failed(CASE, "failed"), "failed now: error: it broke", 1),
        (timed(CASE, QUIET), failed(CASE, "oom"), "oom now: error: it broke", 1),
        (failed(CASE, "oom"), failed(CASE, "oom"), "oom on both sides: error: it broke", 0),
        (
            failed(CASE, "skipped"),
            failed(CASE, "skipped"),
            "skipped on both sides: error: it broke",
            0,
        ),
        (timed(CASE, QUIET), failed(CASE, "skipped"), "skipped now: error: it broke", 4),
        (failed(CASE, "failed"), timed(CASE, QUIET), "failed on the base: error: it broke", 4),
        (
            timed(CASE, QUIET),
            timed(CASE, QUIET, numerics="mismatch", numerics_detail="off by 3"),
            "worthless now: numerics-mismatch: off by 3",
            1,
        ),
        (
            timed(CASE, QUIET, numerics="mismatch", numerics_detail="off by 3"),
            timed(CASE, QUIET),
            "worthless on the base: numerics-mismatch: off by 3",
            4,
        ),
        (
            timed(CASE, QUIET, threads=2, threads_used=2.0),
            timed(CASE, QUIET, threads=2, threads_used=2.5),
            "worthless now: threads: 2.5 busy where 2 were given",
            4,
        ),
        (
            timed(CASE, QUIET),
            timed(CASE, (1.0, 0.0, 1.0)),
            "a round read zero: the clock is too coarse for this step",
            4,
        ),
        ([], [], "planned, and reached on neither side", 4),
        (None, [], "planned, and reached on neither side", 4),
    ],
)
def test_what_is_missing_or_broken_is_said_and_never_green(
    base: list[Measurement] | None, new: list[Measurement] | None, told: str, code: int
) -> None:
    sides = [{**FINE, **({} if found is None else {CASE: found})} for found in (base, new)]
    comparison = compared(*sides)
    row = next(row for row in comparison.rows if row.case_id == CASE.id)
    assert (row.verdict, row.reason, comparison.exit_code) == ("not-measured", told, code)
    assert replace(comparison, allow_inconclusive=True).exit_code == (1 if code == 1 else 0)


def test_another_amount_of_work_is_another_benchmark() -> None:
    changed = make_case(flops=1e6)
    row = only(compared({CASE: timed(CASE, QUIET)}, {changed: timed(changed, QUIET)}))
    assert row.verdict == "not-measured"
    assert row.reason == "another amount of work: 3.35544e+07 flops a step on the base, 1e+06 now"


def test_nothing_in_common_is_exit_code_three_even_where_open_questions_are_allowed() -> None:
    comparison = compared({CASE: timed(CASE, QUIET)}, FINE, allow_inconclusive=True)
    assert comparison.counts == {"not-measured": 2}
    assert comparison.exit_code == 3


def test_an_empty_side_the_same_side_twice_and_a_margin_that_is_none_are_refused() -> None:
    full, empty = (
        side_of(make_run(name, {CASE: visits}))
        for name, visits in (("full", timed(CASE, QUIET)), ("empty", []))
    )
    with pytest.raises(NothingMeasured, match="empty holds no measurement"):
        compare(full, empty)
    with pytest.raises(UsageError, match="full and full are the same"):
        compare(full, full)
    for margin in (0.0, -0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="a margin of"):
            compare(full, replace(full, id="other"), margin=margin)
    with pytest.raises(UsageError, match="no case in common"):
        compare(full, replace(full, id="other", kind="pytest-benchmark"))


def test_a_side_of_pairs_is_not_held_against_a_run_that_was_not_kept_quiet() -> None:
    in_turn: dict[str, Any] = {"settings": {"ab": {"side": "head"}}}
    with pytest.raises(UsageError, match="new is a side of `devbench ab`"):
        compared(FINE, FINE, **in_turn)
    base, new = (side_of(make_run(name, FINE, **in_turn)) for name in ("base", "new"))
    assert only(compare(base, new)).verdict == "equivalent"


def test_one_regressed_case_among_many_fails_and_the_others_keep_their_verdicts() -> None:
    cases = [make_case(n) for n in range(1, 31)]
    base = {case: timed(case, QUIET) for case in cases}
    new = {case: timed(case, times(1.2 if case is cases[7] else 1.0)) for case in cases}
    comparison = compared(base, new)
    assert comparison.counts == {"regressed": 1, "equivalent": 29}
    assert [row.case_id for row in comparison.rows if row.verdict == "regressed"] == [cases[7].id]
    assert comparison.exit_code == 1


def test_doubts_of_both_sides_stand_beside_the_verdict() -> None:
    unsteady = timed(CASE, QUIET, steady=False, trend=0.2)
    row = only(compared({CASE: unsteady}, {CASE: timed(CASE, QUIET)}))
    assert row.verdict == "equivalent"
    assert [doubt.split(":")[0] for doubt in row.doubts] == ["base, not-steady"]


def test_pairs_that_were_judged_on_the_way_become_the_same_comparison() -> None:
    base, new = (
        side_of(make_run(name, {**FINE, CASE: timed(CASE, [1.0, 1.5, 0.8])})) for name in ("a", "b")
    )
    estimate = paired([0.1, 0.101, 0.099, 0.1, 0.1, 0.1, 0.1, 0.1])
    (judgement,) = judge([estimate])
    comparison = compare_pairs(base, new, {CASE.id: (estimate, judgement)})
    found = {row.case_id: row for row in comparison.rows}
    assert found[CASE.id].verdict == "regressed"
    assert not any("rounds-disagree" in doubt for doubt in found[CASE.id].doubts)
    assert found[OTHER.id].reason == "the time was over before the first look"


def in_turn(base: list[Measurement], new: list[Measurement]) -> Comparison:
    settings = {"rounds": 64, "ab": {}}
    sides = [
        side_of(make_run(name, {CASE: visits}, settings=settings))
        for name, visits in (("base", base), ("new", new))
    ]
    return compare_pairs(sides[0], sides[1], {})


@pytest.mark.parametrize(
    ("base", "new", "reason"),
    [
        (timed(CASE, QUIET), failed(CASE, "oom"), "two processes together may have no room; oom"),
        ([], failed(CASE, "oom"), "oom now: error: it broke"),
        (failed(CASE, "crashed"), [], "crashed on the base and not measured now: error: it broke"),
    ],
)
def test_a_pair_that_its_memory_or_its_base_ended_breaks_nothing_and_says_why(
    base: list[Measurement], new: list[Measurement], reason: str
) -> None:
    found = in_turn(base, new)
    row = only(found)
    assert (row.verdict, row.gate, found.exit_code) == ("not-measured", "open", 3)
    assert (row.reason or "").startswith(reason)
