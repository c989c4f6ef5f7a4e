"""The nominal error of the rule, by simulation: pairs of which it is known that nothing got slower."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from devbench.stats.power import clopper_pearson, decide
from devbench.stats.sequential import LOOKS, level_at
from devbench.stats.verdicts import MARGIN, Estimate, judge, paired_t

Floats: TypeAlias = NDArray[np.float64]
#: Log ratios of so many series with this standard deviation about zero.
Law = Callable[[np.random.Generator, int], Floats]

_PAIRS: Final = LOOKS[-1]
_SPREAD: Final = 0.015
SERIES: Final = 200_000
#: Comparisons of so many cases.
RUNS, CASES = 4000, 50


def _normal(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_normal((count, _PAIRS))


def _heavy(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_t(3, (count, _PAIRS)) / math.sqrt(3)


def _bursts(rng: np.random.Generator, count: int) -> Floats:
    """One pair of twenty is ten times as far off."""
    return _normal(rng, count) * np.where(rng.random((count, _PAIRS)) < 0.05, 10.0, 1.0)


def _drift(rng: np.random.Generator, count: int) -> Floats:
    """The machine gets noisier: the spread grows fourfold from the first pair to the last."""
    return _normal(rng, count) * np.geomspace(1.0, 4.0, _PAIRS)


def _neighbours(share: float) -> Law:
    """Each pair resembles the one before it: a first-order autoregression."""

    def draw(rng: np.random.Generator, count: int) -> Floats:
        found = _normal(rng, count)
        for place in range(1, _PAIRS):
            found[:, place] *= math.sqrt(1 - share**2)
            found[:, place] += share * found[:, place - 1]
        return found

    return draw


LAWS: Final[dict[str, Law]] = {
    "normal": _normal,
    "heavy tails (Student, 3 degrees)": _heavy,
    "bursts (one of 20 ten times as wide)": _bursts,
    "spread drifting by four": _drift,
    "autocorrelated, 0.1": _neighbours(0.1),
    "autocorrelated, 0.3": _neighbours(0.3),
}


@dataclass(frozen=True, slots=True)
class Simulated:
    """certain: unchanged code called certainly slower; beyond: code that is slower by exactly the
    margin called slower than it. Shares, each with its bounds."""

    law: str
    certain: tuple[float, float, float]
    beyond: tuple[float, float, float]


def simulate(series: int = SERIES) -> Iterator[Simulated]:
    for name, law in LAWS.items():
        rng = np.random.default_rng(0)
        certain = beyond = 0
        for start in range(0, series, 20_000):
            count = min(20_000, series - start)
            certain += int(decide(_SPREAD * law(rng, count)).slower.sum())
            at_margin = math.log1p(MARGIN) + _SPREAD * law(rng, count)
            beyond += int((decide(at_margin).verdict == "regressed").sum())
        yield Simulated(name, _bounded(certain, series), _bounded(beyond, series))


def family(runs: int = RUNS, cases: int = CASES) -> tuple[float, float, float]:
    """The share of whole comparisons, of cases that are all slower by exactly the margin, in which at
    least one is called slower than it."""
    rng = np.random.default_rng(0)
    alarms = sum(
        _has_alarm(math.log1p(MARGIN) + _SPREAD * _normal(rng, cases)) for _ in range(runs)
    )
    return _bounded(alarms, runs)


def _has_alarm(logs: Floats) -> bool:
    open_ = np.arange(len(logs))
    equivalent = 0
    for look in LOOKS:
        figures = zip(*(part.tolist() for part in paired_t(logs[open_, :look])), strict=True)
        estimates = [
            Estimate(
                center=center,
                error=error,
                freedom=freedom,
                spreads=(error * math.sqrt(look),),
                rounds=(look,),
                shift=center,
                p=1.0,
            )
            for center, error, freedom in figures
        ]
        judged = judge(estimates, others=equivalent, level=partial(level_at, look))
        if any(one.verdict == "regressed" for one in judged):
            return True
        equivalent += sum(one.verdict == "equivalent" for one in judged)
        open_ = open_[[one.verdict == "inconclusive" for one in judged]]
        if not len(open_):
            break
    return False


def _bounded(seen: int, trials: int) -> tuple[float, float, float]:
    return seen / trials, *clopper_pearson(seen, trials)
