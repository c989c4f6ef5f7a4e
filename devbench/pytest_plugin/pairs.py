"""Tests of a project as cases of an interleaved comparison: fresh pytest processes in pairs."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

import devbench
from devbench import environment
from devbench.declare import Benchmark
from devbench.detection import Machine, machine_to_json
from devbench.errors import RunFileError, UsageError
from devbench.model import Case, Measurement, RunInfo, Target
from devbench.plan import find_targets
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.pytest_plugin import ordinary
from devbench.pytest_plugin.worker import ABSENT, Key
from devbench.registry import Catalog, Source
from devbench.regress import ab, calibrate
from devbench.regress.comparison import Comparison, Row
from devbench.regress.devices import machines_of
from devbench.regress.interleave import Interleaver, PairDone
from devbench.regress.margins import margins_in_turn
from devbench.regress.pairs import Reading
from devbench.regress.pytest_json import Timed, parse
from devbench.regress.variant import Variant, variants
from devbench.runner import START_TIMEOUT_S, utc_now
from devbench.session import Session, device_facts, new_id
from devbench.settings import Settings
from devbench.stats.verdicts import MARGIN
from devbench.store import Store

#: What is said of a test that the base has and the head has not.
GONE: Final = "only on the base: it was removed or renamed"


class _TestProcess(WorkerProcess):
    """A process whose tests have a folder for their files, which is gone when the process is."""

    def __init__(self, own: tempfile.TemporaryDirectory[str], *how: Any) -> None:
        """how: as for a `WorkerProcess`."""
        super().__init__(*how)
        self._own = own

    def close(self) -> None:
        super().close()
        self._own.cleanup()


@dataclass(kw_only=True)
class _TestInterleaver(Interleaver):
    """Its processes are pytest's: with the arguments of this session, where this one was started.

    there: filled with the tests of the base, by target. unseen: targets that the base has and the head
    has not.
    """

    arguments: Sequence[str]
    folder: Path
    there: dict[Target, list[Key]]
    unseen: Sequence[Target] = ()

    def pair(self, number: int, cases: Sequence[Case], in_time: Callable[[], bool]) -> None:
        """The first one asks the base besides for its tests on what the head does not see."""
        for target in self.unseen if number == 0 else ():
            with closing(self._process("base", target)) as worker:
                worker.send("start", target=target.to_json(), threads=self.threads)
                self._await_ready(worker, "base", target)
        super().pair(number, cases, in_time)

    def _process(self, role: str, target: Target) -> WorkerProcess:
        side = self._variant(role)
        arguments = [_on_side(word, side) for word in self.arguments]
        folder = _on_side(str(self.folder), side)
        variables = self._variables(role, target)
        if str(self.folder) in sys.path:  # as under `python -m pytest`
            variables["PYTHONPATH"] += os.pathsep + folder
        if options := os.environ.get("PYTEST_ADDOPTS"):
            variables["PYTEST_ADDOPTS"] = _on_side(options, side)
        own = tempfile.TemporaryDirectory(dir=self.scratch)
        module = ("devbench.pytest_plugin.worker", own.name, *arguments)
        return _TestProcess(own, variables, self.log, side.python, module, Path(folder))

    def _await_ready(self, worker: WorkerProcess, role: str, target: Target) -> None:
        super()._await_ready(worker, role, target)
        if role != "base" or target in self.there:
            return
        worker.send("list")
        try:
            tests = worker.receive(START_TIMEOUT_S)["tests"]
        except (WorkerGone, WorkerTimeout) as error:
            raise UsageError(
                f"{self.base.name}: its tests cannot be collected: {error}; log: {self.log}"
            ) from None
        self.there[target] = [(name, tuple(map(tuple, params))) for name, params in tests]

    def _keep(
        self, number: int, case: Case, readings: Mapping[str, Reading], started_at: str
    ) -> None:
        """A test that the base does not have is none that failed there."""
        if readings["base"].facts.get("reason") != ABSENT:
            super()._keep(number, case, readings, started_at)
            return
        head = Measurement(
            case_id=case.id, round=number, started_at=started_at, **readings["head"].facts
        )
        self.sink.add_measurement(self.runs["head"], head)
        self._note(case, number, "the base has no such test")


def in_turn(
    base: str,
    cases: Sequence[Case],
    is_gone: Callable[[Key], bool],
    is_meant: Callable[[Key], bool],
    config: pytest.Config,
    tell: Callable[[ab.Event], None],
    margin: float | None,
    allow_inconclusive: bool,
) -> Comparison:
    """Judge the tests as they are now against those of `base`. Both sides are stored as runs.

    is_gone: whether a test that the base has is missed now, which is then said of it. is_meant: whether
    it is one of this session, on whatever device. margin: None for
    that of a calibration (`against_itself`).

    Raises UsageError for a base that is none, that lacks the folder or whose tests cannot be collected,
    for a device that it does not see, for tests that cannot be told apart, and for those without a
    calibration.
    """
    _refuse_twins(cases)
    there: dict[Target, list[Key]] = {}
    request = ab.Request(
        base=base,
        margin=MARGIN if margin is None else margin,
        allow_inconclusive=allow_inconclusive,
    )
    with (
        variants(base, None) as sides,
        Store.open() as store,
        ab.workplace(*sides, ()) as place,
    ):
        folder = config.invocation_params.dir
        for side in sides:
            if not Path(_on_side(str(folder), side)).is_dir():
                raise UsageError(
                    f"{side.name} has no folder {folder}; start pytest in one that both sides have"
                )
        framework = cases[0].target.framework
        machines = machines_of(*sides, (framework,), place.staged, place.log)
        apart = ab.unshared(sides, machines)
        for target in _targets(cases):
            if (why := apart.get(str(target))) is not None:
                raise UsageError(f"{why}; name the devices that both see with --devbench-device")
        wanted = config.getoption("devbench_device") or ()
        here = {device.id for device in machines[1].devices}
        unseen = [
            target
            for target in find_targets(ab.all_devices(*machines), wanted, (), ())
            if str(target) not in here
        ]
        if margin is None:
            margins = margins_in_turn(store, ab.facts_here(machines[1], cases), cases)
            request = replace(request, margins=margins, margin=max(margins.values()))
        found = ab.decide(
            request,
            store,
            place,
            machines,
            _catalog(cases),
            cases,
            tell,
            make=_maker(config, there, unseen),
        )
    gone = [_gone(key, target) for target, keys in there.items() for key in keys if is_gone(key)]
    lost = [
        _gone(key, target, apart[str(target)])
        for target in unseen
        for key in there[target]
        if is_meant(key)
    ]
    return replace(found, rows=(*found.rows, *gone, *lost))


def against_itself(
    cases: Sequence[Case],
    config: pytest.Config,
    machine: Machine,
    pairs: int,
    tell: Callable[[PairDone], None],
    write: Callable[[str], None],
) -> calibrate.Calibration:
    """Calibrate the tests as they are: pairs of fresh processes of the same code, as `devbench calibrate`
    takes and stores them.

    Before each pair comes an ordinary session: what a file of pytest-benchmark holds is such a round. There
    are none where pytest-benchmark is switched off. write: for a line to the person. Raises UsageError for
    tests that cannot be told apart.
    """
    _refuse_twins(cases)
    settings = Settings.for_quick(rounds=pairs)
    catalog = _catalog(cases)
    facts = environment.gather(machine_to_json(machine))
    facts["targets"] = {str(one): device_facts(one, machine) for one in _targets(cases)}
    info = RunInfo(
        id=new_id(),
        label=None,
        started_at=utc_now(),
        finished_at=None,
        state="running",
        devbench_version=devbench.__version__,
        settings={
            **settings.to_json(),
            "sources": [source.to_json() for source in catalog.sources.values()],
            "benchmarks": {name: {"size": None} for name in catalog.benchmarks},
        },
        environment=facts,
    )
    session = Session(
        info=info, catalog=catalog, cases=tuple(cases), machine=machine, settings=settings
    )
    benchmarks: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    with Store.open() as store, tempfile.TemporaryDirectory(prefix="devbench-rounds-") as folder:

        def take_round(number: int, cases: Sequence[Case]) -> dict[str, str]:
            """Why a test was not timed in it is found out in the pair: nothing is told here."""
            if benchmarks is None or benchmarks.disabled:
                return {}
            write(f"round {number + 1} of {pairs}")
            started_at = utc_now()
            timed = _ordinary_session(config, Path(folder) / f"{number}.json", session.log, write)
            for case in cases:
                if (one := timed.get(case.id)) is not None:
                    measured = Measurement(
                        case_id=case.id,
                        round=number,
                        status="ok",
                        started_at=started_at,
                        samples=(one.median,),
                        yardstick=one.yardstick,
                        yardstick_s=one.yardstick_s,
                    )
                    store.add_measurement(info.id, measured)
            return {}

        return calibrate.take(session, store, tell, take_round, _maker(config, {}))


def _ordinary_session(
    config: pytest.Config, file: Path, log: Path, write: Callable[[str], None]
) -> dict[str, Timed]:
    """What it says of the tests, by case; nothing, with a line that says why, where it went wrong."""
    here = config.invocation_params
    trouble = ordinary.take([str(word) for word in here.args], here.dir, file, log)
    if trouble is None:
        try:
            parsed = parse(json.loads(file.read_text()), "what pytest-benchmark wrote")
            return {one.case_id: one for one in parsed.benchmarks.values()}
        except RunFileError as error:
            trouble = str(error)
    write(f"this round is missing: {trouble}; log {log}")
    return {}


def _maker(
    config: pytest.Config, there: dict[Target, list[Key]], unseen: Sequence[Target] = ()
) -> Callable[..., Interleaver]:
    return partial(
        _TestInterleaver,
        arguments=[str(word) for word in config.invocation_params.args],
        folder=config.invocation_params.dir,
        there=there,
        unseen=unseen,
    )


def _gone(key: Key, target: Target, why: str = GONE) -> Row:
    name, params = key
    return Row.unmeasured(Case(name.partition("::")[0], name, params, target), why)


def _refuse_twins(cases: Sequence[Case]) -> None:
    for case_id, count in Counter(case.id for case in cases).items():
        if count > 1:
            raise UsageError(f"{count} tests are called {case_id}; give their params other ids")


def _targets(cases: Sequence[Case]) -> list[Target]:
    return list(dict.fromkeys(case.target for case in cases))


def _catalog(cases: Sequence[Case]) -> Catalog:
    """Tests under the names of benchmarks: what they do is known to their worker only."""
    return Catalog(
        benchmarks={
            case.benchmark: Benchmark(
                name=case.benchmark,
                axes={},
                quick={},
                size=None,
                definition=None,
                doc="",
                where=case.suite,
                suite=case.suite,
            )
            for case in cases
        },
        sources={case.suite: Source(case.suite, "module", case.suite) for case in cases},
        broken=(),
    )


def _on_side(text: str, side: Variant) -> str:
    """A path of the repository as one of this side's tree, also inside an argument."""
    if side.top is None or side.tree is None:
        return text
    return re.sub(rf"{re.escape(str(side.top))}(?![\w.-])", str(side.tree), text)
