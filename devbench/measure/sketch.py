"""A check of a product that is too large to compute at float64: some rows, and random projections.

Freivalds (1977), "Probabilistic machines can use less running time": Y = A·B is tested as
Y·v = A·(B·v) for random v of ±1, which costs n² instead of n³.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from devbench.declare import Product

#: Marks the parts of a sketch in the path of a leaf.
MARK: Final = "//"
ROWS: Final = 64
VECTORS: Final = 8
#: Rounding alone leaves 0.56 of eps(bfloat16) in the worst of 4096 rows, by the chi-square
#: distribution of eight squares; an average element that is doubled leaves 2.
CATCH: Final = 0.8


@dataclass(frozen=True, slots=True)
class Sketch:
    """rows: those with the indices `chosen`, in full. projection: of every row on `VECTORS` vectors."""

    shape: tuple[int, ...]
    chosen: np.ndarray
    rows: np.ndarray
    projection: np.ndarray

    def projected_error(self, value: np.ndarray) -> float:
        """The largest root mean square of a row's projected error, in units of an average element.

        A wrong element changes each projection of its row by ± its error, while the rounding errors
        of n elements add up to √n of one: so the mean over the vectors is divided by √n and by the
        root mean square of the elements. Scaled so that it is held against the same tolerance as the
        largest error of an element is. Infinite where NaN appears.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            off = value @ _signs(self.shape[1]) - self.projection
            worst = float(np.max(np.sqrt(np.mean(off**2, axis=1))))
        element = math.sqrt(float(np.mean(self.rows**2)) * self.shape[1])
        if not math.isfinite(worst):
            return math.inf
        return worst / element / CATCH if element > 0 else math.inf


def parts(path: str, product: Product) -> dict[str, np.ndarray]:
    """The sketch of the product as arrays that a file can hold, named after the leaf's path."""
    left, right = product.left, product.right
    chosen = np.linspace(0, left.shape[0] - 1, min(left.shape[0], ROWS)).astype(np.int64)
    found = {
        "shape": np.array([left.shape[0], right.shape[1]]),
        "chosen": chosen,
        "rows": left[chosen] @ right,
        "projection": left @ (right @ _signs(right.shape[1])),
    }
    return {f"{path}{MARK}{name}": array for name, array in found.items()}


def is_part(path: str) -> bool:
    return MARK in path


def collect(expected: Mapping[str, Any]) -> dict[str, Sketch]:
    """The sketches among the expected leaves, by the path of the product."""
    paths = {path.split(MARK)[0] for path in expected if is_part(path)}
    return {
        path: Sketch(
            tuple(int(size) for size in expected[f"{path}{MARK}shape"]),
            *(expected[f"{path}{MARK}{name}"] for name in ("chosen", "rows", "projection")),
        )
        for path in paths
    }


def _signs(columns: int) -> np.ndarray:
    rng = np.random.default_rng(columns)
    return rng.choice(np.array([-1.0, 1.0]), size=(columns, VECTORS))
