"""Elementary steps from which a device's ceilings are measured, and those that show whether it
computes right: what the roofline and `devbench stress` stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from devbench.model import DType

if TYPE_CHECKING:
    import numpy as np

Probe: TypeAlias = Callable[[], Any]
#: Written in operators only (``a @ b``, ``x * x + 1.0``), which every framework's tensors have.
Formula: TypeAlias = Callable[..., Any]


class Words(Protocol):
    """So many int64 words of a device's memory."""

    def write(self, start: int, step: int) -> None:
        """Word j becomes start + step·j."""
        ...

    def wrong(self, start: int, step: int) -> int:
        """How many words do not read so, counted on the device."""
        ...


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
        """The least that can be asked of the device: one operation on one number."""
        ...

    def transfers(self, count: int) -> Mapping[str, Probe]:
        """Copies of `count` float32 numbers between host and device, by name; none where they share
        their memory."""
        ...

    def apply(self, formula: Formula, arrays: Sequence[np.ndarray], dtype: DType) -> Probe:
        """formula(*arrays) on the device, the host arrays moved there once: floats as `dtype`, integers
        as they are."""
        ...

    def total(self, array: np.ndarray) -> Probe:
        """The sum of float32 or int64 numbers, in their own format."""
        ...

    def gradients(self, formula: Formula, arrays: Sequence[np.ndarray]) -> Probe:
        """A list of the gradients of the sum of formula(*arrays), one for each of the arrays, in float32.

        A formula is at most quadratic in the elements of each array.
        """
        ...

    def differing(self, first: Any, second: Any) -> int:
        """How many elements of two results of one float format and shape differ in a bit, counted on
        the device."""
        ...

    def words(self, count: int) -> Words:
        """So many words of the device's memory, taken when they are first written. 8 bytes each."""
        ...

    def flush(self) -> Callable[[], None]:
        """Writes a buffer larger than the last cache in front of the device's memory."""
        ...
