"""The result table as people read it: fewer columns than the data, in units, with a key to sort by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from devbench.model import COLUMNS, Result
from devbench_reports import format as fmt
from devbench_reports.summary import reason_code


@dataclass(frozen=True, slots=True)
class Cell:
    """`key` is what the column is sorted by: a finite number, or text; None sorts last."""

    text: str
    key: float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """`detail`: what a sheet of paper has no room for."""

    title: str
    doc: str
    numeric: bool
    cell: Callable[[Result], Cell]
    detail: bool = False


def columns(results: Sequence[Result]) -> list[Column]:
    """The columns of the full table, without those that are empty in every row.

    An axis has a column of its own where every row has it; else the axes share one, since a table of
    many benchmarks would be mostly empty.
    """
    axes = dict.fromkeys(axis for row in results for axis in row.params)
    shared = all(len(row.params) == len(axes) for row in results)
    main = [
        _text("benchmark", lambda row: row.benchmark, COLUMNS["benchmark"][1]),
        *(
            [_axis(axis) for axis in axes]
            if shared
            else [_text("case", lambda row: fmt.params(row.params), COLUMNS["params"][1])]
        ),
        _text("target", lambda row: row.target, COLUMNS["target"][1]),
        _text("status", lambda row: row.status, COLUMNS["status"][1]),
        _figure("median"),
        Column("± of it", "half of the 95 % interval, relative to the median", True, _interval),
        Column("spread", "half of the 5th to the 95th percentile in the processes", True, _spread),
        _text(
            "doubts", _doubts_in_short, "why it is to be doubted; the last column has the figures"
        ),
        _figure("items_per_s", "items/s"),
        _figure("flop_per_s", "FLOP/s"),
        _figure("bytes_per_s", "bytes/s"),
        _text("why not", lambda row: row.reason or "", COLUMNS["reason"][1]),
    ]
    details = [
        _text("numerics", lambda row: row.numerics or "", COLUMNS["numerics"][1]),
        _figure("rel_error", "largest error"),
        _figure("ceiling_fraction", "of the ceiling"),
        _figure("peak_fraction", "of the peak"),
        _text("bound", lambda row: row.bound or "", COLUMNS["bound"][1]),
        _text("mode", lambda row: row.mode or "", COLUMNS["mode"][1]),
        *(_figure(name, name) for name in ("threads", "rounds", "samples", "min", "max")),
        _figure("first_call_s", "first call"),
        _figure("warmup_s", "warm-up"),
        _figure("peak_memory_bytes", "peak memory"),
        _figure("yardsticks"),
        _figure("energy_j", "energy"),
        _figure("items_per_j", "items/J"),
        _figure("sm_clock_hz", "SM clock"),
        _figure("temperature_c", "temperature"),
        _text("clock", lambda row: row.clock or "", COLUMNS["clock"][1]),
    ]
    metrics = dict.fromkeys(name for row in results for name in row.metrics)
    details += [_metric(name, results) for name in metrics]
    details.append(
        _text(
            "doubts in full",
            lambda row: "; ".join(row.quality_reasons),
            COLUMNS["quality_reasons"][1],
        )
    )
    every = [*main, *(replace(column, detail=True) for column in details)]
    return [
        column for column in every if any(column.cell(row).key not in (None, "") for row in results)
    ]


def point(row: Result) -> str:
    return fmt.long_params(row.params) or fmt.NONE


def plus_minus(row: Result) -> str:
    """``±3.1 %`` from the rounds, or ``~8 %``: the spread inside the one process."""
    off = fmt.uncertainty(row)
    if off is None:
        return fmt.NONE
    return f"{'±' if off[0] == 'interval' else '~'}{fmt.percent(off[1])}"


def plus_minus_heading(rows: Sequence[Result]) -> str:
    """The heading of a column of `plus_minus`: the signs that occur in it."""
    signs = sorted({text[0] for row in rows if (text := plus_minus(row)) != fmt.NONE}, reverse=True)
    return " or ".join(signs)


def rate(row: Result) -> str:
    """The declared rate; of work that cannot be declared, what the benchmark counted: a metric such as
    ``samples_per_s``."""
    if found := fmt.rate(row):
        return fmt.quantity(*found)
    for name, value in row.metrics.items():
        if name.endswith("s_per_s") and not isinstance(value, str):
            return fmt.si(value, f"{name.removesuffix('_per_s').replace('_', ' ')}/s")
    return fmt.NONE


def _doubts_in_short(row: Result) -> str:
    return ", ".join(dict.fromkeys(map(reason_code, row.quality_reasons)))


def _text(title: str, text: Callable[[Result], str], doc: str) -> Column:
    return Column(title, doc, False, lambda row: Cell(text(row) or fmt.NONE, text(row)))


def _axis(axis: str) -> Column:
    def cell(row: Result) -> Cell:
        value = row.params.get(axis)
        return Cell(fmt.plain(value), _key(value))

    return Column(axis, "an axis of the benchmark", False, cell)


def _figure(name: str, title: str | None = None) -> Column:
    unit, doc = COLUMNS[name]
    return Column(
        title or name,
        f"{doc} ({unit})" if unit not in ("", "1") else doc,
        True,
        lambda row: Cell(fmt.quantity(name, getattr(row, name)), _key(getattr(row, name))),
    )


def _metric(name: str, results: Sequence[Result]) -> Column:
    def cell(row: Result) -> Cell:
        value = row.metrics.get(name)
        if value is None:
            return Cell(fmt.NONE, None)
        return Cell(fmt.metric(name, value)[1], _key(value))

    numeric = not any(isinstance(row.metrics.get(name), str) for row in results)
    return Column(fmt.metric(name, 0.0)[0], "a figure that the benchmark adds", numeric, cell)


def _key(value: Any) -> float | str | None:
    """Of a number or a word. Scripts read no ``True`` and no ``inf`` as numbers."""
    if value is None or isinstance(value, str):
        return value
    return value + 0 if math.isfinite(value) else None


def metrics(row: Result) -> str:
    """``epoch 500 ms · accuracy 92 %``: what the benchmark adds to its row."""
    return " · ".join(" ".join(fmt.metric(name, value)) for name, value in row.metrics.items())


def _interval(row: Result) -> Cell:
    off = fmt.uncertainty(row)
    if off is None or off[0] != "interval":
        return Cell(fmt.NONE, None)
    return Cell(f"±{fmt.percent(off[1])}", off[1])


def _spread(row: Result) -> Cell:
    if not row.median or row.within_p5 is None or row.within_p95 is None:
        return Cell(fmt.NONE, None)
    value = (row.within_p95 - row.within_p5) / 2 / row.median
    return Cell(f"~{fmt.percent(value)}", value)
