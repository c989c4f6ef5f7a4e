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
    summary: Summary | Mapping[str, Json], steps: int, timed_s: float, *, on_cpu: bool
) -> tuple[float, str] | None:
    """Joules a step and the counter they come from, for a window in which `steps` steps were run, which
    took `timed_s` seconds together.

    For GPUs the whole boards together, where each of them tells; for a target on a CPU the packages. None
    otherwise, also where nobody watches the accelerator: the host's energy is no stand-in for its own.
    Idle power and others' work are in it. None too where the steps were not nearly all that went on in
    the window.
    """
    if not isinstance(summary, Summary):
        summary = Summary.from_json(summary)
    if steps < 1 or timed_s < MOSTLY * summary.seconds:
        return None
    counters = [board.energy_j for board in summary.gpus]
    if on_cpu:
        counters = [summary.host.energy_j]
    joules = [energy_j for energy_j in counters if energy_j is not None]
    if not joules or len(joules) < len(counters):
        return None
    return sum(joules) / steps, rapl.SOURCE if on_cpu else gpu.SOURCE
