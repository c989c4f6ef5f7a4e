"""The history as a page: one file that asks nobody for anything, like the report of a run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from devbench.regress.history import History, Series
from devbench_reports import format as fmt
from devbench_reports import history_view as view
from devbench_reports.charts import escape
from devbench_reports.comparison_view import change
from devbench_reports.html import embed, templates

#: Series that are drawn, those with changes first; all are in the table.
_DRAWN: Final = 60
_HEIGHT: Final = 240


def to_html(history: History) -> str:
    """The page as text, about 5 MB of which nearly all is plotly.js."""
    from plotly.offline import get_plotlyjs

    ranked = sorted(history.series, key=_importance)
    drawn = [series for series in ranked if len(series.runs) > 1][:_DRAWN]
    figures = [_figure(series, history) for series in drawn]
    return (
        templates()
        .get_template("history.html.j2")
        .render(
            title="History",
            span=f"{view.day(history.runs[0])} to {view.day(history.runs[-1])} UTC",
            history=history,
            events=[_event(item, history) for item in view.events(history)],
            charts=[
                {
                    "title": view.name(series, history),
                    "alt": _alt(series, history),
                    "index": place,
                    "height": _HEIGHT,
                }
                for place, series in enumerate(drawn)
            ],
            undrawn=len(history.series) - len(drawn),
            headings=("case", "runs", "first", "now", "since", "changes", "the last"),
            rows=[_row(series, history) for series in ranked],
            method=view.method(history),
            figures=embed(figures),
            plotly=Markup(get_plotlyjs() if figures else ""),
        )
    )


def _importance(series: Series) -> tuple[bool, int, str]:
    """Those that changed last come first."""
    last = series.runs[series.changes[-1].at] if series.changes else 0
    return not series.changes, -last, series.case_id


def _event(event: view.Event, history: History) -> dict[str, Any]:
    return {
        "day": view.day(event.run),
        "run": view.run(event.run),
        "code": view.code(event),
        "differences": event.differences,
        "cases": [
            (view.name(series, history), change(item.ratio), item.ratio > 1)
            for series, item in event.changes
        ],
    }


def _row(series: Series, history: History) -> list[tuple[str, float | None]]:
    """Texts of the table's cells, each with the number that it is sorted by."""
    last = series.changes[-1] if series.changes else None
    since = series.levels[-1] / series.levels[0]
    return [
        (view.name(series, history), None),
        (str(len(series.runs)), len(series.runs)),
        (fmt.seconds(series.levels[0]), series.levels[0]),
        (fmt.seconds(series.levels[-1]), series.levels[-1]),
        (change(since) if last else fmt.NONE, since),
        (str(len(series.changes)), len(series.changes)),
        (f"{view.day(last.run)} {change(last.ratio)}" if last else fmt.NONE, None),
    ]


def _alt(series: Series, history: History) -> str:
    """What is in the picture, for who cannot see it."""
    said = "; ".join(
        f"{change(item.ratio)} from {view.day(item.run)} on, {fmt.seconds(series.levels[item.at])}"
        for item in series.changes
    )
    begins = f"{view.name(series, history)}: {fmt.seconds(series.levels[0])} at first"
    return f"{begins}; {said}." if said else f"{begins}, no change."


def _figure(series: Series, history: History) -> Mapping[str, Any]:
    """The figures of the runs as marks, the levels as a line, a dotted line at each change."""
    points = [history.runs[place] for place in series.runs]
    times = [point.started_at[:19] for point in points]
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": times,
        "y": [float(f"{value:.5g}") for value in series.seconds],
        "marker": {"size": 5, "opacity": 0.6},
        "hovertext": [
            escape(f"{view.run(point)}, {view.commit(point)}: {fmt.seconds(value)}")
            for point, value in zip(points, series.seconds, strict=True)
        ],
        "hoverinfo": "text",
        "meta": {"colour": 1},
    }
    # Two points a level are enough to draw it.
    bounds = [0, *(item.at for item in series.changes), len(times)]
    ends = [place for begin, end in itertools.pairwise(bounds) for place in (begin, end - 1)]
    levels = {
        "type": "scatter",
        "mode": "lines",
        "x": [times[place] for place in ends],
        "y": [float(f"{series.levels[place]:.5g}") for place in ends],
        "line": {"width": 2, "shape": "hv"},
        "hoverinfo": "skip",
        "meta": {"colour": 0},
    }
    lines = [
        {
            "type": "line",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": times[item.at],
            "x1": times[item.at],
            "line": {"width": 1, "dash": "dot"},
        }
        for item in series.changes
    ]
    layout = {
        "xaxis": {"type": "date"},
        "yaxis": {"tickformat": "~s", "ticksuffix": "s", "nticks": 6, "automargin": True},
        "shapes": lines,
        "height": _HEIGHT,
    }
    return {"data": [marks, levels], "layout": layout}
