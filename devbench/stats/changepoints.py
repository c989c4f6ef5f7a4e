"""Where a series of figures changed its level: a penalised fit of steps.

Of all ways to cut a series into stretches of one level each, that is taken which leaves the least sum
of squares, each further stretch costing a penalty (the Potts functional; by the recursion of optimal
partitioning, Jackson et al. 2005, IEEE Signal Process. Lett. 12:105). Squares are in units of the
noise, so the penalty is a number: the square of the deviation that pure noise exceeds at one place of
the series or more with a chance of `ALPHA` at the most.

What makes that hold for the times of programs: single outliers are pulled in to three standard
deviations off the running median of their neighbours (Hampel 1974, J. Am. Statist. Assoc. 69:383),
and the noise is estimated from differences of means of successive blocks, which a change of level
hardly enters and a slow wandering does (as in Dette, Eckle & Vetter 2020, Scand. J. Statist. 47:1243).

The same fit in the library ruptures takes a compiled extension per Python version and a second to
import; all series at once in numpy are as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import ndtri

Floats: TypeAlias = NDArray[np.float64]

#: Chance of a change being found in a series that has none.
ALPHA: Final = 0.001
#: A level lasts at least so many figures: two outliers in a row are none.
SHORTEST: Final = 3
#: Figures below which nothing is said.
FEWEST: Final = 2 * SHORTEST
#: No spread is taken to be smaller than this share of a time.
FINEST: Final = 0.0005

_CLIP: Final = 3.0
_NEIGHBOURS: Final = 3  # on either side
_AT_ONCE: Final = 64  # series, so that their rows stay in the cache
#: From the median of absolute deviations to a standard deviation, for normal figures.
_NORMAL: Final = 1.4826


def find_changes(series: Sequence[Floats]) -> list[list[int]]:
    """Of each series of logarithms, the places at which a new level begins, ascending."""
    found: list[list[int]] = [[] for _ in series]
    long = [place for place, values in enumerate(series) if len(values) >= FEWEST]
    long.sort(key=lambda place: len(series[place]))
    for first in range(0, len(long), _AT_ONCE):
        some = long[first : first + _AT_ONCE]
        for place, changes in zip(some, _partition([series[place] for place in some]), strict=True):
            found[place] = changes
    return found


def noise(values: Floats) -> float:
    """The standard deviation of a figure about its level; where neighbours resemble each other, that
    which independent figures would need for means to vary as much."""
    found = FINEST
    for block in {1, round(len(values) ** (1 / 3))}:
        count = len(values) // block
        means = values[: count * block].reshape(count, block).mean(axis=1)
        steps = np.abs(np.diff(means))
        found = max(found, _NORMAL * float(np.median(steps)) * math.sqrt(block / 2))
    return found


def clipped(values: Floats, spread: float) -> Floats:
    """The series with what lies far off the running median pulled in."""
    padded = np.pad(values, _NEIGHBOURS, constant_values=np.nan)
    medians = np.nanmedian(sliding_window_view(padded, 2 * _NEIGHBOURS + 1), axis=1)
    return np.clip(values, medians - _CLIP * spread, medians + _CLIP * spread)


def _partition(series: Sequence[Floats]) -> list[list[int]]:
    """The best cut of each series; what lies behind the end of a shorter one does not enter it."""
    longest = max(map(len, series))
    sums = np.zeros((len(series), longest + 1))
    penalty = np.empty(len(series))
    for row, values in enumerate(series):
        spread = noise(values)
        sums[row, 1 : len(values) + 1] = np.cumsum(
            clipped(values - np.median(values), spread) / spread
        )
        penalty[row] = float(ndtri(ALPHA / (2 * len(values)))) ** 2
    # least[t]: the least cost of the first t figures less their sum of squares, which no cut changes.
    least = np.full((len(series), longest + 1), np.inf)
    least[:, 0] = -penalty
    begins = np.zeros((len(series), longest + 1), np.int64)
    rows = np.arange(len(series))
    weights = 1 / np.arange(longest, 0, -1)
    for end in range(SHORTEST, longest + 1):
        last = end - SHORTEST + 1
        gains = sums[:, end : end + 1] - sums[:, :last]
        gains *= gains
        gains *= weights[longest - end : longest - end + last]
        costs = least[:, :last] - gains
        begins[:, end] = costs.argmin(axis=1)
        least[:, end] = costs[rows, begins[:, end]] + penalty
    return [_walk(begins[row], len(values)) for row, values in enumerate(series)]


def _walk(begins: NDArray[np.int64], end: int) -> list[int]:
    """From the end back along the beginnings of the levels."""
    places: list[int] = []
    while (begin := int(begins[end])) > 0:
        places.append(begin)
        end = begin
    return places[::-1]
