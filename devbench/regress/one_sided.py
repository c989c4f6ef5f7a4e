"""Cases that only one of two states of a repository declares: a row each, so that none goes unsaid."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from devbench.model import Case, Target, Work
from devbench.process import WorkerProcess
from devbench.registry import Source
from devbench.regress.comparison import Comparison, Row
from devbench.regress.variant import Variant
from devbench.runner import START_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Declared:
    """What the base declares: the names of its benchmarks, and the cases that are meant."""

    benchmarks: Collection[str]
    cases: tuple[Case, ...]

    def of_base(self, cases: Sequence[Case]) -> list[Case]:
        """The same cases as the base declares them, as far as it has them: with its amounts of work."""
        own = {case.id: case for case in self.cases}
        return [own.get(case.id, case) for case in cases]


def declared(
    base: Variant,
    sources: Iterable[Source],
    select: Sequence[str],
    overrides: Mapping[str, Sequence[str]],
    targets: Sequence[Target],
    stage: Path,
    log: Path,
) -> Declared | None:
    """What `base` declares, asked of a process of its own.

    None where both sides read the same suites, and where a suite of the base cannot be loaded, which
    each of its cases then says. Raises WorkerGone and WorkerTimeout.
    """
    if base.tree is None:
        return None
    worker = WorkerProcess(base.variables(stage), log, base.python, ("devbench.regress.declared",))
    try:
        worker.send(
            "declared",
            sources=[base.source(source).to_json() for source in sources if base.has(source)],
            select=list(select),
            overrides=dict(overrides),
            targets=[target.to_json() for target in targets],
        )
        answer = worker.receive(START_TIMEOUT_S)
    finally:
        worker.close()
    if answer["benchmarks"] is None:
        return None
    cases = tuple(
        Case(
            one["suite"],
            one["benchmark"],
            tuple(one["params"].items()),
            Target.from_json(one["target"]),
            Work(**one["work"]),
        )
        for one in answer["cases"]
    )
    return Declared(frozenset(answer["benchmarks"]), cases)


def with_one_sided(comparison: Comparison, there: Declared, here: Sequence[Case]) -> Comparison:
    """The comparison with what only one side has: `there` is the base's, `here` the head's cases."""
    rows = [
        replace(row, reason="only now: the base has none of it")
        if row.gate == "open" and row.benchmark not in there.benchmarks
        else row
        for row in comparison.rows
    ]
    known = {case.id for case in here}
    gone = [
        Row.unmeasured(case, "only on the base: there is none of it now")
        for case in there.cases
        if case.id not in known
    ]
    return replace(comparison, rows=(*rows, *gone))
