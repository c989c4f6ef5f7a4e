"""Charts as plotly figures in their JSON form: ``{"data": [...], "layout": {...}}``.

`plotly.graph_objects.Figure(chart.figure)` draws one in a notebook. Colours are left to the page: a
trace has its place in the palette in ``meta``, since dark and light differ.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devbench.model import Result
from devbench.stats.ratio import Ratio, timed
from devbench_reports import comparison
from devbench_reports import format as fmt
from devbench_reports.axes import log_log, log_range
from devbench_reports.panels import Group, Line, Panel
from devbench_reports.summary import compare_words

#: Number of colours in the page's palette.
PALETTE: Final = 8
DASHES: Final = ("solid", "dash", "dot", "dashdot")
_SYMBOLS: Final = {"torch": "circle", "tensorflow": "square"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with its title and a sentence that says what is in it, for who cannot see it."""

    title: str
    alt: str
    figure: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """Colour by target and dash by dtype, the same on the whole page."""

    colours: Mapping[str, int]
    dashes: Mapping[str | None, str]

    @classmethod
    def of(cls, targets: Sequence[str], dtypes: Sequence[str | None]) -> Style:
        return cls(
            {target: place % PALETTE for place, target in enumerate(targets)},
            {dtype: DASHES[place % len(DASHES)] for place, dtype in enumerate(dtypes)},
        )


def charts(group: Group, panel: Panel, style: Style) -> list[Chart]:
    """Time, rate, speed-up against the CPU and framework against framework, as far as there is data."""
    found = [_times(group, panel, style), _rates(group, panel, style)]
    if len(group.sizes) > 1:
        found += [
            _ratios(group, "Speed-up against the CPU", comparison.speed_ups(panel.rows), style),
            _between_frameworks(group, panel, style),
        ]
    return [chart for chart in found if chart is not None]


def _times(group: Group, panel: Panel, style: Style) -> Chart | None:
    return _measured(group, panel, style, "median", "Time of a step", "s")


def _rates(group: Group, panel: Panel, style: Style) -> Chart | None:
    """The rate that the benchmark declares; None where it declares none."""
    columns = {rate[0] for row in group.rows if (rate := fmt.rate(row))}
    for column in fmt.RATE_UNITS:
        if column in columns:
            return _measured(group, panel, style, column, "Rate", fmt.RATE_UNITS[column])
    return None


def _measured(
    group: Group, panel: Panel, style: Style, column: str, title: str, unit: str
) -> Chart | None:
    lines = [(line, rows) for line in panel.lines if (rows := drawn(line.rows, column))]
    if not lines:
        return None
    several = len({line.dtype for line, _ in lines}) > 1
    size = group.size
    if size is not None and len(group.sizes) > 1:
        data = [
            _line(rows, size, column, line, escape(_name(line, several)), style)
            for line, rows in lines
        ]
        ends = [end for row in drawn(group.rows, column) for end in _ends(row, column)]
        layout = log_log(escape(size), group.sizes, log_range(ends), "s" if unit == "s" else "")
    else:
        data = [
            _bars(rows, column, line, escape(_name(line, several)), style) for line, rows in lines
        ]
        layout = {
            "xaxis": {
                "rangemode": "tozero",
                "tickformat": "~s",
                "ticksuffix": "s" if unit == "s" else "",
                "nticks": 5,
            },
            "yaxis": {"automargin": True, "autorange": "reversed"},
            "height": 90 + 36 * sum(len(rows) for _, rows in lines),
        }
    said = "; ".join(
        f"{_name(line, several)}: "
        + ", ".join(
            (
                f"{fmt.quantity(column, getattr(row, column))}"
                + (f" at {group.size}={row.params[group.size]}" if group.size else "")
            )
            for row in rows
        )
        for line, rows in lines
    )
    over = f" over {group.size}" if len(group.sizes) > 1 else ""
    shown = f"{title}{over}" if unit == "s" else f"{title}{over} ({unit})"
    return Chart(shown, f"{group.benchmark}, {shown}. {said}.", {"data": data, "layout": layout})


def _line(
    rows: Sequence[Result], size: str, column: str, line: Line, name: str, style: Style
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [row.params[size] for row in rows],
        "y": [_short(getattr(row, column)) for row in rows],
        "error_y": _error_bars(rows, column),
        "line": {"dash": style.dashes[line.dtype], "width": 2},
        "marker": {"size": 7, "symbol": [_symbol(row) for row in rows]},
        "hovertext": [_hover(row, column) for row in rows],
        "hoverinfo": "text",
        "meta": {"colour": style.colours[line.target]},
    }


def _bars(
    rows: Sequence[Result], column: str, line: Line, name: str, style: Style
) -> dict[str, Any]:
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "x": [_short(getattr(row, column)) for row in rows],
        "y": [_clip(name) for _ in rows],
        "text": [fmt.quantity(column, getattr(row, column)) for row in rows],
        "textposition": "auto",
        "insidetextanchor": "start",
        "textangle": 0,
        "hovertext": [_hover(row, column) for row in rows],
        "hoverinfo": "text",
        "meta": {"colour": style.colours[line.target]},
    }
    if error := _error_bars(rows, column):
        bars["error_x"] = error
    return bars


