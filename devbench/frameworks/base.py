"""What devbench asks of a framework. A third party adds one by the entry point `devbench.frameworks`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from devbench.frameworks.probes import Probes
from devbench.model import Device, DType, Json, Target

if TYPE_CHECKING:
    import numpy as np


#: What `Framework.unsupported` says of TF32 elsewhere.
NO_TF32: Final = "only NVIDIA GPUs from compute capability 8.0 on compute in TF32"


@dataclass(frozen=True, slots=True)
class FrameworkView:
    """What a framework says of itself once it is imported, and the devices that it sees."""

    name: str
    version: str
    file: str
    devices: tuple[Device, ...]
    build: Mapping[str, Json] = field(default_factory=dict)
    import_s: float | None = None


class Timer(Protocol):
    """Measures queued steps on one kind of device."""

    #: Stated in every result: which clock, and how the device was waited for.
    name: str
    #: True where every step of a block is timed on its own, by events on the device.
    per_step: bool
    #: Seconds that its clock tells apart; None: those of the host's clock.
    resolution_s: float | None

    def __call__(self, run: Callable[[], Any], block: int) -> tuple[float, ...]:
        """Run `block` steps in a row and return seconds a step: one figure (their mean) or `block`."""
        ...


class WallTimer:
    """The host's monotonic clock around a block of steps that ends in a synchronisation.

    Right for a CPU, and for devices whose framework has no events: what the synchronisation itself
    costs is spread over the block.
    """

    per_step = False
    resolution_s: float | None = None

    def __init__(self, synchronize: Callable[[], None] | None, waits: str) -> None:
        self._synchronize = synchronize
        self.name = f"perf_counter, {waits}"

    def __call__(self, run: Callable[[], Any], block: int) -> tuple[float, ...]:
        if self._synchronize is None:
            start = time.perf_counter_ns()
            for _ in range(block):
                run()
            return ((time.perf_counter_ns() - start) / block * 1e-9,)
        self._synchronize()
        start = time.perf_counter_ns()
        for _ in range(block):
            run()
        self._synchronize()
        return ((time.perf_counter_ns() - start) / block * 1e-9,)


class Framework(Protocol):
    """One framework. Made without arguments; nothing is imported before `start`."""

    name: str
    #: What to install: ``pip install 'devbench[extra]'``, and the distribution looked for.
    extra: str
    module: str
    #: Execution modes, the framework's idiom first.
    modes: tuple[str, ...]

    def environment(self, target: Target | None, threads: int) -> dict[str, str]:
        """Environment variables of a worker, set before it starts (parent side).

        target None: a worker that only lists the devices, and so must see all of them.
        """
        ...

    def start(self, target: Target | None, threads: int) -> None:
        """Import the framework and settle threads, math modes and visible devices (worker side)."""
        ...

    def adopt(self) -> None:
        """Take the framework as it is in this process, where the user has imported it already."""
        ...

    def address_of(self, value: Any) -> str | None:
        """The address that a tensor or a model lives on; None for anything else."""
        ...

    def opened(self) -> Sequence[str]:
        """Addresses of the accelerators that this process uses already; opens none."""
        ...

    def describe(self) -> FrameworkView: ...

    def settings(self) -> Mapping[str, Json]:
        """Math settings in force that decide speed or accuracy, for the record."""
        ...

    def device(self, address: str) -> str:
        """An address such as ``GPU:0`` as a builder writes it."""
        ...

    def scope(self, address: str) -> AbstractContextManager[Any]:
        """Builders and steps run inside it."""
        ...

    def math(self, dtype: DType) -> AbstractContextManager[Any]:
        """Products inside it are computed as `dtype` says, where its tensors do not tell (TF32)."""
        ...

    def tensor(self, array: np.ndarray, dtype: DType, address: str) -> Any:
        """A host array on the device: floats as `dtype`, other kinds as they are. In memory of its own:
        a step may write into it, and the array is what its output is held against."""
        ...

    def numpy(self, tensor: Any) -> np.ndarray | None:
        """A result on the host, floats as float64; None when it is not one of this framework's. In memory
        of its own: the next step may write into the result."""
        ...

    def unsupported(self, dtype: DType, address: str) -> str | None:
        """Why the device cannot compute in `dtype`; None when it can."""
        ...

    def compile(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]: ...

    def synchronize(self, address: str) -> None:
        """Return when everything that was queued on the device is done."""
        ...

    def timer(self, address: str) -> Timer: ...

    def probes(self, address: str, cache_bytes: int) -> Probes:
        """Elementary steps on a device. cache_bytes: its last cache in front of the memory."""
        ...

    def cache_bytes(self, address: str) -> int | None:
        """Size of the last cache in front of the device's memory; None where it is the host's."""
        ...

    def is_out_of_memory(self, error: BaseException) -> bool: ...

    def reset_peak_memory(self, address: str) -> None: ...

    def peak_memory(self, address: str) -> int | None:
        """Most bytes held on the device since the reset; None where the framework cannot tell."""
        ...

    def release(self) -> None:
        """Give back what the last case held."""
        ...
