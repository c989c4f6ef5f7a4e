"""Slower or not: the ratio of two sides with its interval, and what may be said of it.

The unit is the median of a round, that is of one process, and the statistic its logarithm. Of pairs of
rounds that were taken in turn the differences are judged (`paired`), of rounds of two separate runs the
two means (`unpaired`, after Welch 1947, Biometrika 34:28). Student's interval decides; the estimate of
Hodges & Lehmann (1963, Ann. Math. Statist. 34:598) and a randomisation test stand beside it.

Errors are one-sided, one for "slower" and one for "faster": at most `ALPHA` a case, and at most
`FAMILY` for all cases of a comparison together, by the steps of Holm (1979, Scand. J. Statist. 6:65).
A case's interval has the error of the step that it was tested at, and its verdict is read off that
interval. All that is read off so keeps the error of the family: as long as no case that did not get
slower has been called so, the step's error is at most FAMILY over the number of such cases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats: TypeAlias = NDArray[np.float64]
Verdict = Literal["regressed", "improved", "equivalent", "inconclusive", "not-measured"]

#: Chance at which one case may be called slower, or faster, that is not.
ALPHA: Final = 0.001
#: The same for at least one case of a whole comparison.
FAMILY: Final = 0.01
#: A change by less than this is of no interest.
MARGIN: Final = 0.03

#: More rounds than this are advised to nobody.
MOST_ROUNDS: Final = 1000
#: Rearrangements that a randomisation test goes through; of more it draws as many.
_REARRANGEMENTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Where the log of new over base lies, in units of its own error.

    center: the mean log ratio; error: its standard error, infinite where the spread between rounds is
    not known (fewer than two rounds on a side, or all of them equal because the clock is too coarse);
    freedom: degrees of freedom of Student's distribution.
    spreads: standard deviation between pairs, or between the rounds of base and of new.
    rounds: pairs, or rounds of base and of new.
    shift: the estimate of Hodges and Lehmann. p: two-sided, of no change at all, from flipping the
    signs of pairs or from exchanging rounds between the sides.
    """

    center: float
    error: float
    freedom: float
    spreads: tuple[float, ...]
    rounds: tuple[int, ...]
    shift: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is said of a case. Ratios are new over base: above one is slower.

    low, high: the interval that the verdict was read off, None where there is none; each end is wrong
    with a chance of `level`, the larger of the two. margin: a change up to this was taken for none.
    certain: the direction of a change that is beyond doubt, be it within the margin or not.
    more: further pairs, or rounds a side, that would decide it if estimate and spread stay as they
    are; None where it is decided, where nothing is known of the spread, or beyond `MOST_ROUNDS`.
    """

    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    level: float
    margin: float
    certain: Literal["slower", "faster"] | None
    more: int | None


def paired(logs: Sequence[float]) -> Estimate:
    """The estimate from log ratios of pairs of rounds, one a pair; at least one."""
    d = np.asarray(logs, np.float64)
    center, error, freedom = (float(value) for value in paired_t(d))
    walsh = (d[:, None] + d[None, :])[np.triu_indices(len(d))] / 2
    return Estimate(
        center=center,
        error=error,
        freedom=freedom,
        spreads=(_spread(d),),
        rounds=(len(d),),
        shift=float(np.median(walsh)),
        p=_randomised(d @ _signs(len(d)) / len(d), center),
    )


def unpaired(base: Sequence[float], new: Sequence[float]) -> Estimate:
    """The estimate from the logs of the rounds of two sides; at least one round a side."""
    x, y = np.asarray(base, np.float64), np.asarray(new, np.float64)
    center, error, freedom = (float(value) for value in welch_t(x, y))
    labels = _labels(len(x), len(y))
    return Estimate(
        center=center,
        error=error,
        freedom=freedom,
        spreads=(_spread(x), _spread(y)),
        rounds=(len(x), len(y)),
        shift=float(np.median(y[:, None] - x[None, :])),
        p=_randomised(np.concatenate([x, y]) @ labels, center),
    )


def paired_t(logs: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, standard error and degrees of freedom along the last axis, of which there may be many."""
    count = logs.shape[-1]
    center = logs.mean(axis=-1)
    error = np.sqrt(_variance(logs) / count)
    return center, np.where(error > 0, error, np.inf), np.full_like(center, max(count - 1, 1))


