from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any, get_args

import numpy as np
import pytest

from devbench.model import (
    COLUMNS,
    QUALITY_REASONS,
    REASONS,
    Case,
    Measurement,
    Numerics,
    Result,
    Run,
    RunInfo,
    Status,
    Target,
    Work,
)
from devbench.stats.intervals import log_t_interval
from devbench.stats.results import round_medians, summarize

CPU = Target("torch", ("cpu",))
WORK = Work(flops=2e9, bytes=4e6, items=64)


def case(n: int = 1, target: Target = CPU, work: Work = WORK, **params: Any) -> Case:
    return Case("suite", "probe", tuple({"n": n, **params}.items()), target, work)


def visit(of: Case, round_: int = 0, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "status": "ok",
        "mode": "eager",
        "threads": 2,
        "clock": "perf_counter, CPU calls block",
        "clock_tick_s": 5e-8,
        "samples": (0.010, 0.011, 0.012, 0.010, 0.010),
        "first_call_s": 0.3,
        "warmup_s": 0.1,
        "steady": True,
        "trend": 0.0,
        "peak_memory_bytes": 1000,
        "yardstick": "gemm",
        "yardstick_s": 0.001,
    }
    started = f"2026-01-31T12:00:0{round_}.000+00:00"
    return Measurement(case_id=of.id, round=round_, started_at=started, **(fields | changes))


def run(cases: list[Case], measurements: list[Measurement]) -> Run:
    facts = {
        "framework_version": "2.13.0",
        "physical_device": "cpu",
        "device_name": "A CPU",
        "driver": None,
        "threads": 2,
    }
    info = RunInfo(
        id="20260131-120000-ab12",
        label="first",
        started_at="2026-01-31T12:00:00.000+00:00",
        finished_at=None,
        state="complete",
        devbench_version="0.1.0",
        settings={"rounds": 5},
        environment={"targets": {str(CPU): facts}},
    )
    return Run(info=info, cases=tuple(cases), measurements=tuple(measurements))


def only(measurements: list[Measurement], of: Case | None = None) -> Result:
    (result,) = summarize(run([of or case()], measurements))
    return result


# ---- which rows


def test_rows_stand_in_the_order_of_the_plan_not_of_the_visits() -> None:
    cases = [case(3), case(1), case(2)]
    results = summarize(run(cases, [visit(one) for one in reversed(cases)]))
    assert [result.case_id for result in results] == [one.id for one in cases]


def test_a_case_that_was_not_visited_has_no_row() -> None:
    results = summarize(run([case(1), case(2)], [visit(case(2))]))
    assert [result.params for result in results] == [{"n": 2}]


# ---- what it says of the case and its target


def test_a_row_tells_its_run_case_and_target() -> None:
    result = only([visit(case(dtype="float16"))], case(dtype="float16"))
    assert asdict(result) | {
        "run_id": "20260131-120000-ab12",
        "label": "first",
        "case_id": "probe[n=1,dtype=float16]@torch:cpu",
        "suite": "suite",
        "benchmark": "probe",
        "params": {"n": 1, "dtype": "float16"},
        "framework": "torch",
        "framework_version": "2.13.0",
        "target": "torch:cpu",
        "physical_device": "cpu",
        "device_name": "A CPU",
        "driver": None,
        "dtype": "float16",
        "mode": "eager",
        "threads": 2,
        "world_size": 1,
    } == asdict(result)


def test_a_case_without_a_dtype_axis_ran_in_float32() -> None:
    assert only([visit(case())]).dtype == "float32"


def test_several_devices_count_as_the_world_of_a_case() -> None:
    many = case(target=Target("torch", ("cuda:0", "cuda:1")))
    assert only([visit(many)], many).world_size == 2


def test_a_target_that_never_started_has_a_row_all_the_same() -> None:
    lost = case(target=Target("tensorflow", ("CPU:0",)))
    result = only(
        [
            visit(
                lost,
                status="failed",
                reason="start-failed",
                detail="no module",
                samples=(),
                mode=None,
                threads=None,
            )
        ],
        lost,
    )
    assert (result.framework_version, result.threads, result.mode) == (None, None, None)
    assert result.reason == "start-failed: no module"


