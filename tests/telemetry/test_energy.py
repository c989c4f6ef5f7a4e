from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devbench.telemetry import GpuSummary, HostSummary, Summary, energy
from tests.telemetry.recorded import END, Recording, write

ENERGY = "nvmlDeviceGetTotalEnergyConsumption(gpu0)"
HOST = HostSummary(energy_j=150.0)


def summary(*boards: float | None) -> Summary:
    gpus = tuple(GpuSummary(gpu=f"GPU-{n}", energy_j=joules) for n, joules in enumerate(boards))
    return Summary(seconds=2, samples=20, host=HOST, gpus=gpus)


def test_a_gpus_energy_is_its_counter_over_the_steps(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    sampler = recording.sampler()
    sampler.start_window()
    recording.now += 2.0
    recording.board[ENERGY] = 5620000
    found = energy(sampler.end_window(), steps=1000, timed_s=1.96, on_cpu=False)
    assert found == (0.62, "nvml total energy counter")


def test_a_window_shorter_than_the_counter_can_tell_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    recording = Recording(tmp_path)
    sampler = recording.sampler()
    sampler.start_window()
    recording.now += 0.4
    recording.board[ENERGY] = 5620000
    found = sampler.end_window()
    assert found.gpus[0].energy_j is None
    assert (
        found.gpus[0].unread["energy_j"].startswith("the window of 0.400 s is shorter than 0.5 s")
    )
    assert energy(found, steps=10, timed_s=0.4, on_cpu=False) is None
    sampler.start_window()
    recording.now += 2.0
    assert sampler.end_window().gpus[0].unread == {}


def test_a_counter_that_started_anew_is_refused(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    sampler = recording.sampler()
    sampler.start_window()
    recording.now += 2.0
    recording.board[ENERGY] = 1000
    assert "ran backwards" in sampler.end_window().gpus[0].unread["energy_j"]


def test_several_boards_add_up_and_one_that_is_silent_silences_the_sum() -> None:
    both = energy(summary(10.0, 30.0), steps=4, timed_s=2, on_cpu=False)
    assert both == (10.0, "nvml total energy counter")
    assert energy(summary(10.0, None), steps=4, timed_s=2, on_cpu=False) is None


def test_a_cpu_target_takes_the_packages_and_a_gpu_never_does(tmp_path: Path) -> None:
    recording = Recording(tmp_path, gpus=())
    sampler = recording.sampler()
    sampler.start_window()
    recording.now += 2.0
    write(tmp_path, END)
    found = energy(sampler.end_window(), steps=100, timed_s=2, on_cpu=True)
    assert found is not None
    assert found[0] == pytest.approx(1.5)
    assert found[1] == "rapl package"
    for unseen in (summary(None), summary()):
        assert energy(unseen, steps=100, timed_s=2, on_cpu=False) is None


def test_without_a_counter_or_a_step_there_is_no_energy() -> None:
    silent = replace(summary(), host=HostSummary())
    assert energy(silent, steps=100, timed_s=2, on_cpu=True) is None
    assert energy(summary(10.0), steps=0, timed_s=0, on_cpu=False) is None


def test_a_window_in_which_more_went_on_than_steps_gives_no_energy_of_a_step() -> None:
    """Caches that are flushed before each step, a reset, a step that times a part of itself."""
    assert energy(summary(10.0), steps=4, timed_s=1.81, on_cpu=False) is not None
    assert energy(summary(10.0), steps=4, timed_s=1.7, on_cpu=False) is None


def test_a_stored_summary_gives_the_same_energy() -> None:
    stored = energy(summary(10.0).to_json(), steps=4, timed_s=2, on_cpu=False)
    assert stored == energy(summary(10.0), steps=4, timed_s=2, on_cpu=False)
