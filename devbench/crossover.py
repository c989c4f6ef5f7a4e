"""Further sizes where one target overtakes another: ``devbench run --crossover``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from devbench.errors import UsageError
from devbench.events import Bisecting
from devbench.model import Case, ParamValue, Run, RunInfo, Target
from devbench.registry import Catalog
from devbench.runner import Runner
from devbench.stats.crossover import Crossover, find_crossovers
from devbench.stats.results import summarize

#: Neighbouring sizes that are this close are not bisected further.
CLOSE: Final = 1.1
#: How often; a factor of 64 between two sizes comes down to CLOSE in six.
REPEATS: Final = 6


def refuse_without_pairs(cases: Sequence[Case], catalog: Catalog) -> None:
    """Raise UsageError when no two targets of one framework meet in a benchmark with several sizes."""
    sizes: dict[tuple[str, str], set[ParamValue]] = {}
    targets: dict[tuple[str, str], set[Target]] = {}
    for case in cases:
        if axis := catalog.benchmarks[case.benchmark].size:
            key = (case.benchmark, case.target.framework)
            sizes.setdefault(key, set()).add(dict(case.params)[axis])
            targets.setdefault(key, set()).add(case.target)
    if any(len(sizes[key]) > 1 and len(targets[key]) > 1 for key in sizes):
        return
    raise UsageError(
        "--crossover compares two devices, or two thread counts, of one framework over the sizes of a "
        "benchmark, and nothing here can be compared so; choose several sizes, and several devices or "
        "thread counts (--threads 1,2)"
    )


def bisect(runner: Runner, info: RunInfo) -> bool:
    """Measure the size in the middle of each crossover's gap, until the gaps are narrow.

    The sizes become cases of the run like those that were planned, on both targets and with as many
    rounds. False when the time budget ended first. After a run was interrupted it goes on from what
    is there.
    """
    for _ in range(REPEATS):
        if not (cases := _in_between(runner, info)):
            return True
        runner.tell(Bisecting(tuple(cases)))
        runner.extend(cases)
        if not runner.run():
            return False
    return True


def _in_between(runner: Runner, info: RunInfo) -> list[Case]:
    """The cases in the middle of all gaps that are worth it, each once."""
    run = Run(
        info=replace(info, environment=runner.environment),
        cases=tuple(runner.cases),
        measurements=tuple(runner.done.values()),
    )
    planned = {case.id for case in runner.cases}
    found: dict[str, Case] = {}
    for crossover in find_crossovers(run, summarize(run)):
        for size in _sizes(crossover, runner.catalog):
            for case in _measured(crossover, runner.cases):
                added = _at(case, crossover.axis, size, runner.catalog)
                if added.id not in planned:
                    found[added.id] = added
    return list(found.values())


def _measured(crossover: Crossover, cases: Sequence[Case]) -> Iterator[Case]:
    """A case of each of the two targets, to take the other sizes after."""
    for target in (crossover.base, crossover.subject):
        yield next(
            case
            for case in cases
            if (case.benchmark, str(case.target)) == (crossover.benchmark, target)
            and {**crossover.params, crossover.axis: None}
            == {**dict(case.params), crossover.axis: None}
        )


def _sizes(crossover: Crossover, catalog: Catalog) -> set[int | float]:
    """The middle of the gap without and of that with the cost of moving the data."""
    axis = catalog.benchmarks[crossover.benchmark].axes[crossover.axis]
    whole = all(isinstance(value, int) for value in axis)
    gaps = {
        crossing.between
        for crossing in (crossover.without_transfer, crossover.with_transfer)
        if crossing is not None and crossing.between is not None
    }
    middles = (middle(low, high, whole=whole) for low, high in gaps)
    return {size for size in middles if size is not None}


def middle(low: float, high: float, *, whole: bool) -> int | float | None:
    """The geometric mean of two sizes; None where it would tell nothing new.

    Whole sizes above 64 are multiples of 8, since an odd one may take another path in a library.
    """
    if high / low <= CLOSE:
        return None
    exact = math.sqrt(low * high)
    size: int | float = float(f"{exact:.3g}")
    if whole:
        size = round(exact) if exact <= 64 else 8 * round(exact / 8)
    return size if low < size < high else None


def _at(case: Case, axis: str, size: int | float, catalog: Catalog) -> Case:
    """The same case at another size."""
    params = {**dict(case.params), axis: size}
    work = catalog.benchmarks[case.benchmark].work(params)
    return replace(case, params=tuple(params.items()), work=work)
