"""The result table as plain text, for 80 columns and more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from devbench.doctor.attribution import attribute
from devbench.model import Result, Run
from devbench.stats.crossover import Crossover, find_crossovers
from devbench.stress.records import is_stress
from devbench_reports import crossings, panels, stress, summary, view
from devbench_reports import format as fmt
from devbench_reports.alike import template, together
from devbench_reports.panels import Group
from devbench_reports.paper import Column, Line, indented, print_table, table_width, written


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
    for sentence in summary.of_the_whole(run, results):
        console.print(Text(sentence))


def _print_group(
    console: Console, group: Group, crossovers: Sequence[Crossover], explained: Sequence[str]
) -> None:
    suite = "" if group.suite == group.benchmark else f" (suite {group.suite})"
    shared = f"  {fmt.long_params(group.constant)}" if group.constant else ""
    heading = f"{group.benchmark}{suite}{shared}"
    indented(console, heading, "bold", lead=group.benchmark, by=0)
    notes = _measured(console, group) if any(row.median is not None for row in group.rows) else []
    for number, note in enumerate(notes, 1):
        indented(console, f"[{number}] {note}", "yellow")
    for sentence in explained:
        indented(console, sentence)
    if any(_is_spread(row) for row in group.rows):
        indented(console, "~ spread inside the one process (5th to 95th percentile)", "dim")
    if timed := [row for row in group.rows if row.median is not None]:
        indented(console, _common(timed), "dim")
    for row in group.rows:
        if row.metrics:
            case = fmt.params(row.params, tuple(group.constant))
            own = f"{case} {row.target}" if case != fmt.NONE else row.target
            indented(console, f"{own}: {view.metrics(row)}")
    not_measured: dict[tuple[str, str], list[Result]] = {}
    for row in group.rows:
        if row.status != "ok":
            why = row.status, template(row.reason or fmt.UNKNOWN)
            not_measured.setdefault(why, []).append(row)
    for (status, _), rows in not_measured.items():
        style = "dim" if status == "skipped" else "red"
        cases = ", ".join(f"{_case(row, group)}@{row.target}" for row in rows)
        reason = together(row.reason or fmt.UNKNOWN for row in rows)
        indented(console, f"{status} {cases}: {reason}", style, lead=status)
    if overtakings := crossings.rows(group, crossovers):
        _crossings(console, overtakings)
    console.print()


def _common(rows: Sequence[Result]) -> str:
    """What the rows share: the mode of each target, and how their results were found to be."""
    verdicts = Counter(row.numerics or "unchecked" for row in rows)
    checked = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    if all("mode" in row.params for row in rows):  # then each case says its own
        return f"numerics: {checked}"
    modes = dict.fromkeys(f"{row.target} {row.mode or fmt.UNKNOWN}" for row in rows)
    return f"mode: {', '.join(modes)} · numerics: {checked}"


def _case(row: Result, group: Group) -> str:
    own = fmt.long_params(row.params, tuple(group.constant))
    return f"{group.benchmark}[{own}]" if own else group.benchmark


def _measured(console: Console, group: Group) -> list[str]:
    """Prints the measured rows; gives the notes that its marks refer to.

    The case stands in front of its rows, or on a line above them where that is too narrow for it.
    """
    along = group.size if group.size not in group.constant else None
    templates: dict[str, list[str]] = {}
    in_front: list[Line] = []
    above: list[Line] = []
    for fixed, rows in panels.blocks(group):
        shared = fmt.params(fixed) if fixed else ""
        if shared and along is not None:
            in_front.append(Text(shared, style="italic"))
        last = ""
        for row in rows:
            case = shared if along is None else fmt.params({along: row.params[along]})
            cells = (*_figures(row), _mark(row, templates))
            in_front.append((case if case != last else "", row.target, *cells))
            if case != last:
                whole = case if along is None else f"{shared} {case}".strip()
                above.append(Text(whole, style="italic"))
            above.append((row.target, *cells))
            last = case
    names = ("median", view.plus_minus_heading(group.rows), "rate", "ceiling")
    figures = [*(Column(name, figures=True) for name in names), Column("doubt")]
    beside = [Column("case"), Column("target"), *figures]
    one_case = not any(isinstance(line, Text) for line in above)
    if not one_case and table_width(beside, in_front) <= console.width:
        print_table(console, beside, in_front)
    else:
        print_table(console, [Column("target"), *figures], above, by=4)
    return [together(reasons) for reasons in templates.values()]


def _figures(row: Result) -> tuple[str, str, str, str]:
    return (
        fmt.seconds(row.median),
        view.plus_minus(row),
        view.rate(row),
        fmt.quantity("ceiling_fraction", row.ceiling_fraction),
    )


def _crossings(console: Console, rows: Sequence[crossings.Row]) -> None:
    """Who overtakes whom. What is the same in every row, or empty, is left out."""
    cells = [(row.case, row.subject, row.base, row.measured, row.moved or fmt.NONE) for row in rows]
    shown = [
        place
        for place, heading in enumerate(crossings.HEADINGS)
        if any(line[place] != fmt.NONE for line in cells)
    ]
    columns = [Column(crossings.HEADINGS[place]) for place in shown]
    print_table(console, columns, [[line[place] for place in shown] for line in cells])


def _mark(row: Result, templates: dict[str, list[str]]) -> Text:
    """``?1`` for a doubtful figure, ``!1`` for a worthless one, with the numbers of its notes. Reasons
    that differ in their figures only share a note."""
    numbers = []
    for reason in row.quality_reasons:
        alike = template(reason)
        templates.setdefault(alike, []).append(reason)
        numbers.append(list(templates).index(alike) + 1)
    if not numbers:
        return Text()
    sign, style = ("!", "red") if row.quality == "invalid" else ("?", "yellow")
    return Text(f"{sign}{','.join(map(str, sorted(set(numbers))))}", style=style)


def _is_spread(row: Result) -> bool:
    off = fmt.uncertainty(row)
    return off is not None and off[0] == "within"
