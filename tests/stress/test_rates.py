"""Rates judged with what else went on, on made-up windows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devbench.measure.ceilings import Ceilings
from devbench.stress import rates
from devbench.stress.records import Window
from devbench.stress.session import HOST_MOST, memory_goal

BUSY = "noisy-neighbour: others kept 1.00 CPUs busy beside 2 threads on 2 cores"


def window(at_s: float, rate: float, yardstick: float = 1.0, *doubts: str) -> Window:
    """5 s at a share of 1 TFLOP/s."""
    return Window(
        at_s=at_s,
        seconds=5.0,
        flop=2e9,
        samples=(2e-3 / rate,) * 3,
        block=1,
        yardstick="gemm",
        yardstick_s=1e-4 / yardstick,
        differing=0,
        clock="perf_counter",
        doubts=doubts,
    )


def load(last: float, yardstick: float = 1.0, *doubts: str, scatter: float = 0.002) -> list[Window]:
    """Three minutes, the last of which goes at a share of the rate of the others."""
    found = []
    for index in range(36):
        wobble = 1 + scatter * (-1) ** index
        late = index >= 24
        found.append(
            window(
                5.0 * index,
                (last if late else 1.0) * wobble,
                yardstick if late else 1.0,
                *(doubts if late else ()),
            )
        )
    return found


@pytest.mark.parametrize(
    ("windows", "is_cpu", "verdict"),
    [
        (load(1.0), False, "no fault found"),
        (load(0.96), False, "no fault found"),
        (load(0.94), False, "fault"),
        (load(0.80), True, "fault"),
        (load(0.80, 0.81), True, "cannot tell"),
        # The yardstick of a GPU goes down with its clock, which is the fault itself.
        (load(0.80, 0.81), False, "fault"),
        (load(0.80, 1.0, BUSY), True, "cannot tell"),
        (load(0.80, 1.0, "co-tenant: 1 other on the GPU (pid 7)"), False, "cannot tell"),
        (load(0.80, 1.0, "throttled: hardware thermal slowdown in 40% of samples"), False, "fault"),
        (load(0.94, scatter=0.2), False, "cannot tell"),
        (load(0.80)[:3], False, "cannot tell"),
        ([], False, "cannot tell"),
    ],
)
def test_a_rate_that_sags_is_a_fault_only_where_nobody_else_can_have_done_it(
    windows: list[Window], is_cpu: bool, verdict: str
) -> None:
    found = rates.kept(windows, is_cpu=is_cpu)
    assert found.verdict == verdict, found.says


def test_a_sag_says_the_clock_the_heat_and_the_reason() -> None:
    reason = "throttled: hardware thermal slowdown in 40% of samples"
    telemetry = {"gpus": [{"sm_clock_hz": 1.2e9, "temperature_c": 91.0}]}
    windows = [replace(one, telemetry=telemetry) for one in load(0.8, 1.0, reason)]
    says = rates.kept(windows, is_cpu=False).says
    assert "last over first minute: 0.800" in says
    assert "1200 MHz, 91 °C" in says
    assert reason in says


def test_a_short_load_compares_its_thirds() -> None:
    windows = [window(0.3 * index, 1.0 if index < 6 else 0.5) for index in range(12)]
    windows = [replace(one, seconds=0.3) for one in windows]
    assert rates.kept(windows, is_cpu=False).verdict == "fault"


def test_one_wrong_element_under_load_is_a_fault() -> None:
    windows = load(1.0)
    assert rates.under_load(windows).verdict == "no fault found"
    windows[7] = replace(windows[7], differing=1)
    found = rates.under_load(windows)
    assert found.verdict == "fault"
    assert "1 of 36 windows, first after 40 s: 1 element" in found.says
    assert rates.under_load([]).verdict == "cannot tell"


def test_one_of_equal_devices_is_held_against_their_median() -> None:
    box = [7.4e14, 7.5e14, 7.45e14, 6.9e14]
    verdicts = [rates.among_equals(rate, box).verdict for rate in box]
    assert verdicts == ["no fault found"] * 3 + ["fault"]


@pytest.mark.parametrize(
    ("copy", "roofs", "is_shared", "verdict"),
    [
        (9e11, {"copy": (1e12, "the datasheet")}, False, "no fault found"),
        (4e11, {"copy": (1e12, "the datasheet")}, False, "fault"),
        (4e11, {"copy": (1e12, "earlier runs")}, True, "cannot tell"),
        (4e11, {"h2d_pinned": (6e10, "PCIe 5 ×16")}, False, "cannot tell"),
        (4e11, {}, False, "cannot tell"),
    ],
)
def test_a_bandwidth_is_a_fault_below_half_of_what_it_could_be(
    copy: float, roofs: dict[str, tuple[float, str]], is_shared: bool, verdict: str
) -> None:
    found = rates.bandwidths(Ceilings(copy=copy), roofs, (), is_shared=is_shared)
    assert found.verdict == verdict, found.says


def test_a_slow_link_is_a_fault_unless_somebody_else_is_on_the_gpu() -> None:
    slow = Ceilings(copy=2e12, transfers={"h2d_pinned": 6e9})
    roofs = {"copy": (2.1e12, "the datasheet"), "h2d_pinned": (6.3e10, "PCIe 5 ×16")}
    alone = rates.bandwidths(slow, roofs, (), is_shared=False)
    assert alone.verdict == "fault"
    assert "h2d_pinned is 10% of PCIe 5 ×16" in alone.says
    doubt = "co-tenant: 1 other on the GPU (pid 7)"
    assert rates.bandwidths(slow, roofs, [doubt], is_shared=False).verdict == "cannot tell"


def test_a_hosts_memory_is_never_taken_as_a_devices_is() -> None:
    gib = 1 << 30
    assert memory_goal(80 * gib, is_cpu=False) == 64 * gib
    assert memory_goal(8 * gib, is_cpu=True) == 2 * gib
    assert memory_goal(800 * gib, is_cpu=True) == HOST_MOST
    assert memory_goal(None, is_cpu=False) is None
