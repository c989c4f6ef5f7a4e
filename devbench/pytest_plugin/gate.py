"""``--devbench-gate``: are the collected benchmarks slower than in another state of the project?

Against a git ref or an interpreter they are judged by pairs of fresh pytest processes, as `devbench ab`
judges suites, and each becomes a report of pytest: passed, failed or skipped. ``--devbench-calibrate``
takes such pairs of the same code, and stores how far processes lie apart; by that a file of
pytest-benchmark is judged (`devbench.pytest_plugin.file_gate`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from devbench import registry
from devbench.ending import ended_in_order
from devbench.errors import DevbenchError, NothingMeasured
from devbench.model import Case
from devbench.pytest_plugin.holding import holding
from devbench.pytest_plugin.pairs import against_itself, in_turn
from devbench.pytest_plugin.worker import Key, case_of, key_of, name_of, takes_turns
from devbench.regress.ab import Event, Looked, Started
from devbench.regress.calibrate import ROUNDS, Calibration, Figures
from devbench.regress.comparison import Comparison, Row
from devbench.regress.interleave import PairDone

Outcome = Literal["passed", "failed", "skipped"]


@contextmanager
def ending() -> Generator[None, None, None]:
    """devbench's errors end pytest with their sentence and their exit code."""
    try:
        yield
    except DevbenchError as error:
        pytest.exit(f"devbench: {error}", returncode=error.exit_code)


class Gate(ABC):
    """What all gates share: how the session ends, and what it prints."""

    title = "devbench gate"
    #: Reports of failure that are the gate's own: they do not say that a test failed.
    failures = 0
    #: How the session ends where no test failed; None while nothing was measured.
    exit_code: int | None = None
    #: Whether the session came to its end, so that there is something to say of it.
    ended = False

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.allow: bool = config.getoption("devbench_allow_inconclusive")
        #: Tests that were collected and are not to run.
        self.deselected: list[pytest.Item] = []
        #: What was collected from.
        self._collected: set[Path] = set()

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """What came out, for the terminal."""

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.deselected += items

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._collected.add((self.config.rootpath / report.nodeid.partition("::")[0]).resolve())

    def is_asked_for(self, file: Path, name: str) -> bool:
        """Whether the words of this session's command line mean a test of that name in that file, which is
        not there now. --lf leaves out without a word what did not fail, so nothing is missed then."""
        file = file.resolve()
        if self.config.getoption("lf", False) or (file.exists() and file not in self._collected):
            return False
        for word in self.config.args:
            place, _, inside = word.partition("::")
            asked = (self.config.invocation_params.dir / place).resolve()
            if not inside and file.is_relative_to(asked):
                return True
            if inside and file == asked and f"{name}[".startswith((f"{inside}[", f"{inside}::")):
                return True
        return False

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.ended = session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        )
        if self.ended and session.testsfailed == self.failures:
            nothing = NothingMeasured.exit_code
            session.exitstatus = nothing if self.exit_code is None else self.exit_code

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.ended:
            return
        terminalreporter.section(self.title)
        nothing = ["no test with device_benchmark was measured, and nothing measured is no pass"]
        for line in nothing if self.exit_code is None else self.lines():
            terminalreporter.write_line(line)


def told(comparison: Comparison) -> str:
    report = registry.reporter("text", "devbench.comparison_reporters")
    return str(report(comparison)).rstrip()


class InPairs(Gate):
    """The tests are timed before the others run, while nothing else is alive; each is reported when its
    turn comes."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._cases: dict[str, Case] = {}

    @abstractmethod
    def take(self, items: Sequence[pytest.Item], cases: Sequence[Case]) -> None:
        """Time these cases, and remember what came out. items: all that were collected."""

    @abstractmethod
    def outcome(self, case: Case) -> tuple[Outcome, str]:
        """What is reported of a case, with the reason where it did not pass."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, None, None]:
        if not session.testsfailed and not self.config.option.collectonly:
            with ending():
                self._find_cases(session)
                if self._cases:
                    with ended_in_order():
                        self.take(session.items, list(self._cases.values()))
        yield

    def _find_cases(self, session: pytest.Session) -> None:
        held = holding(self.config)
        for item in session.items:
            if not takes_turns(item):
                continue
            device_id = item.callspec.params["devbench_device"]
            if isinstance(device_id, str):  # else refused or missing: reported in the ordinary way
                self._cases[item.nodeid] = case_of(key_of(item), held.device(device_id))

    def write(self, line: str) -> None:
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"devbench: {line}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        case = self._cases.get(item.nodeid)
        if case is None:
            return None
        hook = item.config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        report = _report(item, *self.outcome(case))
        self.failures += report.failed
        hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


def _report(item: pytest.Item, outcome: Outcome, reason: str) -> pytest.TestReport:
    path, line, _ = item.location
    longrepr: Any = (path, line or 0, reason) if outcome == "skipped" else reason
    if outcome == "passed":
        longrepr = None
    return pytest.TestReport(
        item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, longrepr, "call"
    )


