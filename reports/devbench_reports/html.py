"""The report page: one file that asks nobody for anything.

plotly.js stands in it once, the charts' data as JSON beside it, and a Content-Security-Policy forbids
every request. Text reaches the page through Jinja's autoescape only.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from devbench.model import Result, Run
from devbench.stats.crossover import Crossover, find_crossovers
from devbench.stats.ratio import CHANCE, Ratio
from devbench.stress.records import is_stress
from devbench_reports import (
    charts,
    comparison,
    crossings,
    environment,
    panels,
    stress,
    summary,
    tables,
    view,
)
from devbench_reports import format as fmt
from devbench_reports.charts import Chart, Style
from devbench_reports.panels import Group

#: Benchmarks that the summary at the top has room for.
_SHORT: Final = 8

#: Panels of a benchmark that are open at once; the others open on a click.
_OPEN: Final = 3

_UNSAFE: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def to_html(run: Run, results: Sequence[Result]) -> str:
    """The page as text, about 5 MB of which nearly all is plotly.js."""
    from plotly.offline import get_plotlyjs

    endured = stress.section(run) if is_stress(run) else None
    if endured is not None:  # its rows are checks, which say more than a table of times
        results = ()
    targets = panels.targets(results)
    style = Style.of(targets, list(dict.fromkeys(row.dtype for row in results)))
    figures: list[Mapping[str, Any]] = []
    crossovers = find_crossovers(run, results)
    planned = Counter((case.suite, case.benchmark) for case in run.cases)
    sections = [
        _section(group, planned[group.suite, group.benchmark], crossovers, style, figures)
        for group in panels.groups(run, results)
    ]
    machine = environment.machine(run)
    sentences = (
        summary.sentences(run, results, crossovers) if endured is None else endured.sentences
    )
    # A summary of many benchmarks would be no summary: then each says its own.
    own, apart = {section["name"] for section in sections}, len(sections) > _SHORT
    for section in sections:
        section["said"] = dict(sentences).get(section["name"], ()) if apart else ()
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            info=run.info,
            chance=CHANCE,
            title=run.info.label or f"Run on {machine.host}",
            started=_minute(run.info.started_at),
            machine=machine,
            sentences=[item for item in sentences if not apart or item[0] not in own],
            stress=endured,
            stress_charts=[_place(chart, figures) for chart in endured.charts] if endured else [],
            sections=sections,
            contents=[section["name"] for section in sections] if apart else [],
            columns=(columns := view.columns(results)),
            rows=[(row, [column.cell(row) for column in columns]) for row in results],
            method=_method(run, results),
            environment=_environment(run),
            plotly=Markup(get_plotlyjs() if figures else ""),
            charts=embed(figures),
        )
    )


def templates() -> Environment:
    """The templates of the pages, everything that goes into them escaped."""
    pages = Environment(
        loader=PackageLoader("devbench_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["told"] = told
    return pages


def told(text: str) -> Markup:
    """The text with its figures tied to their units, and places where a long name may be broken: after a
    comma and before its ``@``."""
    parts = re.split(r"(?<=,)(?=\S)|(?=@)", fmt.tied(text))
    return Markup("<wbr>").join(parts)


def embed(value: Any) -> Markup:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(
        tables.finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return Markup(text.translate(_UNSAFE))


def _minute(timestamp: str) -> str:
    """``2026-01-02 03:04 UTC``; as it is where it is no timestamp."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment.tzinfo else timestamp


def _section(
    group: Group,
    planned: int,
    crossovers: Sequence[Crossover],
    style: Style,
    figures: list[Mapping[str, Any]],
) -> dict[str, Any]:
    """What the template needs of one benchmark; its figures are appended to the page's. planned: its cases,
    those that were not reached too, which have no row."""
    lines = {
        (line.target, line.dtype): line
        for panel in group.panels
        for line in panel.lines
        if charts.drawn(line.rows)
    }
    dtypes = list(dict.fromkeys(dtype for _, dtype in lines))
    return {
        "name": group.benchmark,
        "suite": group.suite,
        "constant": fmt.long_params(group.constant),
        "measured": sum(row.median is not None for row in group.rows),
        "planned": planned,
        "targets": [
            (name, style.colours[name]) for name in dict.fromkeys(target for target, _ in lines)
        ],
        "dtypes": [(name, style.dashes[name]) for name in dtypes] if len(dtypes) > 1 else [],
        "marks": _marks(group),
        "panels": [
            {
                "title": fmt.long_params(panel.params),
                "open": place < _OPEN,
                "charts": [_place(chart, figures) for chart in charts.charts(group, panel, style)],
            }
            for place, panel in enumerate(group.panels)
        ],
        "crossings": crossings.rows(group, crossovers),
        "ratios": [
            (
                "Speed-up against the CPU of the same framework",
                _ratio_rows(comparison.speed_ups(group.rows)),
            ),
            (
                "Frameworks on the same device",
                _ratio_rows(comparison.between_frameworks(group.rows)),
            ),
        ],
        "missing": [row for row in group.rows if row.status != "ok"],
    }


