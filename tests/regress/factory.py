"""Runs with times as wanted, for comparisons and histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devbench.model import Case, Measurement, Run, RunInfo, Target, Work

FACTS: Mapping[str, Any] = {
    "physical_device": "cpu",
    "device_name": "A CPU",
    "driver": None,
    "framework_version": "2.13.0",
    "threads": 2,
    "settings": {"cudnn_allow_tf32": False},
}
STARTED = "2026-01-31T12:00:00.000+00:00"
#: Rounds of a case that scatters by half a percent; what follows is measured against it.
QUIET = (1.000, 1.004, 0.997, 1.002, 0.998)


def make_case(n: int = 256, framework: str = "torch", flops: float | None = None) -> Case:
    return Case(
        "matmul",
        "matmul",
        (("n", n), ("dtype", "float32")),
        Target(framework, ("cpu",)),
        Work(flops=2 * n**3 if flops is None else flops),
    )


def timed(case: Case, rounds: Sequence[float], **changes: Any) -> list[Measurement]:
    """A measurement a round, of three samples whose median it is. `yardstick_s`: one a round."""
    sticks = changes.pop("yardstick_s", [None] * len(rounds))
    if any(sticks):
        changes.setdefault("yardstick", "gemm 192x192 float32")
    fields: dict[str, Any] = {"status": "ok", "mode": "eager", "started_at": STARTED} | changes
    return [
        Measurement(
            case_id=case.id,
            round=place,
            samples=tuple(seconds * factor for factor in (0.99, 1.0, 1.02, 1.0, 0.98)),
            yardstick_s=stick,
            **fields,
        )
        for place, (seconds, stick) in enumerate(zip(rounds, sticks, strict=True))
    ]


def failed(case: Case, status: str, reason: str = "error", detail: str = "it broke") -> list[Any]:
    return [
        Measurement(
            case_id=case.id,
            round=0,
            status=status,  # type: ignore[arg-type]
            started_at=STARTED,
            reason=reason,
            detail=detail,
        )
    ]


def make_run(
    id_: str,
    measured: Mapping[Case, Sequence[Measurement]],
    *,
    target_facts: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Run:
    """A run of these cases; `target_facts` and `environment` replace what the targets and the run say."""
    facts = {**FACTS, **(target_facts or {})}
    fields: dict[str, Any] = {
        "label": None,
        "started_at": STARTED,
        "finished_at": STARTED,
        "state": "complete",
        "devbench_version": "0.1.0",
        "settings": {"rounds": 5},
        "environment": {
            "targets": {str(case.target): facts for case in measured},
            "git": {"commit": "a" * 40, "dirty": False},
            **(environment or {}),
        },
    } | changes
    return Run(
        info=RunInfo(id=id_, **fields),
        cases=tuple(measured),
        measurements=tuple(one for visits in measured.values() for one in visits),
    )
