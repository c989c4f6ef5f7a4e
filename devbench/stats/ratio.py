"""One case against another: the ratio of two medians, its interval, and whether it may be claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from devbench.model import Result

#: With one round a side nothing is known of the next process. The medians of fresh processes varied by
#: 12 % on the machine that the method was worked out on, so two of them differ by up to
#: exp(1.96 · √2 · 0.12) = 1.4 by chance; less is not claimed.
CHANCE: Final = 1.4

Verdict = Literal["faster", "slower", "no difference"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast `subject` is as `base`: base's median over subject's.

    low, high: its 95 % interval; None where one of the two has none (a single round).
    """

    base: Result
    subject: Result
    value: float
    low: float | None
    high: float | None
    verdict: Verdict

    @property
    def has_interval(self) -> bool:
        return self.low is not None

    @property
    def inverse(self) -> Ratio:
        """The same comparison seen from the other side."""
        flipped: dict[Verdict, Verdict] = {"faster": "slower", "slower": "faster"}
        return Ratio(
            self.subject,
            self.base,
            1 / self.value,
            1 / self.high if self.high is not None else None,
            1 / self.low if self.low is not None else None,
            flipped.get(self.verdict, self.verdict),
        )


def timed(result: Result) -> bool:
    """Whether the row holds a time that a claim may rest on: measured, and computed correctly."""
    return (
        result.status == "ok"
        and result.quality != "invalid"
        and result.median is not None
        and math.isfinite(result.median)
        and result.median > 0
    )


def ratio(base: Result, subject: Result) -> Ratio | None:
    """Compare two rows; None where one of them holds no time to be relied on.

    The interval of the ratio comes from those of the two medians by MOVER (Zou and Donner 2008,
    Statistics in Medicine 27:1693) on the logarithms, where they are symmetric: the half widths add
    as squares. No difference is claimed where the intervals of the two medians overlap, or, with one
    round, where the spreads inside the two processes (5th to 95th percentile) overlap or the ratio is
    within `CHANCE`.
    """
    if not (timed(base) and timed(subject)):
        return None
    assert base.median is not None
    assert subject.median is not None
    value = base.median / subject.median
    own, other = _interval(subject), _interval(base)
    low = high = None
    if own and other:
        half = math.hypot(math.log(own[1] / own[0]) / 2, math.log(other[1] / other[0]) / 2)
        centre = math.sqrt(other[0] * other[1] / (own[0] * own[1]))
        low, high = centre * math.exp(-half), centre * math.exp(half)
    else:
        own, other = _within(subject), _within(base)
        if max(value, 1 / value) < CHANCE:
            own = None
    if own is None or other is None or (own[0] <= other[1] and other[0] <= own[1]):
        verdict: Verdict = "no difference"
    else:
        verdict = "faster" if own[1] < other[0] else "slower"
    return Ratio(base, subject, value, low, high, verdict)


def _interval(result: Result) -> tuple[float, float] | None:
    return _ends(result.ci_low, result.ci_high)


def _within(result: Result) -> tuple[float, float] | None:
    return _ends(result.within_p5, result.within_p95)


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None or high is None or not (0 < low <= high < math.inf):
        return None
    return low, high
