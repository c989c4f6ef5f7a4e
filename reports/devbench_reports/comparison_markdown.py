"""A comparison as GitHub-flavoured Markdown, for a pull request or a job's summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from devbench.regress.comparison import Comparison, Row
from devbench_reports import comparison_view as view
from devbench_reports import format as fmt
from devbench_reports.markdown import escape

_TEXTS: Final = ("verdict", "case")
_FIGURES: Final = ("base", "new", "change", "interval")

_TITLES: Final = {
    0: "Nothing got slower",
    1: "Something got slower, or broke",
    3: "Nothing could be compared",
    4: "Not decided",
}


def to_markdown(comparison: Comparison) -> str:
    """The outcome as a heading, what differs, the rows that matter, and the others folded away."""
    blocks = [
        f"## {_title(comparison)}",
        f"{escape(view.side(comparison.base))} → {escape(view.side(comparison.new))}: "
        f"**{view.headline(comparison)}**",
    ]
    said = [item for item in comparison.differences if item.severity != "noted"]
    noted = [item for item in comparison.differences if item.severity == "noted"]
    if said:
        lines = "\n".join(f"- {escape(view.difference(item))}" for item in said)
        blocks += ["What differs besides the code:", lines]
    rows = sorted(comparison.rows, key=lambda row: row.verdict == "equivalent")
    telling = [row for row in view.listing(comparison).rows if row.verdict != "equivalent"]
    quiet = [row for row in rows if row.verdict == "equivalent"]
    margins = view.own_margins(comparison)
    blocks += [_table(telling, margins)] if telling else []
    if quiet:
        blocks += _folded(fmt.count(len(quiet), "equivalent case"), _table(quiet, margins))
    if noted:
        lines = "\n".join(f"- {escape(view.difference(item))}" for item in noted)
        blocks += _folded("From where", lines)
    blocks += [escape(sentence) for sentence in view.method(comparison)]
    return "\n\n".join(blocks) + "\n"


def _title(comparison: Comparison) -> str:
    if comparison.exit_code == 0 and any(row.gate == "open" for row in comparison.rows):
        return "Not decided, which is allowed here"
    return _TITLES[comparison.exit_code]


def _folded(title: str, content: str) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", content, "</details>"]


def _table(rows: Sequence[Row], margins: bool) -> str:
    """margins: whether each case has its own, which is then shown."""
    figures = (*_FIGURES, *(("margin",) if margins else ()))
    lines = [
        _line((*_TEXTS, *figures, "to be known")),
        _line(("---",) * len(_TEXTS) + ("---:",) * len(figures) + ("---",)),
    ]
    lines += [_line([escape(cell) for cell in _cells(row, margins)]) for row in rows]
    return "\n".join(lines)


def _cells(row: Row, margins: bool) -> tuple[str, ...]:
    return (
        view.verdict(row),
        row.case_id,
        fmt.seconds(row.base_s),
        fmt.seconds(row.new_s),
        view.change(row.ratio),
        view.interval(row),
        *((view.margin(row),) if margins else ()),
        "; ".join(view.remarks(row)),
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
