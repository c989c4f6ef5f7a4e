"""Two sides become a comparison: what differs around them, and a verdict a case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from devbench.errors import NothingMeasured, UsageError
from devbench.model import Status
from devbench.regress.comparison import Comparison, Gate, Row, SideInfo
from devbench.regress.environment_diff import (
    Difference,
    blocked,
    decides_yardsticks,
    differences,
)
from devbench.regress.margins import CaseCalibration, check_known, same_machine, usable
from devbench.regress.sides import Side, SideCase, another_work
from devbench.stats.verdicts import (
    MARGIN,
    MOST_ROUNDS,
    Estimate,
    Judgement,
    judge,
    unpaired,
)

_FAULTS: Final[frozenset[Status]] = frozenset({"failed", "crashed", "timeout"})
_KINDS: Final = {"run": "run of devbench", "pytest-benchmark": "file of pytest-benchmark"}
_NO_REASON: Final = "no reason is given"
_ONE_PROCESS: Final = (
    "one process a side, and how far processes of this test lie apart on this machine is not known: "
    "`pytest --devbench-calibrate 16` tells, or give --devbench-gate a git ref"
)
_UNCALIBRATED: Final = (
    "one process a side, and no calibration takes a test without device_benchmark: compare folders of such "
    "files, each of a process"
)
#: Doubts that come from how far the rounds of one side lie apart.
_OF_ROUNDS: Final = re.compile(r", (rounds-disagree|wide-interval|few-samples):")


def compare(
    base: Side,
    new: Side,
    *,
    margin: float | None = MARGIN,
    calibrated: Mapping[str, CaseCalibration] | None = None,
    allow_inconclusive: bool = False,
) -> Comparison:
    """Judge each case that either side has, by Welch's interval of the log round medians.

    Where both sides timed the same fixed step beside the samples in every round, with nothing changed
    that could make that step faster, the medians are taken in units of it: the drift of the machine is
    then in both. A change is claimed only where the seconds say so too.

    calibrated: what is known of this machine, by case (`margins.stored`). A side of one round takes its
    spread from there; margin None: each case has the margin that follows from it.

    Raises NothingMeasured for an empty side, UsageError for sides that cannot have a case in common, for
    a margin that is none, and for a case without a calibration where that is to give the margin.
    """
    check_margin(MARGIN if margin is None else margin)
    for side in (base, new):
        if not side.cases:
            raise NothingMeasured(f"{side.name} holds no measurement; there is nothing to compare")
    if (base.kind, base.id) == (new.kind, new.id):
        raise UsageError(f"{base.name} and {new.name} are the same; name two to compare")
    if base.kind != new.kind:
        raise UsageError(
            f"{base.name} is a {_KINDS[base.kind]} and {new.name} a {_KINDS[new.kind]}; they have no case in "
            "common"
        )
    if base.in_turn != new.in_turn:
        pair, run = (base, new) if base.in_turn else (new, base)
        raise UsageError(
            f"{pair.name} is a side of `devbench ab`, kept quieter than {run.name}, which alone makes some "
            "steps a tenth faster; compare runs of `devbench run`"
        )
    found = differences(base.facts, new.facts, base.target_facts, new.target_facts)
    changed = _changed_yardsticks(found)
    rows = _rows(base, new, found)
    known = {
        case_id: (calibrated or {}).get(new.cases[case_id].calibrated_as)
        for case_id, row in rows.items()
        if row.verdict != "not-measured"
    }
    estimates = {}
    for case_id, calibration in known.items():
        row, one, other = rows[case_id], base.cases[case_id], new.cases[case_id]
        alike = changed.isdisjoint({None, row.target})
        alone = min(row.base_rounds, row.new_rounds) < 2
        spread = calibration if alone and same_machine(base, new, row.target) else None
        rows[case_id], estimates[case_id] = _estimated(row, one, other, alike, spread)
    margins = [margin] * len(known) if margin is not None else _margins(rows, new, known)
    judged = judge(list(estimates.values()), margin=margins)
    for (case_id, estimate), judgement in zip(estimates.items(), judged, strict=True):
        row = with_judgement(rows[case_id], estimate, judgement)
        if judgement.low is None and new.kind == "pytest-benchmark" and min(estimate.rounds) < 2:
            known_by = new.cases[case_id].calibrated_as
            row = replace(row, reason=_UNCALIBRATED if known_by == case_id else _ONE_PROCESS)
        rows[case_id] = _borne_out(row, base.cases[case_id], new.cases[case_id])
    widest = max(margins, default=MARGIN)
    return _comparison(base, new, found, rows, widest, allow_inconclusive)


def _estimated(
    row: Row, base: SideCase, new: SideCase, alike: bool, calibration: CaseCalibration | None
) -> tuple[Row, Estimate]:
    """The estimate of a case, and its row with what it rests on.

    alike: the fixed steps of both sides, where they have one, are the same. calibration: what is to
    tell the spread in place of the sides' own rounds, as far as it knows it.
    """
    sticks = _in_yardsticks(base, new) if alike else None
    if calibration is not None:
        for yardstick, sides in ((base.yardstick, sticks), (None, (base.medians, new.medians))):
            if sides is not None and (found := calibration.estimate(*_logs(sides), yardstick)):
                return replace(row, yardstick=yardstick, calibrated=True), found
    if sticks is None:
        return row, unpaired(*_logs((base.medians, new.medians)))
    return replace(row, yardstick=base.yardstick), unpaired(*_logs(sticks))


def _borne_out(row: Row, base: SideCase, new: SideCase) -> Row:
    """A change in units of the fixed step is one only where the seconds say so too.

    The step may share more of a drift than the case: it is short, and waits for its threads more often.
    It then excuses a case that got slower with the machine, but does not make a change of its own drift.
    """
    claims: dict[str, str] = {"regressed": "slower", "improved": "faster"}
    direction = claims.get(row.verdict, row.certain)
    if row.yardstick is None or row.ratio is None or direction is None:
        return row
    seconds = float(np.median(new.medians) / np.median(base.medians))
    slower = seconds if direction == "slower" else 1 / seconds
    certain = row.certain if slower > 1 else None
    claimed = row.verdict in claims and slower <= 1 + (row.margin or 0.0)
    if not claimed and certain == row.certain:
        return row
    if row.verdict == "equivalent":
        return replace(row, certain=certain)
    reason = (
        f"the case takes {seconds:.3g} times the seconds and the fixed step beside it "
        f"{seconds / row.ratio:.3g} times: a change is not told from drift of the machine"
    )
    return replace(
        row, verdict="inconclusive", gate="open", certain=certain, reason=reason, more=None
    )


def _logs(sides: tuple[Sequence[float], Sequence[float]]) -> tuple[list[float], list[float]]:
    base, new = (np.log(side).tolist() for side in sides)
    return base, new


def _margins(
    rows: Mapping[str, Row], new: Side, known: Mapping[str, CaseCalibration | None]
) -> list[float]:
    """The calibrated margin of each case. Raises UsageError for those that have none."""
    check_known(new.cases[case_id].calibrated_as for case_id in known if known[case_id] is None)
    margins = {
        case_id: one.margin_by_rounds(row.base_rounds, row.new_rounds, row.yardstick)
        for case_id, one in known.items()
        if one is not None and (row := rows[case_id])
    }
    return list(usable(margins).values())


def compare_pairs(
    base: Side,
    new: Side,
    judged: Mapping[str, tuple[Estimate, Judgement]],
    *,
    margin: float = MARGIN,
    allow_inconclusive: bool = False,
) -> Comparison:
    """The comparison of two sides that were timed in turn and judged while they were (`ab`).

    judged: by case; one that is not in it was not looked at before the time was over.
    """
    found = differences(base.facts, new.facts, base.target_facts, new.target_facts)
    rows = _rows(base, new, found)
    for case_id, row in rows.items():
        # How far rounds lie apart does not matter where each has its partner.
        doubts = tuple(one for one in row.doubts if not _OF_ROUNDS.search(one))
        rows[case_id] = row = replace(row, doubts=doubts)
        if row.verdict == "not-measured":
            continue
        if case_id in judged:
            rows[case_id] = with_judgement(row, *judged[case_id])
        else:
            rows[case_id] = replace(row, reason="the time was over before the first look")
    return _comparison(base, new, found, rows, margin, allow_inconclusive)


def _rows(base: Side, new: Side, found: Sequence[Difference]) -> dict[str, Row]:
    """A row a case of either side, open where it can be judged."""
    other_devices = blocked(found)
    rows = {
        case_id: _row(
            base.cases.get(case_id), new.cases.get(case_id), other_devices, in_turn=new.in_turn
        )
        for case_id in dict.fromkeys((*new.cases, *base.cases))
    }
    return rows | {
        case.id: Row.unmeasured(case, "planned, and reached on neither side")
        for case in new.unreached
        if case.id not in rows
    }


def _comparison(
    base: Side,
    new: Side,
    found: tuple[Difference, ...],
    rows: Mapping[str, Row],
    margin: float,
    allow_inconclusive: bool,
) -> Comparison:
    return Comparison(
        base=_info(base),
        new=_info(new),
        margin=margin,
        allow_inconclusive=allow_inconclusive,
        differences=found,
        rows=tuple(rows.values()),
    )


def check_margin(margin: float) -> None:
    """Raises UsageError for a margin that is no share of a time."""
    if not 0 < margin < 1:
        raise UsageError(
            f"a margin of {100 * margin:g} % is none: give a share between 0 and 100 %, e.g. 3%"
        )


def _info(side: Side) -> SideInfo:
    return SideInfo(
        name=side.name,
        kind=side.kind,
        id=side.id,
        label=side.label,
        started_at=side.started_at,
        state=side.state,
    )


def _row(
    base: SideCase | None,
    new: SideCase | None,
    other_devices: Mapping[str, str],
    *,
    in_turn: bool,
) -> Row:
    """The row of a case: open, or not measured where it cannot be judged."""
    case = new or base
    assert case is not None
    row = Row(
        case_id=case.id,
        benchmark=case.benchmark,
        params=case.params,
        target=case.target,
        verdict="inconclusive",
        gate="open",
        base_s=_median(base),
        new_s=_median(new),
        base_rounds=len(base.medians) if base else 0,
        new_rounds=len(new.medians) if new else 0,
        doubts=tuple(
            f"{name}, {doubt}"
            for name, side in (("base", base), ("new", new))
            for doubt in (side.doubts if side else ())
        ),
    )
    obstacle = _obstacle(base, new, other_devices.get(case.target), in_turn=in_turn)
    if obstacle is None:
        return row
    return replace(row, verdict="not-measured", gate=obstacle[0], reason=obstacle[1])


def _obstacle(
    base: SideCase | None, new: SideCase | None, other_device: str | None, *, in_turn: bool
) -> tuple[Gate, str] | None:
    """Why a case cannot be judged, and what that means for the gate; None where it can."""
    if new is None:
        assert base is not None
        if base.status != "ok":
            told = f"{base.status} on the base and not measured now"
            return "open", f"{told}: {base.reason or _NO_REASON}"
        return "open", "only on the base: it was not measured now"
    if fault := _fault(new):
        return "broken", fault
    if base is None:
        if in_turn and new.status == "oom":  # who is killed ends the visit of its partner too
            return "open", f"oom now: {new.reason or _NO_REASON}"
        return "open", "only now: the base has none of it"
    if base.status == new.status != "ok":
        return "fine", f"{new.status} on both sides: {new.reason or _NO_REASON}"
    if new.status != "ok":
        told = f"{new.status} now: {new.reason or _NO_REASON}"
        if new.status != "oom" or base.status != "ok":
            return "open", told
        if in_turn:  # the base, which comes first, holds its memory meanwhile
            return "open", f"two processes together may have no room; {told}"
        return "broken", told
    if base.status != "ok":
        return "open", f"{base.status} on the base: {base.reason or _NO_REASON}"
    if not (base.medians and new.medians):
        return "open", f"no times {'now' if base.medians else 'on the base'}"
    if min(*base.medians, *new.medians) <= 0:
        return "open", "a round read zero: the clock is too coarse for this step"
    for side, when in ((base, "on the base"), (new, "now")):
        if side.wrong:
            return "open", f"worthless {when}: {side.wrong[0]}"
    if other_device is not None:
        return "open", other_device
    if amounts := another_work(base.work, new.work):
        return "open", f"another amount of work: {amounts}"
    return None


def _fault(new: SideCase) -> str | None:
    """What is wrong with the new side, in words; None where nothing is."""
    if new.status in _FAULTS:
        return f"{new.status} now: {new.reason or _NO_REASON}"
    mismatches = (
        f"worthless now: {one}" for one in new.wrong if one.startswith("numerics-mismatch")
    )
    return next(mismatches, None)


def _median(side: SideCase | None) -> float | None:
    return float(np.median(side.medians)) if side is not None and side.medians else None


def _changed_yardsticks(found: Sequence[Difference]) -> set[str | None]:
    """The targets whose fixed step may have become another: what makes it faster would be taken for
    drift. None stands for all of them."""
    return {
        one.scope
        for one in found
        if decides_yardsticks(one.what, of_a_target=one.scope is not None)
    }


def _in_yardsticks(
    base: SideCase, new: SideCase
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The rounds of both sides in units of the same fixed step; None where a round has none."""
    if base.yardstick is None or base.yardstick != new.yardstick:
        return None
    if not (base.in_yardsticks and new.in_yardsticks):
        return None
    return base.in_yardsticks, new.in_yardsticks