def _error_bars(rows: Sequence[Result], column: str) -> dict[str, Any] | None:
    """The 95 % interval where there is one; None for a line of single rounds."""
    if all(row.ci_low is None for row in rows):
        return None
    above, below = [], []
    for row in rows:
        value = getattr(row, column)
        low, high = _ends(row, column)
        above.append(_short(max(high - value, 0.0)))
        below.append(_short(max(value - low, 0.0)))
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1.5,
        "width": 0,
    }


def _ends(row: Result, column: str) -> tuple[float, float]:
    """The interval of a time, or of a rate (which is work over time); both the value without one."""
    value: float = getattr(row, column)
    if row.ci_low is None or row.ci_high is None or row.median is None or row.ci_low <= 0:
        return value, value
    if column == "median":
        return row.ci_low, row.ci_high
    return value * row.median / row.ci_high, value * row.median / row.ci_low


def _between_frameworks(group: Group, panel: Panel, style: Style) -> Chart | None:
    items = comparison.between_frameworks(panel.rows)
    sides = dict.fromkeys(
        f"{item.subject.framework} against {item.base.framework}" for item in items
    )
    return _ratios(group, fmt.join(list(sides)), items, style)


def _ratios(group: Group, title: str, items: Sequence[Ratio], style: Style) -> Chart | None:
    size = group.size
    lines: dict[tuple[str, str | None, str], list[Ratio]] = {}
    for item in items:
        label = f"{item.subject.target} against {item.base.target}"
        lines.setdefault((label, item.subject.dtype, item.subject.target), []).append(item)
    if not lines or size is None:
        return None
    several = len({dtype for _, dtype, _ in lines}) > 1
    data = []
    for (label, dtype, target), points in lines.items():
        points.sort(key=lambda item: float(item.subject.params[size]))
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escape(f"{label}, {dtype}" if several else label),
                "x": [item.subject.params[size] for item in points],
                "y": [_short(item.value) for item in points],
                "error_y": _ratio_bars(points),
                "line": {"dash": style.dashes[dtype], "width": 2},
                "marker": {"size": 7, "symbol": [_ratio_symbol(item) for item in points]},
                "hovertext": [
                    escape(f"{item.subject.case_id} against {item.base.target}:")
                    + "<br>"
                    + escape(compare_words(item))
                    for item in points
                ],
                "hoverinfo": "text",
                "meta": {"colour": style.colours[target]},
            }
        )
    ends = [end for item in items for end in (item.value, item.low, item.high, 1.0) if end]
    layout = log_log(escape(size), group.sizes, log_range(ends), "")
    layout["shapes"] = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": 1,
            "y1": 1,
            "line": {"width": 1.5, "dash": "dot"},
        }
    ]
    said = "; ".join(
        f"{label}{f', {dtype}' if several else ''}: "
        + ", ".join(
            f"{fmt.factor(item.value)} at {size}={item.subject.params[size]}" for item in points
        )
        for (label, dtype, _), points in lines.items()
    )
    return Chart(
        f"{title} (×)",
        f"{group.benchmark}, {title}, times as fast. {said}.",
        {"data": data, "layout": layout},
    )


def _ratio_bars(items: Sequence[Ratio]) -> dict[str, Any] | None:
    if not any(item.has_interval for item in items):
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [_short(max((item.high or item.value) - item.value, 0.0)) for item in items],
        "arrayminus": [_short(max(item.value - (item.low or item.value), 0.0)) for item in items],
        "thickness": 1.5,
        "width": 0,
    }


def _name(line: Line, several: bool) -> str:
    """With the dtype only where the panel's lines differ in it."""
    return f"{line.target}, {line.dtype}" if several else line.target


def drawn(rows: Sequence[Result], column: str = "median") -> list[Result]:
    """The rows that a chart shows: what was computed wrongly or not to its end has no rate."""
    return [row for row in rows if timed(row) and getattr(row, column)]


def _symbol(row: Result) -> str:
    """An open mark for what is in doubt."""
    symbol = _SYMBOLS.get(row.framework, "diamond")
    return f"{symbol}-open" if row.quality_reasons else symbol


def _ratio_symbol(item: Ratio) -> str:
    return "circle-open" if item.verdict == "no difference" else "circle"


def _hover(row: Result, column: str) -> str:
    return "<br>".join(escape(line) for line in _hover_lines(row, column))


def _hover_lines(row: Result, column: str) -> Iterator[str]:
    yield _clip(row.case_id, 90)
    yield f"{fmt.seconds(row.median)} a step"
    if column != "median":
        yield fmt.quantity(column, getattr(row, column))
    off = fmt.uncertainty(row)
    if off:
        kind = "95 % interval" if off[0] == "interval" else "spread inside the one process"
        yield f"{kind} ±{fmt.percent(off[1])}"
    for reason in row.quality_reasons:
        yield f"doubt: {_clip(reason, 90)}"


def _short(value: float) -> float:
    """Six digits are enough for a picture and keep the file small."""
    return float(f"{value:.6g}")


def _clip(text: str, length: int = 34) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def escape(text: str) -> str:
    """plotly reads a few tags in its texts; names are no tags."""
    return html.escape(text, quote=False)
