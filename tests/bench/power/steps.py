"""The steps that every harness is given: three kinds of work, in units of which a hundred make a step.

A slowdown is real work: 105 units in place of 100. Nothing sleeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

KINDS: Final = ("cpu", "memory", "dispatch")
#: Units of the base, and the most.
UNITS: Final = 100
MOST: Final = 110


def make_step(kind: str, units: int) -> Callable[[], Any]:
    """A step of so many units on the CPU, with the threads that torch has."""
    return {"cpu": _products, "memory": _stream, "dispatch": _small_calls}[kind](units)


def _products(units: int) -> Callable[[], Any]:
    """Products of 128 × 128 matrices, which stay in the caches: about 25 µs a unit."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(128, 128, generator=generator) for _ in range(2))

    def step() -> Any:
        for _ in range(units):
            product = a @ b
        return product

    return step


def _stream(units: int) -> Callable[[], Any]:
    """1 MiB read and 1 MiB written a unit, each of them once a step: 200 MiB leave any cache."""
    import torch

    source, goal = torch.ones(MOST, 2**18), torch.empty(MOST, 2**18)

    def step() -> Any:
        for place in range(units):
            torch.neg(source[place], out=goal[place])
        return goal

    return step


def _small_calls(units: int) -> Callable[[], Any]:
    """Ten sums of a single number a unit: the time goes into calling."""
    import torch

    one = torch.ones(1)

    def step() -> Any:
        total = one
        for _ in range(10 * units):
            total = total + one
        return total

    return step