def test_every_column_is_filled_for_a_measured_case_but_those_for_later() -> None:
    result = asdict(only([visit(case(), i, numerics="match", rel_error=1e-7) for i in range(3)]))
    empty = {name for name in COLUMNS if result[name] is None}
    assert list(result) == list(COLUMNS)
    assert empty == {
        "driver",  # a CPU has none
        "reason",  # nothing went wrong
        "ceiling_fraction",
        "peak_fraction",
        "bound",
        "energy_j",
        "energy_source",
        "items_per_j",
        "sm_clock_hz",
        "temperature_c",
    }


# ---- a CPU's peak

EPYC = {"cpu_model": "AMD EPYC 9654 96-Core Processor", "usable_cores": 2, "usable_cpus": 2}
ZEN4 = {"cpu_flags": ["avx2", "fma", "avx512f", "avx512_bf16"]}


def with_ceiling(host: dict[str, Any], cpu_clock_hz: float | None, of: Case) -> Result:
    """Two threads on two cores that do 32 FLOP a clock each; the case does 2e11 FLOP/s."""
    watched = {"seconds": 1.0, "samples": 10, "host": {"cpu_clock_hz": cpu_clock_hz}, "gpus": []}
    base = run([of], [visit(of, telemetry=watched)])
    gemm = {"n": 1024, "burst": 2.1e11, "typical": 2e11, "sustained": 2e11}
    facts = base.info.environment["targets"][str(CPU)] | {"ceilings": {"gemm": {"float32": gemm}}}
    machine = {"host": host, "gpus": [], "frameworks": [], "devices": []}
    environment = {"targets": {str(CPU): facts}, "machine": machine}
    (result,) = summarize(replace(base, info=replace(base.info, environment=environment)))
    return result


def test_a_cpu_is_held_against_cores_times_the_clock_they_held_times_flop_a_clock() -> None:
    row = with_ceiling(EPYC | ZEN4, 4e9, case())
    assert row.bound == "compute"
    assert row.peak_fraction == pytest.approx(2e11 / (2 * 4e9 * 32))
    assert row.quality == "valid"


def test_a_cpu_that_beats_its_peak_is_doubted() -> None:
    row = with_ceiling(EPYC | ZEN4, 3e9, case())
    assert row.peak_fraction == pytest.approx(2e11 / (2 * 3e9 * 32))
    assert row.quality_reasons == ("beats-ceiling: 1.04 of the theoretical peak",)


@pytest.mark.parametrize(
    ("host", "cpu_clock_hz", "dtype"),
    [
        (EPYC | ZEN4, None, "float32"),  # a virtual machine, mostly
        (EPYC, 4e9, "float32"),
        ({**EPYC, **ZEN4, "cpu_model": "AMD EPYC"}, None, "float32"),
        (EPYC | ZEN4, 4e9, "float16"),
    ],
    ids=["no clock", "no flags", "neither", "no rate of the format"],
)
def test_a_cpu_of_which_something_is_unknown_has_no_peak(
    host: dict[str, Any], cpu_clock_hz: float | None, dtype: str
) -> None:
    assert with_ceiling(host, cpu_clock_hz, case(dtype=dtype)).peak_fraction is None


# ---- several devices


def test_what_each_of_two_devices_holds_is_held_against_the_cache_of_one() -> None:
    """Together they hold more than four times the cache, so that it would all come from memory."""
    both = case(
        target=Target("torch", ("cuda:0", "cuda:1")), work=Work(bytes=5 << 20, footprint=5 << 20)
    )
    base = run([both], [visit(both)])
    base.info.environment["targets"][str(both.target)] = {
        "physical_device": "GPU-0 + GPU-1",
        "ceilings": {"gemm": {}, "copy": 1e9, "cache_bytes": 1 << 20},
        "peak": {"bytes_per_s": 2e8},
    }
    (row,) = summarize(base)
    assert (row.bound, row.peak_fraction, row.quality) == ("memory", None, "valid")


