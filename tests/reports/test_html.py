"""The page as text: one file, no request in it, and names that stay text. The browser's part is in
test_browser.py."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from devbench.model import Result
from devbench_reports import axes, charts, panels, view
from devbench_reports import format as fmt
from devbench_reports.charts import Style
from devbench_reports.html import embed, to_html, told
from tests.reports import factory


class Page(HTMLParser):
    """Elements with their attributes; the text outside of script and style; the chart data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    @property
    def figures(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0])
        return found


def page(rows: list[Result], **changes: Any) -> Page:
    return Page(to_html(factory.run(rows, **changes), rows))


def test_plotly_stands_in_the_page_exactly_once() -> None:
    rows = factory.sweep()
    text = to_html(factory.run(rows), rows)
    assert text.count(get_plotlyjs()) == 1
    assert len(text) - len(get_plotlyjs()) < 300_000


def test_nothing_in_the_page_asks_for_another_file() -> None:
    found = page(factory.sweep())
    for tag, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    (policy,) = [a["content"] for t, a in found.elements if t == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_every_chart_of_the_page_is_a_valid_figure_with_a_text_alternative() -> None:
    rows = [*factory.sweep(), *factory.troubled()]
    found = page(rows)
    for figure in found.figures:
        go.Figure(figure)  # raises ValueError for what plotly does not know
    labels = [a["aria-label"] for _, a in found.elements if "data-chart" in a]
    # matmul and three phases of the MLP have time, rate, speed-up and ratio; the CNN has two bar charts
    assert len(labels) == len(found.figures) == 4 + 3 * 4 + 2
    assert all(label and len(label) > 40 for label in labels)


def group_and_style(rows: list[Result]) -> tuple[panels.Group, Style]:
    (group,) = panels.groups(factory.run(rows), rows)
    return group, Style.of(panels.targets(rows), list(dict.fromkeys(row.dtype for row in rows)))


def test_a_line_stands_for_a_target_and_dtype_with_its_interval() -> None:
    rows = [row for row in factory.sweep() if row.benchmark == "matmul"]
    group, style = group_and_style(rows)
    time, rate, speed_up, frameworks = charts.charts(group, group.panels[0], style)
    assert [len(chart.figure["data"]) for chart in (time, rate, speed_up, frameworks)] == [
        8,
        8,
        4,
        4,
    ]
    line = time.figure["data"][0]
    assert line["x"] == [256, 512, 1024, 2048, 4096]
    assert line["error_y"]["array"][0] == pytest.approx(line["y"][0] * 0.02, rel=1e-4)
    same = {(t["name"], t["meta"]["colour"]) for t in rate.figure["data"]}
    assert same == {(t["name"], t["meta"]["colour"]) for t in time.figure["data"]}


def test_the_interval_of_a_rate_is_that_of_its_time_turned_round() -> None:
    rows = [factory.result(params={"n": n}, median=0.01, half=0.5, flops=1e9) for n in (1, 2)]
    group, style = group_and_style(rows)
    _, rate = charts.charts(group, group.panels[0], style)
    bars = rate.figure["data"][0]["error_y"]
    assert bars["array"][0] == pytest.approx(1e11, rel=1e-4)  # 1e9 / 0.005 - 1e11
    assert bars["arrayminus"][0] == pytest.approx(1e11 - 1e9 / 0.015, rel=1e-4)


def test_single_rounds_have_no_error_bars_and_wrong_results_are_not_drawn() -> None:
    rows = [factory.result(params={"n": n}, rounds=1) for n in (1, 2, 3)]
    rows.append(factory.result(params={"n": 4}, quality="invalid", rounds=1))
    group, style = group_and_style(rows)
    time = charts.charts(group, group.panels[0], style)[0].figure["data"][0]
    assert time["error_y"] is None
    assert time["x"] == [1, 2, 3]


def test_one_size_becomes_bars_and_no_data_no_chart() -> None:
    group, style = group_and_style([factory.result()])
    assert {c.figure["data"][0]["type"] for c in charts.charts(group, group.panels[0], style)} == {
        "bar"
    }
    group, style = group_and_style(
        [factory.result(median=None, status="oom", reason="out-of-memory")]
    )
    assert charts.charts(group, group.panels[0], style) == []


def test_the_recorded_size_axis_wins_over_the_one_with_more_values() -> None:
    rows = [factory.result(params={"n": n, "width": w}) for n in (1, 2) for w in (1, 2, 3)]
    run = factory.run(rows)
    assert panels.groups(run, rows)[0].size == "n"
    assert len(panels.groups(run, rows)[0].panels) == 3
    unrecorded = factory.run(rows, settings={})
    assert panels.groups(unrecorded, rows)[0].size == "width"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        factory.troubled()[:1],
        [factory.result()],
        [factory.result(median=0.0, flops=None), factory.result(params={"n": 2})],
    ],
    ids=["0", "skipped", "1", "a clock that read zero"],
)
def test_a_page_is_written_for_any_number_of_rows(rows: list[Result]) -> None:
    found = page(rows)
    assert "How it was measured" in found.text
    assert ("All rows" in found.text) == bool(rows)


