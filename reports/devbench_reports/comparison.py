"""Which rows of a run are compared with which: devices with the CPU, frameworks with each other."""

from __future__ import annotations

from collections.abc import Iterable

from devbench.model import ParamValue, Result
from devbench.stats.ratio import Ratio, ratio, timed

Params = tuple[tuple[str, ParamValue], ...]


def point(result: Result) -> Params:
    """The point on the axes, hashable."""
    return tuple(result.params.items())


def speed_ups(results: Iterable[Result]) -> list[Ratio]:
    """Each row of another device against the CPU of the same framework at the same point.

    Where several CPU targets ran (thread counts), the one with the most threads is the base.
    """
    rows = list(results)
    bases: dict[tuple[str, str, Params], Result] = {}
    for row in rows:
        if row.physical_device == "cpu" and row.world_size == 1 and timed(row):
            key = (row.framework, row.benchmark, point(row))
            if key not in bases or (row.threads or 0) > (bases[key].threads or 0):
                bases[key] = row
    found = []
    for row in rows:
        base = bases.get((row.framework, row.benchmark, point(row)))
        if base and row.physical_device not in (None, "cpu") and (item := ratio(base, row)):
            found.append(item)
    return found


def between_frameworks(results: Iterable[Result]) -> list[Ratio]:
    """Frameworks against each other on the same physical device, threads and point.

    torch is the subject where it took part, otherwise the first by name: a value of 2 says that
    torch is twice as fast as the other.
    """
    groups: dict[object, list[Result]] = {}
    for row in results:
        if row.physical_device is not None:
            asked = row.target.partition(";")[2]
            key = (row.benchmark, point(row), row.physical_device, asked, row.world_size)
            groups.setdefault(key, []).append(row)
    found = []
    for rows in groups.values():
        subject, *others = sorted(rows, key=lambda row: (row.framework != "torch", row.framework))
        for other in others:
            if other.framework != subject.framework and (item := ratio(other, subject)):
                found.append(item)
    return found
