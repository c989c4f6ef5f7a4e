"""Results are derived: one row a case from the measurements of a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from devbench.detection import host_from_json
from devbench.detection.peaks import cpu_peak
from devbench.measure.ceilings import Ceilings
from devbench.model import SEVERITY, Case, Json, Measurement, Numerics, Result, Run
from devbench.stats.intervals import log_t_interval
from devbench.stats.quality import judge
from devbench.stats.roofline import Position, best, locate
from devbench.stats.scaling import with_efficiency
from devbench.telemetry import Summary, energy

_NUMERICS: tuple[Numerics, ...] = ("mismatch", "match", "exact", "unchecked")


def summarize(run: Run) -> list[Result]:
    """One `Result` a case that has at least one measurement, in the order of the plan."""
    by_case: dict[str, list[Measurement]] = {case.id: [] for case in run.cases}
    for measurement in run.measurements:
        by_case[measurement.case_id].append(measurement)
    return with_efficiency(
        [
            _result(run, case, sorted(by_case[case.id], key=lambda m: m.round))
            for case in run.cases
            if by_case[case.id]
        ]
    )


def _result(run: Run, case: Case, visits: Sequence[Measurement]) -> Result:
    timed = [visit for visit in visits if visit.status == "ok" and visit.samples]
    worst = min(visits, key=lambda visit: SEVERITY.index(visit.status))
    facts: Mapping[str, Json] = run.info.environment.get("targets", {}).get(str(case.target), {})
    params = dict(case.params)
    numerics = [visit.numerics for visit in visits if visit.numerics is not None]
    errors = [visit.rel_error for visit in visits if visit.rel_error is not None]
    position = _roofline(run, case, timed)
    of_ceiling = position.ceiling_fraction if position.bound == "compute" else None
    on_cpu = facts.get("physical_device") == "cpu"
    quality, doubts = (
        judge(timed, of_ceiling, position.peak_fraction, on_cpu=on_cpu) if timed else (None, ())
    )
    return Result(
        run_id=run.info.id,
        label=run.info.label,
        case_id=case.id,
        started_at=visits[0].started_at,
        suite=case.suite,
        benchmark=case.benchmark,
        params=params,
        framework=case.target.framework,
        framework_version=facts.get("framework_version"),
        target=str(case.target),
        physical_device=facts.get("physical_device"),
        device_name=facts.get("device_name"),
        driver=facts.get("driver"),
        dtype=str(params.get("dtype", "float32")),
        mode=next((visit.mode for visit in visits if visit.mode), None),
        threads=next((visit.threads for visit in visits if visit.threads), facts.get("threads")),
        world_size=int(params.get("world_size", len(case.target.devices))),
        status=worst.status,
        reason=_reason(worst),
        quality=quality,
        quality_reasons=doubts,
        numerics=min(numerics, key=_NUMERICS.index) if numerics else None,
        rel_error=max(errors) if errors else None,
        peak_memory_bytes=max(
            (visit.peak_memory_bytes for visit in timed if visit.peak_memory_bytes is not None),
            default=None,
        ),
        **_times(timed),
        **_yardstick(timed),
        **_rates(case, timed),
        **asdict(position),
        **_telemetry(case, timed, on_cpu),
        metrics=_metrics(timed),
    )


def _reason(visit: Measurement) -> str | None:
    if visit.reason is None:
        return None
    return f"{visit.reason}: {visit.detail}" if visit.detail else visit.reason


def round_medians(timed: Sequence[Measurement]) -> list[float]:
    """One median a round, the unit of statistics."""
    return [statistics.median(visit.samples) for visit in timed]


def _times(timed: Sequence[Measurement]) -> dict[str, Any]:
    names = (
        "median",
        "ci_low",
        "ci_high",
        "mean",
        "min",
        "max",
        "warmup_s",
        "first_call_s",
        "clock",
    )
    percentiles = (5, 25, 75, 95, 99)
    if not timed:
        nothing = dict.fromkeys((*names, *(f"within_p{p}" for p in percentiles)))
        return {"rounds": 0, "samples": 0, **nothing}
    pooled = np.concatenate([np.asarray(visit.samples, np.float64) for visit in timed])
    medians = round_medians(timed)
    interval = log_t_interval(medians)
    within = np.percentile(pooled, percentiles)
    return {
        "rounds": len(timed),
        "samples": pooled.size,
        "median": statistics.median(medians),
        "ci_low": interval[0] if interval else None,
        "ci_high": interval[1] if interval else None,
        **{f"within_p{p}": float(value) for p, value in zip(percentiles, within, strict=True)},
        "min": float(pooled.min()),
        "max": float(pooled.max()),
        "mean": float(pooled.mean()),
        "warmup_s": _median(visit.warmup_s for visit in timed),
        "first_call_s": _median(visit.first_call_s for visit in timed),
        "clock": timed[0].clock,
    }


def in_yardsticks(timed: Sequence[Measurement]) -> list[float]:
    """One figure a round: its median over its yardstick's; empty where a round has none."""
    if not all(visit.yardstick_s for visit in timed):
        return []
    return [statistics.median(visit.samples) / (visit.yardstick_s or 1) for visit in timed]


