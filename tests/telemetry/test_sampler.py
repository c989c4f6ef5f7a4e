from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from devbench.telemetry import Sampler, doubts
from tests.control_groups import control_group
from tests.detection.recorded import RecordedNvml
from tests.telemetry.recorded import BOARD, END, GPU, Recording, write

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPIN = "import os\nprint(os.getpid(), flush=True)\nwhile True: pass"


@contextmanager
def spinner() -> Iterator[int]:
    """The PID of a process that keeps a CPU busy."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            yield process.pid
        finally:
            process.kill()


class Counting:
    """The recorded board, and which functions it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def query(self, function: str, *arguments: object) -> Any:
        self.asked.append(function)
        return RecordedNvml(BOARD).query(function, *arguments)


def test_a_window_takes_only_its_own_samples(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    clock = "nvmlDeviceGetClockInfo(gpu0, 1)"
    sampler = recording.sampler()
    sampler.sample()
    sampler.start_window()
    sampler.sample()
    sampler.sample()
    assert sampler.end_window().samples == 2
    recording.board[clock] = 900
    sampler.sample()
    recording.board[clock] = 1200
    sampler.start_window()
    sampler.sample()
    second = sampler.end_window()
    assert (second.samples, second.sm_clock_hz) == (1, 1200e6)


def test_a_window_shorter_than_a_period_has_its_counters_and_one_sample(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    sampler = recording.sampler()
    sampler.start_window()
    recording.now += 0.02
    write(tmp_path, END)
    found = sampler.end_window()
    assert (found.samples, found.sm_clock_hz) == (1, 1410e6)
    assert found.seconds == pytest.approx(0.02)
    assert found.host.throttled_periods == 11


def test_the_recorded_two_seconds_are_doubted_for_what_happened_in_them(tmp_path: Path) -> None:
    recording = Recording(tmp_path, gpus=())
    sampler = recording.sampler()
    sampler.start_window()
    recording.now += 2.0
    write(tmp_path, END)
    assert [sentence.split(":")[0] for sentence in doubts(sampler.end_window(), threads=3)] == [
        "steal",
        "cgroup-throttled",
        "swapping",
        "memory-pressure",
    ]


def test_the_processes_of_a_gpu_are_listed_less_often_than_its_clock(tmp_path: Path) -> None:
    nvml = Counting()
    sampler = Sampler([GPU], worker_pid=None, root=tmp_path, nvml=nvml)
    sampler.start_window()
    for _ in range(20):
        sampler.sample()
    sampler.end_window()
    assert nvml.asked.count("nvmlDeviceGetPowerUsage") == 20
    assert nvml.asked.count("nvmlDeviceGetComputeRunningProcesses") == 2
    assert nvml.asked.count("nvmlDeviceGetHandleByUUID") == 1


def test_ending_a_window_that_was_not_started_is_refused(tmp_path: Path) -> None:
    sampler = Recording(tmp_path).sampler()
    with pytest.raises(RuntimeError, match="without start_window"):
        sampler.end_window()
    sampler.start_window()
    sampler.end_window()
    with pytest.raises(RuntimeError, match="without start_window"):
        sampler.end_window()


def test_the_thread_samples_while_a_window_is_open_and_ends_with_the_block(tmp_path: Path) -> None:
    nvml = Counting()
    with Sampler([GPU], worker_pid=None, root=tmp_path, nvml=nvml, hz=200) as sampler:
        sampler.start_window()
        until = time.monotonic() + 30
        while nvml.asked.count("nvmlDeviceGetPowerUsage") < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert sampler.end_window().samples >= 4  # the fifth may still be under way
    assert "telemetry" not in {thread.name for thread in threading.enumerate()}


@linux
def test_a_noisy_neighbour_is_named() -> None:
    cpus = len(os.sched_getaffinity(0))
    with ExitStack() as stack, Sampler([], worker_pid=None) as sampler:
        for _ in range(cpus):
            stack.enter_context(spinner())
        sampler.start_window()
        time.sleep(1)
        summary = sampler.end_window()
    assert "noisy-neighbour" in {sentence.split(":")[0] for sentence in doubts(summary, cpus)}


@linux
def test_a_busy_worker_is_not_taken_for_its_own_neighbour() -> None:
    with (
        spinner() as worker,
        Sampler([], worker_pid=worker) as knowing,
        Sampler([], worker_pid=None) as ignorant,
    ):
        knowing.start_window()
        ignorant.start_window()
        time.sleep(1)
        known, unknown = knowing.end_window().host, ignorant.end_window().host
    assert known.worker_busy is not None
    assert known.others_busy is not None
    assert unknown.others_busy is not None
    assert known.worker_busy > 0.1
    # Both saw the same second, apart from some ticks of 10 ms.
    assert unknown.others_busy - known.others_busy == pytest.approx(known.worker_busy, abs=0.1)


@linux
def test_watching_costs_a_small_part_of_one_core() -> None:
    with Sampler([], worker_pid=None) as sampler:
        sampler.start_window()
        cpu, wall = time.process_time(), time.monotonic()
        time.sleep(2)
        share = (time.process_time() - cpu) / (time.monotonic() - wall)
        samples = sampler.end_window().samples
    assert samples >= 5  # a machine under load may be late, but it must have been at work
    assert share < 0.03


@linux
def test_a_cpu_quota_is_seen_in_the_workers_own_group() -> None:
    a_fifth = {1: ("cpu.cfs_quota_us", "20000"), 2: ("cpu.max", "20000 100000")}
    with control_group("cpu", a_fifth) as folder, spinner() as worker:
        (folder / "cgroup.procs").write_text(str(worker))
        with Sampler([], worker_pid=worker) as sampler:
            sampler.start_window()
            time.sleep(1)
            summary = sampler.end_window()
    (sentence,) = (s for s in doubts(summary, threads=1) if s.startswith("cgroup-throttled"))
    assert summary.host.throttled_periods is not None
    assert summary.host.throttled_periods >= 2
    assert f" {summary.host.throttled_periods} periods" in sentence
