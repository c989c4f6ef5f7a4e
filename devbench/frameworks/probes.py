"""Elementary steps from which a device's ceilings are measured: what the roofline stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from devbench.model import DType

Probe: TypeAlias = Callable[[], Any]


class Probes(Protocol):
    """Steps on one device of one framework. Matrices and vectors hold random numbers, never zeros."""

    def gemm(self, n: int, dtype: DType) -> Probe:
        """The product of two n×n matrices: 2·n³ operations."""
        ...

    def copy(self, count: int) -> Probe:
        """b = a for `count` float32 numbers: 8 bytes move for each."""
        ...

    def triad(self, count: int) -> Probe:
        """c = a + s·b for `count` float32 numbers: 12 bytes move for each (McCalpin's STREAM).

        Frameworks without a fused form write and read an intermediate; it counts for nothing here.
        """
        ...

    def nothing(self) -> Probe:
        """The least that can be asked of the device: one addition of one number."""
        ...

    def transfers(self, count: int) -> Mapping[str, Probe]:
        """Copies of `count` float32 numbers between host and device, by name; none where they share
        their memory."""
        ...

    def flush(self) -> Callable[[], None]:
        """Writes a buffer larger than the last cache in front of the device's memory."""
        ...
