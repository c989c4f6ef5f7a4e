"""Looking early without crying wolf: the error that a comparison of pairs may spend at each look.

Whoever looks after 8, 16, 32 and 64 pairs and stops at the first that pleases is wrong up to three
times as often as with one look. So the error is spent by a function of the share of pairs that were
taken, and what is left unspent is kept for later looks (Lan & DeMets 1983, Biometrika 70:659). The
boundaries follow from the joint distribution of the means at the looks, which is that of a Brownian
motion, by the recursion of Armitage, McPherson & Rowe (1969, J. R. Statist. Soc. A 132:235).

They are given as the p that a look must reach, and held against Student's distribution, since the
spread is estimated (Jennison & Turnbull 2000, *Group Sequential Methods*, §3.8). Intervals with these
errors hold at all looks at once, so any verdict read off them does, and a case may be stopped or
continued for whatever reason (ibid., ch. 9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats: TypeAlias = NDArray[np.float64]

#: Pairs after which a comparison is looked at.
LOOKS: Final = (8, 16, 32, 64)

#: Nodes of the quadrature, and how far it reaches: the normal density is 5e-15 there.
_NODES: Final = 96
_REACH: Final = 8.0


@cache
def levels(alpha: float, looks: tuple[int, ...] = LOOKS) -> tuple[float, ...]:
    """The one-sided p that each look must reach, so that all of them together err with a chance of
    `alpha` at the most.

    The error is spent by the third power of the share of pairs (Kim & DeMets 1987, Biometrika 74:149).
    Spent after O'Brien and Fleming (Lan & DeMets' first function), an alpha of 0.001 leaves the first two
    looks without any power; this way does not, and its last look is hardly wider (0.407 standard
    deviations of a pair on either side, against 0.403).
    """
    times = [pairs / looks[-1] for pairs in looks]
    return boundaries(times, [alpha * time**3 for time in times])


def boundaries(times: Sequence[float], spent: Sequence[float]) -> tuple[float, ...]:
    """The one-sided p to be reached at each time, so much of the error being spent up to there. times:
    ascending shares, the last of them 1."""
    bound = -float(ndtri(spent[0]))
    found = [spent[0]]
    at, weights = _nodes(times[0], bound)
    density = weights * np.exp(-(at**2) / (2 * times[0])) / math.sqrt(2 * math.pi * times[0])
    for place in range(1, len(times)):
        step = math.sqrt(times[place] - times[place - 1])
        bound = _bound(at, density, step, times[place], spent[place] - spent[place - 1])
        found.append(float(ndtr(-bound)))
        before, at_before = density, at
        at, weights = _nodes(times[place], bound)
        moved = (at[:, None] - at_before[None, :]) / step
        density = weights * (np.exp(-(moved**2) / 2) @ before) / (step * math.sqrt(2 * math.pi))
    return tuple(found)


def level_at(pairs: int, alpha: float) -> float:
    """The one-sided error of an interval at a look after so many pairs; `level` of
    `devbench.stats.verdicts.judge`."""
    looks = tuple(sorted({*(look for look in LOOKS if look < pairs), pairs, LOOKS[-1]}))
    return levels(alpha, looks)[looks.index(pairs)]


def _nodes(time: float, bound: float) -> tuple[Floats, Floats]:
    """Where the motion may be at a time when it has not crossed, and the weights of the quadrature."""
    scale = math.sqrt(time)
    low, high = -_REACH * scale, min(bound, _REACH) * scale
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return low + (nodes + 1) * (high - low) / 2, weights * (high - low) / 2


def _bound(at: Floats, density: Floats, step: float, time: float, spend: float) -> float:
    """The z at which the motion, not having crossed before, crosses now with a chance of `spend`."""
    low, high = 0.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        crossing = float(density @ ndtr((at - middle * math.sqrt(time)) / step))
        low, high = (middle, high) if crossing > spend else (low, middle)
    return high
