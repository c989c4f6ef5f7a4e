"""How the rows of a run are laid out: a group a benchmark, a panel a point of the axes that are not
drawn, a line a target and dtype, its points along the size axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devbench.model import ParamValue, Result, Run
from devbench.stats.ratio import timed


@dataclass(frozen=True, slots=True)
class Line:
    """Rows of one target and dtype, by increasing size."""

    target: str
    dtype: str | None
    rows: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn together: the rows that agree in `params`."""

    params: Mapping[str, ParamValue]
    rows: tuple[Result, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One benchmark in a run.

    size: the axis that charts go along; None where no axis holds numbers.
    constant: the axes that have the same value in every row.
    """

    suite: str
    benchmark: str
    size: str | None
    constant: Mapping[str, ParamValue]
    rows: tuple[Result, ...]
    panels: tuple[Panel, ...]

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes at which something was timed that can be relied on."""
        if self.size is None:
            return ()
        return tuple(sorted({float(row.params[self.size]) for row in self.rows if timed(row)}))


def groups(run: Run, results: Sequence[Result]) -> tuple[Group, ...]:
    """The benchmarks of a run in the order of their first row."""
    by_name: dict[tuple[str, str], list[Result]] = {}
    for row in results:
        by_name.setdefault((row.suite, row.benchmark), []).append(row)
    return tuple(_group(run, suite, name, rows) for (suite, name), rows in by_name.items())


def targets(results: Sequence[Result]) -> tuple[str, ...]:
    """Targets in the order of a run's reports: by framework as they came, the CPU first."""
    frameworks = list(dict.fromkeys(row.framework for row in results))
    first = {row.target: row for row in reversed(results)}
    return tuple(
        sorted(
            first,
            key=lambda name: (
                frameworks.index(first[name].framework),
                first[name].physical_device != "cpu",
                name,
            ),
        )
    )


def blocks(group: Group) -> list[tuple[Mapping[str, ParamValue], list[Result]]]:
    """The measured rows for a table: blocks that differ in the size only, by size, then by target."""
    order = {name: place for place, name in enumerate(targets(group.rows))}
    found: dict[tuple[tuple[str, ParamValue], ...], list[Result]] = {}
    for panel in group.panels:
        for row in panel.rows:
            if row.median is not None:
                key = tuple(
                    (axis, value)
                    for axis, value in row.params.items()
                    if axis != group.size and axis not in group.constant
                )
                found.setdefault(key, []).append(row)
    return [
        (dict(key), sorted(rows, key=lambda row: (_size(row, group.size), order[row.target])))
        for key, rows in found.items()
    ]


def _size(row: Result, size: str | None) -> float:
    return float(row.params[size]) if size is not None else 0.0


def _group(run: Run, suite: str, name: str, rows: list[Result]) -> Group:
    values: dict[str, list[ParamValue]] = {}
    for row in rows:
        for axis, value in row.params.items():
            seen = values.setdefault(axis, [])
            if value not in seen:
                seen.append(value)
    constant = {
        axis: seen[0]
        for axis, seen in values.items()
        if len(seen) == 1 and all(axis in row.params for row in rows)
    }
    size = _size_axis(run, name, values, rows)
    facets = [axis for axis in values if axis not in (size, "dtype", *constant)]
    order = {axis: {value: place for place, value in enumerate(values[axis])} for axis in facets}
    panels: dict[tuple[tuple[str, ParamValue], ...], list[Result]] = {}
    for row in rows:
        key = tuple((axis, row.params[axis]) for axis in facets if axis in row.params)
        panels.setdefault(key, []).append(row)
    ordered = sorted(panels, key=lambda key: [order[axis][value] for axis, value in key])
    return Group(
        suite,
        name,
        size,
        constant,
        tuple(rows),
        tuple(Panel(dict(key), tuple(panels[key]), _lines(panels[key], size)) for key in ordered),
    )


def _size_axis(
    run: Run, name: str, values: Mapping[str, Sequence[ParamValue]], rows: Sequence[Result]
) -> str | None:
    """The axis that the benchmark declared as its size, where the run recorded it; otherwise the
    axis of numbers with the most values."""
    declared = run.info.settings.get("benchmarks")
    recorded = declared.get(name) if isinstance(declared, Mapping) else None
    axis = recorded.get("size") if isinstance(recorded, Mapping) else None
    numeric = [
        axis
        for axis, seen in values.items()
        if all(
            isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            for value in seen
        )
        and all(axis in row.params for row in rows)
    ]
    if axis in numeric:
        return str(axis)
    return max(numeric, key=lambda axis: len(values[axis]), default=None)


def _lines(rows: Sequence[Result], size: str | None) -> tuple[Line, ...]:
    found: dict[tuple[str, str | None], list[Result]] = {}
    for row in rows:
        found.setdefault((row.target, row.dtype), []).append(row)
    dtypes = list(dict.fromkeys(row.dtype for row in rows))
    places = {target: place for place, target in enumerate(targets(rows))}
    return tuple(
        Line(target, dtype, tuple(sorted(members, key=lambda row: _size(row, size))))
        for (target, dtype), members in sorted(
            found.items(), key=lambda item: (places[item[0][0]], dtypes.index(item[0][1]))
        )
    )
