"""Tests of a project as cases of an interleaved comparison: fresh pytest processes in pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from devbench.declare import Benchmark
from devbench.errors import UsageError
from devbench.model import Case, Measurement, Target
from devbench.process import WorkerProcess
from devbench.pytest_plugin.worker import ABSENT
from devbench.registry import Catalog, Source
from devbench.regress import ab
from devbench.regress.compare import Comparison
from devbench.regress.devices import machines_of
from devbench.regress.interleave import Interleaver
from devbench.regress.pairs import Reading
from devbench.regress.variant import Variant, variants
from devbench.store import Store

#: A folder that two processes cannot share, as an option of pytest.
_OWN_FOLDER: Final = "--basetemp"


@dataclass(kw_only=True)
class _TestInterleaver(Interleaver):
    """Its processes are pytest's: with the arguments of this session, where this one was started."""

    arguments: Sequence[str]
    folder: Path

    def _process(self, role: str, target: Target) -> WorkerProcess:
        side = self._variant(role)
        arguments = [_on_side(word, side) for word in _handed_on(self.arguments)]
        return WorkerProcess(
            self._variables(role, target),
            self.log,
            side.python,
            ("devbench.pytest_plugin.worker", *arguments),
            Path(_on_side(str(self.folder), side)),
        )

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
    config: pytest.Config,
    tell: Callable[[ab.Event], None],
    allow_inconclusive: bool,
) -> Comparison:
    """Judge the tests as they are now against those of `base`. Both sides are stored as runs.

    Raises UsageError for a base that is none, for a device that it does not see, and for tests that
    cannot be told apart.
    """
    for case_id, count in Counter(case.id for case in cases).items():
        if count > 1:
            raise UsageError(f"{count} tests are called {case_id}; give their params other ids")
    request = ab.Request(base=base, allow_inconclusive=allow_inconclusive)
    with (
        variants(base, None) as sides,
        Store.open() as store,
        ab.workplace(*sides, ()) as place,
    ):
        framework = cases[0].target.framework
        machines = machines_of(*sides, (framework,), place.staged, place.log)
        seen = {device.id for device in ab.common_devices(*machines)}
        for target in dict.fromkeys(case.target for case in cases):
            if str(target) not in seen:
                raise UsageError(f"{sides[0].name} and {sides[1].name} do not both see {target}")
        make = partial(
            _TestInterleaver,
            arguments=[str(word) for word in config.invocation_params.args],
            folder=config.invocation_params.dir,
        )
        return ab.decide(request, store, place, machines, _catalog(cases), cases, tell, make=make)


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


def _handed_on(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments of this session for another one."""
    words = iter(arguments)
    for word in words:
        if word == _OWN_FOLDER:
            next(words, None)
        elif not word.startswith(f"{_OWN_FOLDER}="):
            yield word


def _on_side(text: str, side: Variant) -> str:
    """A path of the repository as one of this side's tree, also inside an argument."""
    if side.top is None or side.tree is None:
        return text
    return re.sub(rf"{re.escape(str(side.top))}(?![\w.-])", str(side.tree), text)