def test_a_run_file_without_environment_shows_question_marks() -> None:
    rows = [factory.result(physical_device=None, device_name=None, clock=None, threads=None)]
    environments: list[dict[str, Any]] = [
        {},
        {"machine": {}},
        {"machine": None, "targets": None, "variables": None},
    ]
    for environment in environments:
        assert "??" in page(rows, environment=environment, settings={}).text
    gpus = {
        "machine": {"gpus": [{}, {"name": "Fictional F2"}], "devices": [{}], "frameworks": [{}]}
    }
    assert "Fictional F2" in page(rows, environment=gpus).text


@pytest.mark.parametrize("name", factory.HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    rows = [
        factory.result(
            params={"phase": name, "n": n},
            benchmark=name,
            suite=name,
            quality="suspect",
            quality_reasons=(f"not-steady: {name}",),
            device_name=name,
        )
        for n in (1, 2)
    ]
    rows.append(factory.result(median=None, status="failed", reason=f"error: {name}"))
    found = page(rows, host=name, label=name, settings={name: name})
    plain = page([*rows[:2], rows[2]], host="x", label="x", settings={"x": "x"})
    harmless = ("script", "img", "style", "meta", "link")
    assert [t for t, _ in found.elements if t in harmless] == [
        t for t, _ in plain.elements if t in harmless
    ]
    assert not any(key.startswith("on") for _, attributes in found.elements for key in attributes)
    shown = found.text.replace("\u00a0", " ")
    assert name.replace("\u00a0", " ") in shown
    for figure in found.figures:
        assert "<script" not in json.dumps(figure)


def test_embedded_json_cannot_end_its_element() -> None:
    value = {"a": "</script><!--<script>&\u2028\u2029", "b": float("nan")}
    text = str(embed(value))
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"a": value["a"], "b": None}


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.66, 1.22, ["0.7", "0.8", "0.9", "1", "1.2"]),
        (0.9, 40.0, ["1", "3", "10", "30"]),
        (5e-6, 8.0, ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]),
    ],
)
def test_axis_ticks_are_few_round_values(low: float, high: float, labels: list[str]) -> None:
    steps = axes.round_values([math.log10(low), math.log10(high)])
    assert [fmt.tick(step, "s" if low < 1e-3 else "") for step in steps] == labels


@pytest.mark.parametrize("decades", [0.05, 0.2, 0.5, 1, 2, 4, 8, 14])
@pytest.mark.parametrize("low", [-6.3, -0.02, 0.0, 9.97])
def test_no_axis_is_without_ticks_or_crowded(low: float, decades: float) -> None:
    steps = axes.round_values([low, low + decades])
    assert 2 <= len(steps) <= 9
    assert len(set(steps)) == len(steps)


def test_a_page_of_many_benchmarks_has_a_contents_and_each_says_its_own() -> None:
    few = [factory.result(benchmark=f"bench{n}") for n in range(3)]
    many = [factory.result(benchmark=f"bench{n}") for n in range(30)]
    assert [tag for tag, _ in page(few).elements].count("a") == 0
    found = page(many)
    links = [attributes["href"] for tag, attributes in found.elements if tag == "a"]
    assert links == [f"#benchmark-{n}" for n in range(1, 31)]
    ids = {attributes.get("id") for _, attributes in found.elements}
    assert {f"benchmark-{n}" for n in range(1, 31)} <= ids
    assert [tag for tag, _ in found.elements].count("nav") == 1
    for rows, text in ((few, page(few).text), (many, found.text)):
        said = text.replace("\u00a0", " ").count("torch:cpu takes 10.0 ms ± 2.0 % a step")
        assert said == len(rows), "each benchmark says its figure once"