# ---- outcome


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        (["ok", "ok", "ok"], "ok"),
        (["ok", "oom", "ok"], "oom"),
        (["ok", "timeout", "oom"], "timeout"),
        (["failed", "timeout", "skipped"], "failed"),
        (["failed", "crashed", "ok"], "crashed"),
        (["skipped"], "skipped"),
    ],
)
def test_one_bad_round_is_not_outvoted(statuses: list[Status], told: Status) -> None:
    visits = [
        visit(case(), i, status=status, reason=None if status == "ok" else "error", detail=status)
        for i, status in enumerate(statuses)
    ]
    result = only(visits)
    assert result.status == told
    assert result.reason == (None if told == "ok" else f"error: {told}")


def test_every_status_has_a_rank() -> None:
    for status in get_args(Status):
        assert only([visit(case(), status=status)]).status == status


def test_a_reason_without_a_text_stands_alone() -> None:
    assert only([visit(case(), status="oom", reason="out-of-memory")]).reason == "out-of-memory"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([None, None], None),
        (["match", None], "match"),
        (["match", "mismatch"], "mismatch"),
        (["exact", None], "exact"),
        (["unchecked"], "unchecked"),
    ],
)
def test_one_wrong_result_makes_the_case_wrong(
    found: list[Numerics | None], told: Numerics | None
) -> None:
    visits = [
        visit(case(), i, numerics=one, rel_error=None if one is None else 10.0**-i, tolerance=0.1)
        for i, one in enumerate(found)
    ]
    result = only(visits)
    assert result.numerics == told
    assert result.rel_error == (1.0 if told else None)
    assert (result.quality == "invalid") == (told == "mismatch")


def test_words_come_from_the_closed_lists() -> None:
    bad = visit(
        case(),
        1,
        samples=(1e-9, 2.0),
        steady=False,
        trend=0.5,
        threads_used=9.0,
        numerics="mismatch",
    )
    result = only([visit(case()), bad])
    assert result.quality_reasons
    assert {reason.split(": ")[0] for reason in result.quality_reasons} <= set(QUALITY_REASONS)
    for word in REASONS:
        told = only([visit(case(), status="skipped", reason=word, detail="text")]).reason
        assert told == f"{word}: text"


# ---- times


def test_one_round_has_no_interval() -> None:
    result = only([visit(case())])
    assert (result.rounds, result.samples, result.median) == (1, 5, 0.010)
    assert (result.ci_low, result.ci_high) == (None, None)


def test_the_median_and_the_interval_are_those_of_the_round_medians() -> None:
    visits = [visit(case(), i, samples=(m, m, m, 9.0)) for i, m in enumerate((0.2, 0.1, 0.4))]
    result = only(visits)
    assert round_medians(visits) == [0.2, 0.1, 0.4]
    assert result.median == 0.2
    assert (result.ci_low, result.ci_high) == log_t_interval([0.2, 0.1, 0.4])


def test_percentiles_are_over_all_samples_of_all_rounds() -> None:
    rng = np.random.default_rng(0)
    samples = rng.lognormal(-5, 0.3, (3, 40))
    result = only([visit(case(), i, samples=tuple(row)) for i, row in enumerate(samples.tolist())])
    for percent in (5, 25, 75, 95, 99):
        value = getattr(result, f"within_p{percent}")
        assert value == pytest.approx(np.percentile(samples, percent))
    assert (result.samples, result.rounds) == (120, 3)
    assert (result.min, result.max) == (samples.min(), samples.max())
    assert result.mean == pytest.approx(samples.mean())


def test_samples_of_a_round_that_failed_do_not_enter_the_times() -> None:
    good, bad = visit(case()), visit(case(), 1, status="timeout", samples=(50.0,) * 9)
    result = only([good, bad])
    assert (result.status, result.rounds, result.max) == ("timeout", 1, 0.012)


def test_a_case_without_samples_has_no_times_and_no_quality() -> None:
    result = only([visit(case(), status="skipped", reason="too-slow", samples=())])
    assert (result.rounds, result.samples, result.quality) == (0, 0, None)
    assert result.quality_reasons == ()
    for name in ("median", "ci_low", "within_p99", "mean", "clock", "flop_per_s", "warmup_s"):
        assert getattr(result, name) is None, name


