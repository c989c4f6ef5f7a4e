from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from devbench.telemetry import DOUBTS, GpuSummary, HostSummary, Summary, doubts

HOST = HostSummary(
    cpus=16,
    cores=8,
    steal=0.001,
    worker_busy=7.9,
    others_busy=0.2,
    throttled_periods=0,
    throttled_s=0.0,
    swapped_in=0,
    swapped_out=12,
    memory_pressure=0.0,
)
BOARD = GpuSummary(
    gpu="GPU-1",
    sm_clock_hz=1.4e9,
    sm_clock_lowest_hz=1.39e9,
    sm_clock_highest_hz=1.41e9,
    clock_event_mask=0,
    temperature_c=60,
    other_pids=(),
)
CLEAN_CPU = Summary(seconds=1.0, samples=10, host=HOST)
CLEAN_GPU = replace(CLEAN_CPU, gpus=(BOARD,))


def host(**changes: Any) -> Summary:
    return replace(CLEAN_CPU, host=replace(HOST, **changes))


def board(**changes: Any) -> Summary:
    return replace(CLEAN_GPU, gpus=(replace(BOARD, **changes),))


CAUSES: Mapping[str, tuple[Summary, str]] = {
    "throttled": (
        board(clock_event_mask=0x48, clock_events={"hardware thermal slowdown": 1.0}),
        "throttled: hardware slowdown in 0% of samples, hardware thermal slowdown in 100% of "
        "samples, 60 °C",
    ),
    "power-capped": (
        board(clock_event_mask=0x4, clock_events={"software power cap": 0.5}, power_limit_w=700),
        "power-capped: software power cap in 50% of samples, limit 700 W",
    ),
    "clock-dropped": (
        board(sm_clock_lowest_hz=1.2e9),
        "clock-dropped: 1200 to 1410 MHz",
    ),
    "co-tenant": (
        board(other_pids=(41, 42)),
        "co-tenant: 2 other on the GPU (pid 41, 42)",
    ),
    "noisy-neighbour": (
        host(others_busy=1.5),
        "noisy-neighbour: others kept 1.50 CPUs busy beside 8 threads on 8 cores",
    ),
    "steal": (host(steal=0.051), "steal: 5.1% of the CPU time"),
    "cgroup-throttled": (
        host(throttled_periods=7, throttled_s=0.43),
        "cgroup-throttled: 7 periods, 0.43 CPU seconds in 1.00 s",
    ),
    "swapping": (host(swapped_in=300), "swapping: 300 pages in, 12 out"),
    "memory-pressure": (
        host(memory_pressure=0.03),
        "memory-pressure: tasks waited for memory 3.0% of the time",
    ),
}


@pytest.mark.parametrize("word", DOUBTS)
def test_each_word_has_a_cause_that_yields_it_alone_with_its_figure(word: str) -> None:
    summary, sentence = CAUSES[word]
    assert list(doubts(summary, threads=8)) == [sentence]


@pytest.mark.parametrize("summary", [CLEAN_CPU, CLEAN_GPU])
def test_a_clean_window_is_not_doubted(summary: Summary) -> None:
    assert list(doubts(summary, threads=8)) == []


def test_what_could_not_be_read_is_not_doubted() -> None:
    nothing = Summary(seconds=1, samples=0, host=HostSummary(), gpus=(GpuSummary(gpu="GPU-1"),))
    assert list(doubts(nothing, threads=8)) == []


def test_neighbours_that_leave_room_for_every_thread_are_no_noise() -> None:
    busy = host(others_busy=3.9)
    assert list(doubts(busy, threads=4)) == []
    assert [sentence.split(":")[0] for sentence in doubts(busy, threads=6)] == ["noisy-neighbour"]


def test_the_thread_that_feeds_a_gpu_needs_one_core_only() -> None:
    busy = replace(CLEAN_GPU, host=replace(HOST, others_busy=5.0))
    assert list(doubts(busy, threads=8)) == []
    full = replace(CLEAN_GPU, host=replace(HOST, others_busy=15.9))
    assert [sentence.split(":")[0] for sentence in doubts(full, threads=8)] == ["noisy-neighbour"]


def test_a_short_window_is_not_blamed_for_the_ticks_of_the_counters() -> None:
    one_tick = host(steal=0.01 / 0.05, others_busy=16 * 0.01 / 0.05)
    assert list(doubts(replace(one_tick, seconds=0.05), threads=8)) == []
    assert len(list(doubts(replace(one_tick, seconds=5.0), threads=8))) == 2


@pytest.mark.parametrize(
    "summary", [CLEAN_CPU, CLEAN_GPU, *(cause for cause, _ in CAUSES.values())]
)
def test_a_summary_survives_json_and_is_doubted_the_same(summary: Summary) -> None:
    stored = json.loads(json.dumps(summary.to_json()))
    assert Summary.from_json(stored) == summary
    assert list(doubts(stored, threads=8)) == list(doubts(summary, threads=8))


def test_a_stored_summary_of_another_version_can_be_read() -> None:
    stored = CLEAN_GPU.to_json()
    stored["host"]["a_field_of_the_future"] = 1
    del stored["gpus"][0]["temperature_c"]
    found = Summary.from_json(stored)
    assert found.host == HOST
    assert found.gpus[0] == replace(BOARD, temperature_c=None)
