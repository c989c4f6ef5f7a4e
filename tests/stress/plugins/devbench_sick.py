"""torch, TensorFlow and the fake framework on a device that is not well.

The environment variable SICK names what is wrong with it, with commas between:

====================  =========================================================================
wrong-element         one of many integers is wrong
nan                   one element of each of several gradients is NaN
bit-flip              in every third product of whole numbers, one bit is another
stuck-bit             one bit of each word of memory is always 0
sag                   products for the clock take three times as long after SICK_AFTER of them
hang, crash, raise    what becomes of a derivative
full                  another process holds all memory of the last device of the fake framework
====================  =========================================================================
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from devbench_fake import FakeFramework  # type: ignore[import-not-found]

from devbench.frameworks.base import FrameworkView
from devbench.frameworks.probes import Formula, Probe, Probes, Words
from devbench.frameworks.tensorflow import TensorFlowFramework
from devbench.frameworks.torch import TorchFramework
from devbench.model import DTYPES, DType

SICK = frozenset(os.environ.get("SICK", "").split(","))


class SickProbes:
    """The probes of a framework, which it hands on but for what is wrong."""

    def __init__(self, framework: Any, probes: Probes, address: str) -> None:
        self._framework = framework
        self._probes = probes
        self._address = address
        self._products = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._probes, name)

    def _changed(self, result: Any, change: Any) -> Any:
        """A result with its last element changed, on the device again."""
        found = np.array(self._framework.numpy(result))
        if found.dtype.kind == "f":
            found = found.astype(np.float32)
        found.reshape(-1)[-1:] = change(found.reshape(-1)[-1:])
        return self._framework.tensor(found, DTYPES["float32"], self._address)

    def apply(self, formula: Formula, arrays: Sequence[np.ndarray], dtype: DType) -> Probe:
        run = self._probes.apply(formula, arrays, dtype)
        if arrays[0].dtype.kind == "i" and "wrong-element" in SICK:
            return lambda: self._changed(run(), lambda value: value + 1)
        if not all((one == np.round(one)).all() for one in arrays) or "bit-flip" not in SICK:
            return run

        def product() -> Any:
            self._products += 1
            result = run()
            return result if self._products % 3 else self._changed(result, _flipped)

        return product

    def gradients(self, formula: Formula, arrays: Sequence[np.ndarray]) -> Probe:
        run = self._probes.gradients(formula, arrays)

        def gradients() -> list[Any]:
            if len(arrays) == 1:
                _misbehave()
            found: list[Any] = run()
            return (
                [self._changed(one, lambda value: value * np.nan) for one in found]
                if len(arrays) > 1 and "nan" in SICK
                else found
            )

        return gradients

    def words(self, count: int) -> Words:
        return StuckWords(self._probes.words(count))

    def gemm(self, n: int, dtype: DType) -> Probe:
        run = self._probes.gemm(n, dtype)
        if n < 1024 or "sag" not in SICK:  # the yardstick beside the load is well
            return run
        calls, begun = [0], time.perf_counter()

        def product() -> Any:
            start = time.perf_counter()
            result = run()
            calls[0] += 1
            if start - begun > float(os.environ["SICK_AFTER"]):
                time.sleep(2 * (time.perf_counter() - start))
            return result

        return product


class FullProbes:
    """Those of a device without any memory left."""

    def __getattr__(self, name: str) -> Any:
        raise MemoryError(f"no memory for {name}")


class StuckWords:
    def __init__(self, words: Words) -> None:
        self._words = words
        self.wrong = words.wrong

    def write(self, start: int, step: int) -> None:
        stuck = step == 0 and "stuck-bit" in SICK
        self._words.write(start & ~(1 << 20) if stuck else start, step)


def _flipped(value: np.ndarray) -> np.ndarray:
    return (value.view(np.uint32) ^ np.uint32(1 << 20)).view(np.float32)


def _misbehave() -> None:
    if "hang" in SICK:
        time.sleep(1000)
    if "crash" in SICK:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "raise" in SICK:
        raise RuntimeError("an illegal memory access was encountered")


class SickTorch(TorchFramework):
    name = "sicktorch"

    def describe(self) -> FrameworkView:
        return _renamed(super().describe(), self.name)

    def probes(self, address: str, cache_bytes: int) -> Any:
        return SickProbes(self, super().probes(address, cache_bytes), address)


class SickTensorFlow(TensorFlowFramework):
    name = "sicktensorflow"

    def describe(self) -> FrameworkView:
        return _renamed(super().describe(), self.name)

    def probes(self, address: str, cache_bytes: int) -> Any:
        return SickProbes(self, super().probes(address, cache_bytes), address)


class SickFake(FakeFramework):  # type: ignore[misc]
    name = "sickfake"
    module = "devbench_sick"

    def describe(self) -> FrameworkView:
        return _renamed(super().describe(), self.name)

    def probes(self, address: str, cache_bytes: int) -> Any:
        if "full" in SICK and address == self.describe().devices[-1].address:
            return FullProbes()
        return SickProbes(self, super().probes(address, cache_bytes), address)


def _renamed(view: FrameworkView, name: str) -> FrameworkView:
    devices = tuple(replace(device, framework=name) for device in view.devices)
    return replace(view, name=name, devices=devices)
