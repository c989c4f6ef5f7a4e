"""A comparison as plain text, for 80 columns and more."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from devbench.regress.compare import Comparison, Row
from devbench_reports import comparison_view as view
from devbench_reports import format as fmt
from devbench_reports.comparison_view import Group
from devbench_reports.paper import written

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
            _indented(console, Text(view.difference(item), style=style))
        console.print()
    listing = view.listing(comparison)
    notes: list[str] = []
    for group in view.groups(listing.rows):
        console.print(Text(group.heading, style="bold"))
        console.print(_table(group, notes, wide=console.width >= _WIDE))
    if listing.left_out:
        _indented(console, Text(f"and {fmt.count(listing.left_out, 'equivalent case')}", "dim"))
    for number, note in enumerate(notes, 1):
        _indented(console, Text(f"[{number}] {note}", style="yellow"))
    for sentence in view.method(comparison):
        _indented(console, Text(sentence, style="dim"))
    console.print()
    console.print(Text(view.headline(comparison), style="bold"))


def _indented(console: Console, text: Text) -> None:
    console.print(Padding(text, (0, 0, 0, 2)))


def _table(group: Group, notes: list[str], *, wide: bool) -> Table:
    """One row a case. What is to be known of it becomes a note; equal ones share it."""
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("  case", overflow="fold")
    if group.target is None:
        table.add_column("target", overflow="fold")
    for name in (*(("base", "new") if wide else ()), "change", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("note", no_wrap=True)
    for row in group.rows:
        table.add_row(
            Text(f"  {group.case(row)}"),
            *((Text(row.target),) if group.target is None else ()),
            *((fmt.seconds(row.base_s), fmt.seconds(row.new_s)) if wide else ()),
            view.change(row.ratio),
            view.interval(row),
            Text(view.verdict(row), style=_STYLES[row.verdict]),
            _marks(row, notes),
        )
    return table


def _marks(row: Row, notes: list[str]) -> str:
    numbers = []
    for remark in view.remarks(row):
        if remark not in notes:
            notes.append(remark)
        numbers.append(str(notes.index(remark) + 1))
    return ",".join(numbers)
