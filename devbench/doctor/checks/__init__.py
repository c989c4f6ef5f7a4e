"""The checks: functions that look at facts and yield what they found. `devbench.doctor.table` lists them."""

from __future__ import annotations

from dataclasses import dataclass

from devbench.doctor.records import Confidence, Fix, Severity


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found. Its id, its GPU and its framework are added by who called it."""

    severity: Severity
    says: str
    evidence: tuple[str, ...]
    fixes: tuple[Fix, ...]
    confidence: Confidence = "certain"
