"""A comparison as plain text, for 80 columns and more."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from devbench.regress.comparison import Comparison, Row
from devbench_reports import comparison_view as view
from devbench_reports import format as fmt
from devbench_reports.alike import template, together
from devbench_reports.comparison_view import Group
from devbench_reports.paper import Column, indented, print_table, written

#: From here on there is room for the times themselves.
_WIDE: Final = 100

_STYLES: Final = {
    "regressed": "bold red",
    "improved": "green",
    "equivalent": "",
    "inconclusive": "yellow",
    "not-measured": "yellow",
}


def to_text(comparison: Comparison, *, width: int | None = None, color: bool = False) -> str:
    """What differs around the sides, a table of the verdicts, its notes, and the outcome as last line.

    width: columns; by default those of the terminal, or 100 where the output is none.
    """
    return written(lambda console: _print(console, comparison), width, color)


def _print(console: Console, comparison: Comparison) -> None:
    console.print(Text(f"base  {view.side(comparison.base)}"))
    console.print(Text(f"new   {view.side(comparison.new)}"))
    console.print()
    if comparison.differences:
        console.print(Text("What differs besides the code", style="bold"))
        for item in comparison.differences:
            style = {"blocks": "red", "matters": "yellow", "noted": "dim"}[item.severity]
            indented(console, view.difference(item), style)
        console.print()
    listing = view.listing(comparison)
    notes: dict[str, list[str]] = {}
    for group in view.groups(listing.rows):
        console.print(Text(group.heading, style="bold"))
        _print_rows(console, group, notes, margins=view.own_margins(comparison))
    if listing.left_out:
        indented(console, f"and {fmt.count(listing.left_out, 'equivalent case')}", "dim")
    for number, alike in enumerate(notes.values(), 1):
        indented(console, f"[{number}] {together(alike)}", "yellow")
    for sentence in view.method(comparison):
        indented(console, sentence, "dim")
    console.print()
    console.print(Text(view.headline(comparison), style="bold"))


def _print_rows(
    console: Console, group: Group, notes: dict[str, list[str]], *, margins: bool
) -> None:
    """One row a case. What is to be known of it becomes a note; those that differ in figures only share
    one."""
    wide = console.width >= _WIDE
    texts = ["case", *(["target"] if group.target is None else [])]
    own = ("margin",) if margins else ()
    figures = [*(("base", "new") if wide else ()), "change", "interval", *own]
    columns = [
        *map(Column, texts),
        *(Column(name, figures=True) for name in figures),
        *map(Column, ("verdict", "note")),
    ]
    lines = [
        [
            group.case(row),
            *([row.target] if group.target is None else []),
            *((fmt.seconds(row.base_s), fmt.seconds(row.new_s)) if wide else ()),
            view.change(row.ratio),
            view.interval(row),
            *((view.margin(row),) if margins else ()),
            Text(view.verdict(row), style=_STYLES[row.verdict]),
            _marks(row, notes),
        ]
        for row in group.rows
    ]
    print_table(console, columns, lines)


def _marks(row: Row, notes: dict[str, list[str]]) -> str:
    numbers = set()
    reason = [row.reason] if row.reason else []
    for remark in (*reason, *(f"in doubt: {doubt}" for doubt in view.doubts(row))):
        alike = template(remark)
        notes.setdefault(alike, []).append(remark)
        numbers.add(list(notes).index(alike) + 1)
    return ",".join(map(str, sorted(numbers)))
