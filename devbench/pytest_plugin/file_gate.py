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

from devbench.errors import NothingMeasured
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
    """Judges at the end of the session what pytest-benchmark has measured in it by `device_benchmark`."""

    def __init__(self, config: pytest.Config, base: Side, margin: float | None) -> None:
        super().__init__(config)
        self._base = _with_devices(base)
        if not self._base.cases:
            raise NothingMeasured(
                f"{base.name} holds no test that takes device_benchmark, and others are not judged; write "
                "one that does with `pytest --benchmark-only --benchmark-json FILE`"
            )
        self._margin = margin
        self._comparison: Comparison | None = None
        #: Tests that pytest-benchmark has measured, and that are not judged.
        self._plain = 0
        #: Tests that were skipped, as pytest names them.
        self._skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._skipped.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        with ending():
            measured = _measured(self.config)
            if measured is not None:
                found = _with_devices(measured)
                self._plain = len(measured.cases) - len(found.cases)
                if found.cases:
                    self._judge(session, found)
        super().pytest_sessionfinish(session)

    def _judge(self, session: pytest.Session, found: Side) -> None:
        with Store.open(create=False) as store:
            known = stored(store, environment_of(found))
        absent = [case for name, case in self._base.cases.items() if name not in found.cases]
        excused = self._excused(absent, session)
        wanted = {n: case for n, case in self._base.cases.items() if n not in excused}
        comparison = compare(
            replace(self._base, cases=wanted),
            found,
            margin=self._margin,
            calibrated=known,
            allow_inconclusive=self.allow,
        )
        here = _names(session.items)
        gone = {case.id for case in absent if _name(case) not in here}
        rows = (
            replace(row, reason=GONE) if row.case_id in gone else row for row in comparison.rows
        )
        self._comparison = replace(comparison, rows=tuple(rows))
        self.exit_code = comparison.exit_code

    def _excused(self, absent: Iterable[SideCase], session: pytest.Session) -> set[str]:
        """Which tests of the file that were not measured now were not to be: they are deselected or
        skipped, their device is not among those that were named, or the command line means other tests.

        A device that is there no longer excuses nothing, whatever became of the test on the others.
        """
        ids = {item.nodeid for item in session.items}
        here, deselected = _names(session.items), _names(self.deselected)
        left = {item.nodeid for item in self.deselected}
        left |= {item.nodeid for item in session.items if takes_turns(item)} & self._skipped
        option = self.config.getoption
        # Whether they mean a test that is not there cannot be told.
        chosen = bool(option("keyword") or option("markexpr"))

        def is_excused(case: SideCase) -> bool:
            file, _, name = case.id.partition("::")
            if case.id in left or not self.is_asked_for(self.config.rootpath / file, name):
                return True
            if _name(case) in here:
                return case.id not in ids and bool(option("devbench_device"))
            return chosen or _name(case) in deselected

        return {case.id for case in absent if is_excused(case)}

    def lines(self) -> Iterator[str]:
        assert self._comparison is not None
        yield told(self._comparison)
        if self._plain:
            tests = "1 test is" if self._plain == 1 else f"{self._plain} tests are"
            yield (
                f"{tests} left out: without device_benchmark, no calibration tells how far processes lie "
                "apart."
            )
        if "inconclusive" in self._comparison.counts:
            yield (
                "A file holds single processes. Give --devbench-gate a git ref or a Python interpreter, "
                "and both sides are timed in turn, which tells smaller changes."
            )


def _with_devices(side: Side) -> Side:
    """Of a side the tests that take `device_benchmark`. No calibration knows others, so of one process of
    theirs nothing can be said."""
    return replace(side, cases={n: one for n, one in side.cases.items() if one.calibrated_as != n})


def _name(case: SideCase) -> str:
    """What a test is called without its device."""
    return case.calibrated_as.rpartition("@")[0]


def _names(items: Iterable[pytest.Item]) -> set[str]:
    return {name_of(key_of(item)) for item in items if takes_turns(item)}


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
