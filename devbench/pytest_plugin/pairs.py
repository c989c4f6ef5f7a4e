"""Tests of a project as cases of an interleaved comparison: fresh pytest processes in pairs."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import platformdirs
import pytest

from devbench.declare import Benchmark
from devbench.detection import usable_threads
from devbench.errors import UsageError
from devbench.model import Case, Measurement, Target
from devbench.process import WorkerProcess
from devbench.pytest_plugin.worker import ABSENT
from devbench.registry import Catalog, Source
from devbench.regress import ab
from devbench.regress.compare import Comparison, compare_pairs
from devbench.regress.devices import machines_of
from devbench.regress.interleave import Interleaver
from devbench.regress.pairs import Reading
from devbench.regress.sides import side_of
from devbench.regress.variant import Variant, stage, variants
from devbench.runner import utc_now
from devbench.session import new_id
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
    catalog = _catalog(cases)
    with (
        variants(base, None) as sides,
        Store.open() as store,
        tempfile.TemporaryDirectory(prefix="devbench-gate-") as folder,
    ):
        staged, scratch = Path(folder) / "engine", Path(folder) / "scratch"
        staged.mkdir()
        scratch.mkdir()
        stage(staged, (), sides)
        log = platformdirs.user_log_path("devbench", ensure_exists=True) / f"{new_id()}.log"
        machines = machines_of(*sides, (cases[0].target.framework,), staged, log)
        seen = {device.id for device in ab._common(*machines)}
        for target in dict.fromkeys(case.target for case in cases):
            if str(target) not in seen:
                raise UsageError(f"{sides[0].name} and {sides[1].name} do not both see {target}")
        runs = ab._create_runs(request, store, sides, machines, catalog, cases)
        tell(ab.Started(*sides, tuple(cases), log))
        work = _TestInterleaver(
            base=sides[0],
            head=sides[1],
            stage=staged,
            catalog=catalog,
            threads=usable_threads(),
            seed=0,
            share_s=ab.SHARE_S,
            timeout_s=300.0,
            runs={role: info.id for role, info in runs.items()},
            sink=store,
            tell=tell,
            scratch=scratch,
            log=log,
            arguments=[str(word) for word in config.invocation_params.args],
            folder=config.invocation_params.dir,
        )
        state: Literal["complete", "interrupted"] = "interrupted"
        try:
            judged = ab._until_decided(work, cases, request, None, tell)
            state = "complete"
        finally:
            for role, info in runs.items():
                facts = ab._with_targets(info.environment, work.ready[role], work.threads)
                store.update_environment(info.id, facts | {"ab": ab._pairs_to_json(work.found)})
                store.finish_run(info.id, state, utc_now())
        measured = [side_of(store.load(runs[role].id)) for role in ("base", "head")]
        comparison = compare_pairs(
            replace(measured[0], name=sides[0].name),
            replace(measured[1], name=sides[1].name),
            judged,
            margin=request.margin,
            allow_inconclusive=allow_inconclusive,
        )
        same = ab._same_frameworks(work)
        return ab.with_stillness(comparison, work.found, request.margin, same)


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
