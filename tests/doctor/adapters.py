"""Adapters of frameworks that a diagnosis asks, well behaved and not."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from devbench.frameworks.base import FrameworkView
from devbench.frameworks.probes import Probes
from devbench.model import Device, DType, Json
from tests.plugins.devbench_fake import FakeFramework


class Numpy:
    """numpy in disguise, with one accelerator that is numpy too."""

    name = "numpy"
    extra = "numpy"
    module = "numpy"

    def environment(self, target: None, threads: int) -> dict[str, str]:
        return {"OMP_NUM_THREADS": "77", "NUMPY_ADAPTER": "on"}

    def adopt(self) -> None:
        assert os.environ["NUMPY_ADAPTER"] == "on"

    def describe(self) -> FrameworkView:
        devices = (
            Device(self.name, "cpu", "cpu", "CPU", "cpu"),
            Device(self.name, "dev:0", "dev", "Device", "device-0"),
        )
        threads = {"threads": os.environ.get("OMP_NUM_THREADS")}
        return FrameworkView(self.name, "1.0", __file__, devices, threads)

    def start(self, target: None, threads: int) -> None:
        assert threads == 1

    def probes(self, address: str, cache_bytes: int) -> Probes:
        return FakeFramework().probes(address, cache_bytes)

    def math(self, dtype: DType) -> AbstractContextManager[Any]:
        return nullcontext()

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def settings(self) -> Mapping[str, Json]:
        return {"intraop_threads": 1}

    def scope(self, address: str) -> AbstractContextManager[Any]:
        return nullcontext()

    def tensor(self, array: np.ndarray, dtype: DType, address: str) -> Any:
        return array

    def address_of(self, value: Any) -> str | None:
        return None

    def numpy(self, tensor: Any) -> np.ndarray | None:
        return np.asarray(tensor)

    def unsupported(self, dtype: DType, address: str) -> str | None:
        return None if dtype.name == "float32" else "float32 only"

    def synchronize(self, address: str) -> None:
        return None


class Wrong(Numpy):
    """Its kernels give something else."""

    name = "wrong"

    def numpy(self, tensor: Any) -> np.ndarray | None:
        return np.asarray(tensor) + 1


class Crashing(Numpy):
    """It sees a device, and its first kernel there ends the process."""

    name = "crashing"

    def tensor(self, array: np.ndarray, dtype: DType, address: str) -> Any:
        os.kill(os.getpid(), signal.SIGSEGV)


class Unloadable(Numpy):
    name = "unloadable"

    def adopt(self) -> None:
        raise ImportError("libcudnn.so.9: cannot open shared object file")


class Forgetful(Numpy):
    """Its first product on the accelerator ends the process, after integers and sums came out right."""

    name = "forgetful"

    def probes(self, address: str, cache_bytes: int) -> Any:
        return CrashingProbes(super().probes(address, cache_bytes))


class CrashingProbes:
    def __init__(self, probes: Probes) -> None:
        self._probes = probes

    def __getattr__(self, name: str) -> Any:
        if name == "gradients":
            os.kill(os.getpid(), signal.SIGSEGV)
        return getattr(self._probes, name)
