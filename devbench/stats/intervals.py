"""Intervals for durations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def log_t_interval(
    medians: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """The t interval of the mean log of round medians, back on the scale of seconds.

    Rounds are independent processes; samples inside one are not, so the median of a round is the
    unit. Durations vary by factors, hence the log. None with fewer than two rounds, which say
    nothing about the next process, and where a clock was so coarse that it read zero. `stdtrit` is
    Student's quantile, from scipy.special because scipy.stats takes three times as long to import.
    """
    if len(medians) < 2 or min(medians) <= 0:
        return None
    logs = np.log(np.asarray(medians, np.float64))
    reach = stdtrit(len(logs) - 1, (1 + confidence) / 2) * logs.std(ddof=1) / math.sqrt(len(logs))
    return math.exp(logs.mean() - reach), math.exp(logs.mean() + reach)
