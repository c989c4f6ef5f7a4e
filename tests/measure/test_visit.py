"""A visit to a case, with a framework that is numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from devbench import Context, Step, benchmark
from devbench.frameworks.base import Timer, WallTimer
from devbench.frameworks.probes import Probe, Probes
from devbench.measure.bench import Bench
from devbench.measure.sampling import Limits
from devbench.measure.visit import visit
from devbench.measure.yardstick import Yardsticks
from devbench.model import DType, ParamValue
from tests.plugins.devbench_fake import FakeFramework, FakeProbes

LIMITS = Limits(warmup_s=0.02, share_s=0.02)


def visited(
    make: Callable[[], Step],
    folder: Path,
    framework: FakeFramework | None = None,
    doing: Callable[[str], None] = lambda phase: None,
    drawing: Callable[[], None] = lambda: None,
    params: Mapping[str, ParamValue] = MappingProxyType({}),
    yardsticks: Yardsticks | None = None,
    status: str = "ok",
    devices: tuple[str, ...] = ("cpu",),
) -> dict[str, Any]:
    """The facts of one visit to a case whose step this makes."""

    class Declared:
        def inputs(self, rng: np.random.Generator) -> dict[str, Any]:
            drawing()
            return {"x": rng.random(4)}

        def fake(self, ctx: Context, x: np.ndarray) -> Step:
            return make()

    framework = framework or FakeFramework()
    one = benchmark(name="declared", axes={})(Declared)
    bench = Bench(one, params, framework, devices, 1, 0, folder)
    yardsticks = yardsticks or Yardsticks(framework, "cpu", 1 << 16)
    facts = visit(bench, LIMITS, 5e-8, None, yardsticks, doing)
    assert facts["status"] == status, facts
    return facts


def test_what_a_case_does_when_it_is_closed_comes_after_its_timing_is_told_to_be_over(
    tmp_path: Path,
) -> None:
    """The parent watches from ``timing`` to the next phase: energy and stolen time are those of steps."""
    told: list[str] = []

    def metrics() -> dict[str, float]:
        told.append("metrics")
        return {}

    def make() -> Step:
        return Step(lambda: None, metrics=metrics, close=lambda: told.append("close"))

    visited(make, tmp_path, doing=told.append)
    assert told == ["build", "warm-up", "timing", "closing", "metrics", "close"]


class Counting(FakeFramework):
    """Its allocator counts: the step takes 1000 bytes for a moment, the yardstick 64 MB, and what
    overwrites the caches 32 MB, of which it keeps 16."""

    def __init__(self) -> None:
        self.top = self.kept = 0

    def take(self, count: int) -> None:
        self.top = max(self.top, self.kept + count)

    def reset_peak_memory(self, address: str) -> None:
        self.top = self.kept

    def peak_memory(self, address: str) -> int | None:
        return self.top

    def probes(self, address: str, cache_bytes: int) -> Probes:
        counting = self

        class Hungry(FakeProbes):
            def gemm(self, n: int, dtype: DType) -> Probe:
                return lambda: counting.take(64 << 20)

            def flush(self) -> Callable[[], None]:
                counting.kept += 16 << 20
                return lambda: counting.take(16 << 20)

        return Hungry(cache_bytes)


def test_what_drawing_and_the_yardstick_take_is_not_the_memory_of_the_case(tmp_path: Path) -> None:
    framework = Counting()
    facts = visited(
        lambda: Step(lambda: framework.take(1000)),
        tmp_path,
        framework,
        drawing=lambda: framework.take(5000),
    )
    assert framework.top == 64 << 20
    assert facts["peak_memory_bytes"] == 1000


def test_the_buffer_that_overwrites_the_caches_is_not_the_memory_of_the_case(
    tmp_path: Path,
) -> None:
    """torch keeps it, TensorFlow takes it anew before each step."""
    framework = Counting()
    step = Step(lambda: framework.take(1000))
    facts = visited(lambda: step, tmp_path, framework, params={"cache": "cold"})
    assert framework.kept == 16 << 20
    assert facts["peak_memory_bytes"] == 1000


class Several(FakeFramework):
    """Each of its devices counts for itself."""

    def __init__(self) -> None:
        self.top: dict[str, int] = {}

    def reset_peak_memory(self, address: str) -> None:
        self.top[address] = 0

    def peak_memory(self, address: str) -> int | None:
        return self.top[address]


def test_the_memory_of_a_case_is_that_of_all_its_devices(tmp_path: Path) -> None:
    framework, devices = Several(), ("dev:0", "dev:1")
    step = Step(lambda: framework.top.update(dict.fromkeys(devices, 1000)))
    facts = visited(lambda: step, tmp_path, framework, devices=devices)
    assert facts["peak_memory_bytes"] == 2000


class Coarse(FakeFramework):
    """Its timer's clock tells half a microsecond apart, as device events do."""

    def timer(self, address: str) -> Timer:
        timer = WallTimer(None, "calls block")
        timer.resolution_s = 5e-7
        return timer


def test_the_tick_is_that_of_the_clock_that_timed(tmp_path: Path) -> None:
    assert visited(lambda: Step(lambda: None), tmp_path)["clock_tick_s"] == 5e-8
    assert visited(lambda: Step(lambda: None), tmp_path, Coarse())["clock_tick_s"] == 5e-7
    own = visited(lambda: Step(lambda: None, clock=lambda: 1e-3), tmp_path, Coarse())
    assert own["clock_tick_s"] == 5e-8


class Simulated(FakeFramework):
    """On its clock time passes in steps only, and as long as they say."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gemm_s = 0.01

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def timer(self, address: str) -> Timer:
        return SimulatedTimer(self)

    def probes(self, address: str, cache_bytes: int) -> Probes:
        framework = self

        class Timed(FakeProbes):
            def gemm(self, n: int, dtype: DType) -> Probe:
                return lambda: framework.spend(framework.gemm_s)

        return Timed(cache_bytes)


class SimulatedTimer:
    name = "simulated"
    per_step = False
    resolution_s: float | None = None

    def __init__(self, framework: Simulated) -> None:
        self._framework = framework

    def __call__(self, run: Callable[[], Any], block: int) -> tuple[float, ...]:
        start = self._framework.now
        for _ in range(block):
            run()
        return ((self._framework.now - start) / block,)


def test_the_yardstick_of_a_case_that_failed_is_not_counted_into_the_next_one_s(
    tmp_path: Path,
) -> None:
    framework = Simulated()
    yardsticks = Yardsticks(framework, "cpu", 1 << 16)

    def step(figure: float) -> Step:
        return Step(lambda: framework.spend(0.001), metrics=lambda: {"figure": figure})

    visited(lambda: step(math.nan), tmp_path, framework, yardsticks=yardsticks, status="failed")
    framework.gemm_s = 0.001
    facts = visited(lambda: step(1.0), tmp_path, framework, yardsticks=yardsticks)
    assert facts["yardstick_s"] == pytest.approx(0.001)
