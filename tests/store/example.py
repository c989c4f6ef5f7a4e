"""A run to store, and its parts."""

from __future__ import annotations

from typing import Any

from devbench.model import Case, Measurement, Run, RunInfo, Target, Work

STARTED = "2026-01-31T12:00:00.000+00:00"


def example_case(n: int = 256, framework: str = "torch") -> Case:
    return Case(
        "matmul",
        "matmul",
        (("n", n), ("dtype", "float32")),
        Target(framework, ("cpu",)),
        Work(flops=2 * n**3, bytes=3 * n * n * 4, footprint=3 * n * n * 4, terms=n),
    )


def example_measurement(case: Case, round_: int = 0, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "status": "ok",
        "mode": "eager",
        "threads": 2,
        "clock": "perf_counter",
        "samples": (0.0021, 0.0022, 0.00205),
        "first_call_s": 0.4,
        "numerics": "match",
        "rel_error": 3.2e-7,
    }
    return Measurement(case_id=case.id, round=round_, started_at=STARTED, **(fields | changes))


def example_info(id_: str = "20260131-120000-ab12", **changes: Any) -> RunInfo:
    fields: dict[str, Any] = {
        "label": "first",
        "started_at": STARTED,
        "finished_at": "2026-01-31T12:01:00.000+00:00",
        "state": "complete",
        "devbench_version": "0.1.0",
        "settings": {"rounds": 2, "quick": True},
        "environment": {
            "machine": {"host": {"hostname": "host-1", "cpu_model": "A CPU"}},
            "targets": {"torch:cpu": {"framework_version": "2.13.0"}},
        },
    }
    return RunInfo(id=id_, **(fields | changes))


def example_run(id_: str = "20260131-120000-ab12", **changes: Any) -> Run:
    cases = (example_case(256), example_case(512))
    return Run(
        info=example_info(id_, **changes),
        cases=cases,
        measurements=(
            example_measurement(cases[1]),
            example_measurement(cases[0]),
            example_measurement(cases[0], 1, status="oom", reason="out-of-memory", samples=()),
        ),
    )
