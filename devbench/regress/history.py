"""How long each case took from run to run, and where that changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from devbench.errors import NothingMeasured
from devbench.model import Case, ParamValue, RunInfo, format_value
from devbench.plan import Pattern
from devbench.regress.environment_diff import (
    Difference,
    differences,
    facts_of,
    target_facts_of,
)
from devbench.regress.trend import Columns, Floats, Places, figures, members
from devbench.stats.changepoints import FEWEST, find_changes
from devbench.store import Outcomes, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPoint:
    """A run on the axis of time. commit: of the folder that it was started in."""

    id: str
    label: str | None
    started_at: str
    devbench_version: str
    commit: str | None
    dirty: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From this run on a case took another time. at: its place in the series.

    ratio: the level from there on over the one before. differences: between that run and the one
    before it in the series, the gravest first.
    """

    at: int
    run: RunPoint
    before: RunPoint
    ratio: float
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A case on one device from run to run.

    runs: places in `History.runs`. seconds: of a step, the median of the run's rounds. levels: the
    median of the stretch that each belongs to. corrected: whether the drift of the machine is taken
    out of all, some or none of them: then they are multiples of a fixed step's time beside them, in
    units of what that step usually took.
    """

    case_id: str
    benchmark: str
    params: Mapping[str, ParamValue]
    target: str
    device: str | None
    runs: tuple[int, ...]
    seconds: tuple[float, ...]
    levels: tuple[float, ...]
    corrected: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """runs: the oldest first. fewest: a series of fewer runs is not searched for changes."""

    store: str
    runs: tuple[RunPoint, ...]
    series: tuple[Series, ...]
    fewest: int = FEWEST


def history(store: Store, pattern: str | None = None) -> History:
    """The history of the cases that a pattern as in SELECT means; of all where it is None.

    A case on two devices has two series. Only what `devbench run` measured is in it. Runs of
    `devbench ab` hold an older version of the code beside a newer one, those of `calibrate` are timed
    in another way, and those of `stress` are no timings. Raises NothingMeasured where there is none.
    """
    outcomes = _ordinary(store.outcomes(_meant(pattern)))
    rows = outcomes.rows
    if not rows:
        what = f"that {pattern!r} means" if pattern else "at all"
        raise NothingMeasured(
            f"{store.name} holds no timed case {what}; `devbench runs` lists its runs"
        )
    taken = Columns.of(outcomes, rows)
    series = members(taken)
    found = [figures(taken, some) for some in series]
    changes = find_changes([np.log(seconds) for seconds, _ in found])
    return History(
        store=store.name,
        runs=tuple(map(_point, outcomes.runs)),
        series=tuple(
            _series(outcomes, taken, some, seconds, corrected, places)
            for some, (seconds, corrected), places in zip(series, found, changes, strict=True)
        ),
    )


def _ordinary(outcomes: Outcomes) -> Outcomes:
    """Those of runs that are neither a side of `ab` nor of a kind of their own."""
    kept = [place for place, info in enumerate(outcomes.runs) if info.kind == "run"]
    at = {place: new for new, place in enumerate(kept)}
    return replace(
        outcomes,
        runs=tuple(outcomes.runs[place] for place in kept),
        rows=[
            (at[run], case, stick, rounds)
            for run, case, stick, rounds in outcomes.rows
            if run in at
        ],
    )


def _meant(pattern: str | None) -> Callable[[Collection[Case]], Collection[Case]]:
    """What a pattern means among the cases of a store, as `devbench.plan.choose` reads it: a benchmark
    that is called like its suite is meant alone."""
    if pattern is None:
        return lambda known: known
    parsed = Pattern.parse(pattern)

    def named(case: Case) -> bool:
        return fnmatchcase(case.benchmark, parsed.name) or fnmatchcase(case.suite, parsed.name)

    def at_the_point(case: Case) -> bool:
        params = dict(case.params)
        return fnmatchcase(str(case.target), parsed.target) and all(
            axis in params and fnmatchcase(format_value(params[axis]), value)
            for axis, value in parsed.params.items()
        )

    def meant(known: Collection[Case]) -> Collection[Case]:
        alone = [case for case in known if case.benchmark == parsed.name]
        return list(filter(at_the_point, alone or filter(named, known)))

    return meant


def _series(
    outcomes: Outcomes,
    taken: Columns,
    some: Places,
    seconds: Floats,
    corrected: str,
    places: Sequence[int],
) -> Series:
    case = outcomes.cases[taken.places[some[-1]]]
    levels = np.empty(len(some))
    bounds = [0, *places, len(some)]
    for begin, end in itertools.pairwise(bounds):
        levels[begin:end] = np.median(seconds[begin:end])
    runs = taken.run[some].tolist()
    return Series(
        case_id=case.id,
        benchmark=case.benchmark,
        params=dict(case.params),
        target=str(case.target),
        device=taken.devices[taken.device[some[0]]],
        runs=tuple(runs),
        seconds=tuple(seconds.tolist()),
        levels=tuple(levels.tolist()),
        corrected=corrected,
        changes=tuple(
            _change(
                place,
                outcomes.runs[runs[place - 1]],
                outcomes.runs[runs[place]],
                str(case.target),
                float(levels[place] / levels[place - 1]),
            )
            for place in places
        ),
    )


def _change(place: int, before: RunInfo, run: RunInfo, target: str, ratio: float) -> Change:
    sides = [
        {name: facts for name, facts in target_facts_of(info).items() if name == target}
        for info in (before, run)
    ]
    return Change(
        at=place,
        run=_point(run),
        before=_point(before),
        ratio=ratio,
        differences=differences(facts_of(before), facts_of(run), *sides),
    )


def _point(info: RunInfo) -> RunPoint:
    git = info.environment.get("git")
    known = git if isinstance(git, Mapping) else {}
    return RunPoint(
        id=info.id,
        label=info.label,
        started_at=info.started_at,
        devbench_version=info.devbench_version,
        commit=known.get("commit"),
        dirty=known.get("dirty"),
    )
