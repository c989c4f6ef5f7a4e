"""The steps that every harness is given: three kinds of work, in units of which a hundred make a step.

A slowdown is real work: 105 units in place of 100. Nothing sleeps. Each kind comes in several sizes of
a unit; the first is the one that is slowed down and that every harness times, the others are only ever
compared with themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

#: By kind the sizes of a unit: rows of the matrices, numbers that are copied, sums.
SIZES: Final[Mapping[str, tuple[int, ...]]] = {
    "cpu": (128, 64, 80, 96, 112, 144),
    "memory": (2**18, 2**16, 3 * 2**15, 2**17, 3 * 2**16, 5 * 2**16),
    "dispatch": (10, 4, 6, 8, 12, 14),
}
KINDS: Final = tuple(SIZES)
#: Units of the base, and the most.
UNITS: Final = 100
MOST: Final = 110


def make_step(kind: str, size: int, units: int) -> Callable[[], Any]:
    """A step of so many units on the CPU, with the threads that torch has."""
    return {"cpu": _products, "memory": _stream, "dispatch": _small_calls}[kind](size, units)


def _products(rows: int, units: int) -> Callable[[], Any]:
    """Products of square matrices, which stay in the caches: about 25 µs a unit of 128 rows."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, rows, generator=generator) for _ in range(2))

    def step() -> Any:
        for _ in range(units):
            product = a @ b
        return product

    return step


def _stream(numbers: int, units: int) -> Callable[[], Any]:
    """1 MiB read and 1 MiB written a unit of 2¹⁸ numbers, each once a step: 200 MiB leave any cache."""
    import torch

    source, goal = torch.ones(MOST, numbers), torch.empty(MOST, numbers)

    def step() -> Any:
        for place in range(units):
            torch.neg(source[place], out=goal[place])
        return goal

    return step


def _small_calls(sums: int, units: int) -> Callable[[], Any]:
    """Sums of a single number: the time goes into calling."""
    import torch

    one = torch.ones(1)

    def step() -> Any:
        total = one
        for _ in range(sums * units):
            total = total + one
        return total

    return step