def test_rounds_out_of_order_are_put_in_order() -> None:
    result = only([visit(case(), 2), visit(case(), 0), visit(case(), 1)])
    assert result.started_at == "2026-01-31T12:00:00.000+00:00"


def test_the_first_call_and_the_warm_up_are_medians_and_memory_the_most() -> None:
    visits = [
        visit(case(), i, first_call_s=first, warmup_s=first, peak_memory_bytes=memory)
        for i, (first, memory) in enumerate([(0.1, 5), (0.9, None), (0.2, 7)])
    ]
    result = only(visits)
    assert (result.first_call_s, result.warmup_s, result.peak_memory_bytes) == (0.2, 0.2, 7)


# ---- energy, and the host beside an accelerator

BUSY = {
    "seconds": 0.05,
    "samples": 5,
    "host": {"cpus": 8, "cores": 8, "others_busy": 4.0, "energy_j": 150.0},
    "gpus": [],
}


@pytest.mark.parametrize(
    ("physical", "energy_j", "word"),
    [("cpu", 30.0, "noisy-neighbour"), ("xpu:0", None, None), ("GPU-1 + GPU-2", None, None)],
)
def test_the_host_s_energy_and_cores_are_those_of_a_cpu_alone(
    physical: str, energy_j: float | None, word: str | None
) -> None:
    """An accelerator that nobody watches (ROCm, XPU, MPS) has no energy, and one thread feeds it."""
    watched = run([case()], [visit(case(), threads=8, telemetry=BUSY)])
    watched.info.environment["targets"][str(CPU)]["physical_device"] = physical
    (row,) = summarize(watched)
    assert row.energy_j == energy_j
    assert [reason.split(":")[0] for reason in row.quality_reasons] == ([word] if word else [])


# ---- rates


def test_rates_are_the_declared_work_over_the_median() -> None:
    result = only([visit(case())])
    assert result.flop_per_s == pytest.approx(2e9 / 0.010)
    assert result.bytes_per_s == pytest.approx(4e6 / 0.010)
    assert result.items_per_s == pytest.approx(64 / 0.010)


def test_work_that_is_not_declared_has_no_rate_and_no_work_a_rate_of_zero() -> None:
    bare = case(work=Work(flops=0))
    result = only([visit(bare)], bare)
    assert (result.flop_per_s, result.bytes_per_s, result.items_per_s) == (0, None, None)


def test_a_clock_that_read_zero_gives_no_infinite_rate() -> None:
    result = only([visit(case(), i, samples=(0.0,) * 5) for i in range(2)])
    assert (result.median, result.flop_per_s, result.ci_low) == (0, None, None)


def test_no_figure_of_a_row_is_infinite_or_nan() -> None:
    result = only([visit(case(), i) for i in range(5)])
    for name, value in asdict(result).items():
        assert not isinstance(value, float) or math.isfinite(value), name


# ---- the yardstick, and what a benchmark adds


def test_a_machine_that_slows_both_down_changes_nothing_in_yardsticks() -> None:
    visits = [
        visit(case(), i, samples=(0.010 * slow,) * 5, yardstick_s=0.001 * slow)
        for i, slow in enumerate((1.0, 1.5, 1.2))
    ]
    result = only(visits)
    assert result.yardsticks == pytest.approx(10)
    assert result.median == pytest.approx(0.012)
    assert result.yardstick_s == pytest.approx(0.0012)


def test_a_round_without_a_yardstick_leaves_none_in_the_row() -> None:
    result = only([visit(case()), visit(case(), 1, yardstick=None, yardstick_s=None)])
    assert result.yardsticks is None


def test_metrics_are_medians_of_the_rounds_and_remarks_the_last_one() -> None:
    visits = [
        visit(case(), i, metrics={"epoch_s": seconds, "note": f"round {i}"})
        for i, seconds in enumerate((3.0, 1.0, 2.0))
    ]
    assert only(visits).metrics == {"epoch_s": 2.0, "note": "round 2"}
    visits[0] = visit(case(), 0, metrics={"epoch_s": "not told", "note": "round 0"})
    assert only(visits).metrics == {"epoch_s": 1.5, "note": "round 2"}
