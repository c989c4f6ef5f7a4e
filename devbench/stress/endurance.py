"""The same product again and again, which must give the same bits each time.

The factors are whole numbers so small that every partial sum is exact: then the result does not depend
on the order in which a library adds or shares out its work, and any difference is the device's. (For
results in the order of the library see https://docs.nvidia.com/cuda/cublas/#results-reproducibility.)
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

import numpy as np

from devbench.measure import numerics
from devbench.model import DTYPES, DType
from devbench.stress.arithmetic import Place, matmul
from devbench.stress.records import Outcome

CPU_N: Final = 512
ACCELERATOR_N: Final = 4096
#: Whole numbers up to 2²⁴ are exact in float32, in which narrower formats are added up too; those up
#: to 2⁸ are exact in bfloat16.
EXACT: Final = 1 << 24
NARROWEST: Final = 1 << 8
#: Rows of a product in a narrow format that are held against float64.
ROWS: Final = 32


class Repeated:
    """One product on the device, and its result at first."""

    def __init__(self, place: Place, dtype: DType) -> None:
        self._place = place
        self._dtype = dtype
        self.n = CPU_N if place.is_cpu else ACCELERATOR_N
        largest = min(math.isqrt((EXACT - 1) // self.n), NARROWEST)
        rng = np.random.default_rng(3)
        self._a, self._b = (
            rng.integers(-largest, largest, (self.n, self.n), endpoint=True).astype(np.float32)
            for _ in range(2)
        )
        self._step = place.probes.apply(matmul, [self._a, self._b], dtype)
        self._first: Any = self._product()

    def _product(self) -> Any:
        with self._place.framework.math(self._dtype):
            return self._step()

    def again(self) -> tuple[int, Any]:
        """Multiply once more: how many elements differ from the first result, and the new one."""
        found = self._product()
        return self._place.probes.differing(self._first, found), found

    def first_is_wrong(self) -> str | None:
        """What is wrong with the first result; None if nothing is.

        float32: the whole of it, by its projection on random vectors of whole numbers, which float64
        computes exactly too (Freivalds 1977). Narrower formats round the result: some rows of it,
        within the tolerance.
        """
        found = self._place.host(self._first)
        a, b = self._a.astype(np.float64), self._b.astype(np.float64)
        rng = np.random.default_rng(4)
        if self._dtype.name == "float32":
            vectors = rng.integers(-8, 8, (self.n, 4), endpoint=True).astype(np.float64)
            off = (found @ vectors != a @ (b @ vectors)).any(axis=1)
            rows = np.flatnonzero(off)
            if not len(rows):
                return None
            known = a[rows[0]] @ b
            column = int(np.argmax(found[rows[0]] != known))
            return (
                f"{len(rows)} of {self.n} rows wrong from the beginning: [{rows[0]}, {column}] is "
                f"{found[rows[0], column]:.9g} instead of {known[column]:.9g}"
            )
        rows = rng.choice(self.n, ROWS, replace=False)
        error = numerics.relative_error(found[rows], a[rows] @ b)
        bound = numerics.tolerance(self._dtype, self.n)
        return (
            None
            if error <= bound
            else f"off by {error:.1e} of the largest element from the beginning"
        )

    def difference(self, found: Any) -> str:
        """The first element that came out otherwise, with the bits that flipped, as float32."""
        before, after = (self._place.host(one).astype("<f4") for one in (self._first, found))
        flipped = before.view("<u4") ^ after.view("<u4")
        row, column = map(int, np.argwhere(flipped)[0])
        bits = int(flipped[row, column])
        listed = [str(bit) for bit in range(bits.bit_length()) if bits >> bit & 1]
        return (
            f"[{row}, {column}] was {before[row, column]:.9g} and became {after[row, column]:.9g}: "
            f"bit{'s' * (len(listed) != 1)} {', '.join(listed)} of 32"
        )


def repeated_product(place: Place, dtype: DType, seconds: float) -> Outcome:
    """The same product for so many seconds, compared bit for bit on the device."""
    product = Repeated(place, dtype)
    if wrong := product.first_is_wrong():
        return Outcome("fault", f"{product.n}×{product.n} {dtype.name}: {wrong}")
    times, start = 0, time.perf_counter()
    while times < 2 or time.perf_counter() - start < seconds:
        times += 1
        differing, found = product.again()
        if differing:
            return Outcome(
                "fault",
                f"repetition {times} of the same product: {differing} of {product.n}×{product.n} "
                f"elements came out otherwise; {product.difference(found)}",
                {"repetitions": times, "differing_elements": differing},
            )
    return Outcome(
        "no fault found",
        f"{product.n}×{product.n}: {times:,} times the same bits",
        {"repetitions": times},
    )


def trial_dtypes(place: Place) -> list[DType]:
    """TF32 rounds the factors, which are whole numbers that it holds exactly: nothing new in it."""
    return [dtype for dtype in place.dtypes() if dtype is not DTYPES["tfloat32"]]
