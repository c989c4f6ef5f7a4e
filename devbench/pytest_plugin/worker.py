"""A pytest process that keeps the step of a test, so that two states of a project can be timed in turn.

``python -P -m devbench.pytest_plugin.worker FOLDER ARGUMENTS OF PYTEST`` collects like the session that
started it, with FOLDER for the files of its tests. It then runs the one test that a ``hold`` message
names, in the ordinary way with its fixtures, as far as its call of ``device_benchmark``; there it answers
``burst`` messages until ``drop``, and the test goes on to its end. So what is timed is the step as the
test made it, and the rest of the test, its assertions too, happens outside. ``list`` asks for the tests
that there are on this side.
"""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TextIO, TypeAlias, TypeGuard, get_args

import pytest

from devbench import pytest_plugin
from devbench.declare import Benchmark, Step
from devbench.measure.bench import Bench
from devbench.measure.visit import closing, outcome
from devbench.model import Case, Device, ParamValue, Target, format_params
from devbench.protocol import Message, claim_stdout
from devbench.pytest_plugin.holding import refuse_others
from devbench.worker import Worker, _messages

#: In place of a reason: this side has no such test.
ABSENT: Final = "absent"

Key: TypeAlias = tuple[str, tuple[tuple[str, ParamValue], ...]]


def key_of(item: pytest.Function) -> Key:
    """By what a test is the same on both sides, and in its case: its name without the params, and these
    without the device. A value that is no plain number or text stands as pytest names it, also one of a
    subclass (an enum's member, a numpy float): as JSON it would come back as another value.

    The file counts from where pytest was started: pytest's own root is guessed from its arguments.
    """
    params: dict[str, Any] = {
        name: value for name, value in item.callspec.params.items() if name != "devbench_device"
    }
    kinds = get_args(ParamValue)
    plain = {name: value for name, value in params.items() if type(value) in kinds}
    if len(plain) < len(params):
        plain = {"id": _id_without_device(item)}
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    inside = item.nodeid.partition("[")[0].partition("::")[2]
    return f"{Path(file).as_posix()}::{inside}", tuple(plain.items())


def _id_without_device(item: pytest.Function) -> str:
    """What stands in brackets after a test's name: ids with dashes between them, one of them the device's."""
    device: Any = item.callspec.params["devbench_device"]
    own = device if isinstance(device, str) else device.id
    return f"-{item.callspec.id}-".replace(f"-{own}-", "-", 1)[1:-1]


def name_of(key: Key) -> str:
    """The id of a test's case without its target."""
    name, params = key
    return f"{name}[{format_params(dict(params))}]"


def takes_turns(item: pytest.Item) -> TypeGuard[pytest.Function]:
    """Whether it is a test whose step can be kept and timed in turn: one that takes devbench's
    `device_benchmark`."""
    return isinstance(item, pytest.Function) and "_devbench_meant" in item.fixturenames


def case_of(key: Key, device: Device) -> Case:
    """A test on a device as a case of a comparison or a calibration."""
    name, params = key
    return Case(name.partition("::")[0], name, params, Target(device.framework, (device.address,)))


@dataclass(slots=True)
class _Visit:
    """One test between ``hold`` and ``drop``. ended: what was found when the step was dropped, empty
    where it could not be timed; to be answered when the test is over."""

    message: Message
    reports: list[pytest.TestReport]
    kept: Step | None = None
    ended: dict[str, Any] | None = None