def test_axes_share_a_column_where_benchmarks_differ_in_them() -> None:
    alike = [factory.result(params={"n": n, "dtype": "float32"}) for n in (1, 2)]
    titles = [column.title for column in view.columns(alike)]
    assert titles[:4] == ["benchmark", "n", "dtype", "target"]
    other = factory.result(params={"batch": 8}, benchmark="mlp")
    mixed = view.columns([*alike, other])
    assert [column.title for column in mixed][:3] == ["benchmark", "case", "target"]
    assert [mixed[1].cell(row).text for row in (alike[0], other)] == ["n=1 float32", "batch=8"]


def test_the_table_tells_doubts_by_their_words_and_in_full_at_its_end() -> None:
    reasons = ("steal: 3% of the CPU time", "few-samples: 3 in a round")
    row = factory.result(quality="suspect", quality_reasons=reasons)
    columns = {column.title: column for column in view.columns([row])}
    assert columns["doubts"].cell(row).text == "steal, few-samples"
    assert list(columns)[-1] == "doubts in full"
    assert columns["doubts in full"].cell(row).text == "; ".join(reasons)


def test_cases_that_were_not_reached_are_among_the_planned_ones() -> None:
    rows = [factory.result(params={"n": n}) for n in range(1, 11)]
    rows[2] = replace(rows[2], status="crashed", reason="signal: SIGSEGV", rounds=4)
    text = Page(to_html(factory.run(rows, state="interrupted"), rows[:3])).text
    assert "3 of 10 cases measured" in text
    assert "Not measured" not in text, "a case of which four rounds were timed is measured"
    assert "Skipped or failed: 1 case" in text
    assert "signal: SIGSEGV; 4 rounds were timed" in text


def test_only_columns_of_numbers_are_sorted_and_set_as_numbers() -> None:
    rows = [
        factory.result(params={"fused": fused}, metrics={"scaling": scaling, "epoch_s": epoch})
        for fused, scaling, epoch in ((True, "path only", 0.5), (False, 0.9, math.inf))
    ]
    columns = {column.title: column for column in view.columns(rows)}
    assert [str(columns["fused"].cell(row).key) for row in rows] == ["1", "0"]
    assert not columns["scaling"].numeric
    assert columns["epoch"].numeric
    assert columns["epoch"].cell(rows[1]).key is None
    keys = [a["data-key"] for _, a in page(rows).elements if "data-key" in a]
    assert keys
    assert all(re.fullmatch(r"[-+.e\d]+", key or "") for key in keys), keys


def test_settings_have_their_units() -> None:
    settings = {
        "warmup_s": 0.5,
        "time_budget_s": None,
        "sources": [{"suite": "cnn", "kind": "module", "location": "devbench_suites.cnn"}],
    }
    text = page([factory.result()], settings=settings).text
    assert "500 ms" in text
    assert "devbench_suites.cnn" in text
    assert "warmup s" not in text
    assert '{"suite"' not in text


def test_bars_say_their_figures() -> None:
    group, style = group_and_style([factory.result(items=64, flops=None)])
    time, rate = charts.charts(group, group.panels[0], style)
    assert time.figure["data"][0]["text"] == ["10.0 ms"]
    assert rate.figure["data"][0]["text"] == ["6.40 k items/s"]
    assert rate.title == "Rate (items/s)"


def test_a_long_name_may_be_broken_after_a_comma_and_before_its_device() -> None:
    assert str(told("m[n=1,k=<b>]@cpu, 2 ms")) == ("m[n=1,<wbr>k=&lt;b&gt;]<wbr>@cpu, 2\u00a0ms")


def test_figures_are_tied_to_their_units() -> None:
    assert fmt.tied("10.2 ms ± 2.0 % a step") == "10.2\u00a0ms ±\u00a02.0\u00a0% a step"
    assert fmt.tied("samples 6.72 k/s") == "samples 6.72\u00a0k/s"
    assert fmt.tied("53.3 k items/s at n = 4") == "53.3\u00a0k items/s at n = 4"
