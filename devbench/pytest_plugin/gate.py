"""``--devbench-gate``: are the collected benchmarks slower than in another state of the project?

Against a git ref or an interpreter they are judged by pairs of fresh pytest processes, as `devbench ab`
judges suites, and each becomes a report of pytest: passed, failed or skipped. Against a file of
pytest-benchmark this one process is held, which decides nothing, and says so.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from devbench import registry
from devbench.errors import DevbenchError, NothingMeasured, UsageError
from devbench.model import Case, Target
from devbench.pytest_plugin.holding import holding
from devbench.pytest_plugin.pairs import in_turn
from devbench.pytest_plugin.worker import key_of
from devbench.regress.ab import Event, Looked, Started
from devbench.regress.compare import Comparison, Row, compare
from devbench.regress.sides import Side, read_side


def make_gate(config: pytest.Config) -> _Gate:
    """The gate that the option asks for. A file that is none ends pytest; refs are looked up later."""
    base: str = config.getoption("devbench_gate")
    with _ending():
        if Path(base).suffix == ".json":
            return _FileGate(config, read_side(base, None))
        if config.getoption("dist", "no") != "no":
            raise UsageError("the gate times one process at a time; leave out -n of pytest-xdist")
    return _PairGate(config, base)


@contextmanager
def _ending() -> Generator[None, None, None]:
    """devbench's errors end pytest with their sentence and their exit code."""
    try:
        yield
    except DevbenchError as error:
        pytest.exit(f"devbench: {error}", returncode=error.exit_code)


class _Gate:
    """What both gates share: how the session ends, and what it prints."""

    #: Reports of failure that are the gate's own: they do not say that a test failed.
    failures = 0
    comparison: Comparison | None = None
    #: Whether the session came to its end, so that there is something to say of it.
    ended = False

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.allow: bool = config.getoption("devbench_allow_inconclusive")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.ended = session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        )
        if self.ended and session.testsfailed == self.failures:
            nothing = NothingMeasured.exit_code
            session.exitstatus = self.comparison.exit_code if self.comparison else nothing

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.ended:
            return
        terminalreporter.section("devbench gate")
        if self.comparison is None:
            terminalreporter.write_line(
                "no test with device_benchmark was measured, and nothing measured is no pass"
            )
            return
        report = registry.reporter("text", "devbench.comparison_reporters")
        terminalreporter.write_line(report(self.comparison).rstrip())


class _FileGate(_Gate):
    """This process against a file."""

    def __init__(self, config: pytest.Config, base: Side) -> None:
        super().__init__(config)
        self._base = base

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        with _ending():
            found = _measured(self.config)
            if found is not None:
                self.comparison = compare(self._base, found, allow_inconclusive=self.allow)
        super().pytest_sessionfinish(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        super().pytest_terminal_summary(terminalreporter)
        if self.comparison is None:
            return
        terminalreporter.write_line(
            "One process against a file cannot tell what is slower. Give --devbench-gate a git ref or a "
            "Python interpreter, and both sides are timed in turn."
        )


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


class _PairGate(_Gate):
    """The tests are judged before the others run, while nothing else is alive; each is reported when its
    turn comes."""

    def __init__(self, config: pytest.Config, base: str) -> None:
        super().__init__(config)
        self._base = base
        self._cases: dict[str, Case] = {}
        self._rows: dict[str, Row] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, None, None]:
        if not session.testsfailed and not self.config.option.collectonly:
            with _ending():
                self._judge(session)
        yield

    def _judge(self, session: pytest.Session) -> None:
        held = holding(self.config)
        for item in session.items:
            if not isinstance(item, pytest.Function) or "device_benchmark" not in item.fixturenames:
                continue
            device_id = item.callspec.params["devbench_device"]
            if not isinstance(device_id, str):
                continue  # refused or missing; reported in the ordinary way
            device = held.device(device_id)
            name, params = key_of(item)
            target = Target(device.framework, (device.address,))
            self._cases[item.nodeid] = Case(name.partition("::")[0], name, params, target)
        if not self._cases:
            return
        self.comparison = in_turn(
            self._base, list(self._cases.values()), self.config, self._tell, self.allow
        )
        self._rows = {row.case_id: row for row in self.comparison.rows}

    def _tell(self, event: Event) -> None:
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        match event:
            case Started():
                reporter.write_line(
                    f"devbench: {event.base.name} against {event.head.name}, {len(event.cases)} "
                    f"benchmarks, log {event.log}"
                )
            case Looked():
                reporter.write_line(f"devbench: {event.pairs} pairs, {event.open} benchmarks open")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        case = self._cases.get(item.nodeid)
        if case is None:
            return None
        hook = item.config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        report = self._report(item, self._rows.get(case.id))
        self.failures += report.failed
        hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _report(self, item: pytest.Item, row: Row | None) -> pytest.TestReport:
        outcome: Literal["passed", "failed", "skipped"] = "failed"
        told = "not-measured: no process came back with it; see the log"
        if row is not None:
            told = _sentence(row)
            if row.gate == "fine":
                outcome = "skipped" if row.verdict == "not-measured" else "passed"
            elif row.gate == "open" and self.allow:
                outcome = "skipped"
        path, line, _ = item.location
        longrepr: Any = (path, line or 0, told) if outcome == "skipped" else told
        if outcome == "passed":
            longrepr = None
        return pytest.TestReport(
            item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, longrepr, "call"
        )


def _sentence(row: Row) -> str:
    """``regressed: 1.05 times the base's time (1.04 to 1.06)``."""
    told = str(row.verdict)
    if row.ratio is not None:
        told += f": {row.ratio:.3f} times the time of the base"
    if row.low is not None and row.high is not None:
        told += f" ({row.low:.3f} to {row.high:.3f})"
    return f"{told}; {row.reason}" if row.reason else told
