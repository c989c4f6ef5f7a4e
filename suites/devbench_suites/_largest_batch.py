"""The largest batch that fits: searched where running out of memory is an exception, predicted where
it would be a catastrophe.

A GPU answers an allocation that it cannot serve. A host does not: it swaps, or the kernel kills the
process (in a container at the limit of its control group), and neither can be caught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from devbench import Unsupported

#: Memory of the batch that is run where the largest one is not.
RUN_BYTES: Final = 32 << 20
#: A pass that takes longer ends the search, so that a slow device is bounded too.
PASS_S: Final = 2.0
#: The search ends when it knows the answer to one part in this many.
PRECISION: Final = 32


@dataclass(frozen=True, slots=True)
class Found:
    """largest: the batch that fits. ran: the largest that was run. how: in words."""

    largest: int
    ran: int
    how: str


def search(attempt: Callable[[int], float | None], unit: int) -> Found:
    """Double from `unit` samples until a batch does not fit, then halve the interval.

    attempt: runs a batch and gives the seconds of a pass that is no first one, or None where there was no
    memory for it. Raises Unsupported when not even `unit` samples fit.
    """
    fitting, failing = 0, None
    batch = unit
    while failing is None:
        seconds = attempt(batch)
        if seconds is None:
            failing = batch
        elif seconds > PASS_S:
            how = f"at least: a pass takes over {PASS_S:g} s, so the search ended there"
            return Found(batch, batch, how)
        else:
            fitting, batch = batch, 2 * batch
    if not fitting:
        raise Unsupported(f"not even a batch of {unit} fits into the device's memory")
    while failing - fitting > max(unit, fitting // PRECISION):
        middle = (fitting + failing) // 2 // unit * unit
        if attempt(middle) is not None:
            fitting = middle
        else:
            failing = middle
    return Found(fitting, fitting, f"found: it ran, and {failing} ran out of memory")


def predict(footprint: Callable[[int], float], unit: int, free_bytes: int) -> Found:
    """The largest batch whose footprint is free, and a small one to run.

    footprint: bytes that a batch holds, which grow evenly with it. They are the declared ones, of
    all layers at once, so what a framework frees on the way is counted against it. The growth of
    the process over a small batch would tell more, if allocators did not keep what was freed:
    measured so, figures were 0.8 to 2.4 times what the same network took in a fresh process.
    """
    each = (footprint(2 * unit) - footprint(unit)) / unit
    fixed = footprint(unit) - unit * each
    ran = unit
    while footprint(2 * ran) <= RUN_BYTES:
        ran *= 2
    return Found(
        max(0, int((free_bytes - fixed) / each)),
        ran,
        f"predicted: {each:.0f} bytes a sample declared, {free_bytes / 1e9:.3g} GB free",
    )