class PairGate(InPairs):
    """Against a git ref or an interpreter."""

    def __init__(self, config: pytest.Config, base: str, margin: float | None) -> None:
        super().__init__(config)
        self._base = base
        self._margin = margin
        self._comparison: Comparison | None = None
        self._rows: dict[str, Row] = {}

    def take(self, items: Sequence[pytest.Item], cases: Sequence[Case]) -> None:
        meant, deselected = (
            {name_of(key_of(item)) for item in some if takes_turns(item)}
            for some in (items, self.deselected)
        )

        def is_meant(key: Key) -> bool:
            return name_of(key) in meant

        def is_gone(key: Key) -> bool:
            file, _, name = key[0].partition("::")
            folder = self.config.invocation_params.dir
            known = meant | deselected
            return name_of(key) not in known and self.is_asked_for(folder / file, name)

        self._comparison = in_turn(
            self._base, cases, is_gone, is_meant, self.config, self._tell, self._margin, self.allow
        )
        self._rows = {row.case_id: row for row in self._comparison.rows}
        self.exit_code = self._comparison.exit_code

    def _tell(self, event: Event) -> None:
        match event:
            case Started():
                self.write(
                    f"{event.base.name} against {event.head.name}, {_count(len(event.cases))}, "
                    f"log {event.log}"
                )
            case Looked():
                self.write(f"{event.pairs} pairs, {_count(event.open)} open")

    def outcome(self, case: Case) -> tuple[Outcome, str]:
        row = self._rows.get(case.id)
        if row is None:
            return "failed", "not-measured: no process came back with it; see the log"
        if row.gate == "fine":
            return "skipped" if row.verdict == "not-measured" else "passed", _sentence(row)
        return "skipped" if row.gate == "open" and self.allow else "failed", _sentence(row)

    def lines(self) -> Iterator[str]:
        assert self._comparison is not None
        yield told(self._comparison)


def _count(benchmarks: int) -> str:
    return f"{benchmarks} benchmark{'' if benchmarks == 1 else 's'}"


def _sentence(row: Row) -> str:
    """``regressed: 1.05 times the base's time (1.04 to 1.06)``."""
    said = str(row.verdict)
    if row.ratio is not None:
        said += f": {row.ratio:.3f} times the time of the base"
    if row.low is not None and row.high is not None:
        said += f" ({row.low:.3f} to {row.high:.3f})"
    return f"{said}; {row.reason}" if row.reason else said


class Calibrator(InPairs):
    """The same code against itself, and what that shows stored."""

    title = "devbench calibration"

    def __init__(self, config: pytest.Config, pairs: int) -> None:
        super().__init__(config)
        self._pairs = pairs
        self._found: Calibration | None = None
        self._figures: dict[str, Figures] = {}

    def take(self, items: Sequence[pytest.Item], cases: Sequence[Case]) -> None:
        machine = holding(self.config).machine
        self._found = against_itself(
            cases, self.config, machine, self._pairs, self._tell, self.write
        )
        self._figures = {one.case_id: one for one in self._found.cases}
        known = [one.pair_spread is not None for one in self._found.cases]
        self.exit_code = NothingMeasured.exit_code if not any(known) else 0 if all(known) else 1

    def _tell(self, event: PairDone) -> None:
        trouble = "" if event.found.trouble is None else f": {event.found.trouble}"
        self.write(f"pair {event.pair + 1} of {self._pairs}, {event.case.id}{trouble}")

    def outcome(self, case: Case) -> tuple[Outcome, str]:
        found = self._figures.get(case.id)
        if found is None or found.pair_spread is None:
            return "failed", f"not calibrated: {found.reason if found else 'no pair was taken'}"
        return "passed", ""

    def lines(self) -> Iterator[str]:
        assert self._found is not None
        for one in self._found.cases:
            yield f"{one.case_id}: {_figures(one)}"
        yield (
            "Spread: standard deviation of pairs of fresh processes, and of ordinary sessions. Caught: the "
            "smallest slowdown that is called one with a chance of 99 %, by pairs (--devbench-gate REF) "
            f"and by {ROUNDS} files of each side."
        )
        yield f"stored as {self._found.info.id}"


def _figures(one: Figures) -> str:
    if one.pair_spread is None or one.catches_in_turn is None:
        return str(one.reason)
    rounds = one.round_spread if one.yardstick_spread is None else one.yardstick_spread
    parts = [f"pairs spread by {100 * one.pair_spread:.2f} %, {_caught(one.catches_in_turn)}"]
    if rounds is not None and one.catches_by_rounds is not None:
        parts.append(f"sessions by {100 * rounds:.2f} %, {_caught(one.catches_by_rounds)}")
    return "; ".join(parts)


def _caught(slowdown: float) -> str:
    return f"+{100 * slowdown:.1f} % caught" if slowdown < 10 else "nothing under ×10 caught"
