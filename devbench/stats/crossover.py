"""From which size on one target beats another: the crossover, read off the results of a run.

At each size that both were timed at, `ratio` says whether a difference is beyond the noise. The interval
of a crossover reaches from the last size at which the one is ahead beyond the noise to the first from
which on the other is. It needs no law between the sizes, only that there is one crossing between the
two; more sizes in between make it narrower (`devbench.crossover`). The size itself is interpolated in
logarithms between the two neighbours where the ratio of the medians passes one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from devbench.model import Json, ParamValue, Result, Run, format_params
from devbench.stats.ratio import Ratio, ratio, timed

#: What moving the data costs: nothing where both compute in the host's memory (``shared``), a time that
#: was taken in (``measured``), or it is not known (``unknown``).
Moving = Literal["shared", "measured", "unknown"]
Outcome = Literal["crosses", "emerges", "fades", "always", "never", "undecided"]

_SIGN: Final[Mapping[str, int]] = {"faster": 1, "no difference": 0, "slower": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What becomes of a comparison along the size.

    Ahead means faster beyond the noise. status: ``crosses``: one is ahead at smaller sizes, the other
    from a size on; ``emerges``: one is ahead from a size on and at no size behind; ``fades``: one is
    ahead at a size and nobody above it; ``always``: the subject is ahead at every size; ``never``: the
    base is; ``undecided``: nobody is ahead anywhere.
    ahead: the target that is ahead at the largest size at which anybody is.
    size: that from which on it is, or up to which for ``fades``; for ``undecided`` where the medians last
    change sides, if at all.
    low, high: a 95 % interval of the size; an end is None where it is open, both with a single round.
    changes: how often the one that is ahead changes along the sizes; of several, the last is told.
    throughout: whether all smaller sizes are as the status would have them: for ``emerges`` nobody is
    ahead at any of them, for ``fades`` the same one is at each.
    between: neighbouring sizes between which a further one would tell more; None where none would.
    """

    status: Outcome
    ahead: str | None
    size: float | None = None
    low: float | None = None
    high: float | None = None
    changes: int = 0
    throughout: bool = True
    between: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover:
    """Two targets of one framework along a benchmark's size axis, all else being equal.

    params: the point on the other axes. sizes: those that both were timed at, ascending. rounds: of
    the result with the fewest. without_transfer: times as measured, the data lying on the device.
    with_transfer: as if nothing lay there, so that all inputs (weights too) move to the device and the
    outputs back, at the measured pageable rates; None where those are not known.
    """

    suite: str
    benchmark: str
    params: Mapping[str, ParamValue]
    axis: str
    base: str
    subject: str
    sizes: tuple[float, ...]
    rounds: int
    without_transfer: Crossing
    with_transfer: Crossing | None
    moving: Moving


def find_crossovers(run: Run, results: Sequence[Result]) -> list[Crossover]:
    """One `Crossover` a pair of comparable targets and a series that both were timed at two sizes of.

    Targets are comparable within a framework: two different devices, or two thread counts of the CPU.
    The base is the CPU, or the one with fewer threads. Rows that are invalid take no part.
    """
    costs = _moving_costs(run, results)
    series: dict[tuple[str, ...], dict[str, dict[float, Result]]] = {}
    for row in filter(timed, results):
        axis = _size_axis(run, row)
        if axis is not None:
            fixed = format_params({name: row.params[name] for name in row.params if name != axis})
            sides = series.setdefault((row.suite, row.benchmark, row.framework, axis, fixed), {})
            sides.setdefault(row.target, {})[float(row.params[axis])] = row
    found = []
    for (_, _, _, axis, _), sides in series.items():
        for one, other in itertools.combinations(sides.values(), 2):
            base, subject = sorted((one, other), key=_weight)
            pairs = [(base[size], subject[size]) for size in sorted(base.keys() & subject.keys())]
            if len(pairs) > 1 and comparable(*pairs[0]):
                found.append(_crossover(axis, pairs, costs))
    return found


def _size_axis(run: Run, row: Result) -> str | None:
    """The size axis that the run recorded of the row's benchmark, where the row has a size on it."""
    declared = run.info.settings.get("benchmarks")
    recorded = declared.get(row.benchmark) if isinstance(declared, Mapping) else None
    axis = recorded.get("size") if isinstance(recorded, Mapping) else None
    size = row.params.get(axis) if isinstance(axis, str) else None
    return axis if isinstance(size, int | float) and size > 0 else None


def comparable(one: Result, other: Result) -> bool:
    """Two devices under the same threads, or one CPU under two thread counts. Two units of the same
    model are not: their difference does not depend on a size."""
    threads_alike = one.threads == other.threads
    if one.physical_device == other.physical_device and one.world_size == other.world_size:
        return one.physical_device == "cpu" and not threads_alike
    same_model = (one.device_name, one.world_size) == (other.device_name, other.world_size)
    return threads_alike and not same_model


def _weight(side: Mapping[float, Result]) -> tuple[bool, int, int]:
    row = next(iter(side.values()))
    return row.physical_device != "cpu", row.world_size, row.threads or 0


