"""Energy of one step, from counters only: never from a data sheet's power."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from devbench.model import Json
from devbench.telemetry import gpu, rapl
from devbench.telemetry.records import Summary

#: So much of a window must have been steps. The yardstick takes 2 % of it; caches that are flushed
#: before each step, a reset, or work outside a step's own clock may take most of it.
MOSTLY: Final = 0.9


def energy(
    summary: Summary | Mapping[str, Json], steps: int, timed_s: float
) -> tuple[float, str] | None:
    """Joules a step and the counter they come from, for a window in which `steps` steps were run, which
    took `timed_s` seconds together.

    For GPUs the whole boards together, where each of them tells; for a CPU target the packages. None
    otherwise: the host's energy is no stand-in for a GPU's. Idle power and others' work are in it.
    None too where the steps were not nearly all that went on in the window.
    """
    if not isinstance(summary, Summary):
        summary = Summary.from_json(summary)
    if steps < 1 or timed_s < MOSTLY * summary.seconds:
        return None
    boards = [board.energy_j for board in summary.gpus]
    joules = [energy_j for energy_j in boards or [summary.host.energy_j] if energy_j is not None]
    if len(joules) < max(1, len(boards)):
        return None
    return sum(joules) / steps, gpu.SOURCE if boards else rapl.SOURCE
