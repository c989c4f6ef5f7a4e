"""``devbench list``: suites, benchmarks, axes, frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from devbench.cli.common import JsonOption, print_json
from devbench.cli.table import print_table

if TYPE_CHECKING:
    from devbench.declare import Benchmark
    from devbench.registry import Catalog

Support = Literal["ready", "not installed", "not implemented"]


def list_(
    suite_path: Annotated[
        list[Path] | None,
        typer.Option("--suite-path", metavar="FILE", help="A file of your own benchmarks."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List suites, benchmarks with their axes, and frameworks."""
    from devbench import registry

    answer = _answer(registry.load_catalog(suite_path or ()))
    if as_json:
        print_json(answer)
    else:
        _print(answer)


def _answer(catalog: Catalog) -> dict[str, Any]:
    from devbench import registry

    broken = (*catalog.broken, *registry.broken_frameworks())
    return {
        "schema": "devbench.list/1",
        "suites": [
            {
                "name": source.suite,
                "kind": source.kind,
                "location": source.location,
                "benchmarks": [
                    _benchmark(one) for one in catalog.benchmarks.values() if one.suite == name
                ],
            }
            for name, source in catalog.sources.items()
        ],
        "frameworks": [
            {
                "name": name,
                "installed": registry.is_installed(framework),
                "extra": framework.extra,
                "modes": list(framework.modes),
            }
            for name, framework in registry.frameworks().items()
        ],
        "broken": [{"group": one.group, "name": one.name, "error": one.error} for one in broken],
    }


def _benchmark(benchmark: Benchmark) -> dict[str, Any]:
    from devbench import registry

    return {
        "name": benchmark.name,
        "doc": benchmark.doc,
        "axes": {axis: list(values) for axis, values in benchmark.axes.items()},
        "quick": {axis: list(values) for axis, values in benchmark.quick.items()},
        "size": benchmark.size,
        "where": benchmark.where,
        "frameworks": {name: _support(benchmark, name) for name in registry.frameworks()},
    }


def _support(benchmark: Benchmark, framework: str) -> Support:
    from devbench import registry

    if framework not in benchmark.builders:
        return "not implemented"
    return "ready" if registry.is_installed(registry.frameworks()[framework]) else "not installed"


def _print(answer: dict[str, Any]) -> None:
    frameworks = [framework["name"] for framework in answer["frameworks"]]
    print_table(
        ("suite", "benchmark", "axes", "size axis", *frameworks),
        [
            (
                suite["name"],
                one["name"],
                " ".join(_axis(axis, values) for axis, values in one["axes"].items()),
                one["size"] or "–",
                *(one["frameworks"][name] for name in frameworks),
            )
            for suite in answer["suites"]
            for one in suite["benchmarks"]
        ],
        below=("axes", *frameworks),
    )
    print()
    print_table(
        ("framework", "installed", "modes", "install with"),
        [
            (
                one["name"],
                "yes" if one["installed"] else "no",
                ", ".join(one["modes"]),
                f"pip install 'devbench[{one['extra']}]'",
            )
            for one in answer["frameworks"]
        ],
    )
    if answer["broken"]:
        print()
        print_table(
            ("broken plugin", "kind", "why"),
            [(one["name"], one["group"], one["error"]) for one in answer["broken"]],
        )


def _axis(name: str, values: list[Any]) -> str:
    """As ``--param`` takes it: ``n=256,512``."""
    from devbench.model import format_value

    return f"{name}={','.join(map(format_value, values))}"
