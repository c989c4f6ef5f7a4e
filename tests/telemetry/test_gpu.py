from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from devbench.telemetry import GpuSummary, Summary, doubts
from devbench.telemetry.gpu import event_shares
from tests.telemetry.recorded import BOARD, GPU, OWN, WORKER, Recording, write

EVENTS = "nvmlDeviceGetCurrentClocksEventReasons(gpu0)"
CLOCK = "nvmlDeviceGetClockInfo(gpu0, 1)"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses(gpu0)"
ENERGY = "nvmlDeviceGetTotalEnergyConsumption(gpu0)"
INIT = "1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0"


def window(recording: Recording, frames: Sequence[dict[str, Any]], seconds: float = 2.0) -> Summary:
    """A window with one sample a frame; each frame is what the GPU answers otherwise from then on."""
    sampler = recording.sampler()
    sampler.start_window()
    for frame in frames:
        recording.board |= frame
        sampler.sample()
    recording.now += seconds
    return sampler.end_window()


def board(recording: Recording, frames: Sequence[dict[str, Any]]) -> GpuSummary:
    (gpu,) = window(recording, frames).gpus
    return gpu


def words(summary: Summary) -> list[str]:
    return [sentence.split(":")[0] for sentence in doubts(summary, threads=1)]


def test_each_figure_is_summed_up_in_its_unit(tmp_path: Path) -> None:
    frames: list[dict[str, Any]] = [
        {CLOCK: 1350, "nvmlDeviceGetPowerUsage(gpu0)": 300000},
        {CLOCK: 1410, "nvmlDeviceGetTemperature(gpu0, 0)": 70},
        {
            CLOCK: 1395,
            "nvmlDeviceGetPowerUsage(gpu0)": 350000,
            "nvmlDeviceGetTemperature(gpu0, 0)": 66,
            ENERGY: 5620000,
        },
    ]
    summary = window(Recording(tmp_path), frames)
    (gpu,) = summary.gpus
    assert summary.samples == 3
    assert (gpu.sm_clock_hz, gpu.sm_clock_lowest_hz, gpu.sm_clock_highest_hz) == (
        1395e6,
        1350e6,
        1410e6,
    )
    assert (gpu.sm_clock_max_hz, gpu.memory_clock_hz) == (1410e6, 1215e6)
    assert (gpu.power_w, gpu.power_highest_w, gpu.power_limit_w) == (300, 350, 400)
    assert (gpu.temperature_c, gpu.utilization, gpu.memory_used_bytes) == (70, 0.98, 2949672960)
    assert (gpu.processes, gpu.other_pids) == (1, ())
    assert (gpu.clock_event_mask, gpu.clock_events) == (0, {})
    assert gpu.energy_j == 620
    assert gpu.unread == {}
    assert (summary.sm_clock_hz, summary.temperature_c) == (1395e6, 70)
    assert words(summary) == []


THROTTLES = {
    0x008: "hardware slowdown",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
}
HARMLESS = (0x001, 0x002, 0x010, 0x100)


@pytest.mark.parametrize("bit", THROTTLES)
@pytest.mark.parametrize("beside", [0, *HARMLESS, 0x113])
def test_a_throttling_bit_is_seen_alone_and_beside_others(
    tmp_path: Path, bit: int, beside: int
) -> None:
    summary = window(Recording(tmp_path), [{EVENTS: bit | beside}, {EVENTS: beside}])
    assert list(doubts(summary, threads=1)) == [
        f"throttled: {THROTTLES[bit]} in 50% of samples, 61 °C"
    ]


@pytest.mark.parametrize("mask", [sum(bits) for bits in itertools.combinations(HARMLESS, 2)])
def test_settings_and_idleness_are_no_throttling(tmp_path: Path, mask: int) -> None:
    assert words(window(Recording(tmp_path), [{EVENTS: mask}])) == []


