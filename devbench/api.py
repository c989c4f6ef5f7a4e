"""The verbs in Python: what `devbench.run`, `devbench.detect` and `devbench.time` are."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devbench import registry
from devbench import session as sessions
from devbench.declare import Benchmark
from devbench.errors import UsageError
from devbench.events import Event
from devbench.model import ParamValue, Result, Run, format_value
from devbench.settings import Settings

if TYPE_CHECKING:
    import pandas

    from devbench.detection import Machine
    from devbench.stats.crossover import Crossover


class RunHandle:
    """A run that was carried out: its results as records, as a table, as a report."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def id(self) -> str:
        return self.run.info.id

    @cached_property
    def results(self) -> list[Result]:
        """One record a case; the columns are documented in `devbench.model.Result`."""
        from devbench.stats.results import summarize

        return summarize(self.run)

    @cached_property
    def crossovers(self) -> list[Crossover]:
        """Where one target overtakes another along a benchmark's size (`devbench.stats.crossover`)."""
        from devbench.stats.crossover import find_crossovers

        return find_crossovers(self.run, self.results)

    def table(self) -> pandas.DataFrame:
        """The results as a DataFrame, one row a case, units in ``attrs["units"]``."""
        return registry.reporter("table")(self.run, self.results)  # type: ignore[no-any-return]

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML page and return its path."""
        from devbench.store.files import reserve

        with reserve(path) as write:
            write(registry.reporter("html")(self.run, self.results))
        return Path(path).resolve()

    def __repr__(self) -> str:
        return str(registry.reporter("text")(self.run, self.results))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(self.table().to_html(max_rows=200))


def run(
    *select: str | Benchmark,
    devices: Sequence[str] = (),
    frameworks: Sequence[str] = (),
    threads: Sequence[int] = (),
    params: Mapping[str, Sequence[ParamValue]] | None = None,
    quick: bool = False,
    thorough: bool = False,
    rounds: int | None = None,
    time_budget: float | None = None,
    crossover: bool = False,
    suite_paths: Sequence[str | Path] = (),
    label: str | None = None,
    store: str | None = None,
    tell: Callable[[Event], None] = lambda event: None,
) -> RunHandle:
    """Measure benchmarks on the devices of this machine; the same as ``devbench run``.

    select: suites, benchmarks or case patterns by name, or benchmarks declared right here (a class
    in a notebook cell works: its source travels to the workers). time_budget is in seconds.
    crossover: measure further sizes where one target overtakes another.
    Raises the errors of `devbench.errors`, the exit codes of the command line being their
    `exit_code`.
    """
    from devbench.store import Store

    declared = [one for one in select if isinstance(one, Benchmark)]
    request = sessions.Request(
        select=tuple(one.name if isinstance(one, Benchmark) else one for one in select),
        devices=tuple(devices),
        frameworks=tuple(frameworks),
        threads=tuple(threads),
        params=tuple(
            f"{axis}={','.join(map(format_value, values))}"
            for axis, values in (params or {}).items()
        ),
        suite_paths=tuple(Path(path) for path in suite_paths),
        extra_suites=tuple(_source(one) for one in declared if one.suite == ""),
        label=label,
        settings=make_settings(
            quick=quick,
            thorough=thorough,
            rounds=rounds,
            time_budget=time_budget,
            crossover=crossover,
        ),
    )
    session = sessions.prepare(request)
    opened = Store.open(store)
    try:
        sessions.carry_out(session, opened, tell)
        return RunHandle(opened.load(session.info.id))
    finally:
        opened.close()


def make_settings(
    *,
    quick: bool,
    thorough: bool,
    rounds: int | None,
    time_budget: float | None,
    crossover: bool,
) -> Settings:
    """Settings from what was asked for, everything else by default.

    Raises UsageError for both `quick` and `thorough`, for no rounds, and for a budget that is none.
    """
    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other; give one of them")
    changes: dict[str, Any] = {"time_budget_s": time_budget, "crossover": crossover}
    if rounds is not None:
        changes["rounds"] = rounds
    if quick:
        return Settings.for_quick(**changes)
    return Settings.for_thorough(**changes) if thorough else Settings(**changes)


def _source(benchmark: Benchmark) -> registry.Source:
    """The source of a class that lives in a notebook cell or a script, as a suite of its own."""
    cls = type(benchmark.definition)
    text = _class_text(cls)
    if text is None:
        raise UsageError(
            f"the source of the benchmark {benchmark.name!r} cannot be found, so it cannot travel to the "
            "workers; write it into a file and name that with suite_paths=[...]"
        )
    imports = "import numpy as np\nimport devbench\nfrom devbench import *\n\n"
    return registry.Source(benchmark.name, "source", imports + text)


def _class_text(cls: type) -> str | None:
    """The class with its decorator. `inspect.getsource` finds no class of a notebook cell, but the
    code of a method names the cell, whose text is in linecache."""
    for member in vars(cls).values():
        if not inspect.isfunction(member):
            continue
        text = "".join(linecache.getlines(member.__code__.co_filename))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))
    return None


def detect() -> Machine:
    """What devices there are and what each framework sees of them; the same as ``devbench detect``."""
    return sessions.look(registry.frameworks())
