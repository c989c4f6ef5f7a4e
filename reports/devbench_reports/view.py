"""The result table as people read it: fewer columns than the data, in units, with a key to sort by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devbench.model import COLUMNS, Result
from devbench_reports import format as fmt
from devbench_reports.summary import doubts


@dataclass(frozen=True, slots=True)
class Cell:
    """`key` is what the column is sorted by: a number, or text; None sorts last."""

    text: str
    key: float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    doc: str
    numeric: bool
    cell: Callable[[Result], Cell]


def columns(results: Sequence[Result]) -> list[Column]:
    """The columns of the full table, without those that are empty in every row."""
    axes = dict.fromkeys(axis for row in results for axis in row.params)
    every = [
        _text("benchmark", lambda row: row.benchmark, COLUMNS["benchmark"][1]),
        *(_axis(axis) for axis in axes),
        _text("target", lambda row: row.target, COLUMNS["target"][1]),
        _text("status", lambda row: row.status, COLUMNS["status"][1]),
        _figure("median"),
        Column("± of it", "half of the 95 % interval, relative to the median", True, _interval),
        Column(
            "spread", "half of the 5th to the 95th percentile inside the processes", True, _spread
        ),
        _text("doubts", lambda row: "; ".join(doubts(row)), COLUMNS["quality_reasons"][1]),
        *(
            _figure(name, title)
            for name, title in (
                ("flop_per_s", "FLOP/s"),
                ("items_per_s", "items/s"),
                ("bytes_per_s", "bytes/s"),
            )
        ),
        _text("why not", lambda row: row.reason or "", COLUMNS["reason"][1]),
        _text("numerics", lambda row: row.numerics or "", COLUMNS["numerics"][1]),
        *(_figure(name) for name in ("rel_error", "ceiling_fraction", "peak_fraction")),
        _text("bound", lambda row: row.bound or "", COLUMNS["bound"][1]),
        _text("mode", lambda row: row.mode or "", COLUMNS["mode"][1]),
        *(
            _figure(name)
            for name in (
                "threads",
                "rounds",
                "samples",
                "min",
                "max",
                "first_call_s",
                "warmup_s",
                "peak_memory_bytes",
                "energy_j",
                "sm_clock_hz",
                "temperature_c",
            )
        ),
        _text("clock", lambda row: row.clock or "", COLUMNS["clock"][1]),
    ]
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


def rate(row: Result) -> str:
    found = fmt.rate(row)
    return fmt.quantity(*found) if found else fmt.NONE


def _text(title: str, text: Callable[[Result], str], doc: str) -> Column:
    return Column(title, doc, False, lambda row: Cell(text(row) or fmt.NONE, text(row)))


def _axis(axis: str) -> Column:
    def cell(row: Result) -> Cell:
        value = row.params.get(axis)
        if value is None:
            return Cell(fmt.NONE, None)
        return Cell(fmt.plain(value), value if isinstance(value, int | float) else str(value))

    return Column(axis, "an axis of the benchmark", False, cell)


def _figure(name: str, title: str | None = None) -> Column:
    unit, doc = COLUMNS[name]
    shown = title or name.removesuffix("_bytes").removesuffix("_s").removesuffix("_j").removesuffix(
        "_hz"
    )
    shown = shown.removesuffix("_c").replace("_", " ")
    return Column(
        shown,
        f"{doc} ({unit})" if unit not in ("", "1") else doc,
        True,
        lambda row: Cell(fmt.quantity(name, getattr(row, name)), getattr(row, name)),
    )


def _interval(row: Result) -> Cell:
    off = fmt.uncertainty(row)
    if off is None or off[0] != "interval":
        return Cell(fmt.NONE, None)
    return Cell(f"±{fmt.percent(off[1])}", off[1])


def _spread(row: Result) -> Cell:
    if row.median is None or row.within_p5 is None or row.within_p95 is None:
        return Cell(fmt.NONE, None)
    value = (row.within_p95 - row.within_p5) / 2 / row.median
    return Cell(f"~{fmt.percent(value)}", value)