def with_judgement(row: Row, estimate: Estimate, judgement: Judgement) -> Row:
    """The row with its verdict, interval and what would decide it."""
    verdict = judgement.verdict
    gate: Gate = (
        "broken" if verdict == "regressed" else "open" if verdict == "inconclusive" else "fine"
    )
    return replace(
        row,
        verdict=verdict,
        gate=gate,
        reason=_reason(estimate, judgement) if verdict == "inconclusive" else None,
        ratio=judgement.ratio,
        low=judgement.low,
        high=judgement.high,
        level=judgement.level,
        margin=judgement.margin,
        certain=judgement.certain,
        more=judgement.more,
        shift=float(np.exp(estimate.shift)),
        p=estimate.p if judgement.low is not None else None,
    )


def _reason(estimate: Estimate, judgement: Judgement) -> str:
    """Why nothing can be said, and what would decide it."""
    in_turn = len(estimate.rounds) == 1
    if judgement.low is None:
        if min(estimate.rounds) > 1:
            return (
                "the rounds of each side read exactly alike: the clock is too coarse for this step"
            )
        if in_turn:
            return "one pair tells nothing of the next"
        return (
            "one round a side tells nothing of the next process; take more with --rounds, or compare in "
            "turn with `devbench ab`"
        )
    if judgement.more is not None:
        unit = "pairs" if in_turn else "rounds a side"
        return f"about {judgement.more} more {unit} would decide it"
    far = f"more than {MOST_ROUNDS} {'pairs' if in_turn else 'rounds a side'} would be needed"
    return far if in_turn else f"{far}; `devbench ab` compares in turn"
