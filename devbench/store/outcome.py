"""What became of a case of a run, kept beside its plan so that many runs can be looked at at once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from devbench.model import SEVERITY, Measurement

#: One round that was timed: the median of its samples and of its yardstick, NaN where there is none.
FIGURES: Final = np.dtype([("median", "<f4"), ("yardstick", "<f4")])

#: The columns of the plan that a measurement changes, as they are before the first.
NOTHING: Final[Mapping[str, Any]] = {
    "status": None,
    "numerics": None,
    "yardstick": None,
    "figures": b"",
}


def with_measurement(before: Mapping[str, Any], measured: Measurement) -> dict[str, Any]:
    """The outcome after one more round. status: the most serious of the rounds; numerics: that of the
    check, ``mismatch`` where any round has it; figures: rounds that were timed, in order of arrival.

    A yardstick that changed between the rounds of a case measures nothing: its name is then empty. A round
    whose median is zero, by a clock too coarse for the step, has no place on a scale of ratios.
    """
    after = dict(before)
    statuses = [status for status in (before["status"], measured.status) if status is not None]
    after["status"] = min(statuses, key=SEVERITY.index)
    if measured.numerics is not None and before["numerics"] != "mismatch":
        after["numerics"] = measured.numerics
    median = statistics.median(measured.samples or (0.0,))
    if measured.status == "ok" and median > 0:
        name = measured.yardstick or ""
        after["yardstick"] = name if before["yardstick"] in (None, name) else ""
        figure = (median, measured.yardstick_s or np.nan)
        after["figures"] = before["figures"] + np.array([figure], FIGURES).tobytes()
    return after


def figures(blob: bytes) -> NDArray[np.void]:
    """The rounds of a plan's blob, or of several put together; fields ``median`` and ``yardstick``."""
    return np.frombuffer(blob, FIGURES)