def welch_t(base: Floats, new: Floats) -> tuple[Floats, Floats, Floats]:
    """The same for the difference of two means, with the degrees of freedom of Welch."""
    sizes = base.shape[-1], new.shape[-1]
    center = new.mean(axis=-1) - base.mean(axis=-1)
    if min(sizes) < 2:
        return center, np.full_like(center, np.inf), np.ones_like(center)
    parts = [_variance(side) / size for side, size in zip((base, new), sizes, strict=True)]
    total = parts[0] + parts[1]
    known = total > 0
    safe = np.where(known, total, 1.0)
    below = sum((part / safe) ** 2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    freedom = np.where(known, 1 / np.where(known, below, 1.0), 1.0)
    return center, np.where(known, np.sqrt(total), np.inf), freedom


def p_above(center: Any, error: Any, freedom: Any, bound: float) -> Any:
    """One-sided p of the log ratio being at most `bound`; for numbers and for arrays."""
    return stdtr(freedom, (bound - center) / error)


def reach(error: Any, freedom: Any, level: Any) -> Any:
    """From the centre to an end of the interval that is wrong with a chance of `level`."""
    return -stdtrit(freedom, level) * error


def judge(
    estimates: Sequence[Estimate],
    *,
    margin: float | Sequence[float] = MARGIN,
    others: int = 0,
    level: Callable[[float], float] = lambda alpha: alpha,
) -> list[Judgement]:
    """What is said of each case of one comparison.

    margin: one for all cases, or one a case. Holm's steps go by the p of each case beyond its own.
    others: cases that belong to the comparison and are not among these, because they were called
    equivalent at an earlier look. level: from the error that a case may have in all to the one that
    it may have at this look (`devbench.stats.sequential`).
    """
    margins = margin if isinstance(margin, Sequence) else [margin] * len(estimates)
    held = [(one, math.log1p(own)) for one, own in zip(estimates, margins, strict=True)]
    slower = [p_above(one.center, one.error, one.freedom, limit) for one, limit in held]
    faster = [p_above(-one.center, one.error, one.freedom, limit) for one, limit in held]
    errors = zip(holm(slower, others, level), holm(faster, others, level), strict=True)
    return [
        _read(one, own, ends, level)
        for one, own, ends in zip(estimates, margins, errors, strict=True)
    ]


def holm(p: Sequence[float], others: int, level: Callable[[float], float]) -> list[float]:
    """The error that each case may have in all, as it was tested: the smallest p first, and all after
    the first that fails are left at its error."""
    found = [0.0] * len(p)
    alpha, holds = 0.0, True
    for step, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if holds:
            alpha = min(ALPHA, FAMILY / (len(p) + others - step))
            holds = p[place] <= level(alpha)
        found[place] = alpha
    return found


def _read(
    one: Estimate, margin: float, errors: tuple[float, float], level: Callable[[float], float]
) -> Judgement:
    """The verdict off the interval; errors: of its lower and of its upper end, at all looks together."""
    limit = math.log1p(margin)
    below, above = map(level, errors)
    low = one.center - float(reach(one.error, one.freedom, below))
    high = one.center + float(reach(one.error, one.freedom, above))
    verdict: Verdict = "inconclusive"
    if low > limit:
        verdict = "regressed"
    elif high < -limit:
        verdict = "improved"
    elif -limit < low and high < limit:
        verdict = "equivalent"
    known = math.isfinite(one.error)
    return Judgement(
        verdict=verdict,
        ratio=math.exp(one.center),
        low=_exp(low) if known else None,
        high=_exp(high) if known else None,
        level=max(below, above),
        margin=margin,
        certain="slower" if low > 0 else "faster" if high < 0 else None,
        more=more_rounds(one, limit, min(errors)) if verdict == "inconclusive" else None,
    )


def more_rounds(one: Estimate, limit: float, alpha: float) -> int | None:
    """Further pairs, or rounds a side, after which the interval would lie on one side of ±`limit` (a
    log ratio), with an error of `alpha` at each end. It is right about as often as wrong: the estimate
    may move either way."""
    distance = abs(abs(one.center) - limit)
    if not math.isfinite(one.error):
        return None
    squares = [spread**2 for spread in one.spreads]
    # Degrees of freedom of Welch for two sides of `count` rounds; with pairs it is `count` - 1.
    share = sum(squares) ** 2 / sum(square**2 for square in squares)

    def decides(count: int) -> bool:
        error = math.sqrt(sum(squares) / count)
        return bool(reach(error, share * (count - 1), alpha) < distance)

    if not decides(MOST_ROUNDS):
        return None
    fewest, enough = 1, MOST_ROUNDS  # the first does not decide, the last does
    while enough - fewest > 1:
        middle = (fewest + enough) // 2
        fewest, enough = (fewest, middle) if decides(middle) else (middle, enough)
    return max(enough - min(one.rounds), 1)


def _variance(logs: Floats) -> Floats:
    if logs.shape[-1] < 2:
        return np.zeros(logs.shape[:-1])
    return np.asarray(logs.var(axis=-1, ddof=1))


def _spread(logs: Floats) -> float:
    return float(math.sqrt(_variance(logs)))


def _exp(value: float) -> float:
    """Intervals of two noisy rounds reach beyond what a float can hold."""
    return math.exp(min(value, 700.0))


def _randomised(found: Floats, observed: float) -> float:
    """The share of rearrangements, the observed one counted in, that give at least as much."""
    # What is equal up to the order of its additions counts as equal.
    as_large = int((np.abs(found) >= abs(observed) * (1 - 1e-9)).sum())
    return as_large / len(found)


@cache
def _signs(count: int) -> Floats:
    """Columns of ±1: every choice of signs, or a draw of them. The first is all ones."""
    if 2**count <= _REARRANGEMENTS:
        bits = (np.arange(2**count)[None, :] >> np.arange(count)[:, None]) & 1
    else:
        bits = np.random.default_rng(count).integers(0, 2, (count, _REARRANGEMENTS))
        bits[:, 0] = 0
    return np.asarray(1.0 - 2.0 * bits, np.float64)


@cache
def _labels(base: int, new: int) -> Floats:
    """Columns of weights that take the mean of the rounds called new less that of the others: every
    choice of them, or a draw. The first is the one that was made."""
    total = base + new
    if math.comb(total, new) <= _REARRANGEMENTS:
        chosen = np.array(list(itertools.combinations(range(total - 1, -1, -1), new)))
    else:
        draws = np.random.default_rng(total).random((_REARRANGEMENTS, total))
        chosen = draws.argsort(axis=1)[:, :new]
        chosen[0] = np.arange(base, total)
    weights: Floats = np.full((len(chosen), total), -1 / base)
    np.put_along_axis(weights, chosen, 1 / new, axis=1)
    return np.ascontiguousarray(weights.T)