def _yardstick(timed: Sequence[Measurement]) -> dict[str, Any]:
    names = {visit.yardstick for visit in timed}
    return {
        "yardstick": names.pop() if len(names) == 1 else None,
        "yardstick_s": _median(visit.yardstick_s for visit in timed),
        "yardsticks": _median(in_yardsticks(timed)),
    }


def _metrics(timed: Sequence[Measurement]) -> dict[str, float | str]:
    """Medians of the rounds; of a text the last round's."""
    found: dict[str, list[float | str]] = {}
    for visit in timed:
        for name, value in visit.metrics.items():
            found.setdefault(name, []).append(value)
    return {
        name: values[-1]
        if isinstance(values[-1], str)
        else statistics.median(value for value in values if not isinstance(value, str))
        for name, values in found.items()
    }


def _telemetry(case: Case, timed: Sequence[Measurement], on_cpu: bool) -> dict[str, Any]:
    """Energy of a step, clock and temperature, over the rounds in which they were read."""
    watched = [(Summary.from_json(visit.telemetry), visit) for visit in timed if visit.telemetry]
    energies = [
        found
        for summary, visit in watched
        if (
            found := energy(
                summary,
                len(visit.samples) * visit.block,
                sum(visit.samples) * visit.block,
                on_cpu=on_cpu,
            )
        )
        is not None
    ]
    joules = _median(found for found, _ in energies)
    return {
        "energy_j": joules,
        "energy_source": energies[0][1] if energies else None,
        "items_per_j": case.work.items / joules if case.work.items and joules else None,
        "sm_clock_hz": _median(summary.sm_clock_hz for summary, _ in watched),
        "temperature_c": max(
            (summary.temperature_c for summary, _ in watched if summary.temperature_c is not None),
            default=None,
        ),
    }


def _roofline(run: Run, case: Case, timed: Sequence[Measurement]) -> Position:
    targets: Mapping[str, Json] = run.info.environment.get("targets", {})
    own = targets.get(str(case.target), {})
    if not timed or not own.get("ceilings"):
        return Position()
    alike = [
        Ceilings.from_json(other["ceilings"])
        for other in targets.values()
        if other.get("ceilings")
        and other.get("physical_device") == own.get("physical_device")
        and other.get("threads") == own.get("threads")
    ]
    peak_flops, peak_bytes = _peak(run, own, timed)
    # Ceilings are those of one device; several share the work.
    share = len(case.target.devices)
    work = replace(
        case.work,
        flops=None if case.work.flops is None else case.work.flops / share,
        bytes=None if case.work.bytes is None else case.work.bytes / share,
        footprint=None if case.work.footprint is None else case.work.footprint / share,
    )
    return locate(
        work,
        statistics.median(round_medians(timed)),
        str(dict(case.params).get("dtype", "float32")),
        best(alike, Ceilings.from_json(own["ceilings"])),
        peak_flops,
        peak_bytes,
    )


def _peak(
    run: Run, own: Mapping[str, Json], timed: Sequence[Measurement]
) -> tuple[Mapping[str, float], float | None]:
    """FLOP/s by dtype and bytes/s at most: an accelerator's by its datasheet, a CPU's by its cores and
    the clock that they were seen to hold under this very load."""
    if own.get("physical_device") != "cpu":
        peak = own.get("peak") or {}
        return peak.get("flop_per_s", {}), peak.get("bytes_per_s")
    clock_hz = _median(
        Summary.from_json(visit.telemetry).host.cpu_clock_hz for visit in timed if visit.telemetry
    )
    if clock_hz is None:
        return {}, None
    host = host_from_json(run.info.environment.get("machine", {}).get("host", {}))
    found = cpu_peak(host, max(visit.threads or 1 for visit in timed), clock_hz)
    return (found.flop_per_s, None) if found else ({}, None)


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _rates(case: Case, timed: Sequence[Measurement]) -> dict[str, Any]:
    seconds = statistics.median(round_medians(timed)) if timed else None
    return {
        f"{name}_per_s": amount / seconds if amount is not None and seconds else None
        for name, amount in (
            ("flop", case.work.flops),
            ("bytes", case.work.bytes),
            ("items", case.work.items),
        )
    }
