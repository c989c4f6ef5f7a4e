"""The result table as plain text, for 80 columns and more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from devbench.doctor.attribution import attribute
from devbench.model import ParamValue, Result, Run
from devbench.stats.crossover import Crossover, find_crossovers
from devbench.stress.records import is_stress
from devbench_reports import crossings, panels, stress, summary, view
from devbench_reports import format as fmt
from devbench_reports.panels import Group
from devbench_reports.paper import written


def to_text(
    run: Run, results: Sequence[Result], *, width: int | None = None, color: bool = False
) -> str:
    """A table a benchmark, its doubts as numbered notes, and what was not measured with the reason.

    width: columns; by default those of the terminal, or 100 where the output is none.
    """

    def write(console: Console) -> None:
        if is_stress(run):
            stress.to_text(run, console)
        else:
            _print_groups(console, run, results)

    return written(write, width, color)


def _print_groups(console: Console, run: Run, results: Sequence[Result]) -> None:
    crossovers, causes = find_crossovers(run, results), attribute(run, results)
    for group in panels.groups(run, results):
        _print_group(console, group, crossovers, summary.explained(group, causes))
    for _, sentences in _closing(run, results):
        for sentence in sentences:
            console.print(Text(sentence))


def _closing(run: Run, results: Sequence[Result]) -> list[tuple[str, list[str]]]:
    """What concerns the run as a whole; the rest stands beside the rows."""
    return [
        item
        for item in summary.sentences(run, results)
        if item[0] in ("the run", "devices", "rounds")
    ]


def _print_group(
    console: Console, group: Group, crossovers: Sequence[Crossover], explained: Sequence[str]
) -> None:
    heading = Text(group.benchmark, style="bold")
    if group.suite != group.benchmark:
        heading.append(f" (suite {group.suite})", style="dim")
    if group.constant:
        heading.append(f"  {fmt.long_params(group.constant)}", style="dim")
    console.print(heading)
    blocks = panels.blocks(group)
    notes: list[str] = []
    if blocks:
        console.print(_table(group, blocks, notes, padding=1 if console.width < 100 else 2))
    for number, note in enumerate(notes, 1):
        _indented(console, Text(f"[{number}] {note}", style="yellow"))
    for sentence in explained:
        _indented(console, Text(sentence))
    if any(_is_spread(row) for row in group.rows):
        _indented(
            console, Text("~ spread inside the one process (5th to 95th percentile)", style="dim")
        )
    if timed := [row for row in group.rows if row.median is not None]:
        _indented(console, Text(_common(timed), style="dim"))
    for row in group.rows:
        if row.metrics:
            case = fmt.params(row.params, tuple(group.constant))
            _indented(console, Text(f"{case} {row.target}: {view.metrics(row)}"))
    not_measured: dict[tuple[str, str], list[str]] = {}
    for row in group.rows:
        if row.status != "ok":
            why = row.status, row.reason or fmt.UNKNOWN
            not_measured.setdefault(why, []).append(f"{_case(row, group)}@{row.target}")
    for (status, reason), cases in not_measured.items():
        style = "dim" if status == "skipped" else "red"
        _indented(console, Text.assemble((status, style), f" {', '.join(cases)}: {reason}"))
    if rows := crossings.rows(group, crossovers):
        console.print(_crossings(rows, padding=1 if console.width < 100 else 2))
    console.print()


def _common(rows: Sequence[Result]) -> str:
    """What the rows share: the mode of each target, and how their results were found to be."""
    modes = dict.fromkeys(f"{row.target} {row.mode or fmt.UNKNOWN}" for row in rows)
    verdicts = Counter(row.numerics or "unchecked" for row in rows)
    checked = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    return f"mode: {', '.join(modes)} · numerics: {checked}"


def _indented(console: Console, text: Text) -> None:
    console.print(Padding(text, (0, 0, 0, 2)))


def _case(row: Result, group: Group) -> str:
    own = fmt.long_params(row.params, tuple(group.constant))
    return f"{group.benchmark}[{own}]" if own else group.benchmark


def _table(
    group: Group,
    blocks: Sequence[tuple[Mapping[str, ParamValue], Sequence[Result]]],
    notes: list[str],
    padding: int,
) -> Table:
    """The measured rows. A reason to doubt one becomes a note; equal ones share it."""
    table = Table(box=None, padding=(0, padding, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("  case", overflow="fold")
    table.add_column("target", overflow="fold")
    for name in ("median", view.plus_minus_heading(group.rows), "rate", "of ceiling"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("doubt", no_wrap=True)
    for fixed, rows in blocks:
        if fixed:
            table.add_row(Text(f"  {fmt.params(fixed)}", style="italic"))
        last = None
        for row in rows:
            size = group.size if group.size not in group.constant else None
            case = "" if size is None else fmt.params({size: row.params[size]})
            mark, style = _mark(row, notes)
            table.add_row(
                Text(f"  {case if case != last else ''}"),
                Text(row.target),
                fmt.seconds(row.median),
                view.plus_minus(row),
                view.rate(row),
                fmt.quantity("ceiling_fraction", row.ceiling_fraction),
                Text(mark, style=style),
            )
            last = case
    return table


def _crossings(rows: Sequence[crossings.Row], padding: int) -> Table:
    """Who overtakes whom. What is the same in every row, or empty, is left out."""
    cells = [(row.case, row.subject, row.base, row.measured, row.moved or fmt.NONE) for row in rows]
    shown = [
        place
        for place, heading in enumerate(crossings.HEADINGS)
        if any(line[place] != fmt.NONE for line in cells)
    ]
    table = Table(box=None, padding=(0, padding, 0, 0), pad_edge=False, header_style="dim")
    for place in shown:
        heading = crossings.HEADINGS[place]
        table.add_column(f"  {heading}" if place == shown[0] else heading, overflow="fold")
    for line in cells:
        table.add_row(
            *(Text(f"  {line[place]}" if place == shown[0] else line[place]) for place in shown)
        )
    return table


def _mark(row: Result, notes: list[str]) -> tuple[str, str]:
    """``?1`` for a doubtful figure, ``!1`` for a worthless one, with the numbers of its notes."""
    numbers = []
    for reason in summary.doubts(row):
        if reason not in notes:
            notes.append(reason)
        numbers.append(str(notes.index(reason) + 1))
    if not numbers:
        return "", ""
    sign, style = ("!", "red") if row.quality == "invalid" else ("?", "yellow")
    return f"{sign}{','.join(numbers)}", style


def _is_spread(row: Result) -> bool:
    off = fmt.uncertainty(row)
    return off is not None and off[0] == "within"