class PytestWorker(Worker):
    """Both the worker and a plugin of the pytest that it runs."""

    __name__ = "devbench-worker"

    def __init__(self, out: TextIO, messages: queue.SimpleQueue[Message], folder: str) -> None:
        super().__init__(out)
        self._messages = messages
        self._folder = folder
        #: By name: as params 1, 1.0 and True are the same key, and three tests.
        self._tests: dict[str, pytest.Function] = {}
        self._trouble = _facts("failed", "error", "pytest ended before it had collected the tests")
        self._visit: _Visit | None = None

    def run(self, arguments: Sequence[str]) -> None:
        """Returns never: the end of the messages ends the process."""
        self._start(self._messages.get())
        if self._target is not None:
            refuse_others(self._target.framework)
            words = list(arguments)
            place = words.index("--") if "--" in words else len(words)
            # The framework and this package are there before pytest, which warns of it.
            words[place:place] = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
            pytest.main(words, plugins=[pytest_plugin, self])
        self._answer()

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        assert self._target is not None
        config.option.devbench_framework = self._target.framework
        config.option.devbench_device = [str(self._target)]
        # Processes that are alive together cannot share one, whoever has named it, and this one never comes
        # to remove its own.
        config.option.basetemp = self._folder
        if not config.option.pyargs:
            config.args = list(dict.fromkeys(_files_here(config)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            told = f"{report.nodeid} cannot be collected: {_last_line(report.longreprtext)}"
            self._trouble = _facts("failed", "error", told)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:
            self._trouble = _facts("skipped", ABSENT, "there is no such test on this side")
        self._tests = {name_of(key_of(item)): item for item in session.items if takes_turns(item)}
        self._answer()
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """A test that ends pytest fails: this process has an answer to give, and other tests to run."""
        try:
            return (yield)
        except (pytest.exit.Exception, KeyboardInterrupt) as error:
            told = str(error) or type(error).__name__
            pytest.fail(f"the test ended pytest: {told}", pytrace=False)

    pytest_runtest_setup = pytest_runtest_teardown = pytest_runtest_call

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._visit is not None:
            self._visit.reports.append(report)

    def _answer(self) -> None:
        while True:
            message = self._messages.get()
            if message["type"] == "hold":
                self._run_test(message)
            elif message["type"] == "list":
                # What is refused here, or needs another device, is in place of the device then.
                run = [
                    key_of(test)
                    for test in self._tests.values()
                    if isinstance(test.callspec.params["devbench_device"], str)
                ]
                self._send("listed", tests=run)
            elif message["type"] == "drop":  # what was not held
                self._send("dropped", facts={})

    def _run_test(self, message: Message) -> None:
        key = (message["benchmark"], tuple(message["params"].items()))
        test = self._tests.get(name_of(key))
        if test is None:
            self._send("held", facts=self._trouble, files=[])
            return
        self._visit = visit = _Visit(message, [])
        test.config.hook.pytest_runtest_protocol(item=test, nextitem=None)
        self._visit = None
        facts = _outcome(visit.reports)
        if visit.ended is None:
            never = _facts("failed", "declaration", "the test never calls device_benchmark")
            self._send("held", facts=facts or never, files=[])
        else:
            self._send("dropped", facts=visit.ended and visit.ended | facts)

    def keep(self, step: Step) -> None:
        """Called by the test: its step is timed here for as long as the other side wants."""
        visit = self._visit
        assert visit is not None
        if visit.kept is not None:
            return  # a second call, which pytest-benchmark will refuse
        visit.kept = step
        self._hold(visit.message | {"check": None})
        held = self._held
        bursts = 0
        while (message := self._messages.get())["type"] != "drop":
            self._burst(message)
            bursts += 1
        visit.ended = {} if held is None else {"status": "ok"}
        if held is not None and bursts:
            visit.ended = outcome(held.bench, lambda: closing(held.bench, held.warm))
        self._release()
        if held is None:
            pytest.fail("its step cannot be timed", pytrace=False)

    def _bench(self, message: Message) -> Bench:
        """The step of the test as a benchmark of its own."""
        assert self._framework is not None
        assert self._target is not None
        assert self._visit is not None
        step = self._visit.kept
        return Bench(
            Benchmark(
                name=message["benchmark"],
                axes={},
                quick={},
                size=None,
                definition=SimpleNamespace(**{self._framework.name: lambda: step}),
                doc="",
                where=message["benchmark"],
            ),
            {},  # a test's own params are no axes, whatever they are called
            self._framework,
            self._target.devices,
            self._threads,
            message["seed"],
            Path(message["scratch"]),
            message.get("repeat", 1),
            bystanders=self._bystanders,
        )


def _files_here(config: pytest.Config) -> Iterator[str]:
    """Of the files and folders that were asked for, those that this side has. A single test stands for its
    file: pytest ends where it lacks one, and here that is an answer about this one test."""
    for word in config.args:
        place = word.partition("::")[0]
        if (config.invocation_params.dir / place).exists():
            yield place


def _facts(status: str, reason: str, detail: str) -> dict[str, Any]:
    return {"status": status, "reason": reason, "detail": detail, "samples": ()}


def _outcome(reports: Sequence[pytest.TestReport]) -> dict[str, Any]:
    """Fields of a `Measurement` from the reports of a test; none where it passed."""
    for report in reports:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            told = (
                crash.message.strip().splitlines()[0] if crash else _last_line(report.longreprtext)
            )
            return _facts("failed", "error", f"{report.when}: {told}")
        if report.skipped:
            reason = (
                report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            )
            return _facts("skipped", "unsupported", reason.removeprefix("Skipped: "))
    return {}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"


def main() -> None:
    # Of standard input, where the messages come from, the tests and their children get nothing: pytest's
    # capturing replaces it, and without capturing they would read it.
    messages = _messages(os.fdopen(os.dup(0), encoding="utf-8"))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    _, folder, *arguments = sys.argv
    PytestWorker(claim_stdout(), messages, folder).run(arguments)


if __name__ == "__main__":
    main()
