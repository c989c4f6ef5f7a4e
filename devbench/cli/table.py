"""Tables of the verbs that list things."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from devbench.cli.common import console


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """On standard output: folded to the width of a terminal, a line a row in a pipe."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    out = console()
    if not out.is_terminal:
        out.width = 100_000
    out.print(table)


def printable(text: str) -> str:
    """Without control characters, which could steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)
