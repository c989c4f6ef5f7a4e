"""A stress run on the page: what each check said, and the time series of the load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from devbench.model import Run
from devbench.stress.records import Check, Series, Window, checks_of, series_of, verdict_of
from devbench_reports import format as fmt
from devbench_reports.charts import PALETTE, Chart, escape


@dataclass(frozen=True, slots=True)
class Section:
    """checks: a row each, with the verdict as a CSS class beside it."""

    checks: tuple[tuple[Check, str], ...]
    targets: tuple[tuple[str, int], ...]
    charts: tuple[Chart, ...]
    sentences: tuple[tuple[str, tuple[str, ...]], ...]


def section(run: Run) -> Section:
    """Everything that the page says of a stress run."""
    checks, series = checks_of(run), [one for one in series_of(run) if one.windows]
    colours = {one.where: place % PALETTE for place, one in enumerate(series)}
    fastest = max((one.flop_per_s or 0.0 for each in series for one in each.windows), default=0.0)
    rate = ("TFLOP/s", 1e-12) if fastest >= 1e12 else ("GFLOP/s", 1e-9)
    found = [
        _chart(series, colours, "Rate under load", lambda one: one.flop_per_s, *rate),
        _chart(series, colours, "Clock", _of_gpu("sm_clock_hz"), "MHz", 1e-6),
        _chart(series, colours, "Temperature", _of_gpu("temperature_c"), "°C", 1.0),
        _chart(series, colours, "Power", _of_gpu("power_w"), "W", 1.0),
    ]
    return Section(
        checks=tuple((check, check.verdict.replace(" ", "-")) for check in checks),
        targets=tuple(colours.items()),
        charts=tuple(chart for chart in found if chart is not None),
        sentences=tuple(_sentences(run, checks)),
    )


def to_text(run: Run, console: Console) -> None:
    """The checks as a table, below each device what was found in all."""
    checks = checks_of(run)
    for where, sentences in _sentences(run, checks):
        console.print(Text(where, style="bold"))
        console.print(Text(f"  {sentences[0]}"))
        own = [check for check in checks if check.where == where]
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check in own:
            style = "red" if check.verdict == "fault" else ""
            table.add_row(
                Text(f"  {check.key}"), Text(check.verdict, style=style), Text(check.says)
            )
        if own:
            console.print(table)
        console.print()


def _sentences(run: Run, checks: Sequence[Check]) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    if run.info.state != "complete":
        found.append(("the run", (f"This run is not complete: it is {run.info.state}.",)))
    for where in dict.fromkeys(check.where for check in checks):
        own = [check for check in checks if check.where == where]
        unsure = sum(check.verdict == "cannot tell" for check in own)
        head = f"{verdict_of(own).capitalize()} in {fmt.count(len(own), 'check')}"
        head += f"; {unsure} could not tell." if unsure else "."
        faults = [f"{check.key}: {check.says}." for check in own if check.verdict == "fault"]
        found.append((where, (head, *faults)))
    return found or [("the run", ("Nothing was checked.",))]


def _of_gpu(name: str) -> Callable[[Window], float | None]:
    def read(window: Window) -> float | None:
        value = window.to_json()[name]
        return None if value is None else float(value)

    return read


def _chart(
    series: Sequence[Series],
    colours: Mapping[str, int],
    title: str,
    read: Callable[[Window], float | None],
    unit: str,
    scale: float,
) -> Chart | None:
    """One line a device over the seconds of its load; None where nothing was read."""
    data: list[dict[str, Any]] = []
    said: list[str] = []
    for one in series:
        points = [(window, value) for window in one.windows if (value := read(window)) is not None]
        if not points:
            continue
        values = [value * scale for _, value in points]
        data.append(_line(one.where, points, values, unit, colours[one.where]))
        said.append(
            f"{one.where}: from {fmt.digits(values[0])} to {fmt.digits(values[-1])} {unit} over "
            f"{fmt.count(len(values), 'window')}"
        )
    if not data:
        return None
    layout = {
        "xaxis": {"title": {"text": "seconds under load"}, "rangemode": "tozero"},
        # From zero: a change of a percent must not look like a fall.
        "yaxis": {"rangemode": "tozero", "automargin": True},
    }
    text = f"{title} over time ({unit})"
    return Chart(text, f"{text}. {'; '.join(said)}.", {"data": data, "layout": layout})


def _line(
    where: str,
    points: Sequence[tuple[Window, float]],
    values: Sequence[float],
    unit: str,
    colour: int,
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": escape(where),
        "x": [round(window.at_s + window.seconds / 2, 2) for window, _ in points],
        "y": [float(f"{value:.6g}") for value in values],
        # An open mark for a window that something disturbed, a cross for one that computed wrongly.
        "marker": {"size": 7, "symbol": [_symbol(window) for window, _ in points]},
        "line": {"width": 2},
        "hovertext": [
            "<br>".join(
                escape(text)
                for text in (f"{where}, {value:.4g} {unit}", *_events(window), *window.doubts)
            )
            for (window, _), value in zip(points, values, strict=True)
        ],
        "hoverinfo": "text",
        "meta": {"colour": colour},
    }


def _symbol(window: Window) -> str:
    if window.differing:
        return "x"
    return "circle-open" if window.doubts else "circle"


def _events(window: Window) -> list[str]:
    """What held the clock down, and the share of the samples in which it did."""
    events = window.to_json()["clock_events"]
    found = [f"{name} in {fmt.percent(share)} of samples" for name, share in events.items()]
    if window.differing:
        found.append(f"{fmt.count(window.differing, 'element')} came out otherwise")
    return found
