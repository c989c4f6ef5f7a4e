"""The result table as GitHub-flavoured Markdown, for an issue or a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from devbench.model import Result, Run
from devbench.stats.crossover import Crossover, find_crossovers
from devbench.stress.records import Check, is_stress
from devbench_reports import crossings, environment, panels, stress, summary, view
from devbench_reports import format as fmt
from devbench_reports.panels import Group


def to_markdown(run: Run, results: Sequence[Result]) -> str:
    """The sentences of the summary, then a table a benchmark and the cases that were not measured; of a
    stress run, what each check saw."""
    machine = environment.machine(run)
    blocks = [
        f"# {escape(run.info.label or run.info.id)}",
        f"devbench {escape(run.info.devbench_version)} on {escape(machine.host)} "
        f"({escape(dict(machine.facts)['CPU'])}), {escape(run.info.started_at)}",
    ]
    if is_stress(run):  # its rows are checks, which say more than a table of times
        endured = stress.section(run)
        blocks += _said(endured.sentences)
        blocks += _checks([check for check, _ in endured.checks])
        return "\n\n".join(blocks) + "\n"
    crossovers = find_crossovers(run, results)
    blocks += _said(summary.sentences(run, results, crossovers))
    for group in panels.groups(run, results):
        blocks += _group(group)
        blocks += _crossings(group, crossovers)
    if any((off := fmt.uncertainty(row)) and off[0] == "within" for row in results):
        blocks.append(
            "~ is the spread inside the one process (5th to 95th percentile), no interval."
        )
    return "\n\n".join(blocks) + "\n"


def _said(sentences: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    said = [
        f"- **{escape(topic)}**: {escape(text)}" for topic, texts in sentences for text in texts
    ]
    return ["\n".join(said)] if said else []


def _checks(checks: Sequence[Check]) -> list[str]:
    lines = [_line(("device", "check", "verdict", "what was seen")), "| --- | --- | --- | --- |"]
    lines += [
        _line([escape(cell) for cell in (check.where, check.key, check.verdict, check.says)])
        for check in checks
    ]
    return ["\n".join(lines)] if checks else []


def _group(group: Group) -> list[str]:
    blocks = [f"## {escape(group.benchmark)}"]
    measured = [row for _, rows in panels.blocks(group) for row in rows]
    if measured:
        sign = view.plus_minus_heading(measured)
        headings = ("case", "target", "median", sign, "rate", "numerics", "doubts")
        lines = [_line(headings), "| --- | --- | ---: | ---: | ---: | --- | --- |"]
        lines += [_line([escape(cell) for cell in _cells(row)]) for row in measured]
        blocks.append("\n".join(lines))
    missing = [
        f"- {escape(row.status)}: {escape(row.case_id)}, {escape(row.reason or fmt.UNKNOWN)}"
        for row in group.rows
        if row.status != "ok"
    ]
    return [*blocks, "\n".join(missing)] if missing else blocks


def _crossings(group: Group, crossovers: Sequence[Crossover]) -> list[str]:
    rows = crossings.rows(group, crossovers)
    lines = [_line(crossings.HEADINGS), "| --- | --- | --- | --- | --- |"]
    lines += [
        _line(
            [escape(cell) for cell in (row.case, row.subject, row.base, row.measured)]
            + [escape(row.moved or "the same: one memory")]
        )
        for row in rows
    ]
    return ["\n".join(lines)] if rows else []


def _cells(row: Result) -> tuple[str, ...]:
    return (
        view.point(row),
        row.target,
        fmt.seconds(row.median),
        view.plus_minus(row),
        view.rate(row),
        row.numerics or fmt.NONE,
        "; ".join(row.quality_reasons),
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no end of a table's cell.

    An underscore inside a word means nothing in GitHub's Markdown and stays readable; ``=`` and ``-``
    would only matter at the start of a line, where no text of ours stands.
    """
    text = fmt.printable(re.sub(r"\s+", " ", text))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
