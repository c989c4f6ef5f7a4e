"""Ceilings: which of the products that a device is asked for becomes its GEMM ceiling."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from devbench.measure import ceilings
from devbench.measure.ceilings import CeilingMeter
from devbench.model import DTYPES


class Device:
    """Does products at `rate(n)` operations a second, by a clock that they alone move on."""

    name = "told"

    def __init__(self, rate: Callable[[int], float]) -> None:
        self.rate = rate
        self.now = 0.0
        self.asked: list[int] = []

    def timer(self, address: str) -> Any:
        def time(step: Callable[[], float], block: int) -> tuple[float, ...]:
            start = self.now
            for _ in range(block):
                step()
            return ((self.now - start) / block,)

        return _Timer(time)

    def probes(self, address: str, cache_bytes: int) -> Any:
        return SimpleNamespace(gemm=self._gemm)

    def _gemm(self, n: int, dtype: Any) -> Callable[[], None]:
        self.asked.append(n)

        def step() -> None:
            self.now += 2 * n**3 / self.rate(n)

        return step

    def synchronize(self, address: str) -> None: ...


class _Timer:
    per_step = False

    def __init__(self, time: Callable[..., Any]) -> None:
        self._time = time

    def __call__(self, step: Any, block: int) -> Any:
        return self._time(step, block)


def best(device: Device, monkeypatch: pytest.MonkeyPatch) -> ceilings.Gemm:
    monkeypatch.setattr("devbench.measure.ceilings.time.perf_counter", lambda: device.now)
    meter = CeilingMeter(device, "dev:0", 1 << 20, 1e-7, 0.05)  # type: ignore[arg-type]
    return meter._best_gemm(DTYPES["float32"])


def test_a_size_beside_a_power_of_two_is_the_ceiling_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows a power of two apart meet in the same lines of a cache."""
    device = Device(lambda n: 3e9 if n & (n - 1) == 0 else 7e9)
    gemm = best(device, monkeypatch)
    assert gemm.n in (192, 320)
    assert gemm.burst == pytest.approx(7e9)
    assert gemm.sustained == pytest.approx(7e9)
    assert device.asked == [256, 512, 192, 320, 192], "a slow device is asked for small ones only"


def test_the_sweep_goes_on_while_larger_products_are_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(lambda n: 1e12 * n / (n + 1000))
    gemm = best(device, monkeypatch)
    # 2048 take 26 ms and 4096 would take more than four probes: the last size, and a quarter more.
    assert gemm.n == 2560
    assert device.asked == [256, 512, 1024, 2048, 1536, 2560, 2560]
