"""Crossovers in words: from which size on one target beats another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devbench.stats.crossover import Crossing, Crossover
from devbench_reports import format as fmt
from devbench_reports.panels import Group

#: Headings of the table that `rows` fills.
HEADINGS = ("case", "target", "against", "as measured", "moving the data too")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of crossovers; `moved` is None where moving the data costs nothing."""

    case: str
    subject: str
    base: str
    measured: str
    moved: str | None


def of(group: Group, crossovers: Sequence[Crossover]) -> list[Crossover]:
    """Those of one benchmark, along the axis that it is drawn over."""
    return [
        item
        for item in crossovers
        if (item.suite, item.benchmark, item.axis) == (group.suite, group.benchmark, group.size)
    ]


def rows(group: Group, crossovers: Sequence[Crossover]) -> list[Row]:
    """The table of a benchmark's crossovers."""
    return [
        Row(
            fmt.params(item.params, tuple(group.constant)),
            item.subject,
            item.base,
            words(item, item.without_transfer),
            None
            if item.moving == "shared"
            else fmt.UNKNOWN
            if item.with_transfer is None
            else words(item, item.with_transfer),
        )
        for item in of(group, crossovers)
    ]


def words(item: Crossover, crossing: Crossing) -> str:
    """Of the subject against the base: ``faster from n ≈ 412 on (256 to 512)``."""
    axis = item.axis
    way = "faster" if crossing.ahead == item.subject else "slower"
    if crossing.status in ("always", "never"):
        return f"{way} at every size"
    if crossing.status == "emerges":
        below = "no difference below" if crossing.throughout else "below at some sizes only"
        return f"{way} from {axis} = {_size(crossing.size)} on, {below}"
    if crossing.status == "fades":
        size = f"{axis} = {_size(crossing.size)}"
        where = f"up to {size}" if crossing.throughout else f"at {size}, {_smaller(crossing)}"
        return f"{way} {where}, no difference above"
    if crossing.status == "undecided":
        return f"no difference{_medians(item, crossing)}"
    return (
        f"{way} from {axis} ≈ {_size(crossing.size)} on ({_interval(crossing)}){_changes(crossing)}"
    )


def clause(item: Crossover, crossing: Crossing) -> str:
    """The same as a part of a sentence, the winner named: ``from n ≈ 412 on (…), A beats B``."""
    axis = item.axis
    ahead = crossing.ahead
    behind = item.base if ahead == item.subject else item.subject
    if ahead is None:
        return (
            f"{item.subject} and {item.base} show no difference beyond the noise at any size"
            f"{_medians(item, crossing)}"
        )
    if crossing.status in ("always", "never"):
        return f"{ahead} beats {behind} at every size measured"
    if crossing.status == "emerges":
        below = (
            "there is no difference beyond the noise"
            if crossing.throughout
            else "at some sizes only"
        )
        return f"from {axis} = {_size(crossing.size)} on, {ahead} beats {behind}; below, {below}"
    if crossing.status == "fades":
        size = f"{axis} = {_size(crossing.size)}"
        won = (
            f"up to {size}, {ahead} beats {behind}"
            if crossing.throughout
            else f"at {size}, {ahead} beats {behind}, {_smaller(crossing)}"
        )
        return f"{won}; above, there is no difference beyond the noise"
    basis = _interval(crossing)
    sure = basis if crossing.high is None else f"95 % interval {basis}"
    return (
        f"from {axis} ≈ {_size(crossing.size)} on ({sure}), {ahead} beats {behind}"
        f"{_changes(crossing)}"
    )


def _medians(item: Crossover, crossing: Crossing) -> str:
    if crossing.size is None:
        return ""
    return f"; the medians change sides at {item.axis} ≈ {_size(crossing.size)}"


def _interval(crossing: Crossing) -> str:
    if crossing.low is None or crossing.high is None:
        return "one round, so no interval"
    return f"{fmt.plain(crossing.low)} to {fmt.plain(crossing.high)}"


def _smaller(crossing: Crossing) -> str:
    """What an advantage that fades comes to below its last size, where it is not the same everywhere."""
    return (
        "the other way round at a smaller size"
        if crossing.changes
        else "but not at every smaller size"
    )


def _changes(crossing: Crossing) -> str:
    return f", the last of {crossing.changes} changes" if crossing.changes > 1 else ""


def _size(value: float | None) -> str:
    """Sizes are whole where they are large: 412, 1820, 9.3."""
    if value is None:
        return fmt.NONE
    return f"{value:.0f}" if value >= 100 or value.is_integer() else f"{value:.3g}"
