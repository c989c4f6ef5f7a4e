"""How hard to look."""

from __future__ import annotations

from dataclasses import dataclass

from devbench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """tier: 1 (seconds), 2 (a minute) or 3 (`minutes` a device).

    repeat_s: of the same product in each dtype. memory_s: of patterns over the memory. probe_s: of a
    probe of the bandwidths. timeout_s: a worker that says nothing for so long is ended.
    """

    tier: int = 1
    minutes: float = 5.0
    repeat_s: float = 10.0
    memory_s: float = 20.0
    probe_s: float = 0.2
    timeout_s: float = 180.0

    def __post_init__(self) -> None:
        if self.tier not in (1, 2, 3):
            raise UsageError(f"--tier takes 1, 2 or 3, not {self.tier}")
        if not 0 < self.minutes <= 24 * 60:
            raise UsageError(f"--minutes takes up to 1440 minutes above zero, not {self.minutes:g}")
