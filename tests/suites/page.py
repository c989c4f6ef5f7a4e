"""docs/suites.md: every suite and benchmark as it is declared, with the figures of a real run.

``python -m tests.suites.page`` writes it anew. Its figures lie in docs/suites-run.json, and stay what
they are until another run is given::

    devbench run --quick --label page
    devbench export page -o run.json
    python -m tests.suites.page run.json "The machine did nothing else."
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from devbench.declare import Benchmark
from devbench.model import ParamValue, Result, Run, Work, format_params, format_value
from devbench.plan import Pattern, expand
from devbench.registry import Catalog, load_catalog
from devbench.stats.results import summarize
from devbench.store.exchange import read_run
from devbench_reports import environment
from devbench_reports import format as fmt

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "suites.md"
FIGURES: Final = DOCS / "suites-run.json"

Row = Mapping[str, Any]
Figures = Mapping[str, Any]

_CHECKED: Final = {
    "function": "all that a step gives, against numpy at float64 from the same rounded inputs",
    "exact": "what a step gives equals its inputs, bit for bit",
    "property": "the step raises an error where what is promised above does not hold",
    None: "nothing",
}
_OVER: Final = {
    "memory": "moved",
    "h2d": "over the link",
    "d2h": "over the link",
    "h2d_pinned": "over the link",
    "d2h_pinned": "over the link",
    "elsewhere": "moved elsewhere",
}
_HEAD: Final = """\
# The built-in suites

<!-- Written by `make docs` from the declarations and docs/suites-run.json; changes here are lost. -->

