"""A history as plain text, for 80 columns and more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from devbench.regress.history import History, Series
from devbench_reports import format as fmt
from devbench_reports import history_view as view
from devbench_reports.comparison_view import MANY, change
from devbench_reports.paper import Column, indented, print_table, written

#: What is listed; the rest is counted. The page and the JSON hold everything.
_EVENTS: Final = 10
_CASES: Final = 10


def to_text(history: History, *, width: int | None = None, color: bool = False) -> str:
    """The levels of each case, then the runs at which they changed, the newest first.

    width: columns; by default those of the terminal, or 100 where the output is none.
    """
    return written(lambda console: _print(console, history), width, color)


def _print(console: Console, history: History) -> None:
    first, last = history.runs[0], history.runs[-1]
    span = f"{view.day(first)} to {view.day(last)} UTC"
    console.print(Text(f"{fmt.count(len(history.runs), 'run')}, {span}"))
    console.print()
    rows = history.series
    if len(rows) > MANY:
        rows = tuple(series for series in rows if series.changes)
    if rows:
        _print_rows(console, rows, history)
    if left := len(history.series) - len(rows):
        console.print(Text(f"{fmt.count(left, 'case')} without a change", style="dim"))
    console.print()
    found = view.events(history)
    for event in found[:_EVENTS]:
        heading = f"{view.day(event.run)}  {view.run(event.run)}, {view.code(event)}"
        console.print(Text(heading, style="bold"))
        for series, item in event.changes[:_CASES]:
            style = "red" if item.ratio > 1 else "green"
            ratio = f"{change(item.ratio):>8}"
            indented(console, f"{ratio}  {view.name(series, history)}", style, lead=ratio)
        if len(event.changes) > _CASES:
            indented(console, f"and {len(event.changes) - _CASES} more", "dim")
        for difference in event.differences:
            indented(console, difference, "yellow")
    if len(found) > _EVENTS:
        console.print(Text(f"and {len(found) - _EVENTS} earlier ones", style="dim"))
    if found:
        console.print()
    short = view.short(history)
    sentences = view.method(history)
    if short:
        sentences.append(f"{fmt.count(short, 'series', 'series')} too short to be searched.")
    for sentence in sentences:
        console.print(Text(sentence, style="dim"))
    total = fmt.count(sum(len(series.changes) for series in history.series), "change")
    changed = sum(bool(series.changes) for series in history.series)
    of_all = fmt.count(len(history.series), "series", "series")
    console.print(Text(f"{total} in {changed} of {of_all}", style="bold"))


def _print_rows(console: Console, rows: Sequence[Series], history: History) -> None:
    """One row a series: from its first level to the one it has now."""
    figures = ("runs", "first", "now", "since", "changes")
    columns = [
        Column("case"),
        *(Column(name, figures=True) for name in figures),
        Column("the last"),
    ]
    lines = []
    for series in rows:
        last = series.changes[-1] if series.changes else None
        lines.append(
            [
                view.name(series, history),
                str(len(series.runs)),
                fmt.seconds(series.levels[0]),
                fmt.seconds(series.levels[-1]),
                change(series.levels[-1] / series.levels[0]) if last else fmt.NONE,
                str(len(series.changes)) if last else fmt.NONE,
                f"{view.day(last.run)[:10]} {change(last.ratio)}" if last else fmt.NONE,
            ]
        )
    print_table(console, columns, lines, by=0)