def test_a_power_cap_has_its_own_word_and_stands_beside_heat(tmp_path: Path) -> None:
    frames = [{EVENTS: 0x4}, {EVENTS: 0x4 | 0x40}, {EVENTS: 0x4}, {EVENTS: 0}]
    summary = window(Recording(tmp_path), frames)
    assert list(doubts(summary, threads=1)) == [
        "throttled: hardware thermal slowdown in 25% of samples, 61 °C",
        "power-capped: software power cap in 75% of samples, limit 400 W",
    ]
    (gpu,) = summary.gpus
    assert gpu.clock_event_mask == 0x44
    assert gpu.clock_events == {"software power cap": 0.75, "hardware thermal slowdown": 0.25}


def test_a_bit_without_a_name_is_kept_by_its_number() -> None:
    assert event_shares([1 << 20, 0, 0, 0]) == {"bit 0x100000": 0.25}


def test_an_older_driver_is_asked_by_the_older_name(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.board |= {
        EVENTS: {"error": "FunctionNotFound"},
        "nvmlDeviceGetCurrentClocksThrottleReasons(gpu0)": 0x40,
    }
    summary = window(recording, [{}])
    assert words(summary) == ["throttled"]
    assert summary.gpus[0].unread == {}


def test_a_clock_that_drops_while_timing_is_doubted(tmp_path: Path) -> None:
    summary = window(Recording(tmp_path), [{CLOCK: 1410}] * 8 + [{CLOCK: 1200}] * 2)
    assert list(doubts(summary, threads=1)) == ["clock-dropped: 1200 to 1410 MHz"]


def test_boost_that_moves_the_clock_a_little_is_not_doubted(tmp_path: Path) -> None:
    assert words(window(Recording(tmp_path), [{CLOCK: 1410}, {CLOCK: 1290}])) == []


def test_the_low_clock_of_an_idle_moment_is_no_drop(tmp_path: Path) -> None:
    gpu_frames = [{CLOCK: 210, EVENTS: 1}, {CLOCK: 1410, EVENTS: 0}, {CLOCK: 1400}]
    summary = window(Recording(tmp_path), gpu_frames)
    assert summary.gpus[0].sm_clock_lowest_hz == 1400e6
    assert words(summary) == []


GENERATION = "nvmlDeviceGetCurrPcieLinkGeneration(gpu0)"
WIDTH = "nvmlDeviceGetCurrPcieLinkWidth(gpu0)"


def test_the_link_is_the_one_under_load_and_is_asked_seldom(tmp_path: Path) -> None:
    rests = {EVENTS: 1, GENERATION: 1, WIDTH: 16}
    works = {EVENTS: 0, GENERATION: 3, WIDTH: 8}
    between = {EVENTS: 0, GENERATION: 4, WIDTH: 16}  # nobody looks at the link then
    frames = [rests, *[between] * 9, works, *[between] * 9]
    gpu = board(Recording(tmp_path), frames)
    assert (gpu.pcie_generation, gpu.pcie_width) == (3, 8)
    assert (gpu.pcie_generation_max, gpu.pcie_width_max) == (4, 16)
    assert board(Recording(tmp_path), [rests]).pcie_generation is None


def test_a_stranger_on_the_gpu_is_a_co_tenant(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    write(
        tmp_path,
        {"proc/1/stat": INIT, "proc/900/stat": INIT.replace("1 (init) S 0", "900 (x) S 1")},
    )
    summary = window(recording, [{PROCESSES: [{"pid": WORKER}, {"pid": 900}]}])
    assert list(doubts(summary, threads=1)) == ["co-tenant: 1 other on the GPU (pid 900)"]
    assert summary.gpus[0].processes == 2


def test_a_stranger_that_has_gone_before_the_window_ends_is_still_named(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    frames: list[dict[str, Any]] = [{PROCESSES: [{"pid": WORKER}, {"pid": 900}]}]
    frames += [{PROCESSES: [{"pid": WORKER}]}] * 12
    assert board(recording, frames).other_pids == (900,)


def test_the_runner_and_its_other_workers_are_no_co_tenants(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    write(tmp_path, {"proc/300/stat": INIT.replace("1 (init) S 0", f"300 (w) S {OWN}")})
    listed = [{"pid": WORKER}, {"pid": OWN}, {"pid": 300}]
    assert board(recording, [{PROCESSES: listed}]).other_pids == ()


@pytest.mark.parametrize("listed", [[], [{"pid": 70001}], [{"pid": 70001}, {"pid": 70002}]])
def test_numbers_of_another_namespace_accuse_nobody(
    tmp_path: Path, listed: list[dict[str, int]]
) -> None:
    summary = window(Recording(tmp_path), [{PROCESSES: listed}])
    assert summary.gpus[0].other_pids is None
    assert "other_pids" in summary.gpus[0].unread
    assert summary.gpus[0].processes == len(listed)
    assert words(summary) == []


def test_a_query_that_fails_costs_its_figure_and_is_explained_once(tmp_path: Path) -> None:
    for call in BOARD:
        if call.startswith(("nvmlInit", "nvmlDeviceGetHandle")):
            continue
        recording = Recording(tmp_path)
        recording.board[call] = {"error": "NotSupported"}
        if call == EVENTS:
            recording.board["nvmlDeviceGetCurrentClocksThrottleReasons(gpu0)"] = 0
        gpu = board(recording, [{}, {}])
        assert list(gpu.unread.values()) == ["NotSupported"], call
        assert getattr(gpu, next(iter(gpu.unread))) is None
        assert (gpu.sm_clock_hz is None) == (call == CLOCK)


def test_what_is_not_supported_is_not_asked_again_and_a_hiccup_is(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    power, heat = "nvmlDeviceGetPowerUsage(gpu0)", "nvmlDeviceGetTemperature(gpu0, 0)"
    frames: list[dict[str, Any]] = [
        {power: {"error": "NotSupported"}, heat: {"error": "Timeout"}},
        {power: 1000, heat: 50},
    ]
    gpu = board(recording, frames)
    assert gpu.power_w is None
    assert gpu.temperature_c == 50
    assert gpu.unread == {"power_w": "NotSupported", "temperature_c": "Timeout"}


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        ("nvmlInit()", "LibraryNotFound", "no NVIDIA driver is installed"),
        (f"nvmlDeviceGetHandleByUUID({GPU})", "NotFound", "NotFound"),
    ],
)
def test_a_gpu_that_nvml_does_not_give_leaves_the_host_watched(
    tmp_path: Path, call: str, error: str, reason: str
) -> None:
    recording = Recording(tmp_path)
    recording.board[call] = {"error": error}
    summary = window(recording, [{}])
    assert summary.gpus[0].unread["handle"].startswith(reason)
    assert summary.gpus[0].sm_clock_hz is None
    assert summary.host.cpus == 3


def test_a_gpu_known_by_its_bus_id_is_found_by_it(tmp_path: Path) -> None:
    recording = Recording(tmp_path, gpus=("00000000:1b:00.0",))
    recording.board["nvmlDeviceGetHandleByPciBusId(00000000:1b:00.0)"] = "gpu0"
    assert board(recording, [{}]).sm_clock_hz == 1410e6


def test_of_two_gpus_the_sentence_names_the_one_that_is_meant(tmp_path: Path) -> None:
    second = "GPU-22222222-aaaa-bbbb-cccc-000000000002"
    recording = Recording(tmp_path, gpus=(GPU, second))
    recording.board |= {call.replace("gpu0", "gpu1"): answer for call, answer in BOARD.items()}
    recording.board[f"nvmlDeviceGetHandleByUUID({second})"] = "gpu1"
    recording.board["nvmlDeviceGetCurrentClocksEventReasons(gpu1)"] = 0x40
    recording.board["nvmlDeviceGetClockInfo(gpu1, 1)"] = 1100
    summary = window(recording, [{}])
    (sentence,) = doubts(summary, threads=1)
    assert sentence.startswith("throttled: ")
    assert sentence.endswith(" on GPU-22222222")
    assert summary.sm_clock_hz == 1100e6