def _marks(group: Group) -> str:
    """What the marks in this benchmark's charts mean, as far as they occur."""
    drawn = charts.drawn(group.rows)
    wrong = sum(row.median is not None for row in group.rows) - len(drawn)
    parts = []
    if any(row.ci_low is not None for row in drawn):
        parts.append("Bars are 95 % intervals.")
    if any(row.quality_reasons for row in drawn):
        parts.append("An open mark is in doubt.")
    if wrong:
        parts.append(f"{fmt.count(wrong, 'row')} that cannot be relied on: not drawn.")
    return " ".join(parts)


def _place(chart: Chart, figures: list[Mapping[str, Any]]) -> dict[str, Any]:
    figures.append(chart.figure)
    height = chart.figure["layout"].get("height", 300)
    return {"title": chart.title, "alt": chart.alt, "index": len(figures) - 1, "height": height}


def _ratio_rows(items: Sequence[Ratio]) -> list[dict[str, str]]:
    return [
        {
            "point": view.point(item.subject),
            "subject": item.subject.target,
            "base": item.base.target,
            "times": f"{fmt.seconds(item.subject.median)} against {fmt.seconds(item.base.median)}",
            "ratio": fmt.factor(item.value),
            "interval": (
                f"{fmt.factor(item.low)} to {fmt.factor(item.high)}"
                if item.low is not None and item.high is not None
                else "none, one round"
            ),
            "verdict": (
                "no difference beyond the noise"
                if item.verdict == "no difference"
                else f"{item.subject.target} {item.verdict}"
            ),
        }
        for item in items
    ]


def _method(run: Run, results: Sequence[Result]) -> list[tuple[str, str]]:
    """How it was measured: the settings of the run, then what the rows say of themselves."""
    rows = [_setting(key, value) for key, value in run.info.settings.items() if key != "benchmarks"]
    timed = [row for row in results if row.median is not None]
    for target in panels.targets(timed):
        own = [row for row in timed if row.target == target]
        parts = [
            f"{_distinct(row.framework_version for row in own)}",
            f"mode {_distinct(row.mode for row in own)}",
            f"threads {_distinct(row.threads for row in own)}",
            f"rounds {_distinct(row.rounds for row in own)}",
            f"clock {_distinct(row.clock for row in own)}",
        ]
        rows.append((target, "; ".join(parts)))
    return rows


def _setting(key: str, value: Any) -> tuple[str, str]:
    """A setting with its unit, which its name ends with; of the sources where they are."""
    if key == "sources" and isinstance(value, Sequence):
        places = [one.get("location") for one in value if isinstance(one, Mapping)]
        return "suites from", fmt.plain([place for place in places if isinstance(place, str)])
    if key.endswith("_s") and isinstance(value, int | float):
        return key.removesuffix("_s").replace("_", " "), fmt.seconds(value)
    return key.removesuffix("_s").replace("_", " "), fmt.plain(value)


def _distinct(values: Any) -> str:
    return ", ".join(
        dict.fromkeys(fmt.UNKNOWN if value is None else str(value) for value in values)
    )


def _environment(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything else that was recorded, as headed lists of key and value."""
    info = run.info
    lists = [
        (
            "Run",
            [
                ("id", info.id),
                ("label", fmt.plain(info.label)),
                ("started", info.started_at),
                ("finished", fmt.plain(info.finished_at)),
                ("state", info.state),
                ("devbench", info.devbench_version),
                *(
                    (key, fmt.plain(info.environment[key]))
                    for key in ("python", "argv", "git")
                    if key in info.environment
                ),
            ],
        ),
    ]
    recorded = info.environment.get("machine")
    host = recorded.get("host") if isinstance(recorded, Mapping) else None
    if isinstance(host, Mapping):
        lists.append(("Host", [(str(key), fmt.plain(value)) for key, value in host.items()]))
    for target, facts in environment.target_facts(run):
        lists.append((target, [(str(key), fmt.plain(value)) for key, value in facts.items()]))
    variables = info.environment.get("variables")
    if isinstance(variables, Mapping) and variables:
        lists.append(
            ("Environment variables", [(str(k), fmt.plain(v)) for k, v in variables.items()])
        )
    return lists
