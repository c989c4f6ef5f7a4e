"""What the rule of interleaved pairs decides: how often it is wrong, and how small a slowdown it catches.

The rule is that of `devbench.regress.ab` for a case that stands alone, here for many series of pairs at
once. It sees log ratios and nothing else, so it cannot know what is behind them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, chdtri, nctdtrinc, stdtrit

from devbench.stats.sequential import LOOKS, level_at
from devbench.stats.verdicts import ALPHA, MARGIN, paired_t, reach, welch_t

Floats: TypeAlias = NDArray[np.float64]

#: Chance at which a slowdown that is called detectable is caught.
CHANCE: Final = 0.99
_DRAWS: Final = 20_000
#: Chance that a bound on a share, or on a spread, is beyond the true one.
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Decisions:
    """One entry a series. verdict: as in `verdicts`. slower: certain at the same look to be slower, be
    it within the margin or not. pairs: how many were looked at."""

    verdict: NDArray[np.str_]
    slower: NDArray[np.bool_]
    pairs: NDArray[np.int64]

    def share(self, verdict: str) -> float:
        return float((self.verdict == verdict).mean())


def decide(logs: Floats, margin: float = MARGIN, alpha: float = ALPHA) -> Decisions:
    """Judge each row of log ratios at the looks until it is decided, or its pairs are used up."""
    limit = math.log1p(margin)
    verdict = np.full(len(logs), "inconclusive", "<U12")
    slower = np.zeros(len(logs), bool)
    pairs = np.zeros(len(logs), np.int64)
    open_ = np.ones(len(logs), bool)
    for look in LOOKS:
        if look > logs.shape[1] or not open_.any():
            break
        center, error, freedom = paired_t(logs[open_, :look])
        half = reach(error, freedom, level_at(look, alpha))
        low, high = center - half, center + half
        verdict[open_] = np.select(
            [low > limit, high < -limit, (-limit < low) & (high < limit)],
            ["regressed", "improved", "equivalent"],
            "inconclusive",
        )
        slower[open_] = low > 0
        pairs[open_] = look
        open_ = verdict == "inconclusive"
    return Decisions(verdict, slower, pairs)


def in_a_row(logs: Sequence[float], margin: float = MARGIN, alpha: float = ALPHA) -> Decisions:
    """Comparisons one after the other along the pairs as they were taken, each beginning where the last
    one ended: no pair is used twice. One that the pairs do not last for is left out."""
    series = np.asarray(logs, np.float64)
    found: list[Decisions] = []
    start = 0
    while len(series) - start >= LOOKS[0]:
        rest = series[None, start : start + LOOKS[-1]]
        one = decide(rest, margin, alpha)
        if one.verdict[0] == "inconclusive" and rest.shape[1] < LOOKS[-1]:
            break
        found.append(one)
        start += int(one.pairs[0])
    return Decisions(
        np.array([one.verdict[0] for one in found], "<U12"),
        np.array([one.slower[0] for one in found], bool),
        np.array([one.pairs[0] for one in found], np.int64),
    )


def resampled(logs: Sequence[float], times: int, rng: np.random.Generator) -> Floats:
    """Rows of as many pairs as the last look wants, drawn from these: without putting back where there
    are enough. Rows share pairs, so what is decided from them is not independent."""
    pool = np.asarray(logs, np.float64)
    if len(pool) < LOOKS[-1]:
        return rng.choice(pool, (times, LOOKS[-1]))
    return rng.permuted(np.tile(pool, (times, 1)), axis=1)[:, : LOOKS[-1]]


def clopper_pearson(seen: float, trials: float) -> tuple[float, float]:
    """Bounds on a chance from how often something was seen, each wrong with 5 % (Clopper & Pearson 1934,
    Biometrika 26:404). Never seen in 300 trials gives an upper bound of 1 %; no trial gives 0 and 1."""
    low = betaincinv(seen, trials - seen + 1, 1 - CONFIDENCE) if seen > 0 else 0.0
    high = betaincinv(seen + 1, trials - seen, CONFIDENCE) if seen < trials else 1.0
    return float(low), float(high)


def spread_at_most(spread: float, freedom: int) -> float:
    """Upper bound of a standard deviation that was estimated with so many degrees of freedom."""
    return float(spread * math.sqrt(freedom / chdtri(freedom, CONFIDENCE)))


def caught_in_turn(spread: float, alpha: float = ALPHA) -> float:
    """How far beyond its margin (log ratio) a slowdown is caught with `CHANCE` at the last look, if the
    pairs spread so. Earlier looks can only add to it."""
    level = level_at(LOOKS[-1], alpha)
    return _reached(LOOKS[-1] - 1, level) * spread / math.sqrt(LOOKS[-1])


def caught_by_rounds(spread: float, base: int, new: int, alpha: float = ALPHA) -> float:
    """The same for two runs of so many rounds that spread alike on both sides; infinite for one round."""
    return spread * _units(base, new, alpha)


@cache
def _units(base: int, new: int, alpha: float) -> float:
    """In standard deviations of a round. By simulation, since the degrees of freedom of Welch are
    estimated too and few rounds estimate them badly."""
    if min(base, new) < 2:
        return math.inf
    rng = np.random.default_rng(0)
    sides = (rng.standard_normal((_DRAWS, rounds)) for rounds in (base, new))
    center, error, freedom = welch_t(*sides)
    # A shift takes the lower end of the interval as far up.
    return float(np.quantile(reach(error, freedom, alpha) - center, CHANCE))


def _reached(freedom: float, level: float) -> float:
    """True distance from the bound, in standard errors, at which Student's test at `level` finds it with
    `CHANCE`: the noncentrality of its distribution there."""
    return float(nctdtrinc(freedom, 1 - CHANCE, -stdtrit(freedom, level)))
