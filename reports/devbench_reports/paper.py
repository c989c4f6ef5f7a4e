"""Text of a fixed width, for a terminal or a file: what the reporters of plain text share."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from devbench_reports import format as fmt

_NARROWEST: Final = 80
_NO_TERMINAL: Final = 100

#: A space at which no line may end. The one that Unicode has for it is a space to `str.rstrip` and Rich.
_TIE: Final = "\ue000"


class _Paper(Console):
    """Whatever is printed may come from the file of a stranger, and Rich lets its escape sequences through.
    They are taken out before Rich adds its own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        if isinstance(renderable, Text):
            renderable = renderable.copy()
            renderable.plain = fmt.printable(renderable.plain)
        return super().render(renderable, options)


def written(write: Callable[[Console], None], width: int | None, color: bool) -> str:
    """What `write` prints, without spaces at the ends of lines.

    width: columns, at least 80; by default those of the terminal, or 100 where the output is none.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _NO_TERMINAL
    console = _Paper(
        file=io.StringIO(),
        width=max(width, _NARROWEST),
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        write(console)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(lines).strip("\n") + "\n"


def indented(console: Console, text: str, style: str = "", *, lead: str = "", by: int = 2) -> None:
    """A paragraph `by` columns in, its further lines two more.

    style: of the text, or of `lead` alone where the text begins with that.
    """
    shown = Text(text, "" if lead else style)
    shown.stylize(style, 0, len(lead))
    for number, line in enumerate(_wrapped(console, shown, console.width - by - 2)):
        console.print(Text(" " * (by + 2 * (number > 0))) + line, soft_wrap=True)


def _wrapped(console: Console, text: Text, width: int) -> list[Text]:
    """Lines of at most `width`. None ends between a figure and its unit, and a name that is longer than
    a line is broken after a comma or before its ``@`` rather than anywhere."""
    tied = text.copy()
    tied.plain = fmt.tied(fmt.printable(text.plain)).replace("\u00a0", _TIE)
    lines = [Text()]
    for word in tied.split(" ", include_separator=True):
        for piece in _pieces(word) if _length(word) > width else [word]:
            if lines[-1] and lines[-1].cell_len + _length(piece) > width:
                lines.append(Text())
            first, *others = piece.wrap(console, width) if _length(piece) > width else [piece]
            lines[-1].append_text(first)
            lines += others
    for line in lines:
        line.plain = line.plain.rstrip().replace(_TIE, " ")
    return lines


def _pieces(word: Text) -> list[Text]:
    """The parts of a name after each comma and before an ``@``."""
    places = [match.end() for match in re.finditer(r",(?=\S)|.(?=@)", word.plain)]
    return list(word.divide(places))


@dataclass(frozen=True, slots=True)
class Column:
    """Figures stand at the right and are never broken."""

    heading: str
    figures: bool = False


#: A row of cells, or a line that goes over all columns.
Line: TypeAlias = Sequence[str | Text] | Text


def table_width(columns: Sequence[Column], lines: Sequence[Line], by: int = 2) -> int:
    """What a table takes at least when nothing in it is broken."""
    return by + sum(_widths(columns, lines)) + len(columns) - 1


def print_table(
    console: Console, columns: Sequence[Column], lines: Sequence[Line], by: int = 2
) -> None:
    """Lines under headings, `by` columns in; those over all columns stand two columns in.

    Where there is too little room, the texts are broken, the widest first.
    """
    widths = _widths(columns, lines)
    room = console.width - by
    gap = 2 if sum(widths) + 2 * (len(columns) - 1) <= room else 1
    too_much = sum(widths) + gap * (len(columns) - 1) - room
    if too_much > 0:
        widths = _narrowed(columns, lines, widths, too_much)
    rows: list[Sequence[str | Text]] = []
    headed = False

    def flush() -> None:
        nonlocal headed
        if rows or not headed:
            table = _table(console, columns, widths, gap, rows, headings=not headed)
            console.print(Padding(table, (0, 0, 0, by)))
        headed = True
        rows.clear()

    for line in lines:
        if isinstance(line, Text):
            flush()
            console.print(Padding(line, (0, 0, 0, 2)))
        else:
            rows.append(line)
    flush()


def _widths(columns: Sequence[Column], lines: Sequence[Line]) -> list[int]:
    widths = [_length(column.heading) for column in columns]
    for line in lines:
        if not isinstance(line, Text):
            for place, cell in enumerate(line):
                widths[place] = max(widths[place], _length(cell))
    return widths


def _narrowed(
    columns: Sequence[Column], lines: Sequence[Line], widths: Sequence[int], by: int
) -> list[int]:
    """Columns of text made narrower by so much: as far as their longest words let them, then further."""
    narrowed = list(widths)
    rows = [line for line in lines if not isinstance(line, Text)]
    for broken in (False, True):
        least = {
            place: 1
            if broken
            else max(
                _length(piece)
                for row in rows
                for word in Text(f"- {row[place]}").split(" ")
                for piece in _pieces(word)
            )
            for place, column in enumerate(columns)
            if not column.figures
        }
        while by > 0 and (wide := [place for place in least if narrowed[place] > least[place]]):
            narrowed[max(wide, key=narrowed.__getitem__)] -= 1
            by -= 1
    return narrowed


def _length(text: str | Text) -> int:
    """Columns that it takes, a space at its end aside."""
    return cell_len(fmt.printable(str(text)).rstrip())


def _table(
    console: Console,
    columns: Sequence[Column],
    widths: Sequence[int],
    gap: int,
    rows: Sequence[Sequence[str | Text]],
    *,
    headings: bool,
) -> Table:
    table = Table(
        box=None,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        header_style="dim",
        show_header=headings,
    )
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.heading),
            justify="right" if column.figures else "left",
            no_wrap=column.figures,
            overflow="fold",
            width=width,
        )
    for row in rows:
        cells = [Text(cell) if isinstance(cell, str) else cell for cell in row]
        table.add_row(
            *(
                Text("\n").join(_wrapped(console, cell, width)) if _length(cell) > width else cell
                for cell, width in zip(cells, widths, strict=True)
            )
        )
    return table
