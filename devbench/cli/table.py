"""Tables of the verbs that list things."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from devbench.cli.common import console

if TYPE_CHECKING:
    from rich.table import Table


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], below: Sequence[str] = ()
) -> None:
    """On standard output: folded to the width of a terminal, a line a row in a pipe.

    below: the columns that go beneath each row, by name, on a terminal that is too narrow for all; what
    identifies a row must stand among the others, which are then not broken.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_length, column)) for column in zip(columns, *cells, strict=True)]
    out = console()
    if not out.is_terminal:
        out.width = 100_000
    if not below or sum(widths) + 2 * (len(columns) - 1) <= out.width:
        out.print(_table(columns, cells))
        return
    beside = [place for place, name in enumerate(columns) if name not in below]
    fixed = [widths[place] for place in beside]
    out.print(_table([columns[place] for place in beside], [], fixed))
    from rich.padding import Padding
    from rich.text import Text

    for row in cells:
        out.print(_table([], [[row[place] for place in beside]], fixed))
        facts = [f"{name} {row[columns.index(name)]}" for name in below]
        out.print(Padding(Text(" · ".join(facts), style="dim"), (0, 0, 0, 2)))


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int] = ()
) -> Table:
    """widths: of columns that stay as they are. columns: none for rows without headings."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(columns))
    for name, width in zip_longest(columns, widths):
        table.add_column(name or "", width=width)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    return table


def _length(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split("\n")))


def printable(text: str) -> str:
    """Without control characters, which could steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)