What each benchmark does, the axes of its sweep, the work of a step, how its result is checked, and
what a real run of its `--quick` sweep gave. How to write one:
[suites/README.md](../suites/README.md). What the figures mean and how they are taken:
[ARCHITECTURE.md](../ARCHITECTURE.md#7-how-it-measures).

Work is what a step must do at the least, as it is declared: operations (FLOP, a multiply-add is two),
bytes to be moved, and memory held at the peak (by which a case is skipped that would not fit). Rates
are this work over the time.
"""


def page(catalog: Catalog, figures: Figures) -> str:
    """The page in Markdown."""
    suites = {
        name: [one for one in catalog.benchmarks.values() if one.suite == name]
        for name in catalog.suites
    }
    rows = [
        f"| [{name}](#suite-{name}) | {', '.join(f'[{one.name}](#{one.name})' for one in declared)} "
        f"| {first_sentence(_suite_doc(catalog, name))} |"
        for name, declared in suites.items()
    ]
    blocks = [
        _HEAD,
        f"**The figures.** {figures['about']} A `?` marks a figure that devbench itself doubts, a `!` "
        "one that it calls worthless; `devbench show` tells why. They are there to show what rows look "
        "like. Measure your own.\n",
        "\n".join(["| suite | benchmarks | what |", "| --- | --- | --- |", *rows]) + "\n",
    ]
    for name, declared in suites.items():
        blocks += [f"## Suite {name}\n", _prose(_suite_doc(catalog, name))]
        for benchmark in declared:
            taken = [row for row in figures["rows"] if row["benchmark"] == benchmark.name]
            blocks += [f"### {benchmark.name}\n", *_benchmark(benchmark, taken)]
    return "\n".join(blocks)


def first_sentence(doc: str) -> str:
    """Of a docstring, on one line."""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[.?!])\s", paragraph)[0]


def _suite_doc(catalog: Catalog, suite: str) -> str:
    return importlib.import_module(catalog.sources[suite].location).__doc__ or ""


def _prose(doc: str) -> str:
    """A docstring as Markdown: what is set in columns there stays so."""
    columns = re.compile(r"^\S+(, \S+)*  +\S", re.MULTILINE)
    blocks = [
        f"```text\n{paragraph}\n```" if columns.search(paragraph) else paragraph
        for paragraph in doc.strip().split("\n\n")
    ]
    return "\n\n".join(blocks) + "\n"


def _benchmark(benchmark: Benchmark, taken: Sequence[Row]) -> Iterator[str]:
    yield _prose(benchmark.doc)
    yield "\n".join(_axes(benchmark)) + "\n"
    facts = [
        f"- Frameworks: {fmt.join(benchmark.builders)}",
        f"- Checked: {_checked(benchmark)}",
    ]
    if names := dict.fromkeys(name for row in taken for name in row.get("metrics", {})):
        facts.append(f"- Metrics: {', '.join(f'`{name}`' for name in names)}")
    found = Counter(row["numerics"] for row in taken if "numerics" in row)
    if found:
        told = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
        facts.append(f"- Results in the run: {told}")
    yield "\n".join(facts) + "\n"
    yield "\n".join(_table(benchmark, taken)) + "\n"
    reasons: dict[str, list[str]] = {}
    for row in taken:
        if row["status"] != "ok":
            targets = reasons.setdefault(f"{row['status']}, {row['reason']}", [])
            targets += [row["target"]] if row["target"] not in targets else []
    if reasons:
        yield "".join(f"- {fmt.join(on)}: {reason}\n" for reason, on in reasons.items())


def _axes(benchmark: Benchmark) -> Iterator[str]:
    yield _line(["axis", "values", "`--quick`"])
    yield _line(["---"] * 3)
    for axis, values in benchmark.axes.items():
        size = " (size)" if axis == benchmark.size else ""
        yield _line([f"`{axis}`{size}", _values(values), _values(benchmark.quick[axis])])


def _values(values: Sequence[ParamValue]) -> str:
    return ", ".join(map(format_value, values))


def _checked(benchmark: Benchmark) -> str:
    text = _CHECKED[benchmark.reference_kind]
    closed = getattr(benchmark.definition, "closed_form", None)
    if closed is None:
        return text
    what = first_sentence(closed.__doc__).rstrip(".")
    return f"{text}; by a closed form, {what[0].lower()}{what[1:]}"


def _table(benchmark: Benchmark, taken: Sequence[Row]) -> Iterator[str]:
    """A line a point of the axes, a column a target. Without figures, the points of --quick."""
    points = [row["params"] for row in taken] or list(
        expand(benchmark, Pattern.parse(benchmark.name), {}, quick=True)
    )
    same = {
        axis: value
        for axis, value in points[0].items()
        if all(point[axis] == value for point in points) and len(points) > 1
    }
    targets = list(dict.fromkeys(row["target"] for row in taken))
    cells = {(format_params(row["params"]), row["target"]): _cell(row) for row in taken}
    heading = f"case, with {fmt.long_params(same)}" if same else "case"
    yield _line([heading, "work of a step", *targets])
    yield _line(["---"] * (2 + len(targets)))
    for case, params in {format_params(params): params for params in points}.items():
        own = (cells.get((case, target), fmt.NONE) for target in targets)
        shown = fmt.long_params(params, tuple(same)) or fmt.NONE
        yield _line([shown, _work(benchmark.work(params)), *own])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _work(work: Work) -> str:
    parts = [
        ("" if work.flops is None else fmt.si(work.flops, "FLOP")),
        ("" if work.bytes is None else f"{fmt.si(work.bytes, 'B')} {_OVER[work.over]}"),
        ("" if work.footprint is None else f"{fmt.si(work.footprint, 'B')} held"),
    ]
    return ", ".join(filter(None, parts)) or "not declared"


def _cell(row: Row) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    parts = [fmt.seconds(row["median"]) + row["mark"]]
    if "rate" in row:
        parts.append(fmt.quantity(*row["rate"]))
    more = [" ".join(fmt.metric(name, value)) for name, value in row.get("metrics", {}).items()]
    return "<br>".join([", ".join(parts), *more])


def take(run: Run, remark: str) -> Figures:
    """What the page shows of a run. remark: sentences on the circumstances."""
    facts = dict(environment.machine(run).facts)
    targets = environment.target_facts(run)
    versions = dict.fromkeys(
        f"{name.partition(':')[0]} {told['framework_version']}" for name, told in targets
    )
    gpus = [device.name for device in environment.machine(run).devices if device.kind != "CPU"]
    devices = [f"{facts['CPU']} ({facts['usable CPUs']} CPUs)", *gpus]
    rounds = fmt.count(int(run.info.settings["rounds"]), "round")
    about = (
        f"devbench {run.info.devbench_version} on {run.info.started_at[:10]}, {rounds}, with "
        f"{fmt.join(list(versions))}, on {fmt.join(devices)}. {remark}"
    )
    return {"about": about, "rows": [_row(result) for result in summarize(run)]}


def _row(result: Result) -> Row:
    row: dict[str, Any] = {
        "benchmark": result.benchmark,
        "params": dict(result.params),
        "target": result.target,
        "status": result.status,
    }
    if result.status != "ok":
        return row | {"reason": result.reason}
    doubtful = "!" if result.quality == "invalid" else "?"
    row |= {
        "median": result.median,
        "mark": doubtful if result.quality_reasons else "",
        "numerics": result.numerics,
    }
    if (rate := fmt.rate(result)) is not None:
        row["rate"] = rate
    return row | ({"metrics": dict(result.metrics)} if result.metrics else {})


def load_figures() -> Figures:
    figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    return figures


def _dump(figures: Figures) -> str:
    """A line a row, so that a change shows what changed."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in figures["rows"])
    return (
        f'{{"about": {json.dumps(figures["about"], ensure_ascii=False)},\n"rows": [\n{rows}\n]}}\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/suites.md.")
    parser.add_argument("run", nargs="?", help="a run file, whose figures replace those kept")
    parser.add_argument("remark", nargs="?", default="", help="sentences on its circumstances")
    given = parser.parse_args()
    if given.run is not None:
        FIGURES.write_text(_dump(take(read_run(given.run), given.remark)), encoding="utf-8")
    PAGE.write_text(page(load_catalog(), load_figures()), encoding="utf-8")


if __name__ == "__main__":
    main()
