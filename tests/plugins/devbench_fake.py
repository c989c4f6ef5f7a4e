"""A framework that is numpy in disguise: it starts at once and has as many devices as one likes.

It goes the way of a third party's: the entry points beside it, found on PYTHONPATH.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from devbench.frameworks.base import FrameworkView, Timer, WallTimer
from devbench.frameworks.probes import Formula, Probe, Probes, Words
from devbench.model import Device, DType, Json, Target


class FakeFramework:
    name = "fake"
    extra = "fake"
    module = "devbench_fake"
    modes: tuple[str, ...] = ("eager",)

    def environment(self, target: Target | None, threads: int) -> dict[str, str]:
        return {"OPENBLAS_NUM_THREADS": str(threads)}

    def start(self, target: Target | None, threads: int) -> None:
        print("the framework greets standard output", flush=True)
        os.write(1, b"and so does its C++ half\n")
        if reason := os.environ.get("FAKE_START_FAILS"):
            raise ImportError(reason)

    def adopt(self) -> None:
        return None

    def address_of(self, value: Any) -> str | None:
        return None

    def opened(self) -> Sequence[str]:
        return []

    def describe(self) -> FrameworkView:
        devices = [Device("fake", "cpu", "cpu", "CPU", "cpu")]
        devices += [
            Device("fake", f"dev:{index}", "dev", f"Fake {index}", f"fake-{index}", 10**9)
            for index in range(int(os.environ.get("FAKE_DEVICES", "0")))
        ]
        version = os.environ.get("FAKE_VERSION", "1.0")
        return FrameworkView("fake", version, __file__, tuple(devices))

    def settings(self) -> Mapping[str, Json]:
        return {}

    def device(self, address: str) -> str:
        return address

    def scope(self, address: str) -> AbstractContextManager[Any]:
        return nullcontext()

    def math(self, dtype: DType) -> AbstractContextManager[Any]:
        return nullcontext()

    def tensor(self, array: np.ndarray, dtype: DType, address: str) -> Any:
        return array.copy()

    def numpy(self, tensor: Any) -> np.ndarray | None:
        return np.array(tensor) if isinstance(tensor, np.ndarray | np.generic) else None

    def unsupported(self, dtype: DType, address: str) -> str | None:
        return "no bfloat16 here" if dtype.name == "bfloat16" else None

    def compile(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
        return function

    def synchronize(self, address: str) -> None:
        return None

    def timer(self, address: str) -> Timer:
        return WallTimer(None, "calls block")

    def probes(self, address: str, cache_bytes: int) -> Probes:
        return FakeProbes(cache_bytes)

    def cache_bytes(self, address: str) -> int | None:
        return None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def reset_peak_memory(self, address: str) -> None:
        return None

    def peak_memory(self, address: str) -> int | None:
        return None

    def release(self) -> None:
        gc.collect()


class FakeProbes:
    def __init__(self, cache_bytes: int) -> None:
        self._cache_bytes = cache_bytes

    def gemm(self, n: int, dtype: DType) -> Probe:
        a, out = np.full((n, n), 0.5, np.float32), np.empty((n, n), np.float32)
        return lambda: np.matmul(a, a, out=out)

    def copy(self, count: int) -> Probe:
        a, b = np.full(count, 0.5, np.float32), np.empty(count, np.float32)
        return lambda: np.copyto(b, a)

    def triad(self, count: int) -> Probe:
        a, c = np.full(count, 0.5, np.float32), np.empty(count, np.float32)
        return lambda: np.add(a, a, out=c)

    def nothing(self) -> Probe:
        a = np.ones(1)
        return lambda: a + 1

    def transfers(self, count: int) -> Mapping[str, Probe]:
        return {}

    def apply(self, formula: Formula, arrays: Sequence[np.ndarray], dtype: DType) -> Probe:
        moved = [one.astype(np.float32) if one.dtype.kind == "f" else one for one in arrays]
        return lambda: formula(*moved)

    def total(self, array: np.ndarray) -> Probe:
        return lambda: array.sum()

    def gradients(self, formula: Formula, arrays: Sequence[np.ndarray]) -> Probe:
        return lambda: [
            _central_differences(formula, arrays, place) for place in range(len(arrays))
        ]

    def differing(self, first: Any, second: Any) -> int:
        kind = f"i{first.dtype.itemsize}"
        return int((first.view(kind) != second.view(kind)).sum())

    def words(self, count: int) -> Words:
        return FakeWords(count)

    def flush(self) -> Callable[[], None]:
        buffer = np.empty(max(1, self._cache_bytes // 2), np.float32)
        return lambda: buffer.fill(1.0)


class FakeWords:
    def __init__(self, count: int) -> None:
        self._ramp = np.arange(count)
        self._held = self._ramp

    def write(self, start: int, step: int) -> None:
        self._held = self._ramp * step + start

    def wrong(self, start: int, step: int) -> int:
        return int((self._held != self._ramp * step + start).sum())


def _central_differences(formula: Formula, arrays: Sequence[np.ndarray], place: int) -> np.ndarray:
    """Exact for a polynomial of the second degree."""
    found = np.empty_like(arrays[place])
    for index in np.ndindex(found.shape):
        sides = []
        for step in (1.0, -1.0):
            moved = [one.copy() for one in arrays]
            moved[place][index] += step
            sides.append(np.sum(formula(*moved)))
        found[index] = (sides[0] - sides[1]) / 2
    return found
