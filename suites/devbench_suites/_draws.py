"""Are random numbers what they should be? What n draws allow, for the two usual distributions."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

#: Distribution → its mean, its variance, its fourth central moment.
MOMENTS: Final = {"uniform": (1 / 2, 1 / 12, 1 / 80), "normal": (0.0, 1.0, 3.0)}
#: Standard errors that a moment may be off by: right draws exceed them twice in 10⁹.
STANDARD_ERRORS: Final = 6
#: −ln of how seldom right draws may leave the bounds of the range.
RARE: Final = math.log(1e9)
#: Of fewer normal draws, all may well be on one side of the mean.
FEWEST: Final = 64


def check_draws(distribution: str, numbers: np.ndarray, before: np.ndarray) -> None:
    """Raises ValueError with what is wrong with draws, given those of an earlier call.

    distribution: uniform on [0, 1), or standard normal. The standard error of a mean is σ/√n, that
    of a variance √((μ₄ − σ⁴)/n).
    """
    if np.array_equal(numbers, before):
        raise ValueError("two calls drew the same numbers")
    n = numbers.size
    mean, variance, fourth = MOMENTS[distribution]
    for name, found, wanted, spread in (
        ("mean", np.mean(numbers, dtype=np.float64), mean, variance),
        ("variance", np.var(numbers, dtype=np.float64), variance, fourth - variance**2),
    ):
        allowed = STANDARD_ERRORS * math.sqrt(spread / n)
        if not abs(found - wanted) <= allowed:
            raise ValueError(
                f"the {name} of {n} {distribution} draws is {found:.6g}, not {wanted:.6g} within "
                f"{allowed:.2g}"
            )
    low, high = float(numbers.min()), float(numbers.max())
    (least, least_reached), (most_reached, most) = _range(distribution, n)
    if not (least <= low <= least_reached and most_reached <= high <= most):
        raise ValueError(
            f"{n} {distribution} draws reach from {low:.6g} to {high:.6g}; the lowest should be in "
            f"[{least:.6g}, {least_reached:.6g}], the highest in [{most_reached:.6g}, {most:.6g}]"
        )


def _range(distribution: str, n: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the lowest and the highest of n draws lie.

    None of n uniform draws is below t with probability (1 − t)ⁿ ≤ exp(−tn). A normal draw exceeds t
    with probability ≤ exp(−t²/2)/2; how near the middle the highest of n may stay is left open.
    """
    if distribution == "uniform":
        below_one = float(np.nextafter(np.float32(1), np.float32(0)))
        return (0.0, RARE / n), (1 - RARE / n, below_one)
    farthest = math.sqrt(2 * (RARE + math.log(n)))
    return (-farthest, 0.0), (0.0, farthest)
