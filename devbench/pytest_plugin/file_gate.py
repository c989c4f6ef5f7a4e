"""``--devbench-gate FILE``: this session against what pytest-benchmark stored of another.

A session is one process, and so is a file; of how far processes lie apart they say nothing. That is taken
from a calibration of this machine (``--devbench-calibrate``). Without one nothing is decided.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devbench.pytest_plugin.gate import Gate, ending, told
from devbench.pytest_plugin.pairs import GONE
from devbench.pytest_plugin.worker import key_of, name_of, takes_turns
from devbench.regress.compare import compare
from devbench.regress.comparison import Comparison
from devbench.regress.margins import environment_of, stored
from devbench.regress.sides import Side, SideCase, read_side
from devbench.store import Store


def means_files(base: Path) -> bool:
    """Whether it is a file of pytest-benchmark, or a folder of such and no virtual environment."""
    if base.suffix == ".json":
        return True
    return base.is_dir() and not (base / "pyvenv.cfg").exists() and any(base.glob("*.json"))


class FileGate(Gate):
    """Judges at the end of the session what pytest-benchmark has measured in it."""

    def __init__(self, config: pytest.Config, base: Side, margin: float | None) -> None:
        super().__init__(config)
        self._base = base
        self._margin = margin
        self._comparison: Comparison | None = None
        #: Tests that were skipped, as pytest names them.
        self._skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._skipped.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        with ending():
            found = _measured(self.config)
            if found is not None:
                self._judge(session, found)
        super().pytest_sessionfinish(session)

    def _judge(self, session: pytest.Session, found: Side) -> None:
        with Store.open(create=False) as store:
            known = stored(store, environment_of(found))
        absent = {name for name in self._base.cases if name not in found.cases}
        excused = {name for name in absent if self._is_excused(self._base.cases[name], session)}
        wanted = {n: case for n, case in self._base.cases.items() if n not in excused}
        comparison = compare(
            replace(self._base, cases=wanted),
            found,
            margin=self._margin,
            calibrated=known,
            allow_inconclusive=self.allow,
        )
        gone = absent - {item.nodeid for item in session.items}
        rows = (
            replace(row, reason=GONE) if row.case_id in gone else row for row in comparison.rows
        )
        self._comparison = replace(comparison, rows=tuple(rows))
        self.exit_code = comparison.exit_code

    def _is_excused(self, case: SideCase, session: pytest.Session) -> bool:
        """Whether a test of the file that was not measured now was not to be: it is deselected or
        skipped, its device is not among those that were named, or the command line means other tests."""
        names = {case.id, case.calibrated_as.rpartition("@")[0]}
        skipped = (one for one in session.items if one.nodeid in self._skipped and _is_timed(one))
        left = _names([*self.deselected, *skipped])
        if self.config.getoption("devbench_device"):
            left |= _names(filter(takes_turns, session.items))
        file, _, name = case.id.partition("::")
        asked = self.is_asked_for(self.config.rootpath / file, name)
        return not names.isdisjoint(left) or not asked

    def lines(self) -> Iterator[str]:
        assert self._comparison is not None
        yield told(self._comparison)
        if "inconclusive" in self._comparison.counts:
            yield (
                "A file holds single processes. Give --devbench-gate a git ref or a Python interpreter, "
                "and both sides are timed in turn, which tells smaller changes."
            )


def _is_timed(item: pytest.Item) -> bool:
    """Whether it is a test of pytest-benchmark."""
    return "benchmark" in getattr(item, "fixturenames", ())


def _names(items: Iterable[pytest.Item]) -> set[str]:
    """What tests are called: on devices without the device, others as pytest names them."""
    return {name_of(key_of(item)) if takes_turns(item) else item.nodeid for item in items}


def _measured(config: pytest.Config) -> Side | None:
    """What pytest-benchmark has measured in this session, read as its file would be."""
    session: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    found = [one for one in session.benchmarks if one and not one.has_error] if session else []
    if not found:
        return None
    written = config.hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=found,
        include_data=False,
        machine_info=session.get_machine_info(),
        commit_info=config.hook.pytest_benchmark_generate_commit_info(config=config),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "now.json"
        file.write_text(json.dumps(written, default=repr))
        return replace(read_side(str(file), None), name="now", id="this session")
