"""What explains the figures of a run stands beside them, and a clean run is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from devbench.doctor.attribution import attribute
from devbench.doctor.table import words
from devbench.model import Json, Measurement, Result, Run, Work
from devbench.telemetry import GpuSummary, HostSummary, Summary
from devbench_reports import summary
from devbench_reports.html import to_html
from devbench_reports.markdown import to_markdown
from devbench_reports.terminal import to_text
from tests.reports import factory

QUIET = HostSummary(cpus=2, cores=2, steal=0.0, worker_busy=1.9, others_busy=0.05)

#: A board under load that runs as fast as it may, and what the driver says of it at rest.
BUSY = GpuSummary(
    gpu=factory.GPU,
    sm_clock_hz=1.9e9,
    sm_clock_lowest_hz=1.9e9,
    sm_clock_highest_hz=1.9e9,
    sm_clock_max_hz=1.98e9,
    clock_event_mask=0,
    power_w=300,
    power_limit_w=370,
    temperature_c=60,
    other_pids=(),
)
BOARD: Mapping[str, Json] = {
    "uuid": factory.GPU,
    "power_limit_w": 370,
    "power_default_limit_w": 370,
    "pcie_width": 16,
    "pcie_width_max": 16,
}


def gpu_row(**changes: Any) -> Result:
    return factory.result(
        "torch:cuda:0", **{"ceiling_fraction": 0.62, "bound": "compute", **changes}
    )


def run_of(
    rows: Iterable[Result],
    *gpus: GpuSummary,
    host: HostSummary = QUIET,
    board: Mapping[str, Json] | None = None,
    machine: Mapping[str, Json] | None = None,
    variables: Mapping[str, str] | None = None,
    placement: Mapping[str, Json] | None = None,
    work: Work | None = None,
) -> Run:
    """The run of these rows, each timed in one window of 2 s."""
    rows = list(rows)
    run = factory.run(rows)
    window = Summary(seconds=2.0, samples=8, host=host, gpus=gpus)
    measurements = tuple(
        Measurement(
            case_id=row.case_id,
            round=0,
            status="ok",
            started_at="2026-01-02T03:04:05+00:00",
            threads=row.threads,
            samples=(row.median or 1.0,),
            telemetry=window.to_json(),
        )
        for row in rows
    )
    recorded = run.info.environment["machine"]
    recorded["gpus"] = [recorded["gpus"][0] | BOARD | dict(board or {})]
    recorded["host"] |= dict(machine or {})
    environment = {**run.info.environment, "variables": dict(variables or {})}
    environment["placement"] = dict(placement or {})
    cases = tuple(case if work is None else replace(case, work=work) for case in run.cases)
    return Run(
        info=replace(run.info, environment=environment), cases=cases, measurements=measurements
    )


def said(*arguments: Any, **changes: Any) -> list[str]:
    (rows, *gpus) = arguments
    rows = rows if isinstance(rows, list) else [rows]
    return [str(one) for one in attribute(run_of(rows, *gpus, **changes), rows)]


CAPPED = replace(
    BUSY,
    power_limit_w=230,
    clock_event_mask=0x004,
    clock_events={"software power cap": 0.98},
)


def test_a_clean_run_is_left_alone() -> None:
    rows = [gpu_row(), factory.result(ceiling_fraction=0.4), factory.result("tensorflow:GPU:0")]
    assert said(rows, BUSY) == []


def test_a_power_limit_below_the_default_explains_the_share_of_the_ceiling() -> None:
    assert said(gpu_row(peak_fraction=0.5), CAPPED) == [
        "torch:cuda:0 at 62 % of the ceiling, 50 % of the datasheet's peak: power limit 230 of 370 W, "
        "reached in 98 % of samples (S03); the ceiling was measured under S03 too"
    ]


def test_a_power_limit_that_was_never_reached_explains_nothing() -> None:
    assert said(gpu_row(), replace(BUSY, power_limit_w=230), board={"power_limit_w": 230}) == []


def test_a_limit_is_said_where_the_driver_did_not_tell_what_held_the_clock() -> None:
    blind = replace(BUSY, power_limit_w=None, clock_event_mask=None)
    (text,) = said(gpu_row(ceiling_fraction=None), blind, board={"power_limit_w": 230})
    assert text == "torch:cuda:0: power limit 230 of 370 W (S03)"


def test_the_default_limit_explains_only_what_falls_short_of_the_ceiling() -> None:
    at_default = replace(CAPPED, power_limit_w=370)
    assert said(gpu_row(), at_default) == [
        "torch:cuda:0 at 62 % of the ceiling: power limit 370 W, reached in 98 % of samples"
    ]
    assert said(gpu_row(ceiling_fraction=0.97), at_default) == []


@pytest.mark.parametrize("direction", ["h2d", "d2h_pinned"])
def test_a_narrow_link_explains_transfers_and_nothing_else(direction: str) -> None:
    narrow = {"pcie_width": 4}
    assert said(gpu_row(), BUSY, board=narrow) == []
    row = gpu_row(ceiling_fraction=0.99, bound="link")
    assert said(row, BUSY, board=narrow, work=Work(bytes=1e6, over=direction)) == [
        "torch:cuda:0 at 99 % of the ceiling: PCIe ×4 of ×16 when the run began (S01); the ceiling was "
        "measured under S01 too"
    ]


def test_a_link_whose_generation_rests_is_no_narrow_link() -> None:
    rests = {"pcie_generation": 1, "pcie_generation_max": 5}
    assert said(gpu_row(bound="link"), BUSY, board=rests) == []


def link(generation: int | None, width: int | None) -> GpuSummary:
    return replace(
        BUSY,
        pcie_generation=generation,
        pcie_width=width,
        pcie_generation_max=4,
        pcie_width_max=16,
    )


def test_power_and_link_stand_together_where_both_hold_a_row_down() -> None:
    slow = replace(
        CAPPED, pcie_generation=4, pcie_width=4, pcie_generation_max=4, pcie_width_max=16
    )
    assert said(gpu_row(bound=None), slow) == [
        "torch:cuda:0 at 62 % of the ceiling: power limit 230 of 370 W, reached in 98 % of samples (S03); "
        "PCIe 4 ×4 of 4 ×16 (S01); the ceiling was measured under S03 and S01 too"
    ]


def test_the_link_is_judged_by_what_was_seen_under_load() -> None:
    row = gpu_row(bound="link")
    (text,) = said(row, link(3, 16))
    assert "PCIe 3 ×16 of 4 ×16 (S01)" in text
    # It was narrow at rest when the run began, and under load it was not.
    assert said(row, link(4, 16), board={"pcie_width": 4}) == []
    assert "when the run began" in said(row, link(None, None), board={"pcie_width": 4})[0]
    assert said(gpu_row(bound="compute"), link(1, 1)) == []


def test_a_display_is_said_of_rows_that_fall_short_only() -> None:
    seen = {"displays": {factory.GPU: True}}
    (text,) = said(gpu_row(), BUSY, placement=seen)
    assert text.endswith("a display is attached to the GPU (S07)")
    assert said(gpu_row(ceiling_fraction=0.97), BUSY, placement=seen) == []
    assert said(gpu_row(), BUSY, placement={"displays": {factory.GPU: None}}) == []


def test_cpus_of_another_node_explain_what_crosses_the_link() -> None:
    nodes = {"numa_nodes": [{"index": 0, "cpus": "0-7"}, {"index": 1, "cpus": "8-15"}]}
    far = {"board": {"numa_node": 1}, "machine": nodes, "placement": {"allowed_cpus": "0-3"}}
    (text,) = said(gpu_row(bound="link"), BUSY, **far)
    assert "its CPUs are on another NUMA node than the GPU, 1 (S12)" in text
    assert said(gpu_row(bound="compute"), BUSY, **far) == []
    assert said(gpu_row(bound="link"), BUSY, **far | {"placement": {"allowed_cpus": "3-8"}}) == []


@pytest.mark.parametrize(("driver", "low"), [("acpi-cpufreq", True), ("intel_pstate", False)])
def test_a_governor_is_judged_with_its_driver(driver: str, low: bool) -> None:
    found = said(
        factory.result(ceiling_fraction=0.5),
        machine={"governor": "powersave"},
        placement={"frequency_driver": driver},
    )
    assert (
        any("the governor powersave keeps the lowest clock (acpi-cpufreq)" in one for one in found)
        == low
    )


def test_bits_that_are_set_together_are_each_said() -> None:
    hot = replace(
        BUSY,
        temperature_c=91,
        clock_event_mask=0x040 | 0x080 | 0x001,
        clock_events={"hardware thermal slowdown": 0.4, "hardware power brake": 0.1},
    )
    assert said(gpu_row(), hot) == [
        "torch:cuda:0 at 62 % of the ceiling: hardware thermal slowdown in 40 % of samples, 91 °C (S02); "
        "hardware power brake in 10 % of samples, 91 °C (S02)"
    ]


def test_a_locked_clock_is_said_and_one_that_heat_or_rest_holds_down_is_not() -> None:
    low = replace(BUSY, sm_clock_hz=0.9e9, clock_event_mask=0x002)
    (text,) = said(gpu_row(), low)
    assert "clock held at 900 of 1980 MHz (S04)" in text
    assert "S04" not in "".join(said(gpu_row(), replace(low, clock_event_mask=0x022)))
    resting = replace(low, clock_event_mask=0x001)
    assert said(gpu_row(bound=None, ceiling_fraction=None), resting) == []
    assert said(gpu_row(bound="dispatch"), low) == []


def test_others_on_the_gpu_are_named() -> None:
    (text,) = said(gpu_row(), replace(BUSY, other_pids=(11, 12)))
    assert text.endswith("2 other processes on the GPU (pid 11, 12) (S06)")


def test_a_cpu_quota_explains_rows_on_the_cpu_and_not_a_gpu_that_computes() -> None:
    stopped = replace(QUIET, throttled_periods=14, throttled_s=0.4)
    quota = {"usable_cpus": 0.5}
    assert said(factory.result(ceiling_fraction=0.4), host=stopped, machine=quota) == [
        "torch:cpu at 40 % of the ceiling: the CPU quota ran out, 14 periods, 0.40 CPU seconds in 2.00 s "
        "(S10); 2 threads on 0.5 granted CPUs (S10); the ceiling was measured under S10 too"
    ]
    assert said(gpu_row(), BUSY, host=stopped, machine=quota) == []
    assert "the CPU quota" in said(gpu_row(bound="dispatch"), BUSY, host=stopped)[0]


def test_a_noisy_neighbour_is_said_with_what_it_took_at_its_worst() -> None:
    rows = [
        factory.result(params={"n": n}, ceiling_fraction=f) for n, f in ((256, 0.3), (512, 0.5))
    ]
    run = run_of(rows, host=replace(QUIET, others_busy=0.9))
    worse = Summary(seconds=2.0, samples=8, host=replace(QUIET, others_busy=1.6)).to_json()
    first, second = run.measurements
    run = replace(run, measurements=(first, replace(second, telemetry=worse)))
    (text,) = map(str, attribute(run, rows))
    assert text == (
        "torch:cpu, 2 rows, at 30 to 50 % of the ceiling: others kept 1.60 CPUs busy beside 2 threads on "
        "2 cores"
    )


def test_one_row_of_several_is_named_by_its_case() -> None:
    rows = [factory.result(params={"n": n}, ceiling_fraction=0.5) for n in (256, 512)]
    run = run_of(rows, host=replace(QUIET, steal=0.1))
    clean = Summary(seconds=2.0, samples=8, host=QUIET).to_json()
    first, second = run.measurements
    run = replace(run, measurements=(first, replace(second, telemetry=clean)))
    (text,) = map(str, attribute(run, rows))
    assert text == (
        "matmul[n=256]@torch:cpu at 50 % of the ceiling: the hypervisor took 10.0 % of the CPU time"
    )


def test_debugging_variables_are_said_of_the_rows_that_heed_them() -> None:
    rows = [gpu_row(), factory.result(), factory.result("tensorflow:CPU:0")]
    variables = {"CUDA_LAUNCH_BLOCKING": "1", "TF_ENABLE_ONEDNN_OPTS": "0", "OMP_NUM_THREADS": "2"}
    gpu, tensorflow = said(rows, BUSY, variables=variables)
    assert gpu.startswith("torch:cuda:0 at 62 %")
    assert "CUDA_LAUNCH_BLOCKING=1 waits after every kernel (S08)" in gpu
    assert tensorflow.startswith("tensorflow:CPU:0: TF_ENABLE_ONEDNN_OPTS=0")


def test_turbo_off_is_said_of_the_processor() -> None:
    assert said([factory.result(), gpu_row()], BUSY, machine={"turbo": False}) == [
        "torch:cpu: the processor's turbo is off (S11)"
    ]


def test_every_id_that_is_named_has_a_page() -> None:
    hot = replace(CAPPED, clock_event_mask=0x04C, other_pids=(7,))
    noisy = replace(QUIET, throttled_s=1.0, throttled_periods=3, swapped_in=9999, swapped_out=0)
    rows = [gpu_row(), gpu_row(params={"n": 2}, bound="link"), factory.result()]
    run = run_of(
        rows, hot, host=noisy, board={"pcie_width": 1}, machine={"turbo": False, "usable_cpus": 0.5}
    )
    ids = {cause.id for one in attribute(run, rows) for cause in one.causes} - {None}
    assert ids == {"S01", "S02", "S03", "S06", "S10", "S11", "S14"}
    assert ids <= words().keys()


def test_the_sentence_stands_under_the_table_and_in_the_reports_summary() -> None:
    rows = [gpu_row(rounds=5)]
    run = run_of(rows, CAPPED)
    sentence = "power limit 230 of 370 W, reached in 98 % of samples (S03)"
    assert sentence in " ".join(to_text(run, rows, width=80).split())
    assert max(map(len, to_text(run, rows, width=80).splitlines())) <= 80
    assert any(sentence in text for text in dict(summary.sentences(run, rows, ()))["matmul"])
    assert sentence in to_markdown(run, rows)
    assert sentence in to_html(run, rows).replace("\u00a0", " ")


@pytest.mark.parametrize(
    "machine",
    [
        *(None, [], {}, {"gpus": 3}),
        {"gpus": [{"uuid": ["x"], "mig_devices": 1}], "host": 2},
        {
            "gpus": [{"uuid": factory.GPU, "numa_node": []}],
            "host": {"numa_nodes": [3, {"cpus": 1}]},
        },
    ],
)
def test_a_run_file_of_another_version_costs_nothing_but_the_sentence(machine: Any) -> None:
    rows = [gpu_row(), factory.result()]
    run = run_of(rows, BUSY)
    environment = {"machine": machine, "variables": [1], "placement": {"displays": 1}}
    assert attribute(replace(run, info=replace(run.info, environment=environment)), rows) == ()