def _crossover(
    axis: str, pairs: Sequence[tuple[Result, Result]], costs: Mapping[str, float | None]
) -> Crossover:
    base, subject = pairs[0]
    with_transfer: Crossing | None
    plain = [item for pair in pairs if (item := ratio(*pair))]
    without = locate(plain, axis)
    moving: Moving = "measured"
    moved: list[Ratio] = []
    if base.physical_device == subject.physical_device == "cpu":
        moving, with_transfer = "shared", without
    else:
        for pair in pairs:
            one, other = (costs.get(row.case_id) for row in pair)
            if one is not None and other is not None:
                item = ratio(_later(pair[0], one), _later(pair[1], other))
                moved += [item] if item else []
        with_transfer = locate(moved, axis) if len(moved) == len(pairs) else None
        if with_transfer is None:
            moving = "unknown"
    return Crossover(
        suite=subject.suite,
        benchmark=subject.benchmark,
        params={name: value for name, value in subject.params.items() if name != axis},
        axis=axis,
        base=base.target,
        subject=subject.target,
        sizes=tuple(float(row.params[axis]) for row, _ in pairs),
        rounds=min(row.rounds for pair in pairs for row in pair),
        without_transfer=without,
        with_transfer=with_transfer,
        moving=moving,
    )


def locate(ratios: Sequence[Ratio], axis: str) -> Crossing:
    """Where the comparison changes sides along the axis. ratios: one a size, ascending, of one subject
    against one base."""
    sizes = [float(item.subject.params[axis]) for item in ratios]
    logs = [math.log(item.value) for item in ratios]
    # Of rounds that are very skewed the median may lie on the other side of their interval's mean.
    signs = [
        sign if (sign := _SIGN[item.verdict]) * log > 0 else 0
        for item, log in zip(ratios, logs, strict=True)
    ]
    known = all(item.has_interval for item in ratios)
    certain = [sign for sign in signs if sign]
    changes = sum(one != other for one, other in itertools.pairwise(certain))
    if not certain:
        size = _interpolated(sizes, logs, _last_change(logs))
        return Crossing(status="undecided", ahead=None, size=size)
    winner = certain[-1]
    ahead = (ratios[-1].subject if winner > 0 else ratios[-1].base).target
    last = max(place for place, sign in enumerate(signs) if sign)
    if signs[-1] == 0:
        low = sizes[last] if known else None
        return Crossing(
            status="fades",
            ahead=ahead,
            size=sizes[last],
            low=low,
            changes=changes,
            throughout=all(sign == winner for sign in signs[:last]),
        )
    first = max((place + 1 for place, sign in enumerate(signs) if sign != winner), default=0)
    if first == 0:
        return Crossing(status="always" if winner > 0 else "never", ahead=ahead)
    high = sizes[first] if known else None
    if not changes:
        return Crossing(
            status="emerges",
            ahead=ahead,
            size=sizes[first],
            high=high,
            throughout=not any(signs[:first]),
            between=(sizes[first - 1], sizes[first]),
        )
    behind = max(place for place, sign in enumerate(signs) if sign == -winner)
    place = _last_change(logs)
    assert place is not None  # the medians lie on different sides at `behind` and at `first`
    return Crossing(
        status="crosses",
        ahead=ahead,
        size=_interpolated(sizes, logs, place),
        low=sizes[behind] if known else None,
        high=high,
        changes=changes,
        between=(sizes[place], sizes[place + 1]),
    )


def _last_change(logs: Sequence[float]) -> int | None:
    """The last place after which every value lies on the side of the last one."""
    return max((place for place, log in enumerate(logs) if log * logs[-1] <= 0), default=None)


def _interpolated(sizes: Sequence[float], logs: Sequence[float], place: int | None) -> float | None:
    """The size at which a line through two neighbours, in logarithms of size and ratio, passes zero."""
    if place is None or place + 1 == len(sizes):
        return None
    share = logs[place] / (logs[place] - logs[place + 1])
    return math.exp((1 - share) * math.log(sizes[place]) + share * math.log(sizes[place + 1]))


def _later(row: Result, seconds: float) -> Result:
    """The row with every time longer by `seconds`."""
    names = ("median", "ci_low", "ci_high", "within_p5", "within_p95")
    changes = {name: value + seconds for name in names if (value := getattr(row, name)) is not None}
    return replace(row, **changes)


def _moving_costs(run: Run, results: Sequence[Result]) -> dict[str, float | None]:
    """Seconds that moving a case's inputs and outputs takes, by case id; None where it is not known."""
    moved: dict[str, tuple[int, int]] = {
        one.case_id: (one.input_bytes, one.output_bytes)
        for one in run.measurements
        if one.input_bytes is not None and one.output_bytes is not None
    }
    targets: Mapping[str, Json] = run.info.environment.get("targets") or {}
    costs: dict[str, float | None] = {}
    for row in results:
        rates = ((targets.get(row.target) or {}).get("ceilings") or {}).get("transfers") or {}
        there, back = rates.get("h2d"), rates.get("d2h")
        if row.physical_device == "cpu":
            costs[row.case_id] = 0.0
        elif there and back and row.case_id in moved:
            to, fro = moved[row.case_id]
            costs[row.case_id] = to / there + fro / back
        else:
            costs[row.case_id] = None
    return costs
