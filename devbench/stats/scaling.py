"""How well a case scales over devices or ranks: its efficiency against the same case on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from devbench.model import Result
from devbench.stats.ratio import ratio

#: A benchmark whose ranks share what they compute on says so in this metric, and scales not at all.
REMARK = "scaling"
PATH_ONLY = "path only"


def with_efficiency(results: Sequence[Result]) -> list[Result]:
    """The rows, with `efficiency_fraction` among the metrics of those with an axis `world_size`.

    Strong scaling divides the same work: T₁/(N·T_N). Weak scaling gives each rank as much as the one
    had: T₁/T_N. Which of them is read from the axis `scaling`, strong where there is none. The
    interval is that of the ratio, where both rows have more than one round.
    """
    alone = {_series(row): row for row in results if row.params.get("world_size") == 1}
    return [_judged(row, alone.get(_series(row))) for row in results]


def _judged(row: Result, one: Result | None) -> Result:
    if one is None or str(row.metrics.get(REMARK, "")).startswith(PATH_ONLY):
        return row
    found = ratio(one, row)
    if found is None:
        return row
    share = 1 if row.params.get("scaling") == "weak" else row.world_size
    figures = {"efficiency_fraction": found.value / share}
    if found.low is not None and found.high is not None and row is not one:
        figures["efficiency_low_fraction"] = found.low / share
        figures["efficiency_high_fraction"] = found.high / share
    return replace(row, metrics={**row.metrics, **figures})


def _series(row: Result) -> tuple[object, ...]:
    """What a row shares with its variants on more or fewer ranks of the same kind of device."""
    rest = tuple((name, value) for name, value in row.params.items() if name != "world_size")
    kind = row.target.split(":")[1].split(";")[0]
    return row.benchmark, row.framework, kind, row.threads, rest
