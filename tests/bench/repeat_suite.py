"""The step of the comparison with other harnesses, as a devbench benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from devbench import Context, Work, benchmark


@benchmark(name="repeat", axes={"times": [100]})
class Repeat:
    """The same product of two 128 × 128 matrices `times` times over."""

    def work(self, times: int) -> Work:
        return Work(flops=2 * 128**3 * times, terms=128)

    def inputs(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"a": rng.standard_normal((128, 128)), "b": rng.standard_normal((128, 128))}

    def reference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product: np.ndarray = a @ b
        return product

    def torch(self, ctx: Context, times: int, a: Any, b: Any) -> Callable[[], Any]:
        def step() -> Any:
            for _ in range(times):
                product = a @ b
            return product

        return step
